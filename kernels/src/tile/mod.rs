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
/// Distance of rows of up to 256 numbers that are read side by side: they fall into different cache sets.
pub(crate) const PITCH: usize = 256 + WIDTH;
/// Steps between looks at what to fetch ahead: a fetch in every step would ask for each cache line many
/// times.
const STEPS: usize = 8;
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

/// How the broadcast operand of a product lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Rows, so far apart.
    Rows(usize),
    /// Columns, so far apart.
    Columns(usize),
}

impl Order {
    /// Where the number of a row and a column is.
    pub(crate) fn at(self, row: usize, column: usize) -> usize {
        match self {
            Self::Rows(pitch) => row * pitch + column,
            Self::Columns(pitch) => column * pitch + row,
        }
    }
}

/// `c[r][j] (+)= Σ_k a[r][k] · b[k][j]` for r < rows, a multiple of [`ROWS`], and j < [`LANES`]; `a` lies in
/// `order`, `b` is `[depth, LANES]`, `c` is `[rows, ldc]`. With `add` the product is added to `c`.
pub(crate) fn product(
    rows: usize,
    depth: usize,
    a: &[f32],
    order: Order,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    product_ahead(rows, depth, a, order, b, c, ldc, add, &[]);
}

/// [`product`] that meanwhile fetches `next`, the `b` of the product after it, into the second-level cache.
///
/// What its inner loops are made of is held by `tests/machine_code.rs`.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn product_ahead(
    rows: usize,
    depth: usize,
    a: &[f32],
    order: Order,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    match_target! {
        "x86_64+avx512f+fma" => {
            product_of::<8, 16, 2, true>(LANES, rows, depth, a, order, b, c, ldc, add, next);
        },
        "x86_64+avx2+fma" => {
            product_of::<4, 8, 2, true>(LANES, rows, depth, a, order, b, c, ldc, add, next);
        },
        "aarch64+neon" => {
            product_of::<8, 4, 2, true>(LANES, rows, depth, a, order, b, c, ldc, add, next);
        },
        _ => product_of::<4, 4, 2, false>(LANES, rows, depth, a, order, b, c, ldc, add, next),
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
    order: Order,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    match_target! {
        "x86_64+avx512f+fma" => {
            // Which become one vector of 16; written as one, LLVM would vectorise along the rows.
            product_of::<8, 8, 2, true>(WIDTH, rows, depth, a, order, b, c, ldc, add, &[]);
        },
        "x86_64+avx2+fma" => {
            product_of::<4, 8, 2, true>(WIDTH, rows, depth, a, order, b, c, ldc, add, &[]);
        },
        "aarch64+neon" => {
            product_of::<8, 4, 2, true>(WIDTH, rows, depth, a, order, b, c, ldc, add, &[]);
        },
        _ => product_of::<4, 4, 2, false>(WIDTH, rows, depth, a, order, b, c, ldc, add, &[]),
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

/// [`product_in`] with the distances that operands have in the hot places as constants: their offsets are
/// then part of the instructions.
#[inline(always)]
fn product_of<const R: usize, const L: usize, const N: usize, const FMA: bool>(
    lanes: usize,
    rows: usize,
    depth: usize,
    a: &[f32],
    order: Order,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    macro_rules! product {
        ($order:expr) => {
            if next.is_empty() {
                product_in::<R, L, N, FMA, false>(lanes, rows, depth, a, $order, b, c, ldc, add, next)
            } else {
                product_in::<R, L, N, FMA, true>(lanes, rows, depth, a, $order, b, c, ldc, add, next)
            }
        };
    }
    match order {
        Order::Rows(PITCH) => product!(Order::Rows(PITCH)),
        Order::Rows(pitch) => product!(Order::Rows(pitch)),
        Order::Columns(ROWS) => product!(Order::Columns(ROWS)),
        Order::Columns(WIDTH) => product!(Order::Columns(WIDTH)),
        Order::Columns(pitch) => product!(Order::Columns(pitch)),
    }
}

/// The first `lanes` lanes, in tiles of `R` rows × `N` vectors of `L` lanes: as many sums as the target has
/// registers for.
#[inline(always)]
fn product_in<const R: usize, const L: usize, const N: usize, const FMA: bool, const AHEAD: bool>(
    lanes: usize,
    rows: usize,
    depth: usize,
    a: &[f32],
    order: Order,
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
        let b = &b.as_chunks().0[first..depth.min(first + CHAIN)];
        let (a, add) = (&a[order.at(0, first)..], add || first > 0);
        block_in::<R, L, N, FMA, AHEAD>(lanes, rows, a, order, b, c, ldc, add, next);
    }
}

#[inline(always)]
fn block_in<const R: usize, const L: usize, const N: usize, const FMA: bool, const AHEAD: bool>(
    lanes: usize,
    rows: usize,
    a: &[f32],
    order: Order,
    b: &[[f32; LANES]],
    c: &mut [f32],
    ldc: usize,
    add: bool,
    next: &[f32],
) {
    let depth = b.len();
    // Numbers of `next` to fetch in each step of a tile, if `AHEAD`, and the steps of the tiles before.
    let ahead = (next.len() * R * L * N).checked_div(rows * lanes * depth).unwrap_or(0);
    let mut before = 0_usize;
    for row in (0..rows).step_by(R) {
        // The last number of the tile: no other lies further on.
        let last = order.at(row + R - 1, depth - 1);
        assert!(last < a.len(), "a tile reads number {last} of {}", a.len());
        let starts: [*const f32; R] = std::array::from_fn(|i| a[order.at(row + i, 0)..].as_ptr());
        for lane in (0..lanes).step_by(L * N) {
            // Outputs come while their sums are made.
            for row in row..row + R {
                for line in (0..L * N).step_by(ALIGN) {
                    fetch::<true>(c, row * ldc + lane + line);
                }
            }
            let mut acc = [[[0.0; L]; N]; R];
            let mut at = 0_usize;
            for (some, b) in b.chunks(STEPS).enumerate() {
                if AHEAD {
                    let first = before.wrapping_add(some * STEPS).wrapping_mul(ahead);
                    for line in (0..STEPS * ahead).step_by(ALIGN) {
                        prefetch(next, first.wrapping_add(line));
                    }
                }
                for b in b {
                    let b: [[f32; L]; N] = std::array::from_fn(|v| vector(&b[lane + v * L..]));
                    for i in 0..R {
                        // SAFETY: `starts[i]` is the place of row `row + i` and `at` the distance of a column
                        // < depth, so the number is not behind `last`, which was checked. A check for each
                        // number took a quarter of the time; slices of known lengths let LLVM see that the
                        // numbers are neighbours, and it vectorises along the rows.
                        let a = unsafe { *starts[i].wrapping_add(at) };
                        for v in 0..N {
                            acc[i][v] = multiply_add::<L, FMA>(a, b[v], acc[i][v]);
                        }
                    }
                    at = at.wrapping_add(order.at(0, 1));
                }
            }
            before = before.wrapping_add(depth);
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
    fetch::<false>(values, at);
}

/// [`prefetch`], with `FIRST` into the first-level cache.
#[inline(always)]
fn fetch<const FIRST: bool>(values: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let place = values.as_ptr().wrapping_add(at).cast();
        // SAFETY: a prefetch reads nothing that the program can see and does not fault on any address.
        unsafe {
            if FIRST { _mm_prefetch::<_MM_HINT_T0>(place) } else { _mm_prefetch::<_MM_HINT_T1>(place) }
        };
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
            for order in [Order::Rows(depth), Order::Columns(rows)] {
                let fused = |add: bool, c: &mut [f32]| product(rows, depth, &a, order, &b, c, ldc, add);
                let narrow =
                    |add: bool, c: &mut [f32]| product_narrow(rows, depth, &a, order, &b, c, ldc, add);
                // Without fused instructions, and with a panel to fetch meanwhile.
                let plain = |add: bool, c: &mut [f32]| {
                    let next = &b[..];
                    product_of::<4, 4, 2, false>(LANES, rows, depth, &a, order, &b, c, ldc, add, next);
                };
                type Run<'a> = &'a dyn Fn(bool, &mut [f32]);
                let runs: [(Run, usize); 3] = [(&fused, LANES), (&narrow, WIDTH), (&plain, LANES)];
                for (run, lanes) in runs {
                    let mut c = vec![1.0; rows * ldc];
                    run(false, &mut c);
                    run(true, &mut c);
                    for r in 0..rows {
                        for j in 0..ldc {
                            let term = |k| a[order.at(r, k)] * b[k * LANES + j % LANES];
                            let sum: f32 = (0..depth).map(term).sum();
                            assert_eq!(c[r * ldc + j], if j < lanes { 2.0 * sum } else { 1.0 });
                        }
                    }
                }
            }
        }
    }
}
