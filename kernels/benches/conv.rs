//! CPU time of the convolution faces on DCGAN's layers and of its linear layers: best of several runs.
//!
//! `cargo bench -p ganomede-kernels --bench conv -- [bf16] [batch] [runs] [channels]`; `RAYON_NUM_THREADS`
//! sets the threads.

use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, Precision, bf16_instructions};
use std::time::Instant;

/// Best time of `runs` in seconds, on buffers that were touched before.
fn best(kernel: &Kernel, runs: usize) -> f64 {
    let inputs: Vec<Vec<f32>> = kernel
        .input_lens()
        .into_iter()
        .map(|len| (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect())
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut out = vec![1.0; kernel.output_lens()[0]];
    let mut scratch = vec![1.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    let mut time = || {
        let start = Instant::now();
        kernel.cpu(&inputs, &mut [&mut out], &mut scratch);
        start.elapsed().as_secs_f64()
    };
    time();
    (0..runs).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<usize>().ok());
    let (batch, runs) = (numbers.next().unwrap_or(64), numbers.next().unwrap_or(7));
    let only = numbers.next();
    let rounded = std::env::args().any(|arg| arg == "bf16");
    let (precision, by) = match rounded {
        true => (Precision::Bf16, format!("bf16 by {}", bf16_instructions())),
        false => (Precision::F32, "f32".to_owned()),
    };
    println!("{by}, batch {batch}, {} threads: ms (GFLOP/s)", rayon::current_num_threads());
    println!("{:>20} {:>16} {:>16} {:>16}", "layer", "conv", "conv_transpose", "conv_weight");
    let mut total = 0.0;
    for (ci, co, size) in [(1, 64, 64), (3, 64, 64), (64, 128, 32), (128, 256, 16), (256, 512, 8)] {
        let geometry = Geometry {
            batch,
            ci,
            co,
            x: [size; 2],
            y: [size / 2; 2],
            kernel: [4; 2],
            stride: [2; 2],
            pad_low: [1; 2],
            pad_high: [1; 2],
            dilation: [1; 2],
        };
        if only.is_some_and(|only| only != ci) {
            continue;
        }
        print!("{:>20}", format!("{ci}->{co} @ {size}"));
        for face in [Face::Conv, Face::Transpose, Face::Weight] {
            if std::env::var("FACE").is_ok_and(|f| f != format!("{face:?}")) {
                continue;
            }
            let kernel =
                Kernel::Conv(Conv { face, geometry, half: false, precision, epilogue: Epilogue::default() });
            let seconds = best(&kernel, runs);
            print!(" {:>8.2} ({:>5.0})", seconds * 1e3, kernel.cost().flops as f64 / seconds / 1e9);
            total += if ci == 3 { 0.0 } else { seconds };
        }
        println!();
    }
    println!("{:>20} {:>8.2} (without 3 channels)", "total", total * 1e3);
    if only.is_some() {
        return;
    }
    for (m, n, k, trans_a, trans_b) in [
        (batch, 8192, 100, false, false),
        (batch, 100, 8192, false, true),
        (100, 8192, batch, true, false),
        (batch, 1, 8192, false, true),
        (batch, 8192, 1, false, false),
        (1, 8192, batch, true, false),
        (512, 512, 512, false, false),
    ] {
        let epilogue = Epilogue::default();
        let gemm = Gemm {
            batch: 1,
            m,
            n,
            k,
            trans_a,
            trans_b,
            batched_a: true,
            batched_b: true,
            half_b: false,
            precision,
            epilogue,
        };
        let kernel = Kernel::Gemm(gemm);
        let seconds = best(&kernel, runs);
        let name =
            format!("{m}x{k}x{n}{}{}", if trans_a { " Aᵀ" } else { "" }, if trans_b { " Bᵀ" } else { "" });
        println!("{name:>20} {:>8.3} ({:>5.0})", seconds * 1e3, kernel.cost().flops as f64 / seconds / 1e9);
    }
}
