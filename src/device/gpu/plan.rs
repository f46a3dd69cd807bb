//! Launches with their plans, checked against their buffers and the adapter before anything is allocated.

use ganomede_kernels::{Access, Cost, Dispatch, GpuPlan, GpuTraits, Slot};

use super::super::{DeviceError, check};
use super::shared::{Shared, binding_bytes};
use crate::program::{Buffer, Launch};

/// Which buffer an operand is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Buffer of the program.
    Buffer(usize),
    /// Scratch buffer, shared by all launches.
    Scratch(usize),
}

/// A launch whose GPU plan is fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedLaunch {
    /// Scope and kernel, for messages.
    pub label: String,
    /// The dispatches.
    pub plan: GpuPlan,
    /// Program buffer and used elements of each input.
    pub inputs: Vec<(usize, usize)>,
    /// Program buffer and used elements of each output.
    pub outputs: Vec<(usize, usize)>,
    /// Arithmetic and traffic, from which submissions are cut.
    pub cost: Cost,
}

impl PlannedLaunch {
    /// Plans `launch` for an adapter; `variant` `None` takes the kernel's own choice.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`] where the kernel cannot run, [`DeviceError::Launch`] where its buffers do not
    /// match it.
    pub fn new(launch: &Launch, traits: &GpuTraits, variant: Option<&str>) -> Result<Self, DeviceError> {
        let kernel = &launch.kernel;
        let (inputs, outputs) = check::operands(launch)?;
        let label = check::label(launch);
        let failed = |source| DeviceError::Kernel { launch: label.clone(), source };
        let plan = kernel.gpu(traits, variant).map_err(failed)?;
        Ok(Self { label, plan, inputs, outputs, cost: kernel.cost() })
    }

    /// Buffer and used elements behind a slot.
    pub(super) fn operand(&self, slot: Slot) -> Option<(Place, usize)> {
        let buffer = |&(buffer, len): &(usize, usize)| (Place::Buffer(buffer), len);
        match slot {
            Slot::Input(i) => self.inputs.get(i).map(buffer),
            Slot::Output(i) => self.outputs.get(i).map(buffer),
            Slot::Scratch(i) => self.plan.scratch_lens.get(i).map(|&len| (Place::Scratch(i), len)),
        }
    }

    fn error(&self, what: String) -> DeviceError {
        DeviceError::Launch { launch: self.label.clone(), what }
    }

    /// Checks buffers, bindings, grid and sizes against the program and the adapter.
    pub(super) fn check(&self, buffers: &[Buffer], shared: &Shared) -> Result<(), DeviceError> {
        check::lengths(&self.label, buffers, &self.inputs, &self.outputs)?;
        self.plan.dispatches.iter().try_for_each(|dispatch| self.check_dispatch(dispatch, &shared.limits))
    }

    fn check_dispatch(&self, dispatch: &Dispatch, limits: &wgpu::Limits) -> Result<(), DeviceError> {
        let shader = dispatch.shader;
        let max_groups = limits.max_compute_workgroups_per_dimension;
        if dispatch.workgroups.iter().any(|&count| count > max_groups) {
            let groups = dispatch.workgroups;
            return Err(self.error(format!(
                "{shader} wants {groups:?} workgroups, the adapter allows {max_groups} a dimension; use a smaller batch"
            )));
        }
        let max_bindings = limits.max_storage_buffers_per_shader_stage as usize;
        if dispatch.bindings.len() > max_bindings {
            let count = dispatch.bindings.len();
            return Err(self
                .error(format!("{shader} has {count} storage bindings, the adapter allows {max_bindings}")));
        }
        let param_bytes = 4 * dispatch.params.len() as u64;
        if !param_bytes.is_multiple_of(16) || param_bytes > limits.max_uniform_buffer_binding_size {
            let max = limits.max_uniform_buffer_binding_size;
            return Err(self.error(format!(
                "{shader} has {param_bytes} bytes of parameters, not a multiple of 16 up to {max}"
            )));
        }
        let mut seen: Vec<(Place, Access)> = Vec::with_capacity(dispatch.bindings.len());
        for (binding, bind) in (1..).zip(&dispatch.bindings) {
            let slot = bind.slot;
            let operand = self.operand(slot);
            let (buffer, len) = operand.ok_or_else(|| {
                self.error(format!("{shader} binding {binding} is {slot:?}, which the launch does not have"))
            })?;
            if seen.iter().any(|&(other, access)| {
                other == buffer && (access == Access::ReadWrite || bind.access == Access::ReadWrite)
            }) {
                return Err(self.error(format!(
                    "{shader} binding {binding} ({slot:?}) writes a buffer that another of its bindings uses"
                )));
            }
            seen.push((buffer, bind.access));
            let (bytes, limit) = (binding_bytes(len), limits.max_storage_buffer_binding_size);
            if bytes > limit {
                let launch = self.label.clone();
                return Err(DeviceError::BufferTooLarge {
                    launch,
                    bytes,
                    limit,
                    what: "one storage binding",
                });
            }
        }
        Ok(())
    }
}
