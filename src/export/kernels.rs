//! The page *kernels*: every rung of every ladder on two samples of its kernel. The small one comes with
//! numbers and with what f64 loops make of them, so that a page can say whether a GPU is right; the typical
//! one is large enough to be timed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ganomede_kernels::peak::Peak;
use ganomede_kernels::sample::{relative_error, run_twin, tolerance};
use ganomede_kernels::{
    FAMILIES, GpuPlan, GpuTraits, Kernel, KernelError, Ladder, Precision, Size, Slot, Values, Variant,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;

use super::modules::Modules;
use super::schema::{Buffer, Launch, Part, Program};
use super::{Export, ExportError, KERNELS, Kind, Parts};
use crate::program::{self, Role};
use crate::tape::{Initial, StateId, States};

/// Name of the file that describes the ladders.
pub(super) const FILE: &str = "kernels.json";
/// Name of the file with what f64 loops give.
pub(super) const ORACLE: &str = "oracle.safetensors";
/// Subgroups that a variant is planned for.
const LANES: [u32; 4] = [4, 8, 16, 32];
/// Threads and rounds of the loop that only multiplies and adds: a billion operations.
const FMA: Peak = Peak::Fma { threads: 1 << 18, rounds: 64 };
/// Numbers of the loop that only copies: more than caches hold.
const COPY: Peak = Peak::Copy { len: 1 << 24 };

/// `kernels.json`.
#[derive(Debug, Serialize)]
struct Page {
    /// File with what is wanted.
    oracle: &'static str,
    peaks: Vec<Measured>,
    ladders: Vec<ShownLadder>,
}

/// A loop that shows what the device can do at most.
#[derive(Debug, Serialize)]
struct Measured {
    program: &'static str,
    flop: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ShownLadder {
    name: &'static str,
    computes: &'static str,
    rungs: Vec<Rung>,
}

/// A variant.
#[derive(Debug, Serialize)]
struct Rung {
    name: &'static str,
    tile: &'static str,
    chosen: &'static str,
    /// Small, then typical.
    samples: Vec<Sample>,
}

/// A kernel that shows a variant.
#[derive(Debug, Serialize)]
struct Sample {
    /// What goes in and what comes out.
    line: String,
    flop: u64,
    bytes: u64,
    /// Largest error, relative to the root mean square of what is wanted.
    tolerance: f64,
    plans: Vec<Plan>,
    inputs: Vec<Numbers>,
    outputs: Vec<Numbers>,
    /// Tensors of the oracle's file, of a small sample: one for each output.
    want: Vec<String>,
    /// The error of the CPU twin, of a small sample.
    twin_error: Option<f64>,
}

/// A program of `program.json`.
#[derive(Debug, Serialize)]
struct Plan {
    program: String,
    /// The lanes that all subgroups must have, of plans that use subgroups.
    lanes: Option<u32>,
    /// It has arithmetic in halves: WebGPU's feature `shader-f16`.
    f16: bool,
}

/// A buffer of a sample: a state of `program.json`, and what makes sense in it.
#[derive(Debug, Serialize)]
struct Numbers {
    state: String,
    #[serde(flatten)]
    values: Range,
}

/// Uniform numbers from `low` to `high`, rounded down where they are whole.
#[derive(Debug, Serialize)]
struct Range {
    low: f64,
    high: f64,
    whole: bool,
}

impl From<Values> for Range {
    fn from(values: Values) -> Self {
        let (low, high) = match values {
            Values::Tame => (0.1, 1.0),
            Values::Signed => (-1.0, 1.0),
            Values::Below(end) => (0.0, end as f64),
            Values::Fixed(number) => (f64::from(number), f64::from(number)),
        };
        Self { low, high, whole: matches!(values, Values::Below(_)) }
    }
}

/// A kernel that has its buffers.
#[derive(Clone)]
struct Case {
    kernel: Kernel,
    inputs: Vec<StateId>,
    outputs: Vec<StateId>,
    /// The error of the CPU twin, of a small sample.
    twin_error: Option<f64>,
}

/// What samples share.
#[derive(Default)]
struct Samples {
    modules: Modules,
    states: States,
    programs: BTreeMap<String, Program>,
    cases: Vec<Case>,
    stored: Vec<(String, Vec<usize>, Vec<f32>)>,
    wanted: Vec<(String, Vec<f64>)>,
    seed: u64,
}

impl Export {
    /// Exports the page *kernels*: every variant of every kernel.
    ///
    /// # Errors
    /// [`ExportError`] for a kernel that does not fit WebGPU's default limits.
    pub fn of_kernels(seed: u64) -> Result<Self, ExportError> {
        let mut samples = Samples { seed, ..Samples::default() };
        let mut ladders = vec![];
        for ladder in FAMILIES.iter().flat_map(|family| (family.ladders)()) {
            let rungs = ladder.variants.iter().map(|variant| samples.rung(ladder, variant));
            let rungs = rungs.collect::<Result<_, _>>()?;
            ladders.push(ShownLadder { name: ladder.name, computes: ladder.computes, rungs });
        }
        let peaks = vec![samples.peak("peak-fma", FMA)?, samples.peak("peak-copy", COPY)?];
        let page = serde_json::to_vec(&Page { oracle: ORACLE, peaks, ladders });
        let page = page.map_err(|e| ExportError::Document(e.to_string()))?;
        let Samples { modules, states, programs, stored, wanted, .. } = samples;
        let is_stored = |name: &str| stored.iter().any(|(known, ..)| known == name);
        Self::assemble(Parts {
            kind: Kind {
                system: "kernels",
                title: "every variant of every kernel",
                paper: "",
                pages: &KERNELS,
                is_read: true,
            },
            input: None,
            score: None,
            train: None,
            states: modules.states(&states, is_stored),
            modules,
            programs,
            files: vec![
                (super::MODEL.to_owned(), super::train::safetensors(&stored)?),
                (ORACLE.to_owned(), doubles(&wanted)?),
                (FILE.to_owned(), page),
            ],
        })
    }
}

impl Samples {
    fn rung(&mut self, ladder: &Ladder, variant: &Variant) -> Result<Rung, ExportError> {
        let mut samples = vec![];
        for size in [Size::Small, Size::Typical] {
            samples.push(self.sample(ladder, variant, size)?);
        }
        let Variant { name, tile, chosen } = *variant;
        Ok(Rung { name, tile, chosen, samples })
    }

    fn sample(&mut self, ladder: &Ladder, variant: &Variant, size: Size) -> Result<Sample, ExportError> {
        let failed =
            |source| ExportError::Kernel { scope: format!("{} {}", ladder.name, variant.name), source };
        let kernel = Kernel::sample(ladder, variant.name, size).map_err(failed)?;
        let case = self.case(&kernel, size);
        let Case { inputs, outputs, twin_error, .. } = self.cases[case].clone();
        let program = launch(&kernel, &inputs, &outputs, &format!("{} {}", ladder.name, variant.name));
        let which = if size == Size::Small { "small" } else { "typical" };
        let mut plans = vec![];
        let f16 = kernel.family().precision() == Precision::F16;
        for lanes in std::iter::once(None).chain(LANES.map(Some)) {
            let name = format!("{}-{}-{which}", ladder.name, variant.name);
            let name = lanes.map_or(name.clone(), |lanes| format!("{name}-{lanes}"));
            let traits = GpuTraits { subgroup: lanes, f16, ..GpuTraits::default() };
            if let Err(KernelError::Missing { .. }) = kernel.gpu(&traits, Some(variant.name)) {
                continue;
            }
            let plan = |kernel: &Kernel| kernel.gpu(&traits, Some(variant.name)).map(enabled);
            self.programs.insert(name.clone(), self.modules.planned(&program, &self.states, plan)?);
            plans.push(Plan { program: name, lanes, f16 });
            // A variant that needs no subgroups is the same whatever they are.
            if lanes.is_none() {
                break;
            }
        }
        let numbers = |ids: &[StateId], slot: fn(usize) -> Slot| -> Vec<Numbers> {
            let named = ids.iter().enumerate();
            let one = |(i, id): (usize, &StateId)| Numbers {
                state: self.states.name(*id).unwrap_or_default().to_owned(),
                values: kernel.family().values(slot(i)).into(),
            };
            named.map(one).collect()
        };
        let (inputs, outputs) = (numbers(&inputs, Slot::Input), numbers(&outputs, Slot::Output));
        let cost = kernel.cost();
        let want = match size {
            Size::Small => (0..outputs.len()).map(|i| format!("case-{case}.want{i}")).collect(),
            Size::Typical => vec![],
        };
        let bytes = cost.bytes_read + cost.bytes_written;
        let (line, flop, tolerance) = (kernel.line(), cost.flops, tolerance(&kernel));
        Ok(Sample { line, flop, bytes, tolerance, plans, inputs, outputs, want, twin_error })
    }

    /// The buffers of a kernel, which variants share; of a small one with numbers and what is wanted.
    fn case(&mut self, kernel: &Kernel, size: Size) -> usize {
        if let Some(known) = self.cases.iter().position(|known| known.kernel == *kernel) {
            return known;
        }
        let case = self.cases.len();
        let mut add = |what: &str, lens: Vec<usize>| -> Vec<StateId> {
            let add = |(i, len)| {
                self.states.add(format!("case-{case}.{what}{i}"), &[len], Initial::Constant(0.0)).id
            };
            lens.into_iter().enumerate().map(add).collect()
        };
        let (inputs, outputs) = (add("in", kernel.input_lens()), add("out", kernel.output_lens()));
        let mut twin_error = None;
        if size == Size::Small {
            let (given, before) = kernel.sample_data(self.seed);
            fn views(all: &[Vec<f32>]) -> Vec<&[f32]> {
                all.iter().map(Vec::as_slice).collect()
            }
            let want = kernel.oracle(&views(&given), &views(&before));
            twin_error = Some(relative_error(&run_twin(kernel, &views(&given), &views(&before)), &want).0);
            for (id, values) in inputs.iter().chain(&outputs).zip(given.into_iter().chain(before)) {
                let name = self.states.name(*id).unwrap_or_default().to_owned();
                self.stored.push((name, vec![values.len()], values));
            }
            for (i, values) in want.into_iter().enumerate() {
                self.wanted.push((format!("case-{case}.want{i}"), values));
            }
        }
        self.cases.push(Case { kernel: kernel.clone(), inputs, outputs, twin_error });
        case
    }

    /// A loop of [`Peak`] on buffers of its own.
    fn peak(&mut self, program: &'static str, peak: Peak) -> Result<Measured, ExportError> {
        let failed = |source| ExportError::Kernel { scope: program.to_owned(), source };
        let plan = peak.gpu(&GpuTraits::default()).map_err(failed)?;
        let (inputs, output) = (peak.input_lens(), peak.output_len());
        let blank = |len| Buffer { len, role: "temporary".to_owned(), name: None, state: None };
        let buffers: Vec<_> = inputs.iter().copied().chain([output]).map(blank).collect();
        let place = |slot| match slot {
            Slot::Input(i) => i,
            Slot::Output(_) | Slot::Scratch(_) => inputs.len(),
        };
        let launches = plan.dispatches.iter().map(|dispatch| Launch {
            scope: program.to_owned(),
            pipeline: self.modules.pipeline(dispatch),
            groups: dispatch.workgroups,
            bind: dispatch.bindings.iter().map(|b| place(b.slot)).map(|i| Part(i, buffers[i].len)).collect(),
            params: dispatch.params.clone(),
        });
        let launches = launches.collect();
        let (cost, unread) = (peak.cost(), BTreeMap::new());
        self.programs.insert(program.to_owned(), Program { buffers, launches, unread });
        let copied = matches!(peak, Peak::Copy { .. });
        let bytes = if copied { cost.bytes_read + cost.bytes_written } else { 0 };
        Ok(Measured { program, flop: cost.flops, bytes })
    }
}

/// A program of one launch on states.
fn launch(kernel: &Kernel, inputs: &[StateId], outputs: &[StateId], scope: &str) -> program::Program {
    let lens = kernel.input_lens().into_iter().chain(kernel.output_lens());
    let ids = inputs.iter().chain(outputs);
    let launch = program::Launch {
        kernel: kernel.clone(),
        inputs: (0..inputs.len()).collect(),
        outputs: (inputs.len()..inputs.len() + outputs.len()).collect(),
        scope: scope.to_owned(),
    };
    program::Program {
        buffers: ids.zip(lens).map(|(id, len)| program::Buffer { len, role: Role::State(*id) }).collect(),
        launches: vec![launch],
        ..program::Program::default()
    }
}

/// A plan whose texts ask for subgroups where they use them, as WebGPU wants it; naga knows no such line.
fn enabled(mut plan: GpuPlan) -> GpuPlan {
    for dispatch in &mut plan.dispatches {
        if dispatch.shader == "gemm_subgroups.wgsl" {
            dispatch.source = Cow::Owned(format!("enable subgroups;\n{}", dispatch.source));
        }
    }
    plan
}

/// A safetensors file of 64-bit floats.
fn doubles(tensors: &[(String, Vec<f64>)]) -> Result<Vec<u8>, ExportError> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, values)| values.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect())
        .collect();
    let broken = |e: safetensors::SafeTensorError| ExportError::Document(e.to_string());
    let views = tensors.iter().zip(&bytes).map(|((name, values), bytes)| {
        Ok((name.as_str(), TensorView::new(Dtype::F64, vec![values.len()], bytes).map_err(broken)?))
    });
    let views = views.collect::<Result<Vec<_>, ExportError>>()?;
    safetensors::serialize(views, None).map_err(broken)
}
