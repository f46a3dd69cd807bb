//! Times of single operations with their gradients: the rows of `ops_torch.py`, a JSON document a line.
//!
//! `cargo bench --bench peers -- [runs] [device]`, 10 runs on the CPU unless said; `RAYON_NUM_THREADS` sets
//! its threads.

use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Device, Selector};
use ganomede::nn::{BatchNorm, Mode};
use ganomede::program::{Role, compile};
use ganomede::tape::{ConvOptions, States, Tape};
use std::time::Instant;

/// Batch of all rows.
const BATCH: usize = 64;

/// Channels in and out and the larger size of each inner DCGAN layer.
const LAYERS: [(usize, usize, usize); 4] = [(64, 128, 32), (128, 256, 16), (256, 512, 8), (512, 512, 8)];

/// Rows, columns, inner size, and which operand is stored transposed, of each matrix product.
const PRODUCTS: [(usize, usize, usize, bool, bool); 6] = [
    (1024, 1024, 1024, false, false),
    (1024, 1024, 1024, true, false),
    (1024, 1024, 1024, false, true),
    (1000, 1000, 1000, false, false),
    (64, 8192, 100, false, false),
    (512, 512, 16384, false, false),
];

type Error = Box<dyn std::error::Error>;

/// Records an operation and its gradients.
type Record<'a> = &'a dyn Fn(&Tape, &mut States);

/// Prints the times of what `record` puts on a tape, on inputs of numbers in −½..½.
fn time(name: &str, flop: usize, runs: usize, device: &Device, record: Record<'_>) -> Result<(), Error> {
    let (tape, mut states) = (Tape::new(), States::new());
    record(&tape, &mut states);
    let program = compile(&tape.finish()?)?;
    let mut executable = device.load(&program, &device.store(&states, 0)?)?;
    for buffer in &program.buffers {
        if let Role::Input(name) = &buffer.role {
            let values: Vec<f32> = (0..buffer.len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect();
            executable.write(name, &values)?;
        }
    }
    executable.run(2)?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        executable.run(1)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (min, median) = (times[0], times[runs / 2]);
    println!(
        "{{\"what\": \"{name}\", \"ms_min\": {min:.4}, \"ms_median\": {median:.4}, \"gflops\": {:.1}}}",
        flop as f64 / median / 1e6
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let argument = || std::env::args().skip(1);
    let runs = argument().find_map(|word| word.parse().ok()).filter(|&runs| runs > 0).unwrap_or(10);
    let selector = argument().find_map(|word| word.parse().ok()).unwrap_or(Selector::Cpu);
    let device = Device::open(selector, GpuOptions::default())?;
    for transposed in [false, true] {
        for (low, high, size) in LAYERS {
            let (name, from, to, size_in, size_out) = if transposed {
                ("conv_transpose2d", high, low, size / 2, size)
            } else {
                ("conv2d", low, high, size, size / 2)
            };
            let flop = 3 * 2 * BATCH * low * high * 16 * (size / 2) * (size / 2);
            time(&format!("{name} {from}->{to} {size_in}x{size_in}"), flop, runs, &device, &|tape, _| {
                let x = tape.input("x", &[BATCH, from, size_in, size_in]);
                let w = tape.input("w", &[high, low, 4, 4]);
                let dy = tape.input("dy", &[BATCH, to, size_out, size_out]);
                let options = ConvOptions::new(2, 1);
                let y = if transposed { x.conv_transpose2d(w, options) } else { x.conv2d(w, options) };
                tape.output("y", y);
                for (gradient, name) in tape.vjp(y, dy, &[x, w]).into_iter().zip(["dx", "dw"]) {
                    tape.output(name, gradient);
                }
            })?;
        }
    }
    time("batch norm + leaky ReLU 128x16x16", 0, runs, &device, &|tape, states| {
        let shape = [BATCH, 128, 16, 16];
        let (x, dy) = (tape.input("x", &shape), tape.input("dy", &shape));
        let norm = BatchNorm::new(states, "norm", 128);
        let y = norm.forward(tape, x, Mode::Train).leaky_relu(0.2);
        tape.output("y", y);
        let parameters = norm.parameters();
        let wrt = [x, tape.state(&parameters[0]), tape.state(&parameters[1])];
        for (gradient, name) in tape.vjp(y, dy, &wrt).into_iter().zip(["dx", "dgamma", "dbeta"]) {
            tape.output(name, gradient);
        }
    })?;
    for (m, n, k, at, bt) in PRODUCTS {
        let name = format!(
            "gemm {m}x{n}x{k}{}{}",
            if at { ", A transposed" } else { "" },
            if bt { ", B transposed" } else { "" }
        );
        time(&name, 2 * m * n * k, runs, &device, &|tape, _| {
            let a = tape.input("a", &if at { [k, m] } else { [m, k] });
            let b = tape.input("b", &if bt { [n, k] } else { [k, n] });
            tape.output("c", a.matmul_with(b, at, bt));
        })?;
    }
    Ok(())
}
