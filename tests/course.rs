//! The solutions of the exercises in `docs/course/`: each is run here, and what a lesson shows is what runs.

use ganomede::device::{Device, DeviceError};
use ganomede::eval::Quantiles;
use ganomede::nn::{Adam, Linear, bce_with_logits, mse};
use ganomede::program::{Program, compile};
use ganomede::tape::{ConvOptions, States, Tape, Tensor};

/// A program of one input `x`, run on the CPU.
fn run(program: &Program, x: &[f32], output: &str) -> Result<Vec<f32>, DeviceError> {
    let mut run = Device::Cpu.load(program, &Device::Cpu.store(&States::new(), 0)?)?;
    run.write("x", x)?;
    run.run(1)?;
    run.read(output)
}

/// Records on a fresh tape, and compiles.
fn recorded(record: impl FnOnce(&Tape)) -> Program {
    let tape = Tape::new();
    record(&tape);
    compile(&tape.finish().unwrap()).unwrap()
}

fn near(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0), "{found}, not {wanted}");
    }
}

#[test]
fn lesson_1_a_quotient() {
    let program = recorded(|tape| {
        let x = tape.input("x", &[4]);
        let y = 1.0 / x;
        let dy = tape.grad(y.sum_all(), &[x])[0];
        tape.output("dy", dy);
    });
    near(&run(&program, &[1.0, 2.0, -1.0, 4.0], "dy").unwrap(), &[-1.0, -0.25, -1.0, -0.0625]);
}

#[test]
fn lesson_2_the_sigmoid() {
    let program = recorded(|tape| {
        let x = tape.input("x", &[3]);
        let s = x.sigmoid();
        let dy = tape.grad(s.sum_all(), &[x])[0];
        tape.output("apart", dy - s * (1.0 - s));
    });
    near(&run(&program, &[-2.0, 0.0, 3.0], "apart").unwrap(), &[0.0; 3]);
}

#[test]
fn lesson_3_a_third_derivative() {
    let program = recorded(|tape| {
        let x = tape.input("x", &[3]);
        let mut y = x.square().square();
        for _ in 0..3 {
            y = tape.grad(y.sum_all(), &[x])[0];
        }
        tape.output("y", y);
    });
    near(&run(&program, &[1.0, 2.0, -0.5], "y").unwrap(), &[24.0, 48.0, -12.0]);
}

#[test]
fn lesson_4_launches() {
    let launches = |record: fn(Tensor<'_>) -> Tensor<'_>| {
        let program = recorded(|tape| tape.output("y", record(tape.input("x", &[64, 64]))));
        program.launches.len()
    };
    assert_eq!(launches(|x| ((x * 2.0 + 1.0).tanh().square() - x).exp()), 1);
    assert_eq!(launches(|x| x.square().mean_all()), 1);
    assert_eq!(launches(|x| x - x.mean(&[1])), 2);
}

#[test]
fn lesson_5_a_curve() {
    let mut states = States::new();
    let layers = [Linear::new(&mut states, "a", [1, 16], true), Linear::new(&mut states, "b", [16, 1], true)];
    let parameters = layers.iter().flat_map(Linear::parameters).collect();
    let adam = Adam::new(&mut states, "adam", parameters, 0.02, [0.9, 0.999]);
    let program = recorded(|tape| {
        let x = tape.input("x", &[32, 1]);
        let h = layers[0].forward(tape, x).tanh();
        let loss = mse(layers[1].forward(tape, h), x.abs());
        adam.minimise(tape, loss);
        tape.output("loss", loss);
    });
    let x: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
    let mut step = Device::Cpu.load(&program, &Device::Cpu.store(&states, 0).unwrap()).unwrap();
    step.write("x", &x).unwrap();
    step.run(1).unwrap();
    let first = step.scalar("loss").unwrap();
    step.run(1500).unwrap();
    let last = step.scalar("loss").unwrap();
    assert!(last < 0.003 && last < first / 50.0, "{first} to {last}");
}

#[test]
fn lesson_6_the_gradient_of_a_convolution() {
    let program = recorded(|tape| {
        let x = tape.input("x", &[1, 1, 4, 4]);
        let w = tape.full(0.5, &[1, 1, 2, 2]);
        let y = x.conv2d(w, ConvOptions::new(2, 0));
        let dx = tape.grad((y.square() * 0.5).sum_all(), &[x])[0];
        tape.output("apart", dx - y.conv_transpose2d(w, ConvOptions::new(2, 0)));
    });
    let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
    near(&run(&program, &x, "apart").unwrap(), &[0.0; 16]);
}

#[test]
fn lesson_7_a_draw() {
    let program = recorded(|tape| {
        let logits = tape.input("x", &[8]);
        tape.output("d", bce_with_logits(logits, 1.0) + bce_with_logits(logits, 0.0));
        tape.output("g", bce_with_logits(logits, 1.0));
    });
    near(&run(&program, &[0.0; 8], "d").unwrap(), &[2.0 * 2.0_f32.ln()]);
    near(&run(&program, &[0.0; 8], "g").unwrap(), &[2.0_f32.ln()]);
}

#[test]
fn lesson_10_how_many_images_a_promise_needs() {
    let promises = |n: usize| {
        let scores: Vec<f64> = (1..=n).map(|i| i as f64).collect();
        let threshold = Quantiles::new(&scores).unwrap().threshold(0.01).unwrap();
        !threshold.source.contains("too few")
    };
    assert!(promises(99) && !promises(98));
}

#[test]
fn lesson_11_a_penalty_is_differentiated_twice() {
    let program = recorded(|tape| {
        let x = tape.input("x", &[2, 2]);
        let w = tape.full(2.0, &[1, 2]);
        let y = x.linear(w, None);
        let dx = tape.grad(y.sum_all(), &[x])[0];
        let norm = dx.square().sum_per_sample().sqrt();
        let penalty = (norm - 1.0).square().mean_all();
        tape.output("dw", tape.grad(penalty, &[w])[0]);
    });
    // ‖(2, 2)‖ = √8, and d/dw (‖w‖ − 1)² = 2 (‖w‖ − 1) w / ‖w‖.
    let wanted = 2.0 * (8.0_f32.sqrt() - 1.0) * 2.0 / 8.0_f32.sqrt();
    near(&run(&program, &[0.3; 4], "dw").unwrap(), &[wanted, wanted]);
}

/// Every line of Rust that a lesson shows stands here or in an example, and runs.
#[test]
fn lessons_show_what_runs() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let mut known = squeezed(&read("tests/course.rs"));
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        known += &squeezed(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let (mut lessons, mut blocks) = (0, 0);
    for entry in std::fs::read_dir(root.join("docs/course")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let solved = text.matches("<details>").count();
        if text.starts_with("# Lesson") {
            assert_eq!((solved, text.matches("</details>").count()), (1, 1), "{text}");
            assert!(["*Goal:*", "*Time:*", "*Page:*", "## Exercise"].iter().all(|part| text.contains(part)));
            lessons += 1;
        }
        for block in text.split("```rust\n").skip(1) {
            let code = block.split("```").next().unwrap();
            assert!(known.contains(&squeezed(code)), "no test runs this:\n{code}");
            blocks += 1;
        }
    }
    assert!(lessons == 12 && blocks >= 9, "{lessons} lessons, {blocks} blocks");
}
