//! WGSL text of index arithmetic, and the words of `Params` that generated text refers to.

use crate::sections::splice;
use std::cell::RefCell;
use std::fmt::Write;

/// Numbers and sizes that generated text takes from `Params` and does not hold as literals, so that kernels
/// which differ in them alone, such as those of batch norms over other images, share a pipeline.
#[derive(Default)]
pub(crate) struct Words(RefCell<Vec<u32>>);

impl Words {
    /// Takes a word in; the WGSL expression of it.
    fn word(&self, word: u32) -> String {
        let mut words = self.0.borrow_mut();
        words.push(word);
        let i = words.len() - 1;
        format!("params.words[{}][{}]", i / 4, i % 4)
    }

    /// The WGSL expression of a size or stride.
    pub(crate) fn size(&self, size: usize) -> String {
        self.word(size as u32)
    }

    /// The WGSL expression of a number, bit for bit.
    pub(crate) fn number(&self, value: f32) -> String {
        format!("bitcast<f32>({})", self.word(value.to_bits()))
    }

    /// `source` with the words behind `fields` in its section `params`.
    pub(crate) fn declare(&self, source: &str, fields: &str) -> String {
        match self.0.borrow().len().div_ceil(4) {
            0 => source.to_owned(),
            n => {
                let text = format!("struct Params {{ {fields}, words: array<vec4u, {n}> }}\n");
                splice(source, "params", &text)
            }
        }
    }

    /// The words of `Params`, the first four of which are `head`.
    pub(crate) fn params(&self, head: [usize; 4]) -> Vec<u32> {
        let mut params: Vec<u32> = head.iter().map(|&word| word as u32).collect();
        params.extend(&*self.0.borrow());
        params.resize(params.len().next_multiple_of(4), 0);
        params
    }
}

/// Lines that split the row-major number `of` over `shape` into coordinates `{name}0, {name}1, …`: by a mask
/// and a shift where a size is a power of two, else by literals, so that shader compilers turn divisions into
/// multiplications.
pub(crate) fn coordinates(shape: &[usize], name: &str, of: &str, words: &Words) -> String {
    let mut text = String::new();
    let mut rest = of.to_owned();
    for (d, &size) in shape.iter().enumerate().rev() {
        // Writing to a String cannot fail.
        if d == 0 {
            let _ = writeln!(text, "    let {name}0 = {rest};");
            continue;
        }
        let (digit, next) = if size.is_power_of_two() {
            let (mask, shift) = (words.size(size - 1), words.size(size.trailing_zeros() as usize));
            (format!("{rest} & {mask}"), format!("{rest} >> {shift}"))
        } else {
            (format!("{rest} % {size}u"), format!("{rest} / {size}u"))
        };
        let _ = writeln!(text, "    let {name}{d} = {digit};");
        let _ = writeln!(text, "    let {name}{d}_rest = {next};");
        rest = format!("{name}{d}_rest");
    }
    text
}

/// The sum of coordinates times strides, without the terms that are 0.
pub(crate) fn offset(strides: &[usize], name: &str, words: &Words) -> String {
    let terms: Vec<String> = strides
        .iter()
        .enumerate()
        .filter(|(_, stride)| **stride > 0)
        .map(|(d, &stride)| match stride {
            1 => format!("{name}{d}"),
            _ => format!("{name}{d} * {}", words.size(stride)),
        })
        .collect();
    if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") }
}
