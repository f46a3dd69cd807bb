//! Programs as the schema has them: launches planned for WebGPU's default limits, their shaders, pipelines
//! and states each written once.

use std::collections::BTreeMap;

use ganomede_kernels::{Access, Dispatch, GpuPlan, GpuTraits, Kernel, KernelError, Slot};

use super::ExportError;
use super::schema::{Buffer, Launch, Part, Pipeline, Program, State};
use crate::program::{self, Role, StateId};
use crate::tape::States;

/// What all programs of an export share.
#[derive(Default)]
pub(super) struct Modules {
    /// File names and WGSL texts.
    pub(super) texts: Vec<(String, String)>,
    pub(super) pipelines: Vec<Pipeline>,
    states: Vec<StateId>,
}

impl Modules {
    /// Nothing yet, beside texts that another document of the same folder has.
    pub(super) fn beside(texts: Vec<(String, String)>) -> Self {
        Self { texts, ..Self::default() }
    }

    /// Plans a program and takes in what it needs.
    pub(super) fn program(
        &mut self,
        program: &program::Program,
        states: &States,
    ) -> Result<Program, ExportError> {
        // The default is WebGPU's: no subgroups, no adapter of its own.
        let traits = GpuTraits::default();
        self.planned(program, states, |kernel| kernel.gpu(&traits, None))
    }

    /// The same, with plans of one's own.
    pub(super) fn planned(
        &mut self,
        program: &program::Program,
        states: &States,
        plan: impl Fn(&Kernel) -> Result<GpuPlan, KernelError>,
    ) -> Result<Program, ExportError> {
        let plans = program.launches.iter().map(|launch| {
            let failed = |source| ExportError::Kernel { scope: launch.scope.clone(), source };
            plan(&launch.kernel).map_err(failed)
        });
        let plans: Vec<GpuPlan> = plans.collect::<Result<_, _>>()?;
        let mut buffers: Vec<Buffer> = program.buffers.iter().map(|b| self.buffer(b)).collect();
        let scratch = buffers.len();
        let blank = |len| Buffer { len, role: "scratch".to_owned(), name: None, state: None };
        buffers.extend(GpuPlan::common_scratch(&plans).into_iter().map(blank));
        let mut launches = vec![];
        for (launch, plan) in program.launches.iter().zip(&plans) {
            let (inputs, outputs) = (launch.kernel.input_lens(), launch.kernel.output_lens());
            let part = |slot| match slot {
                Slot::Input(i) => Part(launch.inputs[i], inputs[i]),
                Slot::Output(i) => Part(launch.outputs[i], outputs[i]),
                Slot::Scratch(i) => Part(scratch + i, plan.scratch_lens[i]),
            };
            launches.extend(plan.dispatches.iter().map(|dispatch| Launch {
                scope: launch.scope.clone(),
                pipeline: self.pipeline(dispatch),
                groups: dispatch.workgroups,
                bind: dispatch.bindings.iter().map(|bind| part(bind.slot)).collect(),
                params: dispatch.params.clone(),
            }));
        }
        debug_assert!(self.states.iter().all(|id| states.name(*id).is_some()));
        Ok(Program { buffers, launches, unread: program.unread.clone() })
    }

    /// The states that programs name, in the order of their places; `stored` says which have start values.
    pub(super) fn states(&self, states: &States, stored: impl Fn(&str) -> bool) -> Vec<State> {
        let lens = states.lens();
        let one = |id: &StateId| {
            let name = states.name(*id)?.to_owned();
            Some(State { len: lens[id.0], stored: stored(&name), name })
        };
        self.states.iter().filter_map(one).collect()
    }

    fn buffer(&mut self, buffer: &program::Buffer) -> Buffer {
        let (role, name, state) = match &buffer.role {
            Role::Temporary => ("temporary", None, None),
            Role::Input(name) => ("input", Some(name.clone()), None),
            Role::Output(name) => ("output", Some(name.clone()), None),
            Role::State(id) => ("state", None, Some(place(&mut self.states, *id))),
        };
        Buffer { len: buffer.len, role: role.to_owned(), name, state }
    }

    pub(super) fn pipeline(&mut self, dispatch: &Dispatch) -> usize {
        let letter = |access| if access == Access::Read { 'r' } else { 'w' };
        let constants = dispatch.constants.iter().map(|&(name, value)| (name.to_owned(), value));
        let pipeline = Pipeline {
            module: self.module(dispatch),
            entry: dispatch.entry.to_owned(),
            constants: constants.collect::<BTreeMap<_, _>>(),
            params: dispatch.params.len(),
            bindings: dispatch.bindings.iter().map(|bind| letter(bind.access)).collect(),
        };
        place(&mut self.pipelines, pipeline)
    }

    /// The file of a dispatch's text: `conv.wgsl`, `conv-2.wgsl` for the next one that is made of it.
    fn module(&mut self, dispatch: &Dispatch) -> String {
        if let Some((name, _)) = self.texts.iter().find(|(_, text)| *text == dispatch.source) {
            return name.clone();
        }
        let stem = dispatch.shader.trim_end_matches(".wgsl");
        let mut names = std::iter::once(format!("{stem}.wgsl"))
            .chain((2..=self.texts.len() + 1).map(|n| format!("{stem}-{n}.wgsl")));
        let name = names.find(|name| self.texts.iter().all(|(known, _)| known != name));
        // There are more names than texts.
        let name = name.unwrap_or_else(|| format!("{stem}-{}.wgsl", self.texts.len() + 2));
        self.texts.push((name.clone(), dispatch.source.clone().into_owned()));
        name
    }
}

/// Where something stands in a list; it is added where it is new.
fn place<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
