//! A tape in a page: record, differentiate twice, compile, replay. `cargo run --release --example tape`

use ganomede::device::{Device, GpuOptions, Selector};
use ganomede::program::compile;
use ganomede::tape::{States, Tape};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tape = Tape::new();
    let x = tape.input("x", &[3]);
    let y = (x.square() + 1.0).sqrt().sum_all(); // Σ √(x² + 1)
    let dy = tape.grad(y, &[x])[0]; // x / √(x² + 1)
    let penalty = dy.square().sum_all(); // what a gradient penalty does
    let ddy = tape.grad(penalty, &[x])[0]; // 2x / (x² + 1)²
    for (name, value) in [("y", y), ("dy", dy), ("ddy", ddy)] {
        tape.output(name, value);
    }
    let program = compile(&tape.finish()?)?;

    let device = Device::open(Selector::Cpu, GpuOptions::default())?;
    let mut run = device.load(&program, &device.store(&States::new(), 0)?)?;
    run.write("x", &[0.0, 1.0, 2.0])?;
    run.run(1)?;
    println!("{} launches, {} bytes of buffers", program.launches.len(), program.peak_bytes());
    for name in ["y", "dy", "ddy"] {
        println!("{name} = {:?}", run.read(name)?);
    }
    Ok(())
}
