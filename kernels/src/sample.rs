//! Numbers to run a kernel on.

use crate::family::{Family, Values};
use crate::launch::Slot;
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
