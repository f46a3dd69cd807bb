//! Measuring which variant of a kernel is the fastest on an adapter. A candidate must first give the right
//! result.

use std::time::Instant;

use ganomede_kernels::Kernel;

use crate::device::gpu::Gpu;
use crate::device::tuning::Choice;
use crate::device::{Device, DeviceError, Executable};
use crate::program::{Buffer, Launch, Program, Role};
use crate::tape::States;

/// Largest error of a variant, relative to the root mean square of the right values: sums of any order stay
/// below it.
pub const TOLERANCE: f64 = 1e-4;
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

/// Outputs of the kernel's CPU twin.
pub fn run_twin(kernel: &Kernel, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut outputs: Vec<Vec<f32>> = before.iter().map(|values| values.to_vec()).collect();
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    let mut views: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    kernel.cpu(inputs, &mut views, &mut scratch);
    outputs
}

/// Largest error over the root mean square of the values wanted (of each output by itself), and the largest
/// error; a NaN or infinity where none is wanted is infinitely wrong.
pub fn relative_error(got: &[Vec<f32>], want: &[Vec<f64>]) -> (f64, f64) {
    let (mut relative, mut absolute) = (0.0_f64, 0.0_f64);
    for (got, want) in got.iter().zip(want) {
        let scale = (want.iter().map(|w| w * w).sum::<f64>() / want.len().max(1) as f64).sqrt().max(1e-3);
        for (&g, &w) in got.iter().zip(want) {
            let g = f64::from(g);
            let error = if g == w || (g.is_nan() && w.is_nan()) { 0.0 } else { (g - w).abs() };
            let error = if error.is_nan() { f64::INFINITY } else { error };
            absolute = absolute.max(error);
            relative = relative.max(error / scale);
        }
    }
    (relative, absolute)
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
            if error > TOLERANCE {
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
