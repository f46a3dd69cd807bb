//! What the twins make of an image has the same bits in any batch and at any place in it.

use crate::batches;
use ganomede_kernels::{Kernel, Precision};

fn run(kernel: &Kernel, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    kernel.check().unwrap_or_else(|e| panic!("{e}"));
    let mut outputs: Vec<Vec<f32>> = kernel.output_lens().iter().map(|&len| vec![f32::NAN; len]).collect();
    let mut scratch = vec![f32::NAN; kernel.cpu_scratch_len(rayon::current_num_threads())];
    let mut views: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    kernel.cpu(inputs, &mut views, &mut scratch);
    outputs
}

#[test]
fn an_image_has_the_same_bits_in_any_batch() {
    let rounded = batches::products(Precision::Bf16);
    let compared: usize = batches::cases().iter().chain(&rounded).map(|case| case.check(run)).sum();
    assert!(compared > 20_000, "{compared} comparisons");
}
