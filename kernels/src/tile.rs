//! Register tiles and transposes: the vector code under convolution and matrix product on the CPU.
//!
//! A product is cut into tiles of [`ROWS`] × [`LANES`] outputs whose sums stay in registers while the inner index
//! runs. Each step multiplies `LANES` consecutive numbers of one operand by `ROWS` broadcast numbers of the other.

use multiversion::{multiversion, target::match_target};
use std::ops::Range;

/// Outputs of a tile along the broadcast operand.
pub(crate) const ROWS: usize = 8;
/// Outputs of a tile along the vector operand: two 512-bit registers.
pub(crate) const LANES: usize = 32;
/// Terms of one running sum; longer sums are sums of such sums, whose rounding errors grow more slowly.
const CHAIN: usize = 512;
/// Width of the vectors that transforms and copies work in.
pub(crate) const WIDTH: usize = 16;
/// Numbers in a cache line: a vector that lies across two takes two accesses.
pub(crate) const ALIGN: usize = 16;

/// `values` without those before the first cache line, fewer than [`ALIGN`].
pub(crate) fn aligned(values: &mut [f32]) -> &mut [f32] {
    let skip = values.as_ptr().align_offset(4 * ALIGN).min(values.len());
    &mut values[skip..]
}

/// Compiles a function for each set of vector instructions and picks one at run time.
///
/// The body stands in an inner function without target features that is inlined into each version: closures written
/// inside a version would carry its features, and the standard library's adapters could not inline them.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[multiversion::multiversion(targets(
                "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
                "x86_64+avx2+fma",
                "aarch64+neon"
            ))]
            fn dispatch($($arg: $type),*) {
                body($($arg),*);
            }
            dispatch($($arg),*);
        }
    };
}
pub(crate) use simd;

/// `c[r][j] (+)= Σ_k a[r·row_step + k·depth_step] · b[k][j]` for r < rows, a multiple of [`ROWS`], and j < [`LANES`];
/// `b` is `[depth, LANES]`, `c` is `[rows, ldc]`. With `add` the product is added to `c`.
pub(crate) fn product(
    rows: usize,
    depth: usize,
    a: &[f32],
    row_step: usize,
    depth_step: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    product_ahead(rows, depth, a, row_step, depth_step, b, c, ldc, add, &[]);
}

/// [`product`] that meanwhile fetches `next`, the `b` of the product after it, into the second-level cache.
///
/// Both steps are run-time numbers on purpose: seeing that eight broadcasts are neighbours, LLVM would load them as
/// one vector and vectorise the tile along the wrong side.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn product_ahead(
    rows: usize,
    depth: usize,
    a: &[f32],
    row_step: usize,
    depth_step: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    match_target! {
        "x86_64+avx512f+fma" => {
            product_in::<8, 16, 2, true>(LANES, rows, depth, a, row_step, depth_step, b, c, ldc, add, next);
        },
        "x86_64+avx2+fma" => {
            product_in::<4, 8, 2, true>(LANES, rows, depth, a, row_step, depth_step, b, c, ldc, add, next);
        },
        "aarch64+neon" => {
            product_in::<8, 4, 2, true>(LANES, rows, depth, a, row_step, depth_step, b, c, ldc, add, next);
        },
        _ => product_in::<4, 4, 2, false>(LANES, rows, depth, a, row_step, depth_step, b, c, ldc, add, next),
    }
}

/// [`product`] of the first [`WIDTH`] lanes only, in `b` and `c` of the same form.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn product_narrow(
    rows: usize,
    depth: usize,
    a: &[f32],
    row_step: usize,
    depth_step: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    match_target! {
        "x86_64+avx512f+fma" => {
            product_in::<8, 16, 1, true>(WIDTH, rows, depth, a, row_step, depth_step, b, c, ldc, add, &[]);
        },
        "x86_64+avx2+fma" => {
            product_in::<4, 8, 2, true>(WIDTH, rows, depth, a, row_step, depth_step, b, c, ldc, add, &[]);
        },
        "aarch64+neon" => {
            product_in::<8, 4, 2, true>(WIDTH, rows, depth, a, row_step, depth_step, b, c, ldc, add, &[]);
        },
        _ => product_in::<4, 4, 2, false>(WIDTH, rows, depth, a, row_step, depth_step, b, c, ldc, add, &[]),
    }
}

/// The first `lanes` lanes, in tiles of `R` rows × `N` vectors of `L` lanes: as many sums as the target has registers for.
#[inline(always)]
fn product_in<const R: usize, const L: usize, const N: usize, const FMA: bool>(
    lanes: usize,
    rows: usize,
    depth: usize,
    a: &[f32],
    row_step: usize,
    depth_step: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    if depth == 0 && !add {
        c.chunks_mut(ldc).take(rows).for_each(|c| c[..lanes].fill(0.0));
    }
    for first in (0..depth).step_by(CHAIN) {
        let (a, b) = (&a[first * depth_step..], &b[first * LANES..depth.min(first + CHAIN) * LANES]);
        let add = add || first > 0;
        block_in::<R, L, N, FMA>(lanes, rows, a, row_step, depth_step, b, c, ldc, add, next);
    }
}

