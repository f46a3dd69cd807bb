//! Numbers to run a kernel on, and whether what it gives is right.

use crate::Kernel;
use crate::family::{Family, Values};
use crate::launch::Slot;
use crate::precision::Precision;
use crate::random::{Distribution, Random};

/// What the inputs of a kernel hold, and its outputs before it runs.
pub type Data = (Vec<Vec<f32>>, Vec<Vec<f32>>);

/// `len` uniform numbers in [0, 1); the same for the same seed and stream.
pub fn uniform(len: usize, seed: u64, stream: u32) -> Vec<f32> {
    let key = [f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    let mut values = vec![0.0; len];
    let random = Random { distribution: Distribution::Uniform, len, stream };
    random.twin(&[&key, &[0.0]], &mut [&mut values], &mut []);
    values
}

/// Numbers for every buffer, as [`Family::values`] asks for them.
pub(crate) fn data(kernel: &dyn Family, seed: u64) -> Data {
    let fill = |len: usize, stream: u32, values: Values| {
        let uniform = uniform(len, seed, stream).into_iter();
        let number = |v: f32| match values {
            Values::Tame => 0.1 + 0.9 * v,
            Values::Signed => 2.0 * v - 1.0,
            Values::Below(end) => (v * end as f32).floor().min(end as f32 - 1.0),
            Values::Fixed(number) => number,
        };
        uniform.map(number).collect()
    };
    let of = |lens: Vec<usize>, first: u32, slot: fn(usize) -> Slot| {
        let buffers = (first..).zip(lens.into_iter().enumerate());
        buffers.map(|(stream, (i, len))| fill(len, stream, kernel.values(slot(i)))).collect()
    };
    (of(kernel.input_lens(), 0, Slot::Input), of(kernel.output_lens(), 100, Slot::Output))
}

/// Largest error of a variant in f32, relative to the root mean square of the right values: sums of any order
/// stay below it.
pub const TOLERANCE: f64 = 1e-4;

/// The same of a kernel's variants, whose operands may be rounded.
pub fn tolerance(kernel: &Kernel) -> f64 {
    match kernel.family().precision() {
        Precision::F32 => TOLERANCE,
        // Operands within 2^-12 and, in halves, chains of sums within 2^-11.
        Precision::F16 => 1e-2,
        Precision::Bf16 => 2e-2,
    }
}

/// Outputs of the kernel's CPU twin.
pub fn run_twin(kernel: &Kernel, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut outputs: Vec<Vec<f32>> = before.iter().map(|values| values.to_vec()).collect();
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    let mut views: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    kernel.cpu(inputs, &mut views, &mut scratch);
    outputs
}

/// Largest error over the root mean square of the values wanted (of each output by itself), and the largest
/// error; a NaN or infinity where none is wanted is infinitely wrong.
pub fn relative_error(got: &[Vec<f32>], want: &[Vec<f64>]) -> (f64, f64) {
    let (mut relative, mut absolute) = (0.0_f64, 0.0_f64);
    for (got, want) in got.iter().zip(want) {
        let scale = (want.iter().map(|w| w * w).sum::<f64>() / want.len().max(1) as f64).sqrt().max(1e-3);
        for (&g, &w) in got.iter().zip(want) {
            let g = f64::from(g);
            let error = if g == w || (g.is_nan() && w.is_nan()) { 0.0 } else { (g - w).abs() };
            let error = if error.is_nan() { f64::INFINITY } else { error };
            absolute = absolute.max(error);
            relative = relative.max(error / scale);
        }
    }
    (relative, absolute)
}
