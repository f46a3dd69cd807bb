//! What must hold of a program before anything of it runs, on any device: it fits itself, and the store given
//! to it.

use std::collections::HashSet;

use super::DeviceError;
use super::backend::Stored;
use crate::program::{Buffer, Launch, Program, Role};

/// Most buffers of one launch: WebGPU's storage bindings, and what a replay on the CPU keeps on its stack.
pub(super) const MAX_OPERANDS: usize = 8;

/// Checks a program against itself.
pub(super) fn program(program: &Program) -> Result<(), DeviceError> {
    roles(&program.buffers)?;
    program.launches.iter().try_for_each(|launch| {
        let label = label(launch);
        let (inputs, outputs) = operands(launch)?;
        let fault = |what: String| Err(DeviceError::Launch { launch: label.clone(), what });
        if launch.inputs.len() + launch.outputs.len() > MAX_OPERANDS {
            let count = launch.inputs.len() + launch.outputs.len();
            return fault(format!("has {count} buffers, at most {MAX_OPERANDS} fit one launch"));
        }
        lengths(&label, &program.buffers, &inputs, &outputs)?;
        for (o, buffer) in launch.outputs.iter().enumerate() {
            if launch.inputs.contains(buffer) || launch.outputs[..o].contains(buffer) {
                return fault(format!("writes buffer {buffer}, which is another of its operands"));
            }
        }
        Ok(())
    })
}

/// Checks that each state and each named tensor is in one buffer. Two of a state would hide from the checks
/// of a launch that it reads what it writes.
fn roles(buffers: &[Buffer]) -> Result<(), DeviceError> {
    let mut seen = HashSet::new();
    for (i, buffer) in buffers.iter().enumerate().filter(|(_, buffer)| buffer.role != Role::Temporary) {
        if !seen.insert(&buffer.role) {
            let what = "two buffers of the program hold this".to_owned();
            return Err(DeviceError::Launch { launch: buffer_name(i, buffer), what });
        }
    }
    Ok(())
}

/// Checks that the states of a program are those of a store: each is there, in one buffer, and as long as the
/// program has it.
pub(super) fn states(buffers: &[Buffer], store: &dyn Stored) -> Result<(), DeviceError> {
    roles(buffers)?;
    let known = store.count();
    for (i, buffer) in buffers.iter().enumerate() {
        let Role::State(id) = buffer.role else { continue };
        if id.0 >= known {
            return Err(unknown_state(id.0, known));
        }
        let got = store.len(id);
        if got != buffer.len {
            let name = buffer_name(i, buffer);
            return Err(DeviceError::WrongLength { name, expected: buffer.len, got });
        }
    }
    Ok(())
}

/// Program buffer and used elements of each operand.
pub(super) type Operands = Vec<(usize, usize)>;

/// The inputs and outputs of a launch with what its kernel uses of them, after checking the kernel and their
/// number.
pub(super) fn operands(launch: &Launch) -> Result<(Operands, Operands), DeviceError> {
    let kernel = &launch.kernel;
    kernel.check().map_err(|source| DeviceError::Kernel { launch: label(launch), source })?;
    let pair = |buffers: &[usize], lens: Vec<usize>, which: &str| {
        if buffers.len() != lens.len() {
            let what = format!("the kernel has {} {which}s, the launch {}", lens.len(), buffers.len());
            return Err(DeviceError::Launch { launch: label(launch), what });
        }
        Ok(buffers.iter().copied().zip(lens).collect())
    };
    let inputs = pair(&launch.inputs, kernel.input_lens(), "input")?;
    Ok((inputs, pair(&launch.outputs, kernel.output_lens(), "output")?))
}

/// Checks that operands are buffers of the program and long enough.
pub(super) fn lengths(
    launch: &str,
    buffers: &[Buffer],
    inputs: &[(usize, usize)],
    outputs: &[(usize, usize)],
) -> Result<(), DeviceError> {
    let fault = |what: String| DeviceError::Launch { launch: launch.to_owned(), what };
    for (which, operands) in [("input", inputs), ("output", outputs)] {
        for &(buffer, len) in operands {
            let known = buffers.len();
            let exists = buffers.get(buffer);
            let exists = exists.ok_or_else(|| fault(format!("{which} buffer {buffer} of {known}")))?;
            if exists.len < len {
                let has = exists.len;
                let what = format!("{which} buffer {buffer} has {has} elements, the kernel needs {len}");
                return Err(fault(what));
            }
        }
    }
    Ok(())
}

/// Scope and kernel of a launch; what is recorded outside any scope has its kernel alone.
pub(super) fn label(launch: &Launch) -> String {
    let (scope, kernel) = (&launch.scope, launch.kernel.name());
    if scope.is_empty() { kernel.to_owned() } else { format!("{scope}: {kernel}") }
}

/// Name of a program buffer for messages.
pub(super) fn buffer_name(index: usize, buffer: &Buffer) -> String {
    match &buffer.role {
        Role::Temporary => format!("temporary buffer {index}"),
        Role::Input(name) => format!("input '{name}'"),
        Role::Output(name) => format!("output '{name}'"),
        Role::State(id) => format!("state {}", id.0),
    }
}

/// A state that a store of `known` states does not have.
pub(super) fn unknown_state(id: usize, known: usize) -> DeviceError {
    DeviceError::UnknownName { name: format!("state {id}"), known: format!("{known} states") }
}