#[inline(always)]
fn block_in<const R: usize, const L: usize, const N: usize, const FMA: bool>(
    lanes: usize,
    rows: usize,
    a: &[f32],
    row_step: usize,
    depth_step: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    // Numbers of `next` to fetch in each step of a tile.
    let depth = b.len() / LANES;
    let ahead = (next.len() * R).checked_div(rows * depth).unwrap_or(0);
    for row in (0..rows).step_by(R) {
        let a = &a[row * row_step..];
        for lane in (0..lanes).step_by(L * N) {
            let mut acc = [[[0.0; L]; N]; R];
            for (k, b) in b.chunks_exact(LANES).enumerate() {
                if ahead > 0 {
                    prefetch(next, (row / R * depth + k) * ahead);
                }
                let a = &a[k * depth_step..][..(R - 1) * row_step + 1];
                let b: [[f32; L]; N] = std::array::from_fn(|v| vector(&b[lane + v * L..]));
                for i in 0..R {
                    for v in 0..N {
                        acc[i][v] = multiply_add::<L, FMA>(a[i * row_step], b[v], acc[i][v]);
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let c = &mut c[(row + i) * ldc + lane + v * L..][..L];
                    if add {
                        c.iter_mut().zip(acc).for_each(|(c, acc)| *c += acc);
                    } else {
                        c.copy_from_slice(acc);
                    }
                }
            }
        }
    }
}

/// Asks for element `at` to be brought into the second-level cache; may lie outside.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can see and does not fault on any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// The first `L` values.
#[inline(always)]
pub(crate) fn vector<const L: usize>(values: &[f32]) -> [f32; L] {
    let mut vector = [0.0; L];
    vector.copy_from_slice(&values[..L]);
    vector
}

/// Where there is no fused instruction, `mul_add` would be a library call.
#[inline(always)]
pub(crate) fn multiply_add<const L: usize, const FMA: bool>(
    a: f32,
    b: [f32; L],
    mut c: [f32; L],
) -> [f32; L] {
    for (b, c) in b.iter().zip(&mut c) {
        *c = if FMA { a.mul_add(*b, *c) } else { a * b + *c };
    }
    c
}

/// `dst[c][r] = src[r][c]`: `src` is `[rows, src_pitch]` of which `columns` are read, `dst` is `[columns, dst_pitch]`.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn transpose(
    rows: usize,
    columns: usize,
    src: &[f32],
    src_pitch: usize,
    dst: &mut [f32],
    dst_pitch: usize,
) {
    match_target! {
        "x86_64+avx512f+avx512vl+avx512dq+avx512bw" => {
            let (r, c) = (rows / WIDTH * WIDTH, columns / WIDTH * WIDTH);
            x86::transpose(r, c, src, src_pitch, dst, dst_pitch);
            transpose_in(0..r, c..columns, src, src_pitch, dst, dst_pitch);
            transpose_in(r..rows, 0..columns, src, src_pitch, dst, dst_pitch);
        },
        _ => transpose_in(0..rows, 0..columns, src, src_pitch, dst, dst_pitch),
    }
}

#[inline(always)]
fn transpose_in(
    rows: Range<usize>,
    columns: Range<usize>,
    src: &[f32],
    src_pitch: usize,
    dst: &mut [f32],
    dst_pitch: usize,
) {
    const B: usize = 8;
    for r in rows.clone().step_by(B) {
        for c in columns.clone().step_by(B) {
            if r + B <= rows.end && c + B <= columns.end {
                let mut block = [[0.0; B]; B];
                for i in 0..B {
                    block[i].copy_from_slice(&src[(r + i) * src_pitch + c..][..B]);
                }
                let block = swapped::<1>(swapped::<2>(swapped::<4>(block)));
                for j in 0..B {
                    dst[(c + j) * dst_pitch + r..][..B].copy_from_slice(&block[j]);
                }
            } else {
                for i in r..rows.end.min(r + B) {
                    for j in c..columns.end.min(c + B) {
                        dst[j * dst_pitch + i] = src[i * src_pitch + j];
                    }
                }
            }
        }
    }
}

/// Swaps off-diagonal blocks of `S`: a shuffle of two registers for each row. With S = 4, 2, 1 that is a transpose.
#[inline(always)]
fn swapped<const S: usize>(block: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = block;
    for i in 0..8 {
        for j in 0..8 {
            if i & S == 0 && j & S == 0 {
                out[i][j + S] = block[i + S][j];
                out[i + S][j] = block[i][j + S];
            }
        }
    }
    out
}

