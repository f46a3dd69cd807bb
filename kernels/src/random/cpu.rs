//! CPU twin of `random.wgsl`: 16 Philox blocks side by side.

use super::{Distribution, Random};
use crate::expr::math;
use crate::tasks::TASK;
use multiversion::multiversion;
use rayon::prelude::*;

/// Philox blocks computed together; four elements each.
const SIDE: usize = 16;
/// 2⁻²⁴
const STEP: f32 = 1.0 / 16_777_216.0;

pub(super) fn run(k: &Random, key: [u32; 2], step: u32, out: &mut [f32]) {
    out.par_chunks_mut(TASK).enumerate().for_each(|(task, chunk)| {
        for (i, part) in chunk.chunks_mut(4 * SIDE).enumerate() {
            let first = (task * TASK / 4 + i * SIDE) as u32;
            let mut block = [0.0; 4 * SIDE];
            fill(k.distribution, first, [k.stream, step], key, &mut block);
            part.copy_from_slice(&block[..part.len()]);
        }
    });
}

/// Elements of the blocks `first..first + SIDE` with the counter's other words `rest`.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn fill(distribution: Distribution, first: u32, rest: [u32; 2], key: [u32; 2], out: &mut [f32; 4 * SIDE]) {
    let words = philox(first, rest, key);
    let mut values = [[0.0f32; SIDE]; 4];
    let unit = |word: u32| (word >> 8) as i32 as f32 * STEP;
    match distribution {
        Distribution::Uniform => {
            for (values, words) in values.iter_mut().zip(&words) {
                values.iter_mut().zip(words).for_each(|(v, &w)| *v = unit(w));
            }
        }
        Distribution::Normal => {
            // Box–Muller: one word of a pair gives the radius, from (0, 1], the other the angle in turns.
            for pair in [0, 2] {
                for l in 0..SIDE {
                    let radius = (-2.0 * math::log(unit(words[pair][l]) + STEP)).sqrt();
                    let (sin, cos) = math::sin_cos_turns(unit(words[pair + 1][l]));
                    (values[pair][l], values[pair + 1][l]) = (radius * cos, radius * sin);
                }
            }
        }
    }
    for l in 0..SIDE {
        for w in 0..4 {
            out[4 * l + w] = values[w][l];
        }
    }
}

/// Word w of the blocks `first..first + SIDE`, as [`super::philox`] defines them.
#[inline(always)]
fn philox(first: u32, rest: [u32; 2], mut key: [u32; 2]) -> [[u32; SIDE]; 4] {
    let (mut c0, mut c1, mut c2, mut c3) = ([0; SIDE], [rest[0]; SIDE], [rest[1]; SIDE], [0; SIDE]);
    for (l, word) in c0.iter_mut().enumerate() {
        *word = first.wrapping_add(l as u32);
    }
    for _ in 0..10 {
        // Separate loops of one operation each: LLVM makes vectors of these, but not of a round written per
        // block.
        let (mut a, mut b) = ([0u64; SIDE], [0u64; SIDE]);
        for l in 0..SIDE {
            a[l] = u64::from(c0[l]).wrapping_mul(0xD251_1F53);
        }
        for l in 0..SIDE {
            b[l] = u64::from(c2[l]).wrapping_mul(0xCD9E_8D57);
        }
        for l in 0..SIDE {
            c0[l] = (b[l] >> 32) as u32 ^ c1[l] ^ key[0];
        }
        for l in 0..SIDE {
            c2[l] = (a[l] >> 32) as u32 ^ c3[l] ^ key[1];
        }
        for l in 0..SIDE {
            (c1[l], c3[l]) = (b[l] as u32, a[l] as u32);
        }
        key = super::next_key(key);
    }
    [c0, c1, c2, c3]
}
