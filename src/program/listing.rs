//! Programs as lists for readers: what each launch computes, reads and writes. `explain`, profiles and the
//! page *tape* show these rows.

use ganomede_kernels::GpuPlan;
use serde::Serialize;

use super::{Launch, Program, Role};
use crate::tape::States;

/// A launch as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaunchRow {
    /// Its place in the program.
    pub index: usize,
    /// Where in the model it comes from.
    pub scope: String,
    /// Kernel family.
    pub kernel: &'static str,
    /// GPU variant.
    pub variant: &'static str,
    /// Dispatches of its plan.
    pub dispatches: usize,
    /// [`Launch::shapes`].
    pub shapes: String,
    /// Floating-point operations.
    pub flop: u64,
    /// Bytes read from buffers.
    pub bytes_read: u64,
    /// Bytes written to buffers.
    pub bytes_written: u64,
    /// Names of the buffers that it reads: [`Program::buffer_name`].
    pub reads: Vec<String>,
    /// Names of the buffers that it writes.
    pub writes: Vec<String>,
}

impl Program {
    /// What a buffer is called in a listing.
    pub fn buffer_name(&self, states: &States, buffer: usize) -> String {
        match &self.buffers[buffer].role {
            Role::Temporary => format!("%{buffer}"),
            Role::Input(name) | Role::Output(name) => name.clone(),
            Role::State(id) => states.name(*id).map_or_else(|| format!("state {}", id.0), str::to_owned),
        }
    }

    /// The launches in order, each as `plan` plans it.
    ///
    /// # Errors
    /// The first error of `plan`.
    pub fn rows<E>(
        &self,
        states: &States,
        mut plan: impl FnMut(&Launch) -> Result<GpuPlan, E>,
    ) -> Result<Vec<LaunchRow>, E> {
        let names = |buffers: &[usize]| buffers.iter().map(|&b| self.buffer_name(states, b)).collect();
        let launches = self.launches.iter().enumerate();
        launches
            .map(|(index, launch)| {
                let plan = plan(launch)?;
                let cost = launch.kernel.cost();
                Ok(LaunchRow {
                    index,
                    scope: launch.scope.clone(),
                    kernel: launch.kernel.name(),
                    variant: plan.variant,
                    dispatches: plan.dispatches.len(),
                    shapes: launch.shapes(),
                    flop: cost.flops,
                    bytes_read: cost.bytes_read,
                    bytes_written: cost.bytes_written,
                    reads: names(&launch.reads().into_iter().map(|(buffer, _)| buffer).collect::<Vec<_>>()),
                    writes: names(&launch.outputs),
                })
            })
            .collect()
    }
}
