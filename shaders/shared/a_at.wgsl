// a_at.wgsl: elements of the operand a, which may be weights in halves.

override HALF_A: bool = false; // a is stored in halves

/// Element i of a: a number of its own, or one of the two halves of a word.
fn a_at(i: u32) -> f32 {
    if HALF_A { return unpack2x16float(bitcast<u32>(a[i / 2u]) >> (i % 2u * 16u)).x; }
    return a[i];
}
