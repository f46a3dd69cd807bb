// b_at.wgsl: elements of the operand b, which may be weights in halves.

override HALF_B: bool = false; // b is stored in halves

/// Element i of b: a number of its own, or one of the two halves of a word.
fn b_at(i: u32) -> f32 {
    if HALF_B { return unpack2x16float(bitcast<u32>(b[i / 2u]) >> (i % 2u * 16u)).x; }
    return b[i];
}
