//! GPU plans of the family.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one element per thread | rows that are no multiple of four |
//! | `quads` | four consecutive elements per thread, 16-byte words | otherwise |

use super::Pointwise;
use crate::error::KernelError;
use crate::family::Family;
use crate::launch::{Dispatch, GpuPlan, GpuTraits, Slot};
use crate::layout::{contiguous, numel};
use crate::plan::{Words, begin, coordinates, fold, offset, read, write};
use crate::sections::splice;
use crate::space::{Source, merge};
use std::fmt::Write;

/// A pointwise kernel over its merged shape.
struct Merged<'a> {
    k: &'a Pointwise,
    shape: Vec<usize>,
    strides: Vec<Vec<usize>>,
}

impl<'a> Merged<'a> {
    fn new(k: &'a Pointwise) -> Self {
        let strides: Vec<&[usize]> = k.operands.iter().map(|o| o.strides.as_slice()).collect();
        let (shape, strides, _) = merge(&k.shape, &strides, &vec![false; k.shape.len()]);
        Self { k, shape, strides }
    }

    fn in_quads(&self) -> bool {
        self.shape.last().is_some_and(|last| last % 4 == 0)
    }

    fn is_dense(&self, operand: usize) -> bool {
        self.strides[operand] == contiguous(&self.shape)
    }

    /// Whether all operands that read an input are dense.
    fn is_dense_input(&self, input: usize) -> bool {
        (0..self.k.operands.len())
            .filter(|&o| self.k.operands[o].source == Source::Input(input))
            .all(|o| self.is_dense(o))
    }

    /// Whether any operand needs the coordinates of the element.
    fn needs_coordinates(&self) -> bool {
        (0..self.strides.len()).any(|o| !self.is_dense(o) && self.strides[o].iter().any(|&s| s > 0))
    }
}

pub(super) fn variants(k: &Pointwise) -> Vec<&'static str> {
    if Merged::new(k).in_quads() { vec!["naive", "quads"] } else { vec!["naive"] }
}

pub(super) fn plan(k: &Pointwise, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let variant = begin(k, traits, variant, || variants(k)[variants(k).len() - 1])?;
    let merged = Merged::new(k);
    let n = numel(&k.shape);
    let words = Words::default();
    let (shader, element, count) = match variant {
        "quads" => ("pointwise_quads.wgsl", quad_text(&merged, &words), n / 4),
        _ => ("pointwise.wgsl", element_text(&merged, &words), n),
    };
    let quads = variant == "quads";
    let inputs = k.input_lens().len();
    let mut declared = String::new();
    for i in 0..inputs {
        let ty = if quads && merged.is_dense_input(i) { "vec4f" } else { "f32" };
        let _ = writeln!(declared, "@group(0) @binding({}) var<storage, read> in{i}: array<{ty}>;", i + 1);
    }
    for o in 0..k.outputs.len() {
        let ty = if quads { "vec4f" } else { "f32" };
        let at = inputs + o + 1;
        let _ = writeln!(declared, "@group(0) @binding({at}) var<storage, read_write> out{o}: array<{ty}>;");
    }
    let source = splice(&splice(traits.shaders.text(shader), "bindings", &declared), "element", &element);
    let source = words.declare(&source, "count: u32");
    let dispatch = Dispatch {
        shader,
        source: (traits.shaders.text("expr.wgsl").to_owned() + &source).into(),
        entry: "main",
        constants: Vec::new(),
        workgroups: fold(k.name(), count.div_ceil(64), traits)?,
        bindings: (0..inputs)
            .map(|i| read(Slot::Input(i)))
            .chain((0..k.outputs.len()).map(|o| write(Slot::Output(o))))
            .collect(),
        params: words.params([count, 0, 0, 0]),
    };
    Ok(GpuPlan { variant, dispatches: vec![dispatch], scratch_lens: Vec::new() })
}

/// `fn element(i: u32)`: loads, instructions, stores.
fn element_text(m: &Merged<'_>, words: &Words) -> String {
    let mut text = String::from("fn element(i: u32) {\n");
    if m.needs_coordinates() {
        text += &coordinates(&m.shape, "c", "i", words);
    }
    let operand = |o: usize| match m.k.operands[o].source {
        Source::Output(out) => format!("out{out}[i]"),
        Source::Input(input) if m.is_dense(o) => format!("in{input}[i]"),
        Source::Input(input) => format!("in{input}[{}]", offset(&m.strides[o], "c", words)),
    };
    text += &m.k.expr.wgsl_with(operand, |value| words.number(value));
    for (o, reg) in m.k.outputs.iter().enumerate() {
        let _ = writeln!(text, "    out{o}[i] = r{reg};");
    }
    text + "}\n"
}

/// `fn quad(q: u32)` and what it calls: operand o of lane l is `x{o}` or `x{o}.x`, `.y`, `.z`, `.w`.
fn quad_text(m: &Merged<'_>, words: &Words) -> String {
    const LANES: [&str; 4] = ["x", "y", "z", "w"];
    let operands = m.k.operands.len();
    let fields: Vec<String> = (0..m.k.outputs.len()).map(|o| format!("v{o}: f32")).collect();
    let arguments: Vec<String> = (0..operands).map(|o| format!("x{o}: f32")).collect();
    let results: Vec<String> = m.k.outputs.iter().map(|reg| format!("r{reg}")).collect();
    let mut text = format!("struct Values {{ {} }}\n", fields.join(", "));
    let _ = writeln!(text, "fn values({}) -> Values {{", arguments.join(", "));
    text += &m.k.expr.wgsl_with(|o| format!("x{o}"), |value| words.number(value));
    let _ = writeln!(text, "    return Values({});\n}}", results.join(", "));
    text += "fn quad(q: u32) {\n";
    if m.needs_coordinates() {
        text += &coordinates(&m.shape, "c", "(q * 4u)", words);
    }
    let mut is_vector = Vec::with_capacity(operands);
    for (o, operand) in m.k.operands.iter().enumerate() {
        let step = m.strides[o].last().copied().unwrap_or(0);
        let value = match operand.source {
            Source::Output(out) => format!("out{out}[q]"),
            Source::Input(input) if m.is_dense_input(input) => format!("in{input}[q]"),
            Source::Input(input) if step == 0 => format!("in{input}[{}]", offset(&m.strides[o], "c", words)),
            Source::Input(input) => {
                let first =
                    if m.is_dense(o) { "q * 4u".to_owned() } else { offset(&m.strides[o], "c", words) };
                let lanes: Vec<String> =
                    (0..4).map(|l| format!("in{input}[{first} + {}u]", l * step)).collect();
                format!("vec4f({})", lanes.join(", "))
            }
        };
        is_vector.push(step != 0);
        let _ = writeln!(text, "    let x{o} = {value};");
    }
    for lane in LANES {
        let arguments: Vec<String> = is_vector
            .iter()
            .enumerate()
            .map(|(o, vector)| if *vector { format!("x{o}.{lane}") } else { format!("x{o}") })
            .collect();
        let _ = writeln!(text, "    let y{lane} = values({});", arguments.join(", "));
    }
    for o in 0..m.k.outputs.len() {
        let lanes = LANES.map(|lane| format!("y{lane}.v{o}"));
        let _ = writeln!(text, "    out{o}[q] = vec4f({});", lanes.join(", "));
    }
    text + "}\n"
}
