//! A few kernels and one small training step, on a device and on its reference: the CPU twins for a GPU,
//! plain f64 loops for the CPU.

use clap::Parser;
use ganomede_kernels::Kernel;
use serde::Serialize;

use crate::shared::CliError;
use crate::shared::ops::{OpArgs, OpName};
use crate::shared::programs::{ChosenSystem, Which, fill_inputs, random_values, record_program};
use ganomede::Precision;
use ganomede::device::{Device, DeviceError, Executable};
use ganomede::models::{Config, Size};
use ganomede::program::{Program, Role};
use ganomede::tape::States;

/// Largest error that passes, as a fraction of the result's root mean square: f32 sums of a few thousand
/// products stay two orders below.
pub(super) const TOLERANCE: f64 = 1e-4;

/// Shapes that are no multiples of any tile.
const OPS: [(OpName, &str); 7] = [
    (OpName::Conv, "3x5x18x18"),
    (OpName::ConvTranspose, "3x10x9x9"),
    (OpName::ConvWeight, "3x5x18x18"),
    (OpName::Gemm, "70x33x129"),
    (OpName::BatchNorm, "5x7x11x13"),
    (OpName::Reduce, "5x7x11x13"),
    (OpName::Moments, "5x7x11x13"),
];

/// One comparison.
#[derive(Debug, Serialize)]
pub(super) struct SelfTest {
    test: String,
    pub(super) passed: bool,
    /// Of the largest error to the root mean square of the reference.
    pub(super) max_relative_error: Option<f64>,
    /// Why there is no error to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl SelfTest {
    fn new(test: &str, error: Result<f64, CliError>) -> Self {
        let test = test.to_owned();
        match error {
            Ok(error) => {
                Self { test, passed: error <= TOLERANCE, max_relative_error: Some(error), failure: None }
            }
            Err(failure) => {
                Self { test, passed: false, max_relative_error: None, failure: Some(failure.message) }
            }
        }
    }

    pub(super) fn text(&self) -> String {
        match (&self.failure, self.max_relative_error) {
            (Some(failure), _) => format!("{}: {failure}", self.test),
            (None, error) => format!("{}: relative error {:.1e}", self.test, error.unwrap_or(f64::NAN)),
        }
    }
}

/// Largest error over the root mean square of the reference; infinite where something is NaN.
fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    let mean_square = want.iter().map(|w| w * w).sum::<f64>() / want.len().max(1) as f64;
    let errors = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs());
    let worst = errors.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { f64::max(a, b) });
    worst / mean_square.sqrt().max(1e-30)
}

fn op(name: OpName, shape: &str) -> Result<OpArgs, CliError> {
    /// The operation as a command line gives it, with every default.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        op: OpArgs,
    }
    let line = Line::try_parse_from(["op", name.name().as_str(), "--shape", shape]);
    line.map(|line| line.op).map_err(|error| CliError::machine(error.to_string()))
}

/// Each CPU twin that stands alone against its definition.
pub(super) fn of_cpu(seed: u64) -> Result<Vec<SelfTest>, CliError> {
    let mut tests = vec![];
    for (op_name, shape) in OPS {
        let (_, program) = op(op_name, shape)?.record(Precision::F32)?;
        let [launch] = program.launches.as_slice() else { continue };
        let kernel = &launch.kernel;
        let inputs: Vec<Vec<f32>> =
            (0..).zip(kernel.input_lens()).map(|(stream, len)| random_values(len, seed, stream)).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        if !matches!(kernel, Kernel::Conv(_) | Kernel::Gemm(_) | Kernel::Reduce(_) | Kernel::Moments(_)) {
            continue;
        }
        let want = kernel.oracle(&inputs, &[]);
        let mut outputs: Vec<Vec<f32>> =
            kernel.output_lens().iter().map(|&len| vec![f32::NAN; len]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
        kernel.cpu(&inputs, &mut slices, &mut scratch);
        let worst =
            outputs.iter().zip(&want).map(|(got, want)| relative_error(got, want)).fold(0.0, f64::max);
        tests.push(SelfTest::new(&op_name.name(), Ok(worst)));
    }
    Ok(tests)
}

/// Each operation and one training step on `device` against the CPU.
pub(super) fn of_gpu(device: &Device, seed: u64) -> Result<Vec<SelfTest>, CliError> {
    let mut tests = vec![];
    for (op_name, shape) in OPS {
        let (states, program) = op(op_name, shape)?.record(Precision::F32)?;
        tests.push(SelfTest::new(&op_name.name(), compare(device, &states, &program, seed)));
    }
    let config = Config { size: Size::square(16), width: 8, latent: 16, ..Config::default() };
    let step = record_program(ChosenSystem::USUAL, Which::Step, None, &config, 4, seed)?;
    tests.push(SelfTest::new("training step", compare(device, &step.states, &step.program, seed)));
    Ok(tests)
}

/// Largest relative error over all outputs of one replay.
fn compare(device: &Device, states: &States, program: &Program, seed: u64) -> Result<f64, CliError> {
    let run = |device: &Device| -> Result<Executable, CliError> {
        let mut executable = device.load(program, &device.store(states, seed)?)?;
        fill_inputs(&mut executable, seed)?;
        executable.run(1)?;
        Ok(executable)
    };
    let (got, want) = (run(device)?, run(&Device::Cpu)?);
    let outputs = program
        .buffers
        .iter()
        .filter_map(|b| if let Role::Output(name) = &b.role { Some(name) } else { None });
    let errors = outputs.map(|name| {
        let want: Vec<f64> = want.read(name)?.into_iter().map(f64::from).collect();
        Ok(relative_error(&got.read(name)?, &want))
    });
    Ok(errors.collect::<Result<Vec<_>, DeviceError>>()?.into_iter().fold(0.0, f64::max))
}
