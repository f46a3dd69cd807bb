//! An autoencoder from layers: what it cannot rebuild is unlike what it learned.
//! `cargo run --release --example autoencoder`

use ganomede::device::Device;
use ganomede::nn::{Adam, Linear, mse};
use ganomede::program::compile;
use ganomede::tape::{States, Tape, Tensor};

/// Waves of 16 points; every phase is normal.
fn waves(count: usize) -> Vec<f32> {
    let wave = |i: usize| (0..16).map(move |t| (0.4 * t as f32 + 0.37 * i as f32).sin());
    (0..count).flat_map(wave).collect()
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut states = States::new();
    let sizes = [[16, 32], [32, 3], [3, 32], [32, 16]];
    let layers: Vec<Linear> = sizes
        .iter()
        .enumerate()
        .map(|(i, &size)| Linear::new(&mut states, &format!("layer{i}"), size, true))
        .collect();
    let parameters = layers.iter().flat_map(Linear::parameters).collect();
    let adam = Adam::new(&mut states, "adam", parameters, 1e-2, [0.9, 0.999]);
    fn rebuild<'t>(layers: &[Linear], tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let last = layers.len() - 1;
        layers.iter().enumerate().fold(x, |x, (i, layer)| {
            let y = layer.forward(tape, x);
            if i % 2 == 0 && i < last { y.tanh() } else { y }
        })
    }

    // Two programs share the layers: one trains, one scores.
    let training = Tape::new();
    let x = training.input("x", &[64, 16]);
    adam.minimise(&training, mse(x, rebuild(&layers, &training, x)));
    let scoring = Tape::new();
    let x = scoring.input("x", &[2, 16]);
    scoring.output("score", (x - rebuild(&layers, &scoring, x)).square().mean(&[1]));

    let store = Device::Cpu.store(&states, 1)?;
    let mut train = Device::Cpu.load(&compile(&training.finish()?)?, &store)?;
    train.write("x", &waves(64))?;
    train.run(600)?;
    let mut score = Device::Cpu.load(&compile(&scoring.finish()?)?, &store)?;
    let normal: Vec<f32> = (0..16).map(|t| (0.4 * t as f32 + 1.0).sin()).collect();
    let odd: Vec<f32> = (0..16).map(|t| if t == 8 { -normal[t] } else { normal[t] }).collect();
    score.write("x", &[normal, odd].concat())?;
    score.run(1)?;
    let scores = score.read("score")?;
    println!("a wave {:.5}, a wave with one point turned over {:.5}", scores[0], scores[1]);
    assert!(scores[1] > 5.0 * scores[0], "the odd one stands out");
    Ok(())
}
