//! The compiler end to end on the Cpu device: gradients against differences of values, in-place state
//! updates.

use crate::common::{assert_close, cpu, load, numbers, program};
use ganomede::tape::{ConvOptions, Initial, States, Tape};

/// Convolution, batch norm and leaky ReLU: every element of both gradients.
#[test]
fn conv_bn_leaky_gradients_match_numeric_differences() {
    let mut states = States::new();
    let w = states.add("w", &[3, 2, 4, 4], Initial::Normal { mean: 0.0, std: 0.3 });
    let tape = Tape::new();
    let x = tape.input("x", &[2, 2, 6, 6]);
    let weight = tape.state(&w) + tape.input("dw", &[3, 2, 4, 4]);
    let y = x.conv2d(weight, ConvOptions::new(2, 1));
    let n = (y - y.mean(&[0, 2, 3])) / (y.variance(&[0, 2, 3]) + 1e-5).sqrt();
    let h = n.leaky_relu(0.2);
    let losses = h * h * h + (h * h).tanh();
    let grads = tape.grad(losses.sum_all(), &[weight, x]);
    tape.output("losses", losses);
    tape.output("dw", grads[0]);
    tape.output("dx", grads[1]);
    let (mut executable, _) = load(&cpu(), &program(&tape), &states, 7);

    let given = [("dw", vec![0.0; 96]), ("x", numbers(144, 1))];
    for (name, values) in &given {
        executable.write(name, values).unwrap();
    }
    executable.run(1).unwrap();
    let gradients = [executable.read("dw").unwrap(), executable.read("dx").unwrap()];
    for ((name, values), gradient) in given.iter().zip(gradients) {
        // Losses whose slope has no kink where that of a leaky ReLU has: what is left is curvature within the
        // step.
        const STEP: f32 = 2e-3;
        let mut total = |i: usize, by: f32| -> f64 {
            let mut moved = values.clone();
            moved[i] += by;
            executable.write(name, &moved).unwrap();
            executable.run(1).unwrap();
            executable.read("losses").unwrap().into_iter().map(f64::from).sum()
        };
        let slope = |i| ((total(i, STEP) - total(i, -STEP)) / f64::from(2.0 * STEP)) as f32;
        let numeric: Vec<f32> = (0..values.len()).map(slope).collect();
        assert_close(name, &gradient, &numeric, 2e-3);
        executable.write(name, values).unwrap();
    }
}

#[test]
fn states_are_updated_in_place() {
    let mut states = States::new();
    let p = states.add("p", &[5], Initial::Constant(1.0));
    let m = states.add("m", &[5], Initial::Constant(0.0));
    let tape = Tape::new();
    let g = tape.input("g", &[5]);
    let m1 = tape.state(&m) * 0.9 + g * 0.1;
    tape.assign(&m, m1);
    tape.assign(&p, tape.state(&p) - m1 * 0.5);
    let program = program(&tape);
    assert_eq!(program.launches.len(), 1, "{:#?}", program.launches);
    let (mut executable, store) = load(&cpu(), &program, &states, 0);
    let g = [1.0, 2.0, 3.0, 4.0, 5.0];
    executable.write("g", &g).unwrap();
    executable.run(2).unwrap();
    // m goes to 0.1·g and 0.19·g, p by half of each.
    assert_close("m", &store.read(m.id).unwrap(), &g.map(|g| 0.19 * g), 1e-6);
    assert_close("p", &store.read(p.id).unwrap(), &g.map(|g| 1.0 - 0.145 * g), 1e-6);
}