/// The one place where plain loops are not enough: LLVM makes more than twice the shuffles of a 16 × 16 transpose.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::WIDTH;
    use std::arch::x86_64::*;

    /// [`super::transpose`] of whole 16 × 16 blocks.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    pub(super) fn transpose(
        rows: usize,
        columns: usize,
        src: &[f32],
        src_pitch: usize,
        dst: &mut [f32],
        dst_pitch: usize,
    ) {
        for r in (0..rows).step_by(WIDTH) {
            for c in (0..columns).step_by(WIDTH) {
                block(&src[r * src_pitch + c..], src_pitch, &mut dst[c * dst_pitch + r..], dst_pitch);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    #[inline]
    fn block(src: &[f32], src_pitch: usize, dst: &mut [f32], dst_pitch: usize) {
        let mut a = [_mm512_setzero_ps(); WIDTH];
        for (i, a) in a.iter_mut().enumerate() {
            let row = &src[i * src_pitch..][..WIDTH];
            // SAFETY: the slice holds the 16 numbers that are read.
            *a = unsafe { _mm512_loadu_ps(row.as_ptr()) };
        }
        let mut b = a;
        // Pairs of rows, then quadruples: afterwards quarter q of a[4i + c] holds column 4q + c of rows 4i to 4i + 3.
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..4 {
            for half in 0..2 {
                let (low, high) = (_mm512_castps_pd(b[4 * i + half]), _mm512_castps_pd(b[4 * i + 2 + half]));
                a[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                a[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
            }
        }
        // Quarters 0 and 2 (0x88) or 1 and 3 (0xdd) of two registers, twice.
        for c in 0..4 {
            let even = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]);
            let odd = _mm512_shuffle_f32x4::<0xdd>(a[c], a[4 + c]);
            let even_high = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
            let odd_high = _mm512_shuffle_f32x4::<0xdd>(a[8 + c], a[12 + c]);
            b[c] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
            b[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
            b[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
            b[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
        }
        for (j, b) in b.iter().enumerate() {
            let column = &mut dst[j * dst_pitch..][..WIDTH];
            // SAFETY: the slice holds the 16 numbers that are written.
            unsafe { _mm512_storeu_ps(column.as_mut_ptr(), *b) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_of_any_size() {
        for (rows, columns) in [(1, 1), (8, 8), (16, 24), (7, 19), (33, 9), (40, 1), (64, 48), (31, 50)] {
            let pitch = columns + 3;
            let src: Vec<f32> = (0..rows * pitch).map(|i| i as f32).collect();
            let mut dst = vec![-1.0; columns * (rows + 2)];
            transpose(rows, columns, &src, pitch, &mut dst, rows + 2);
            let mut plain = vec![-1.0; dst.len()];
            transpose_in(0..rows, 0..columns, &src, pitch, &mut plain, rows + 2);
            assert_eq!(dst, plain);
            for r in 0..rows {
                for c in 0..columns {
                    assert_eq!(dst[c * (rows + 2) + r], src[r * pitch + c]);
                }
            }
        }
    }

    #[test]
    fn tiles_match_plain_sums() {
        for depth in [0, 37, CHAIN + 3] {
            let (rows, ldc) = (16, 48);
            let a: Vec<f32> = (0..rows * depth).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..depth * LANES).map(|i| (i % 11) as f32 - 5.0).collect();
            for (row_step, depth_step) in [(depth, 1), (1, rows)] {
                let fused = |add: bool, c: &mut [f32]| {
                    product(rows, depth, &a, row_step, depth_step, &b, c, ldc, add)
                };
                let narrow = |add: bool, c: &mut [f32]| {
                    product_narrow(rows, depth, &a, row_step, depth_step, &b, c, ldc, add)
                };
                // Without fused instructions, and with a panel to fetch meanwhile.
                let plain = |add: bool, c: &mut [f32]| {
                    let next = &b[..];
                    product_in::<4, 4, 2, false>(
                        LANES, rows, depth, &a, row_step, depth_step, &b, c, ldc, add, next,
                    );
                };
                type Run<'a> = &'a dyn Fn(bool, &mut [f32]);
                let runs: [(Run, usize); 3] = [(&fused, LANES), (&narrow, WIDTH), (&plain, LANES)];
                for (run, lanes) in runs {
                    let mut c = vec![1.0; rows * ldc];
                    run(false, &mut c);
                    run(true, &mut c);
                    for r in 0..rows {
                        for j in 0..ldc {
                            let term = |k| a[r * row_step + k * depth_step] * b[k * LANES + j % LANES];
                            let sum: f32 = (0..depth).map(term).sum();
                            assert_eq!(c[r * ldc + j], if j < lanes { 2.0 * sum } else { 1.0 });
                        }
                    }
                }
            }
        }
    }
}
