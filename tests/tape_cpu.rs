//! The compiler end to end on the Cpu device: values, gradients, in-place state updates.

use ganomede::device::Device;
use ganomede::program::compile;
use ganomede::tape::{ConvOptions, Initial, States, Tape};

#[test]
fn conv_bn_leaky_gradients_match_numeric_differences() {
    let mut states = States::new();
    let w = states.add("w", &[3, 2, 4, 4], Initial::Normal { mean: 0.0, std: 0.3 });
    let build = |perturb: &[f32]| {
        let tape = Tape::new();
        let x = tape.input("x", &[2, 2, 6, 6]);
        let weight = tape.state(&w) + tape.input("dw", &[3, 2, 4, 4]);
        let y = x.conv2d(weight, ConvOptions::new(2, 1));
        let mean = y.mean(&[0, 2, 3]);
        let var = y.variance(&[0, 2, 3]);
        let n = (y - mean) / (var + 1e-5).sqrt();
        let h = n.leaky_relu(0.2);
        let loss = (h * h * h).sum_all() + h.tanh().sum_all();
        let grads = tape.grad(loss, &[weight, x]);
        tape.output("loss", loss);
        tape.output("dw", grads[0]);
        tape.output("dx", grads[1]);
        let program = compile(&tape.finish().unwrap()).unwrap();
        let store = Device::Cpu.store(&states, 7).unwrap();
        let mut exe = Device::Cpu.load(&program, &store).unwrap();
        let xs: Vec<f32> = (0..144).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        exe.write("x", &xs).unwrap();
        exe.write("dw", perturb).unwrap();
        exe.run(1).unwrap();
        (exe.scalar("loss").unwrap(), exe.read("dw").unwrap(), program)
    };
    let zero = vec![0.0; 96];
    let (_, dw, program) = build(&zero);
    for l in &program.launches {
        println!("{} {:?} -> {:?} {}", l.kernel.name(), l.inputs, l.outputs, l.scope);
    }
    for i in [0, 17, 50, 95] {
        let mut p = zero.clone();
        let h = 1e-2;
        p[i] = h;
        let up = build(&p).0;
        p[i] = -h;
        let down = build(&p).0;
        let numeric = (up - down) / (2.0 * h);
        println!("{i}: {numeric} vs {}", dw[i]);
        assert!((numeric - dw[i]).abs() < 2e-2 * (1.0 + dw[i].abs()), "{i}: {numeric} vs {}", dw[i]);
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
    let program = compile(&tape.finish().unwrap()).unwrap();
    assert_eq!(program.launches.len(), 1, "{:#?}", program.launches);
    let store = Device::Cpu.store(&states, 0).unwrap();
    let mut exe = Device::Cpu.load(&program, &store).unwrap();
    exe.write("g", &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    exe.run(2).unwrap();
    let m = store.read(m.id).unwrap();
    let p = store.read(p.id).unwrap();
    assert!((m[1] - 0.38).abs() < 1e-6 && (p[1] - (1.0 - 0.1 - 0.19)).abs() < 1e-6, "{m:?} {p:?}");
}
