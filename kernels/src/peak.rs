//! What a device can do at most: loops that only multiply and add, and loops that only copy. They belong to
//! no program; measured times of kernels are held against theirs.

use crate::error::KernelError;
use crate::launch::{Cost, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::plan::{check_bindings, fold, read, write};
use crate::tile;
use multiversion::{multiversion, target::match_target};
use rayon::prelude::*;
use std::hint::black_box;

/// Most rounds of [`Peak::Fma`] in one launch: llvmpipe ends a thread after 65,535 loop iterations.
pub const MAX_ROUNDS: usize = 65_000;

/// Factor and shift of the sums, which converge: no overflow, no denormals.
const FACTOR: f32 = 0.999;
const SHIFT: f32 = 0.0005;
/// Multiply-adds of a GPU thread in one round.
const PER_ROUND: usize = 32;
/// Floats copied by one task.
const PIECE: usize = 1 << 16;

/// One of the loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peak {
    /// `threads` independent threads of `rounds` rounds of multiply-adds. Output: one number a thread.
    Fma {
        /// Number of threads.
        threads: usize,
        /// Rounds, at most [`MAX_ROUNDS`].
        rounds: usize,
    },
    /// Copies `len` floats, a multiple of four. Input and output: `[len]`.
    Copy {
        /// Number of floats.
        len: usize,
    },
}

impl Peak {
    /// Elements of each input.
    pub fn input_lens(&self) -> Vec<usize> {
        match *self {
            Self::Fma { .. } => vec![],
            Self::Copy { len } => vec![len],
        }
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        match *self {
            Self::Fma { threads, .. } => threads,
            Self::Copy { len } => len,
        }
    }

    /// Arithmetic and traffic of [`Peak::gpu`]'s plan.
    pub fn cost(&self) -> Cost {
        match *self {
            Self::Fma { threads, rounds } => Cost {
                flops: 2 * (PER_ROUND * threads * rounds) as u64,
                bytes_written: 4 * threads as u64,
                ..Cost::default()
            },
            Self::Copy { len } => {
                Cost { flops: 0, bytes_read: 4 * len as u64, bytes_written: 4 * len as u64 }
            }
        }
    }

    /// The plan on a GPU.
    ///
    /// # Errors
    /// [`KernelError::Limit`] for buffers or grids beyond the adapter's.
    pub fn gpu(&self, traits: &GpuTraits) -> Result<GpuPlan, KernelError> {
        let (shader, threads, mut bindings, params) = match *self {
            Self::Fma { threads, rounds } => {
                let words = [rounds as u32, FACTOR.to_bits(), SHIFT.to_bits(), threads as u32];
                ("peak_fma.wgsl", threads, vec![], words)
            }
            Self::Copy { len } => {
                ("peak_copy.wgsl", len / 4, vec![read(Slot::Input(0))], [(len / 4) as u32, 0, 0, 0])
            }
        };
        check_bindings("peak", [self.output_len()], traits)?;
        bindings.push(write(Slot::Output(0)));
        let dispatch = Dispatch {
            shader,
            source: traits.shaders.text(shader).to_owned().into(),
            entry: "main",
            constants: Vec::new(),
            workgroups: fold("peak", threads.div_ceil(64), traits)?,
            bindings,
            params: params.to_vec(),
        };
        Ok(GpuPlan { variant: "peak", dispatches: vec![dispatch], scratch_lens: Vec::new() })
    }
}

/// Runs `rounds` rounds of multiply-adds on every thread of the current pool, and returns how many
/// floating-point operations that were.
pub fn fma_on_cpu(rounds: usize) -> u64 {
    // Every thread has exactly one piece, whatever others would like to steal.
    rayon::broadcast(|_| multiply_add(rounds)).into_iter().sum()
}

/// As [`fma_on_cpu`], of products of numbers in bfloat16 that lie in the first-level cache.
pub fn bf16_on_cpu(rounds: usize) -> u64 {
    rayon::broadcast(|_| multiply_bf16(rounds)).into_iter().sum()
}

fn multiply_bf16(rounds: usize) -> u64 {
    const ROWS: usize = 32;
    const DEPTH: usize = 256;
    // Ones.
    let (a, b) = (vec![0x3f80; ROWS * DEPTH], vec![0x3f80_3f80; DEPTH / 2 * tile::LANES]);
    let mut sums = vec![0.0; ROWS * tile::LANES];
    for _ in 0..rounds {
        tile::bf16::product(ROWS, DEPTH, black_box(&a), DEPTH, &b, &mut sums, tile::LANES, false);
        black_box(&mut sums);
    }
    2 * (ROWS * DEPTH * tile::LANES * rounds) as u64
}

#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn multiply_add(rounds: usize) -> u64 {
    match_target! {
        "x86_64+avx512f+fma" => multiply_add_in::<16, true>(rounds),
        "x86_64+avx2+fma" => multiply_add_in::<8, true>(rounds),
        "aarch64+neon" => multiply_add_in::<4, true>(rounds),
        _ => multiply_add_in::<4, false>(rounds),
    }
}

/// Eight vectors of `L` lanes: what two multiply-add units of four cycles each keep in flight. They are
/// variables, since LLVM leaves an array of them in memory.
#[inline(always)]
fn multiply_add_in<const L: usize, const FMA: bool>(rounds: usize) -> u64 {
    let start = black_box([1.0_f32; 9 * 16]);
    let mut vectors = start.chunks_exact(L).map(tile::vector::<L>);
    let mut next = || vectors.next().unwrap_or([1.0; L]);
    let (factor, shift) = (black_box(FACTOR), next());
    let [mut a, mut b, mut c, mut d] = [next(), next(), next(), next()];
    let [mut e, mut f, mut g, mut h] = [next(), next(), next(), next()];
    for _ in 0..rounds {
        a = tile::multiply_add::<L, FMA>(factor, a, shift);
        b = tile::multiply_add::<L, FMA>(factor, b, shift);
        c = tile::multiply_add::<L, FMA>(factor, c, shift);
        d = tile::multiply_add::<L, FMA>(factor, d, shift);
        e = tile::multiply_add::<L, FMA>(factor, e, shift);
        f = tile::multiply_add::<L, FMA>(factor, f, shift);
        g = tile::multiply_add::<L, FMA>(factor, g, shift);
        h = tile::multiply_add::<L, FMA>(factor, h, shift);
    }
    let mut sum = [0.0; L];
    for vector in [a, b, c, d, e, f, g, h] {
        sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v);
    }
    black_box(sum);
    2 * (L * 8 * rounds) as u64
}

/// Copies `from` to `to`, of the same length, on every thread of the current pool.
pub fn copy_on_cpu(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}
