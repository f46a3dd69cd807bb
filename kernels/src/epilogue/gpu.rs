//! The fused tail in shaders: its bindings and its text.

use super::{Epilogue, Spread};
use crate::launch::{Bind, GpuTraits, Slot};
use crate::plan::read;
use crate::sections::splice;

/// The directive of shaders with arithmetic in halves.
const ENABLE: &str = "\nenable f16;\n";

/// `main`, then the epilogue's operands.
pub(crate) fn bindings(mut main: Vec<Bind>, epilogue: &Epilogue) -> Vec<Bind> {
    main.extend((0..epilogue.operands.len()).map(|i| read(Slot::Input(i + 2))));
    main
}

/// A shader file with its `//#epilogue` section replaced by the expression; operand `i` at binding `first +
/// i`.
pub(crate) fn with_epilogue(file: &str, epilogue: &Epilogue, first: usize, traits: &GpuTraits) -> String {
    let shader = traits.shaders.text(file);
    if epilogue.expr.code.is_empty() {
        return shader.to_owned();
    }
    let mut text = String::new();
    for i in 0..epilogue.operands.len() {
        text += &format!("@group(0) @binding({}) var<storage, read> operand{i}: array<f32>;\n", first + i);
    }
    let body = epilogue.expr.wgsl(|operand| match operand.checked_sub(1) {
        None => "acc".to_owned(),
        Some(i) => match epilogue.operands[i] {
            Spread::Full => format!("operand{i}[index]"),
            Spread::Channel => format!("operand{i}[channel]"),
            Spread::Scalar => format!("operand{i}[0]"),
        },
    });
    let last = epilogue.expr.code.len() - 1;
    text += &format!(
        "fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {{\n{body}    return r{last};\n}}\n"
    );
    let whole = format!("{}\n{}", traits.shaders.text("expr.wgsl"), splice(shader, "epilogue", &text));
    // Directives stand before everything else.
    match whole.split_once(ENABLE) {
        Some((before, after)) => format!("{ENABLE}{before}{after}"),
        None => whole,
    }
}
