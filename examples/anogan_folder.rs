//! AnoGAN on a folder of images, in the MVTec layout: train, evaluate, judge each test image. `cargo run
//! --release --example anogan_folder [FOLDER]`; without one it writes a small set of synthetic scans.

use std::ops::ControlFlow;
use std::path::PathBuf;

use ganomede::detect::Detector;
use ganomede::device::Device;
use ganomede::models::anogan;
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::search::SearchConfig;
use ganomede_datasets::{Dataset, OpenOptions, write_mvtec};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = match std::env::args().nth(1).map(PathBuf::from).filter(|folder| folder.is_dir()) {
        Some(folder) => folder,
        None => {
            let folder = std::env::temp_dir().join(format!("ganomede-example-{}", std::process::id()));
            write_mvtec(
                &Dataset::open("builtin:retina:train=80,test=8", &OpenOptions::default())?,
                &folder,
                80,
                8,
            )?;
            folder
        }
    };
    let search = SearchConfig { steps: 20, ..SearchConfig::default() };
    let detector = Detector::train(&anogan::INFO)
        .images(&folder)
        .size(16)
        .width(8)
        .batch(16)
        .steps(40)
        .score(ScoreConfig { search, ..ScoreConfig::default() })
        .observe(|progress| {
            if progress.done % 20 == 0 && !progress.ended {
                println!("{} {} {:?}", progress.task, progress.done, progress.losses);
            }
            ControlFlow::Continue(())
        })
        .run(&Device::Cpu)?;
    let report = detector.evaluate(&folder.to_string_lossy())?;
    println!(
        "AUROC {:.3}: 40 steps are far too few, a thousand take a minute or two",
        report.auroc().unwrap_or(f64::NAN)
    );
    Ok(())
}
