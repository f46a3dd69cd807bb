//! Measuring which variant of a kernel is the fastest on an adapter. A candidate must first give the right
//! result.

use std::time::Instant;

use ganomede_kernels::Kernel;

pub use ganomede_kernels::sample::{TOLERANCE, relative_error, run_twin, tolerance};

use crate::device::gpu::Gpu;
use crate::device::tuning::Choice;
use crate::device::{Device, DeviceError, Executable};
use crate::program::{Buffer, Launch, Program, Role};
use crate::tape::States;

/// A candidate whose first run takes this many times the best one's is dropped.
const HOPELESS: f64 = 1.5;
/// Timed runs of a candidate that is not dropped, and the least time of one: launches of a tiny kernel are
/// repeated.
const RUNS: usize = 5;
const RUN_SECONDS: f64 = 0.01;

/// How one candidate did.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Name of the variant.
    pub variant: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Median time of a launch, milliseconds.
    Measured(f64),
    /// First time, milliseconds: too slow to go on.
    Dropped(f64),
    /// Wrong by this much, relative to the root mean square: it may not win.
    Wrong(f64),
    /// The adapter cannot run it.
    Refused(String),
}

/// A program of one launch.
fn program(kernel: &Kernel) -> Program {
    let named = |prefix: &str, lens: Vec<usize>, role: fn(String) -> Role| -> Vec<Buffer> {
        let buffers = lens.into_iter().enumerate();
        buffers.map(|(i, len)| Buffer { len, role: role(format!("{prefix}{i}")) }).collect()
    };
    let mut buffers = named("in", kernel.input_lens(), Role::Input);
    let inputs = (0..buffers.len()).collect();
    buffers.extend(named("out", kernel.output_lens(), Role::Output));
    let outputs = (kernel.input_lens().len()..buffers.len()).collect();
    Program {
        buffers,
        launches: vec![Launch { kernel: kernel.clone(), inputs, outputs, scope: "tune".to_owned() }],
        ..Program::default()
    }
}

/// Seconds of one launch, from as many as take [`RUN_SECONDS`].
fn seconds(executable: &mut Executable) -> Result<f64, DeviceError> {
    let mut times = 1;
    loop {
        let start = Instant::now();
        executable.run(times)?;
        let taken = start.elapsed().as_secs_f64();
        if taken >= RUN_SECONDS || times >= 1 << 12 {
            return Ok(taken / times as f64);
        }
        times *= 4;
    }
}

/// Measures the variants of a kernel, its default choice first, and returns what won with how each did. Wrong
/// results and refusals lose; a fault of the device ends it.
///
/// # Errors
/// [`DeviceError`] where the device fails, or where the default choice itself cannot run.
pub fn tune(gpu: &Gpu, kernel: &Kernel) -> Result<(Choice, Vec<Candidate>), DeviceError> {
    let fault = |source| DeviceError::Kernel { launch: format!("tune: {}", kernel.name()), source };
    let default = kernel.gpu(gpu.traits(), None).map_err(fault)?.variant;
    let (inputs, before) = kernel.sample_data(1);
    let views: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let olds: Vec<&[f32]> = before.iter().map(Vec::as_slice).collect();
    let want: Vec<Vec<f64>> = run_twin(kernel, &views, &olds)
        .into_iter()
        .map(|values| values.into_iter().map(f64::from).collect())
        .collect();
    let (device, program) = (Device::Gpu(gpu.clone()), program(kernel));
    let store = device.store(&States::new(), 0)?;
    let mut variants = kernel.variants();
    variants.sort_by_key(|&variant| variant != default);
    let (mut best, mut best_ms, mut default_ms) = (default, f64::INFINITY, f64::INFINITY);
    let mut candidates = Vec::with_capacity(variants.len());
    for variant in variants {
        ganomede_host::interrupt::check()?;
        let outcome = if let Err(refused) = kernel.gpu(gpu.traits(), Some(variant)) {
            Outcome::Refused(refused.to_string())
        } else {
            let (error, _) =
                relative_error(&gpu.run_kernel(kernel, Some(variant), &views, Some(&olds))?, &want);
            if error > tolerance(kernel) {
                Outcome::Wrong(error)
            } else {
                let mut executable = device.load_variants(&program, &store, |_, _| Some(variant))?;
                for (i, values) in inputs.iter().enumerate() {
                    executable.write(&format!("in{i}"), values)?;
                }
                measure(&mut executable, best_ms)?
            }
        };
        if let Outcome::Measured(ms) = outcome {
            if variant == default {
                default_ms = ms;
            }
            if ms < best_ms {
                (best, best_ms) = (variant, ms);
            }
        }
        candidates.push(Candidate { variant, outcome });
    }
    let (variant, default) = (best.to_owned(), default.to_owned());
    Ok((Choice { variant, ms: best_ms, default, default_ms }, candidates))
}

fn measure(executable: &mut Executable, best_ms: f64) -> Result<Outcome, DeviceError> {
    executable.run(1)?;
    let first = seconds(executable)? * 1e3;
    if first > HOPELESS * best_ms {
        return Ok(Outcome::Dropped(first));
    }
    let mut times = vec![first];
    for _ in 1..RUNS {
        times.push(seconds(executable)? * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Outcome::Measured(times[times.len() / 2]))
}
