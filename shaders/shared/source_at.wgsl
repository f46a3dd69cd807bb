// source_at.wgsl: elements of the operand source, which may be weights in halves.

override HALF_A: bool = false; // source is stored in halves

/// Element i of source: a number of its own, or one of the two halves of a word.
fn source_at(i: u32) -> f32 {
    if HALF_A { return unpack2x16float(bitcast<u32>(source[i / 2u]) >> (i % 2u * 16u)).x; }
    return source[i];
}
