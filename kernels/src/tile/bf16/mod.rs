//! Register tiles of operands in bfloat16, with sums in f32.
//!
//! The first operand lies in rows, inner indices side by side; the second in panels of [`LANES`] columns
//! whose words hold the pairs of inner indices `2q` and `2q + 1`, the first in the low bits: what `tdpbf16ps`
//! (AMX) and `vdpbf16ps` (AVX512-BF16) read. Elsewhere the same sums are made of f32 multiply-adds. The order
//! of a sum follows from the instructions of the machine and its number of terms, so a row has the same bits
//! among any others.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::sync::OnceLock;

use super::{LANES, simd};

/// Inner indices come in whole steps of this many; what is beyond an operand's end is zero in both.
pub(crate) const STEP: usize = 32;

/// Instructions that multiply numbers in bfloat16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Tiles of 16 × 16 outputs in registers of their own: Sapphire Rapids and later.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Pairs in vectors of 512 bits: Cooper Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Multiply-adds in f32.
    Plain,
}

/// Those that this machine has, the fastest first.
fn ways() -> &'static [Way] {
    static WAYS: OnceLock<Vec<Way>> = OnceLock::new();
    WAYS.get_or_init(|| {
        let mut ways = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            if amx::available() {
                ways.push(Way::Amx);
            }
            if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
                ways.push(Way::Avx512);
            }
        }
        ways.push(Way::Plain);
        ways
    })
}

/// What multiplies numbers in bfloat16 on this machine: `AMX`, `AVX512-BF16`, or `f32 multiply-adds`, where
/// rounding to it saves no time.
pub fn bf16_instructions() -> &'static str {
    match ways()[0] {
        #[cfg(target_arch = "x86_64")]
        Way::Amx => "AMX",
        #[cfg(target_arch = "x86_64")]
        Way::Avx512 => "AVX512-BF16",
        Way::Plain => "f32 multiply-adds",
    }
}

/// The upper half of a number, rounded to nearest, ties to even; NaN stays NaN.
#[inline(always)]
fn upper(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits >> 16 | 0x40 } else { rounded }
}

simd! {
    /// Rounds numbers.
    pub(crate) fn round(values: &[f32], rounded: &mut [u16]) {
        for (rounded, value) in rounded.iter_mut().zip(values) {
            *rounded = upper(*value) as u16;
        }
    }
}

simd! {
    /// Words of the numbers of two inner indices, rounded.
    pub(crate) fn pair(first: &[f32], second: &[f32], words: &mut [u32]) {
        for (word, (first, second)) in words.iter_mut().zip(first.iter().zip(second)) {
            *word = upper(*first) | upper(*second) << 16;
        }
    }
}

