//! Weights in half the room: pairs of IEEE 754 halves, each pair one word of a buffer, the first in the low
//! bits, as WGSL's `pack2x16float` has them. Arithmetic stays in f32: a kernel that reads such weights gives
//! the bits that it would give for the same weights as f32.

use ::half::f16;
use ::half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Words that hold `len` halves.
pub fn words(len: usize) -> usize {
    len.div_ceil(2)
}

/// Rounds numbers to halves and packs them; the last word is filled up with a zero. Beyond ±65504 they become
/// infinite.
pub fn pack(values: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; words(values.len())];
    let halves: &mut [f16] = bytemuck::cast_slice_mut(&mut packed);
    halves[..values.len()].convert_from_f32_slice(values);
    packed
}

/// The numbers in `packed`; `values` is at most two for each word.
pub fn unpack(packed: &[f32], values: &mut [f32]) {
    let halves: &[f16] = &bytemuck::cast_slice(packed)[..values.len()];
    let pieces = values.par_chunks_mut(PIECE).zip(halves.par_chunks(PIECE));
    pieces.for_each(|(values, halves)| halves.convert_to_f32_slice(values));
}

/// The first `len` of numbers in halves, one by one: what oracles read.
pub(crate) fn unpacked_plainly(words: &[f32], len: usize) -> Vec<f32> {
    let halves = words.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]);
    halves.take(len).map(|bits| f16::from_bits(bits).to_f32()).collect()
}

/// Numbers that a thread converts in one go.
const PIECE: usize = 1 << 14;

/// Runs a kernel on the CPU whose second input, of `len` weights, is packed: they are unpacked to the front
/// of scratch.
pub(crate) fn unpacked(
    len: usize,
    inputs: &[&[f32]],
    scratch: &mut [f32],
    run: impl FnOnce(&[&[f32]], &mut [f32]),
) {
    let (weights, scratch) = scratch.split_at_mut(len);
    unpack(inputs[1], weights);
    let mut whole = inputs.to_vec();
    whole[1] = weights;
    run(&whole, scratch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_rounded() {
        let values = [0.0, -0.0, 1.0, 65504.0, 1.0 / 3.0, -2.0_f32.powi(-24), f32::NAN];
        let mut back = [7.0; 7];
        let packed = pack(&values);
        assert_eq!(packed.len(), words(values.len()));
        unpack(&packed, &mut back);
        for (back, value) in back[..4].iter().zip(&values) {
            assert_eq!(back.to_bits(), value.to_bits());
        }
        // 11 bits of a third; the smallest half.
        assert_eq!((back[4], back[5]), (1365.0 / 4096.0, -2.0_f32.powi(-24)));
        assert!(back[6].is_nan());
        assert_eq!(pack(&[1.0, -2.0])[0].to_bits(), 0xc000_3c00, "the first of a pair is in the low bits");
    }
}
