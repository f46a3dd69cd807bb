//! Sizes in words.

/// `64×100`, and `1` for a scalar.
pub(crate) fn shape(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "1".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

/// `4` where both axes agree, else `1×4`.
pub(crate) fn pair(values: [usize; 2]) -> String {
    if values[0] == values[1] { values[0].to_string() } else { shape(&values) }
}

/// The next power of two.
pub(crate) fn rounded(size: usize) -> usize {
    size.checked_next_power_of_two().unwrap_or(size)
}
