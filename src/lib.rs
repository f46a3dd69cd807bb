//! Ganomede: a GPU compute engine for adversarial anomaly detection, from hand-written kernels to calibrated
//! verdicts.
//!
//! **Detectors.** A [`Detector`] is a published [system](systems) trained on normal samples, with its
//! preprocessing, calibration and threshold:
//!
//! ```
//! use ganomede::{Detector, Device, systems};
//!
//! let training = Detector::train(&systems::GANOMALY).images("builtin:retina:train=60,test=20");
//! let detector = training.size(16).width(4).batch(16).steps(10).seed(1).run(&Device::Cpu)?;
//! let report = detector.evaluate("builtin:retina:train=60,test=20")?;
//! assert!(report.auroc().is_some());
//! # Ok::<(), ganomede::DetectError>(())
//! ```
//!
//! A model file is the same everywhere: on disk, as bytes, on any [`Device`].
//!
//! ```
//! # use ganomede::{Detector, Device, systems};
//! # let training = Detector::train(&systems::PCA).images("builtin:retina:train=60,test=20");
//! # let bytes = training.size(16).run(&Device::Cpu)?.to_bytes()?;
//! let detector = Detector::from_bytes(&bytes, &Device::Cpu)?;
//! let gray = image::DynamicImage::new_luma8(640, 480);
//! let verdict = detector.score(&gray)?;
//! assert_eq!(verdict.anomalous, Some(verdict.score >= verdict.threshold.unwrap()));
//! # Ok::<(), ganomede::DetectError>(())
//! ```
//!
//! **The engine.** Maths is recorded on a [`tape`], differentiated as often as one likes, compiled into a
//! [`program`] (a flat list of kernel launches over planned buffers), and replayed by a [`device`]:
//!
//! ```
//! use ganomede::{Device, program::compile, tape::{States, Tape}};
//!
//! let tape = Tape::new();
//! let x = tape.input("x", &[2]);
//! let gradient = tape.grad((x.square() * x).sum_all(), &[x])[0];
//! tape.output("3x²", gradient);
//! tape.output("6x", tape.grad(gradient.sum_all(), &[x])[0]);
//! let program = compile(&tape.finish()?)?;
//! let mut run = Device::Cpu.load(&program, &Device::Cpu.store(&States::new(), 0)?)?;
//! run.write("x", &[1.0, 2.0])?;
//! run.run(1)?;
//! assert_eq!((run.read("3x²")?, run.read("6x")?), (vec![3.0, 12.0], vec![6.0, 12.0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`detect`] | training, calibrating, scoring and evaluating detectors |
//! | [`systems`], [`models`] | the published systems, and what a system is |
//! | [`train`], [`eval`], [`report`] | the training loop; metrics and thresholds; pictures and pages |
//! | [`nn`], [`tape`] | layers, losses, optimisers; recording and gradients |
//! | [`program`], [`device`] | the compiler; the processor and the GPU |
//! | [`export`], `import` | programs as files that a page replays, graphs and modules; checkpoints of PyTorch |
//! | `tune`, `inspect` | measuring kernel variants (feature `gpu`); what kernels become on a target (`isa`) |
//! | [`datasets`], [`kernels`] | the crates below |

pub mod detect;
pub mod device;
pub mod eval;
pub mod export;
#[cfg(feature = "torch")]
pub mod import;
#[cfg(feature = "isa")]
pub mod inspect;
pub mod maps;
pub mod models;
pub mod nn;
pub mod program;
pub mod report;
pub mod tape;
pub mod train;
#[cfg(feature = "gpu")]
pub mod tune;

pub use detect::{DetectError, Detector, Verdict};
pub use device::Device;
pub use ganomede_datasets as datasets;
pub use ganomede_kernels as kernels;
pub use ganomede_kernels::Precision;

/// The published systems by name, for [`Detector::train`].
pub mod systems {
    pub use crate::models::acae::INFO as ACAE;
    pub use crate::models::adae::INFO as ADAE;
    pub use crate::models::ae::INFO as AE;
    pub use crate::models::anogan::INFO as ANOGAN;
    pub use crate::models::beatgan::INFO as BEATGAN;
    pub use crate::models::dagan::INFO as DAGAN;
    pub use crate::models::deep_svdd::INFO as DEEP_SVDD;
    pub use crate::models::draem::INFO as DRAEM;
    pub use crate::models::egbad::INFO as EGBAD;
    pub use crate::models::f_anogan::INFO as F_ANOGAN;
    pub use crate::models::feature_gaussian::INFO as FEATURE_GAUSSIAN;
    pub use crate::models::ganomaly::INFO as GANOMALY;
    pub use crate::models::gmm::INFO as GMM;
    pub use crate::models::knn::INFO as KNN;
    pub use crate::models::memae::INFO as MEMAE;
    pub use crate::models::nsa::INFO as NSA;
    pub use crate::models::pca::INFO as PCA;
    pub use crate::models::skip_ganomaly::INFO as SKIP_GANOMALY;
    pub use crate::models::vae::INFO as VAE;
}
