//! The largest batch that a device holds, known from the programs before anything is allocated.

use serde::Serialize;

use crate::shared::CliError;
use crate::shared::programs::{ChosenSystem, Recorded, Which, record_program};
use crate::shared::table::bytes;
use ganomede::device::gpu::{AdapterReport, Gpu, PlannedLaunch};
use ganomede::device::{Device, machine};
use ganomede::models::Config;

/// Largest batch tried: beyond it a step takes too long to be of use.
const MAX_BATCH: usize = 1 << 12;

/// How large a batch of one program may be.
#[derive(Debug, Serialize)]
pub(super) struct Fit {
    program: &'static str,
    /// Largest power of two that fits.
    largest_batch: Option<usize>,
    peak_bytes: u64,
    /// Why the next one does not fit; absent where the largest tried fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
}

impl Fit {
    pub(super) fn text(&self) -> String {
        let found = match self.largest_batch {
            Some(batch) => format!("batch {batch} fits ({})", bytes(self.peak_bytes)),
            None => "not even a batch of 1 fits".to_owned(),
        };
        let program = if self.program == "step" { "training" } else { "search" };
        match &self.limit {
            Some(limit) => {
                format!("{program}: {found}; {} does not: {limit}", self.largest_batch.map_or(1, |b| 2 * b))
            }
            None => format!("{program}: {found}, as does every smaller one"),
        }
    }
}

/// Doubles the batch until `needs` refuses the program; it returns the bytes needed.
fn largest(config: &Config, needs: impl Fn(&Recorded) -> Result<u64, String>) -> Result<Vec<Fit>, CliError> {
    let mut fits = vec![];
    for which in [Which::Step, Which::Search] {
        let mut fit = Fit { program: which.name(), largest_batch: None, peak_bytes: 0, limit: None };
        let mut batch = 1;
        while batch <= MAX_BATCH {
            match needs(&record_program(ChosenSystem::USUAL, which, None, config, batch, 0)?) {
                Ok(bytes) => (fit.largest_batch, fit.peak_bytes) = (Some(batch), bytes),
                Err(limit) => {
                    fit.limit = Some(limit);
                    break;
                }
            }
            batch *= 2;
        }
        fits.push(fit);
    }
    Ok(fits)
}

fn within(needed: u64, available: Option<u64>, what: &str) -> Result<u64, String> {
    match available {
        Some(available) if needed > available => {
            Err(format!("it needs {}, {} of {what} are available", bytes(needed), bytes(available)))
        }
        _ => Ok(needed),
    }
}

/// Bytes of a program with its states on a device.
fn needed(device: &Device, recorded: &Recorded) -> Result<u64, String> {
    let program = device.program_bytes(&recorded.program).map_err(|error| error.to_string())?;
    Ok(device.store_bytes(&recorded.states.lens()) + program)
}

/// Batches for the CPU: states, buffers and scratch in the memory that is free now.
pub(super) fn on_cpu(config: &Config) -> Result<Vec<Fit>, CliError> {
    let available = machine::available_memory();
    largest(config, |recorded| within(needed(&Device::Cpu, recorded)?, available, "memory"))
}

/// Batches for an adapter: every launch within its limits, every buffer within its largest, and for a
/// software adapter all of them in the memory that is free now. How much memory a graphics card has, its
/// driver does not tell.
pub(super) fn on_gpu(config: &Config, adapter: &AdapterReport, gpu: &Gpu) -> Result<Vec<Fit>, CliError> {
    let available =
        if adapter.software { machine::available_memory().map(|bytes| bytes / 10 * 9) } else { None };
    let (device, traits) = (Device::Gpu(gpu.clone()), gpu.traits());
    largest(config, |recorded| {
        for launch in &recorded.program.launches {
            let planned = PlannedLaunch::new(launch, traits, None).map_err(|error| error.to_string())?;
            for &(_, len) in planned.inputs.iter().chain(&planned.outputs) {
                let tensor = 4 * len as u64;
                if tensor > traits.max_binding_bytes {
                    let (tensor, limit) = (bytes(tensor), bytes(traits.max_binding_bytes));
                    return Err(format!(
                        "{}: a tensor of {tensor} exceeds the binding limit of {limit}",
                        planned.label
                    ));
                }
            }
        }
        within(needed(&device, recorded)?, available, "memory")
    })
}
