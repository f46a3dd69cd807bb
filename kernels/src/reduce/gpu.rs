//! GPU plans of the family, all from `reduce.wgsl`.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one thread per output | never: the reference |
//! | `threads` | one thread per output and segment | software adapters; kept dimensions innermost; short reductions |
//! | `groups` | one workgroup per output and segment | otherwise |
//!
//! Segments are added until there is work for a whole adapter; then a second dispatch joins their partial
//! results.

use super::{Combine, Reduce};
use crate::error::KernelError;
use crate::expr::wgsl::literal;
use crate::family::Family;
use crate::launch::{Access, Bind, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::plan::{Words, begin, check_bindings, coordinates, fold, offset, read, segments, write};
use crate::sections::splice;
use crate::space::{Source, merge};
use std::fmt::Write;

fn chosen(k: &Reduce, traits: &GpuTraits) -> &'static str {
    let kept_innermost = k.shape.iter().zip(&k.reduced).rev().find(|(d, _)| **d > 1).is_some_and(|(_, r)| !r);
    if traits.software || kept_innermost || k.reduced_len() < 64 { "threads" } else { "groups" }
}

pub(super) fn plan(k: &Reduce, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let variant = begin(k, traits, variant, || chosen(k, traits))?;
    let (kept, reduced, segments) = (k.kept(), k.reduced_len(), segments(variant, k.reduced_len(), traits));
    let scratch_len = if segments == 1 { 0 } else { k.outputs.len() * kept * segments };
    check_bindings(k.name(), [scratch_len], traits)?;
    let inputs: Vec<Bind> = (0..k.input_lens().len()).map(|i| read(Slot::Input(i))).collect();
    let outputs: Vec<Bind> = (0..k.outputs.len()).map(|o| write(Slot::Output(o))).collect();
    let dispatch =
        |(element, words): (String, Words), bindings: Vec<Bind>, reduced: usize, segments: usize| {
            let groups = match variant {
                "groups" => kept * segments,
                _ => (kept * segments).div_ceil(64),
            };
            let text = traits.shaders.text("reduce.wgsl");
            let source = splice(&splice(text, "bindings", &declarations(&bindings)), "element", &element);
            let source = words.declare(&source, "kept: u32, reduced: u32, segments: u32, by_kept: u32");
            Ok(Dispatch {
                shader: "reduce.wgsl",
                source: (traits.shaders.text("expr.wgsl").to_owned() + &source).into(),
                entry: if variant == "groups" { "groups" } else { "threads" },
                constants: Vec::new(),
                workgroups: fold(k.name(), groups, traits)?,
                bindings,
                params: words.params([kept, reduced, segments, usize::from(kept >= 64)]),
            })
        };
    let dispatches = if segments == 1 {
        let bindings = inputs.into_iter().chain(outputs).collect();
        vec![dispatch(first_text(k, false), bindings, reduced, 1)?]
    } else {
        let first = inputs.into_iter().chain([write(Slot::Scratch(0))]).collect();
        let second = std::iter::once(read(Slot::Scratch(0))).chain(outputs).collect();
        vec![
            dispatch(first_text(k, true), first, reduced, segments)?,
            dispatch(second_text(k), second, segments, 1)?,
        ]
    };
    let scratch_lens = if scratch_len > 0 { vec![scratch_len] } else { Vec::new() };
    Ok(GpuPlan { variant, dispatches, scratch_lens })
}

