//! A kernel of your own in place of a built-in one: the text of the naive matrix product, to be changed at
//! will, run on the first adapter (a software one included) and held against sums in f64. `cargo run
//! --release --example custom_kernel`

use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Device, Selector};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::shaders::Shaders;
use ganomede_kernels::{Kernel, Precision};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = "gemm_naive.wgsl";
    let built_in = Shaders::default().text(name).to_owned();
    let mine = format!("// My own, which begins as the built-in one.\n{built_in}");
    let shaders = Shaders::with([(name.to_owned(), mine)])?;
    let options = GpuOptions { checked: true, ..GpuOptions::default() };
    let Device::Gpu(gpu) = Device::open(Selector::Gpu, options)? else { return Err("no adapter".into()) };
    let gpu = gpu.with_shaders(shaders);

    let (m, n, k) = (33, 17, 65);
    let kernel = Kernel::Gemm(Gemm {
        batch: 1,
        m,
        n,
        k,
        trans_a: false,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue: Default::default(),
    });
    let value = |i: usize| ((i * 29) % 23) as f32 / 23.0 - 0.5;
    let a: Vec<f32> = (0..m * k).map(value).collect();
    let b: Vec<f32> = (0..k * n).map(|i| value(i + 7)).collect();
    let found = gpu.run_kernel(&kernel, Some("naive"), &[&a, &b], None)?;
    let mut worst = 0.0_f64;
    for row in 0..m {
        for column in 0..n {
            let want: f64 = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column])).sum();
            worst = worst.max((f64::from(found[0][row * n + column]) - want).abs());
        }
    }
    println!("{m}×{n}×{k} on {}: largest error {worst:.1e}", gpu.describe());
    assert!(worst < 1e-5);
    Ok(())
}
