//! A line through points by gradient descent: states, a loss, an optimiser. `cargo run --release --example
//! linear_regression`

use ganomede::device::Device;
use ganomede::nn::{Linear, Sgd, mse};
use ganomede::program::compile;
use ganomede::tape::{States, Tape};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 64 points of y = 3·a − 2·b + 0.5.
    let x: Vec<f32> = (0..128).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let y: Vec<f32> = x.chunks(2).map(|p| 3.0 * p[0] - 2.0 * p[1] + 0.5).collect();

    let mut states = States::new();
    let layer = Linear::new(&mut states, "layer", [2, 1], true);
    let sgd = Sgd::new(&mut states, "sgd", layer.parameters(), 0.1, 0.9);

    // One step: from a batch to a loss, and the update of the layer.
    let tape = Tape::new();
    let made = layer.forward(&tape, tape.input("x", &[64, 2]));
    let loss = mse(made, tape.input("y", &[64, 1]));
    sgd.minimise(&tape, loss);
    tape.output("loss", loss.reshape(&[1]));
    let program = compile(&tape.finish()?)?;

    let store = Device::Cpu.store(&states, 0)?;
    let mut step = Device::Cpu.load(&program, &store)?;
    step.write("x", &x)?;
    step.write("y", &y)?;
    step.run(200)?; // the states live in the store: 200 steps are one call
    let weight = store.read(layer.weight.id)?;
    let bias = store.read(layer.bias.as_ref().ok_or("the layer has a bias")?.id)?;
    println!(
        "y = {:.3}·a {:+.3}·b {:+.3}, loss {:.1e}",
        weight[0],
        weight[1],
        bias[0],
        step.read("loss")?[0]
    );
    assert!((weight[0] - 3.0).abs() < 1e-3 && (weight[1] + 2.0).abs() < 1e-3 && (bias[0] - 0.5).abs() < 1e-3);
    Ok(())
}