/// `in0…`, `out0…` and `partials`.
fn declarations(bindings: &[Bind]) -> String {
    let mut text = String::new();
    for (i, bind) in bindings.iter().enumerate() {
        let (access, name) = match (bind.slot, bind.access) {
            (Slot::Input(i), _) => ("read", format!("in{i}")),
            (Slot::Output(o), _) => ("read_write", format!("out{o}")),
            (Slot::Scratch(_), Access::Read) => ("read", "partials".to_owned()),
            (Slot::Scratch(_), Access::ReadWrite) => ("read_write", "partials".to_owned()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "@group(0) @binding({}) var<storage, {access}> {name}: array<f32>;", i + 1);
    }
    text
}

/// `Values`, `start` and `join`, which both dispatches share.
fn values_text(k: &Reduce) -> String {
    let each = |text: &dyn Fn(usize, Combine) -> String| {
        let all: Vec<String> = k.outputs.iter().enumerate().map(|(o, out)| text(o, out.combine)).collect();
        all.join(", ")
    };
    let start = each(&|_, combine| match combine {
        Combine::Sum => "0.0".to_owned(),
        Combine::Max => literal(f32::NEG_INFINITY),
    });
    let join = each(&|o, combine| match combine {
        Combine::Sum => format!("a.v{o} + b.v{o}"),
        Combine::Max => format!("op_max(a.v{o}, b.v{o})"),
    });
    format!(
        "struct Values {{ {} }}\nfn start() -> Values {{ return Values({start}); }}\n\
         fn join(a: Values, b: Values) -> Values {{ return Values({join}); }}\n",
        each(&|o, _| format!("v{o}: f32"))
    )
}

/// Elements from the expression; results to the outputs, or to partials.
fn first_text(k: &Reduce, in_segments: bool) -> (String, Words) {
    let strides: Vec<&[usize]> = k.operands.iter().map(|o| o.strides.as_slice()).collect();
    let (shape, strides, reduced) = merge(&k.shape, &strides, &k.reduced);
    let part = |sizes: &[usize], want: bool| -> Vec<usize> {
        sizes.iter().zip(&reduced).filter(|(_, r)| **r == want).map(|(s, _)| *s).collect()
    };
    let words = Words::default();
    let mut text = values_text(k) + "fn element(k: u32, j: u32) -> Values {\n";
    text += &coordinates(&part(&shape, false), "k", "k", &words);
    text += &coordinates(&part(&shape, true), "j", "j", &words);
    let operand = |o: usize| match k.operands[o].source {
        Source::Input(input) => {
            let (kept, reduced) = (part(&strides[o], false), part(&strides[o], true));
            format!("in{input}[{} + {}]", offset(&kept, "k", &words), offset(&reduced, "j", &words))
        }
        Source::Output(_) => literal(f32::NAN), // refused by the check
    };
    text += &k.expr.wgsl_with(operand, |value| words.number(value));
    let regs: Vec<String> = k.outputs.iter().map(|o| format!("r{}", o.reg)).collect();
    let _ = writeln!(text, "    return Values({});\n}}", regs.join(", "));
    if !in_segments {
        text += &store_text(k, &words);
        return (text, words);
    }
    text += "fn store(k: u32, s: u32, v: Values) {\n";
    for o in 0..k.outputs.len() {
        let _ = writeln!(text, "    {} = v.v{o};", partial(o, "params.segments", "s"));
    }
    (text + "}\n", words)
}

/// Segment `s` of output o.
fn partial(o: usize, segments: &str, s: &str) -> String {
    format!("partials[({o}u * params.kept + k) * {segments} + {s}]")
}

/// Elements from partials, results to the outputs.
fn second_text(k: &Reduce) -> (String, Words) {
    let words = Words::default();
    let partials: Vec<String> = (0..k.outputs.len()).map(|o| partial(o, "params.reduced", "j")).collect();
    let text = values_text(k)
        + &format!("fn element(k: u32, j: u32) -> Values {{ return Values({}); }}\n", partials.join(", "))
        + &store_text(k, &words);
    (text, words)
}

fn store_text(k: &Reduce, words: &Words) -> String {
    let mut text = String::from("fn store(k: u32, s: u32, v: Values) {\n");
    for (o, out) in k.outputs.iter().enumerate() {
        let _ = writeln!(text, "    out{o}[k] = v.v{o} * {};", words.number(out.scale.0));
    }
    text + "}\n"
}
