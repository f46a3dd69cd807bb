//! Products on the CPU, with weights as they come and as they are kept.

use ganomede_kernels::Kernel;

/// Runs on a pool of `threads`, on output and scratch full of NaN: nothing may be read before it is written.
pub(crate) fn run(kernel: &Kernel, inputs: &[Vec<f32>], threads: usize) -> Vec<f32> {
    kernel.check().unwrap();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut out = vec![f32::NAN; kernel.output_lens()[0]];
    let mut scratch = vec![f32::NAN; kernel.cpu_scratch_len(threads)];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| kernel.cpu(&inputs, &mut [&mut out], &mut scratch));
    assert_same_with_kept_weights(kernel, &inputs, &out, &pool, scratch.len());
    out
}

/// The weights in the form that a scorer or a search keeps give the same bits, whatever lies in scratch.
fn assert_same_with_kept_weights(
    kernel: &Kernel,
    inputs: &[&[f32]],
    expected: &[f32],
    pool: &rayon::ThreadPool,
    scratch_len: usize,
) {
    let len = kernel.cpu_weights_len();
    if len == 0 {
        return;
    }
    let (mut kept, mut scratch) = (vec![f32::NAN; len], vec![f32::NAN; scratch_len]);
    let mut out = vec![f32::NAN; expected.len()];
    pool.install(|| {
        kernel.cpu_weights(inputs[1], &mut kept);
        kernel.cpu_kept(inputs, &kept, &mut [&mut out], &mut scratch);
    });
    let same = out.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "{kernel:?} gives other bits with kept weights");
}