/// `c[r][j] (+)= Σ_k a[r·pitch + k] · b[k / 2][j]` for r < rows, k < depth, a multiple of [`STEP`], and
/// j < [`LANES`]: `b` is `[depth / 2, LANES]`, `c` is `[rows, ldc]`, and `pitch` is even. With `add` the sums
/// go on from what is in `c`.
pub(crate) fn product(
    rows: usize,
    depth: usize,
    a: &[u16],
    pitch: usize,
    b: &[u32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    product_by(ways()[0], rows, depth, a, pitch, b, c, ldc, add);
}

fn product_by(
    way: Way,
    rows: usize,
    depth: usize,
    a: &[u16],
    pitch: usize,
    b: &[u32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    if rows == 0 {
        return;
    }
    assert!(depth.is_multiple_of(STEP) && pitch.is_multiple_of(2) && ldc >= LANES, "whole steps and words");
    let (a, b) = (&a[..(rows - 1) * pitch + depth], &b[..depth / 2 * LANES]);
    let c = &mut c[..(rows - 1) * ldc + LANES];
    match way {
        // SAFETY: the way is among those that the machine has, and the slices reach as far as rows, depth and
        // distances say.
        #[cfg(target_arch = "x86_64")]
        Way::Amx => unsafe { amx::product(rows, depth, a, pitch, b, c, ldc, add) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Way::Avx512 => unsafe { avx512(rows, depth, a, pitch, b, c, ldc, add) },
        Way::Plain => plain(rows, depth, a, pitch, b, c, ldc, add),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512(
    rows: usize,
    depth: usize,
    a: &[u16],
    pitch: usize,
    b: &[u32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    const R: usize = 8;
    let whole = rows / R * R;
    for row in (0..whole).step_by(R) {
        avx512_rows::<R>(depth, &a[row * pitch..], pitch, b, &mut c[row * ldc..], ldc, add);
    }
    for row in whole..rows {
        avx512_rows::<1>(depth, &a[row * pitch..], pitch, b, &mut c[row * ldc..], ldc, add);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512_rows<const R: usize>(
    depth: usize,
    a: &[u16],
    pitch: usize,
    b: &[u32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    use super::WIDTH;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    // SAFETY: both are vectors of 512 bits.
    let pairs = |words: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(words) };
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    if add {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                let c = &c[r * ldc + v * WIDTH..][..WIDTH];
                // SAFETY: `c` has a vector's length.
                *sum = unsafe { _mm512_loadu_ps(c.as_ptr()) };
            }
        }
    }
    for (q, b) in b.chunks_exact(LANES).take(depth / 2).enumerate() {
        // SAFETY: a row of the panel is two vectors long.
        let b = [0, WIDTH].map(|v| pairs(unsafe { _mm512_loadu_si512(b[v..].as_ptr().cast()) }));
        for (r, sums) in sums.iter_mut().enumerate() {
            let word = u32::from(a[r * pitch + 2 * q]) | u32::from(a[r * pitch + 2 * q + 1]) << 16;
            let a = pairs(_mm512_set1_epi32(word.cast_signed()));
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            let c = &mut c[r * ldc + v * WIDTH..][..WIDTH];
            // SAFETY: `c` has a vector's length.
            unsafe { _mm512_storeu_ps(c.as_mut_ptr(), *sum) };
        }
    }
}

simd! {
    /// A row at a time; the two numbers of a word one after the other.
    fn plain(
        rows: usize,
        depth: usize,
        a: &[u16],
        pitch: usize,
        b: &[u32],
        c: &mut [f32],
        ldc: usize,
        add: bool,
    ) {
        for row in 0..rows {
            let c = &mut c[row * ldc..][..LANES];
            let mut sums = [0.0_f32; LANES];
            if add {
                sums.copy_from_slice(c);
            }
            let a = a[row * pitch..][..depth].chunks_exact(2);
            for (a, b) in a.zip(b.chunks_exact(LANES)) {
                let a = [a[0], a[1]].map(|half| f32::from_bits(u32::from(half) << 16));
                for (sum, word) in sums.iter_mut().zip(b) {
                    // Products of two such numbers are exact in f32: no fused instruction is needed.
                    *sum += a[0] * f32::from_bits(word << 16);
                    *sum += a[1] * f32::from_bits(word & 0xffff_0000);
                }
            }
            c.copy_from_slice(&sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as f32 / u32::MAX as f32 * 2.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn numbers_are_rounded_to_nearest_even_and_nan_stays() {
        let values = [
            0.0,
            -0.0,
            1.0,
            // A tie above an even and above an odd number, and just beyond a tie.
            f32::from_bits(0x3f80_8000),
            f32::from_bits(0x3f81_8000),
            f32::from_bits(0x3f80_8001),
            f32::MAX,
            f32::NEG_INFINITY,
            f32::from_bits(0x7f80_0001),
            f32::from_bits(1),
        ];
        let expected = [0, 0x8000, 0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0xff80, 0x7fc0, 0];
        let mut rounded = [7; 10];
        round(&values, &mut rounded);
        assert_eq!(rounded, expected);
        let by_crate: Vec<u16> = values.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect();
        assert_eq!(rounded.to_vec(), by_crate);
        let mut words = [0; 10];
        pair(&values, &[1.0; 10], &mut words);
        assert_eq!(words, expected.map(|half| u32::from(half) | 0x3f80 << 16));
    }

    /// All ways of this machine against f64, from no rows to several tiles and a rest.
    #[test]
    fn tiles_match_plain_sums_by_every_instruction_here() {
        for (depth, rows) in [(0, 3), (32, 1), (96, 16), (512, 33), (64, 47), (32, 64), (160, 7)] {
            let (pitch, ldc) = (depth + 6, 40);
            let mut a = vec![0; rows * pitch];
            round(&numbers(rows * pitch, 3), &mut a);
            let (first, second) = (numbers(depth / 2 * LANES, 5), numbers(depth / 2 * LANES, 9));
            let mut b = vec![0; depth / 2 * LANES];
            pair(&first, &second, &mut b);
            let value = |half: u32| f64::from(f32::from_bits(half << 16));
            for &way in ways() {
                let mut c = vec![1.0; rows * ldc];
                product_by(way, rows, depth, &a, pitch, &b, &mut c, ldc, false);
                let alone = c.clone();
                product_by(way, rows, depth, &a, pitch, &b, &mut c, ldc, true);
                for r in 0..rows {
                    for j in 0..ldc {
                        let term = |k: usize| {
                            let word = b[k / 2 * LANES + j];
                            value(u32::from(a[r * pitch + k])) * value(word >> (16 * (k % 2)) & 0xffff)
                        };
                        let sum: f64 = if j < LANES { (0..depth).map(term).sum() } else { 0.5 };
                        let (once, twice) = (f64::from(alone[r * ldc + j]), f64::from(c[r * ldc + j]));
                        if j < LANES {
                            let bound = 4e-6 * sum.abs().max(1.0);
                            assert!(
                                (once - sum).abs() < bound,
                                "{way:?} {depth} {rows}: {once} is not {sum}"
                            );
                            assert!(
                                (twice - 2.0 * sum).abs() < 2.0 * bound,
                                "{way:?}: {twice}, not 2 · {sum}"
                            );
                        } else {
                            assert_eq!([once, twice], [1.0, 1.0], "beyond the lanes");
                        }
                    }
                }
                // A row has its bits among any others.
                if rows > 0 {
                    let mut row = vec![0.0; LANES];
                    product_by(way, 1, depth, &a[(rows - 1) * pitch..], pitch, &b, &mut row, LANES, false);
                    assert_eq!(row, alone[(rows - 1) * ldc..][..LANES], "{way:?}");
                }
            }
        }
    }
}
