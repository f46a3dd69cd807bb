//! What fusing may not lose or refuse: tensors normalised more than once, wide expressions, long programs.

use crate::common;
use crate::common::{assert_close, load, numbers, program, write};
use crate::interpreter;
use crate::interpreter::World;
use ganomede::device::Device;
use ganomede::nn::{Adam, BatchNorm, LayerNorm, Mode};
use ganomede::program::Program;
use ganomede::tape::{ConvOptions, Initial, States, Tape, Tensor};
use ganomede_kernels::Kernel;

/// Runs what `record` names as outputs on both devices, over inputs of the given shapes, against the
/// interpreter.
fn agrees(states: &States, shapes: &[(&str, &[usize])], record: impl for<'t> Fn(&'t Tape, &[Tensor<'t>])) {
    let tape = Tape::new();
    let inputs: Vec<_> = shapes.iter().map(|(name, shape)| tape.input(name, shape)).collect();
    record(&tape, &inputs);
    let graph = tape.finish().unwrap();
    let program = program(&tape);
    let mut world = World::default();
    for (i, (name, shape)) in shapes.iter().enumerate() {
        let values = numbers(shape.iter().product(), 3 + i as u32);
        world.inputs.insert((*name).to_owned(), values.iter().map(|&v| f64::from(v)).collect());
    }
    for (i, entry) in states.entries().iter().enumerate() {
        let values = states.initial_values(states.find(&entry.name).unwrap().id, 5).unwrap();
        world.states.insert(i, values.iter().map(|&v| f64::from(v)).collect());
    }
    let given = world.clone();
    let wanted = interpreter::replay(&graph, &mut world);
    assert!(!wanted.is_empty());
    for device in [common::cpu(), common::gpu()] {
        let (mut executable, _store) = load(&device, &program, states, 5);
        for (name, values) in &given.inputs {
            write(&mut executable, name, &values.iter().map(|&v| v as f32).collect::<Vec<_>>());
        }
        executable.run(1).unwrap();
        for (name, want) in &wanted {
            assert!(want.iter().all(|v| v.is_finite()), "{name} is not finite: {want:?}");
            let want: Vec<_> = want.iter().map(|&v| v as f32).collect();
            assert_close(name, &executable.read(name).unwrap(), &want, 1e-4);
        }
    }
}

fn kernels(program: &Program, is: fn(&Kernel) -> bool) -> usize {
    program.launches.iter().filter(|launch| is(&launch.kernel)).count()
}

#[test]
fn a_tensor_has_as_many_means_as_are_asked_for() {
    for means in 1..4 {
        agrees(&States::new(), &[("x", &[3, 5])], |tape, inputs| {
            let x = inputs[0];
            let mut stopped = x;
            for i in 0..means {
                tape.output(&format!("mean {i}"), stopped.mean(&[1]));
                tape.output(&format!("variance {i}"), stopped.variance(&[1]));
                stopped = stopped.stop_gradient();
            }
            tape.output("centred", x - x.mean(&[1]) * stopped.variance(&[1]) + stopped.mean(&[1]));
        });
    }
}

#[test]
fn one_tensor_is_normalised_plain_and_stopped() {
    for layer_norm in [false, true] {
        let mut states = States::new();
        let bn = BatchNorm::new(&mut states, "bn", 4);
        let ln = LayerNorm::new(&mut states, "ln", 4);
        agrees(&states, &[("x", &[6, 4])], |tape, inputs| {
            let norm = |x| if layer_norm { ln.forward(tape, x) } else { bn.forward(tape, x, Mode::Train) };
            let x = inputs[0];
            let (plain, stopped) = (norm(x), norm(x.stop_gradient()));
            let loss = (plain.tanh() * stopped + stopped.sigmoid() * x).mean_all();
            tape.output("loss", loss);
            tape.output("gradient", tape.grad(loss, &[x])[0]);
            tape.output("stopped", stopped);
        });
    }
}

#[test]
fn two_critics_share_a_norm_of_real_and_fake() {
    agrees(&States::new(), &[("x", &[4, 3]), ("w", &[3, 3])], |tape, inputs| {
        let (x, w) = (inputs[0], inputs[1]);
        let fake = x.matmul(w);
        fn critic(f: Tensor<'_>) -> Tensor<'_> {
            (f - f.mean(&[0])) / (f.variance(&[0]) + 1e-3).sqrt() + f.mean(&[0]) - f.variance(&[0])
        }
        let loss = critic(fake).square().mean_all() - critic(fake.stop_gradient()).tanh().mean_all();
        tape.output("gradient", tape.grad(loss, &[w])[0]);
        tape.output("loss", loss);
    });
}

/// Expressions that read more tensors than a launch binds are cut, whatever was cut before: here a part that
/// two wide expressions share is stored for the sake of one, which makes the other wider.
#[test]
fn wide_expressions_are_cut_until_all_fit() {
    let names: Vec<String> = (0..12).map(|i| format!("x{i}")).collect();
    let shapes: Vec<(&str, &[usize])> = names.iter().map(|name| (name.as_str(), &[7][..])).collect();
    for width in 2..=12 {
        agrees(&States::new(), &shapes[..width], |tape, x| {
            let mut sums: Vec<Tensor<'_>> = x.to_vec();
            for round in 0..3 {
                let next = |i: usize| sums[(i * 5 + round) % width] + sums[(i * 3 + 1) % width] * x[i];
                sums = (0..width).map(|i| next(i).tanh() - x[(i + round) % width]).collect();
            }
            let all = sums.iter().fold(x[0], |all, &s| (all * s).maximum(s - all) / (s * s + 1.0));
            let loss = (all.square() + sums[0]).mean_all();
            let gradients = tape.grad(loss, x);
            gradients.iter().enumerate().for_each(|(i, &g)| tape.output(&format!("g{i}"), g));
            let second = gradients.iter().fold(loss, |sum, g| sum + g.square().sum_all());
            tape.output("h", tape.grad(second, &x[..1])[0]);
        });
    }
}

/// States that cannot be updated in place need buffers of their own, and their joined updates must still fit.
#[test]
fn many_states_that_swap_through_functions_fit() {
    for count in 2..9 {
        let mut states = States::new();
        let variables: Vec<_> = (0..count)
            .map(|i| states.add(format!("s{i}"), &[5], Initial::Constant(0.3 * i as f32)))
            .collect();
        agrees(&states, &[("x", &[5])], |tape, inputs| {
            let old: Vec<_> = variables.iter().map(|v| tape.state(v)).collect();
            let all = old.iter().fold(inputs[0], |sum, &s| sum + s);
            for (i, variable) in variables.iter().enumerate() {
                tape.assign(variable, old[(i + 1) % count] * all + old[i]);
            }
            tape.output("all", all);
        });
    }
}

#[test]
fn the_same_graph_is_the_same_program() {
    let [one, two] = [0, 1].map(|_| deep(12, true));
    assert_eq!(one, two);
    assert!(one.launches.len() > 100);
}

/// Numbers that are added to themselves again and again: what an expression would cost outgrows any counter.
#[test]
fn doublings_are_cut_into_expressions() {
    agrees(&States::new(), &[("x", &[3])], |tape, inputs| {
        let doubled = (0..70).fold(inputs[0], |x, _| x + x);
        tape.output("y", doubled * 2.0_f32.powi(-70));
    });
}

/// Layers of a product, a norm and an activation, trained with Adam.
fn deep(layers: usize, conv: bool) -> Program {
    let mut states = States::new();
    let tape = Tape::new();
    let mut parameters = vec![];
    let mut h = tape.input("x", if conv { &[2, 2, 4, 4] } else { &[4, 2] });
    for i in 0..layers {
        let _scope = tape.scope(format!("layer{i}"));
        let (shape, vector, axes): (&[usize], &[usize], &[usize]) =
            if conv { (&[2, 2, 3, 3], &[1, 2, 1, 1], &[0, 2, 3]) } else { (&[2, 2], &[1, 2], &[1]) };
        let mut add = |name: &str, shape, v| states.add(format!("{name}{i}"), shape, Initial::Constant(v));
        let own = [add("w", shape, 0.1), add("gain", vector, 1.0), add("shift", vector, 0.0)];
        let [w, gain, shift] = [0, 1, 2].map(|p| tape.state(&own[p]));
        let y = if conv { h.conv2d(w, ConvOptions::new(1, 1)) } else { h.linear(w, None) };
        let y = (y - y.mean(axes)) / (y.variance(axes) + 1e-5).sqrt();
        h = (y * gain + shift).leaky_relu(0.2);
        parameters.extend(own);
    }
    Adam::new(&mut states, "adam", parameters, 1e-3, [0.5, 0.999]).minimise(&tape, h.square().mean_all());
    program(&tape)
}

/// Time grows with the number of layers, not with its square, or this would not end: 1,600 layers are 140,000
/// nodes. And each layer takes as many launches as the one before.
#[test]
fn a_program_of_1600_layers_is_a_hundred_of_16() {
    for conv in [false, true] {
        let [one, two, many] = [16, 32, 1600].map(|layers| deep(layers, conv));
        let (a, b) = (one.launches.len(), two.launches.len());
        assert_eq!(many.launches.len(), a + (b - a) * 99, "{a} and {b} launches for 16 and 32 layers");
        let (a, b) = (one.peak_bytes(), two.peak_bytes());
        assert_eq!(many.peak_bytes(), a + (b - a) * 99, "{a} and {b} bytes for 16 and 32 layers");
        assert_eq!(kernels(&many, |k| matches!(k, Kernel::Moments(_))), 1600);
    }
}

/// One device is enough here: the program is what matters.
#[test]
fn a_long_chain_without_a_product_compiles_and_runs() {
    let tape = Tape::new();
    let x = tape.input("x", &[3]);
    let y = (0..20_000).fold(x, |y, i| if i % 3 == 0 { (y + x).tanh() } else { y * 0.99 + 0.001 });
    tape.output("y", y);
    let program = program(&tape);
    let (mut executable, _store) = load(&Device::Cpu, &program, &States::new(), 0);
    let given = [0.5_f32, -0.25, 0.125];
    write(&mut executable, "x", &given);
    executable.run(1).unwrap();
    let plain = given
        .map(|x| (0..20_000).fold(x, |y: f32, i| if i % 3 == 0 { (y + x).tanh() } else { y * 0.99 + 0.001 }));
    assert_close("y", &executable.read("y").unwrap(), &plain, 1e-4);
}
