//! Register tiles and transposes: the vector code under convolution and matrix product on the CPU.
//!
//! A product is cut into tiles of [`ROWS`] × [`LANES`] outputs whose sums stay in registers while the inner
//! index runs. Each step multiplies `LANES` consecutive numbers of one operand by `ROWS` broadcast numbers of
//! the other.

pub(crate) mod bf16;
mod transpose;

pub(crate) use transpose::transpose;

use multiversion::{multiversion, target::match_target};

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
/// The body stands in an inner function without target features that is inlined into each version: closures
/// written inside a version would carry its features, and the standard library's adapters could not inline
/// them.
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

/// `c[r][j] (+)= Σ_k a[r·row_step + k·depth_step] · b[k][j]` for r < rows, a multiple of [`ROWS`], and j <
/// [`LANES`]; `b` is `[depth, LANES]`, `c` is `[rows, ldc]`. With `add` the product is added to `c`.
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
/// Both steps are run-time numbers on purpose: seeing that eight broadcasts are neighbours, LLVM would load
/// them as one vector and vectorise the tile along the wrong side.
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

/// `c[j] (+)= Σ_k a[k] · b[k·ldb + j]`: a single row of [`product`], with the same bits, that reads `b` where
/// it lies. At most [`CHAIN`] terms.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn product_row(a: &[f32], b: &[f32], ldb: usize, c: &mut [f32], add: bool) {
    match_target! {
        "x86_64+avx512f+fma" => row_in::<16, true>(a, b, ldb, c, add),
        "x86_64+avx2+fma" => row_in::<8, true>(a, b, ldb, c, add),
        "aarch64+neon" => row_in::<4, true>(a, b, ldb, c, add),
        _ => row_in::<4, false>(a, b, ldb, c, add),
    }
}

/// Eight vectors of `L` lanes at a time, then one, then single columns.
#[inline(always)]
fn row_in<const L: usize, const FMA: bool>(a: &[f32], b: &[f32], ldb: usize, c: &mut [f32], add: bool) {
    let (wide, one) = (c.len() / (8 * L) * (8 * L), c.len() / L * L);
    for column in (0..wide).step_by(8 * L) {
        strip_in::<L, 8, FMA>(a, &b[column..], ldb, &mut c[column..], add);
    }
    for column in (wide..one).step_by(L) {
        strip_in::<L, 1, FMA>(a, &b[column..], ldb, &mut c[column..], add);
    }
    for column in one..c.len() {
        strip_in::<1, 1, FMA>(a, &b[column..], ldb, &mut c[column..], add);
    }
}

#[inline(always)]
fn strip_in<const L: usize, const N: usize, const FMA: bool>(
    a: &[f32],
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    add: bool,
) {
    let mut acc = [[0.0; L]; N];
    for (k, &a) in a.iter().enumerate() {
        let b = &b[k * ldb..][..N * L];
        for v in 0..N {
            acc[v] = multiply_add::<L, FMA>(a, vector(&b[v * L..]), acc[v]);
        }
    }
    for (c, acc) in c.iter_mut().zip(acc.as_flattened()) {
        *c = if add { *c + acc } else { *acc };
    }
}

/// The first `lanes` lanes, in tiles of `R` rows × `N` vectors of `L` lanes: as many sums as the target has
/// registers for.
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

#[cfg(test)]
mod tests {
    use super::*;

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
