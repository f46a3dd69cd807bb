//! WGSL text of index arithmetic with sizes and strides as literals, so that shader compilers turn divisions into
//! multiplications and shifts.

use std::fmt::Write;

/// Lines that split the row-major number `of` over `shape` into coordinates `{name}0, {name}1, …`.
pub(crate) fn coordinates(shape: &[usize], name: &str, of: &str) -> String {
    let mut text = String::new();
    let mut rest = of.to_owned();
    for (d, size) in shape.iter().enumerate().rev() {
        // Writing to a String cannot fail.
        if d == 0 {
            let _ = writeln!(text, "    let {name}0 = {rest};");
        } else {
            let _ = writeln!(text, "    let {name}{d} = {rest} % {size}u;");
            let _ = writeln!(text, "    let {name}{d}_rest = {rest} / {size}u;");
            rest = format!("{name}{d}_rest");
        }
    }
    text
}

/// The sum of coordinates times strides, without the terms that are 0.
pub(crate) fn offset(strides: &[usize], name: &str) -> String {
    let terms: Vec<String> = strides
        .iter()
        .enumerate()
        .filter(|(_, stride)| **stride > 0)
        .map(|(d, stride)| if *stride == 1 { format!("{name}{d}") } else { format!("{name}{d} * {stride}u") })
        .collect();
    if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") }
}
