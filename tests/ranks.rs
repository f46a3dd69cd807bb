//! Tensors of more dimensions than kernels walk: every operation gives what plain loops give, on both
//! devices.

use crate::common::{assert_close, cpu, gpu, load, numbers, program, write};
use crate::interpreter;
use crate::interpreter::World;
use ganomede::tape::{States, Tape, Tensor};

const SHAPE: [usize; 8] = [2, 3, 1, 2, 2, 1, 3, 2];

/// Records on a tensor of rank 8; every result is an output, and so is the gradient of each.
fn check(record: impl for<'t> Fn(Tensor<'t>) -> Vec<Tensor<'t>>) {
    let tape = Tape::new();
    let x = tape.input("x", &SHAPE);
    for (i, y) in record(x).into_iter().enumerate() {
        tape.output(&format!("y{i}"), y);
        tape.output(&format!("g{i}"), tape.grad(y.square().sum_all(), &[x])[0]);
    }
    let graph = tape.finish().unwrap();
    let values = numbers(SHAPE.iter().product(), 7);
    let mut world = World::default();
    world.inputs.insert("x".to_owned(), values.iter().map(|&v| f64::from(v)).collect());
    let wanted = interpreter::replay(&graph, &mut world);
    assert!(wanted.len() >= 2);
    for device in [cpu(), gpu()] {
        let (mut executable, _store) = load(&device, &program(&tape), &States::new(), 0);
        write(&mut executable, "x", &values);
        executable.run(1).unwrap();
        for (name, want) in &wanted {
            let want: Vec<f32> = want.iter().map(|&v| v as f32).collect();
            let what = format!("{} on {}", name, device.describe());
            assert_close(&what, &executable.read(name).unwrap(), &want, 1e-5);
        }
    }
}

#[test]
fn permuted() {
    check(|x| {
        let orders = [[7, 6, 5, 4, 3, 2, 1, 0], [6, 0, 5, 1, 7, 4, 2, 3], [1, 0, 3, 2, 5, 4, 7, 6]];
        let mut made: Vec<_> = orders.iter().map(|order| x.permute(order)).collect();
        made.push(x.transpose().tanh() * 2.0);
        made.push(x.reshape(&[2, 3, 2, 2, 3, 2, 1]).permute(&[5, 0, 4, 1, 3, 6, 2]).exp());
        made
    });
}

#[test]
fn repeated() {
    check(|x| {
        let y = x.sum(&[0, 3, 6]).broadcast_to(&[2, 3, 4, 2, 2, 5, 3, 2]);
        let z = x.mean(&[1, 4, 7]).broadcast_to(&[2, 3, 4, 2, 2, 5, 3, 2]);
        vec![
            y,
            y * z + 1.0,
            x * x.max(&[1, 3, 7]),
            x.reshape(&[72 * 2]).broadcast_to(&[2, 1, 1, 1, 1, 1, 2, 144]),
        ]
    });
}

#[test]
fn cut_placed_and_joined() {
    check(|x| {
        let cut = x.slice(&[0, 1, 0, 0, 1, 0, 0, 1], &[2, 3, 1, 1, 2, 1, 3, 2], &[1, 1, 1, 1, 1, 1, 2, 1]);
        let padded = x.pad(&[1, 0, 1, 0, 0, 2, 0, 1], &[0, 1, 0, 0, 1, 0, 1, 0]);
        let joined = Tensor::concat(&[x, x.square(), x], 6);
        vec![
            cut,
            padded,
            joined,
            x.gather(6, &[2, 0, 0, 1]) * 3.0,
            x.embed(&[0; 8], &[1, 2, 1, 1, 3, 1, 1, 1], &[2, 5, 1, 2, 4, 1, 3, 2]),
        ]
    });
}

#[test]
fn reduced() {
    check(|x| {
        let axes: [&[usize]; 5] = [&[0, 3, 6], &[1, 4, 7], &[0, 1, 2, 3], &[7], &[0, 1, 2, 3, 4, 5, 6, 7]];
        axes.iter().flat_map(|axes| [x.sum(axes), x.mean(axes), x.max(axes), x.variance(axes)]).collect()
    });
    check(|x| {
        vec![
            x.softmax(6),
            x.mean_per_sample(),
            (x - x.mean(&[0, 3, 6])) / (x.variance(&[0, 3, 6]) + 0.1).sqrt(),
        ]
    });
}
