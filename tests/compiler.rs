//! The compiler: random programs against a plain f64 interpreter of their graphs, state updates that a
//! careless memory plan gets wrong, and what small graphs compile to, launch by launch.

use crate::common;
use crate::interpreter;
use std::collections::BTreeMap;

use crate::common::{load, numbers, program, write};
use crate::interpreter::World;
use ganomede::device::Device;
use ganomede::program::{Program, Role, compile, simplify};
use ganomede::tape::{ConvOptions, Graph, Initial, Op, PoolOptions, States, Tape, Tensor, Variable};
use ganomede_kernels::Kernel;
use ganomede_kernels::conv::Face;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

// ---- random
// programs ----------------------------------------------------------------------------------------------

/// What random programs are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// Small whole numbers and halves, operations that are exact on them: every device must give the same
    /// bits as the interpreter, whatever the order of summation.
    Exact,
    /// Smooth operations and gradients, compared within a tolerance.
    Smooth,
}

const INPUTS: [&[usize]; 6] = [&[2, 3], &[3], &[2, 1], &[1, 2, 4, 4], &[2, 2, 3, 2], &[2, 4, 3]];
const STATES: [&[usize]; 7] = [&[2, 3], &[2, 3], &[2, 3], &[3], &[1, 2, 4, 4], &[6], &[]];
const MAX_LEN: usize = 200;

fn register(states: &mut States, style: Style) -> Vec<Variable> {
    let variable = |(i, shape): (usize, &&[usize])| {
        let values = values(shape.iter().product(), 50 + i as u32, style);
        states.add(format!("s{i}"), shape, Initial::Values(values))
    };
    STATES.iter().enumerate().map(variable).collect()
}

fn values(len: usize, seed: u32, style: Style) -> Vec<f32> {
    let whole = |v: f32| if style == Style::Exact { (v * 4.0).round() } else { v };
    numbers(len, seed).into_iter().map(whole).collect()
}

fn broadcasts(a: &[usize], b: &[usize]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(&x, &y)| x == y || x == 1 || y == 1)
}

/// Writes a random program: each instruction picks an operation and operands among what is there.
struct Author<'t, 'v> {
    tape: &'t Tape,
    variables: &'v [Variable],
    style: Style,
    pool: Vec<Tensor<'t>>,
    outputs: usize,
}

impl<'t> Author<'t, '_> {
    fn pick(&self, i: u8) -> Tensor<'t> {
        // Later values are picked more often, so that programs grow deep as well as wide.
        let back = usize::from(i) * usize::from(i) / 255;
        self.pool[self.pool.len() - 1 - back % self.pool.len()]
    }

    fn find(&self, from: u8, fits: impl Fn(&[usize]) -> bool) -> Option<Tensor<'t>> {
        (0..=255).map(|i| self.pick(from.wrapping_add(i))).find(|t| fits(&t.shape()))
    }

    /// Keeps products from growing.
    fn tame(&self, x: Tensor<'t>) -> Tensor<'t> {
        match self.style {
            Style::Exact => x.clamp(-8.0, 8.0),
            Style::Smooth => x.tanh(),
        }
    }

    fn axes(&self, x: Tensor<'t>, mask: u8) -> Vec<usize> {
        (0..x.rank()).filter(|d| mask >> d & 1 == 1).collect()
    }

    fn instruction(&mut self, [op, a, b, c]: [u8; 4]) {
        let made = match op % 24 {
            0..=3 => self.binary(a, b, c),
            4..=7 => Some(self.unary(self.pick(a), b, c)),
            8 => Some(self.reduction(self.pick(a), b, c)),
            9..=11 => self.rearranged(self.pick(a), b, c),
            12 => self.find(b, |s| s == self.pick(a).shape()).map(|other| {
                let x = self.pick(a);
                if x.rank() == 0 { x } else { Tensor::concat(&[x, other, x], usize::from(c) % x.rank()) }
            }),
            13 => self.product(a, b, c),
            14 => self.image(b, c),
            15..=17 => {
                // The same state may be assigned again, and read between.
                let home = &self.variables[usize::from(a) % self.variables.len()];
                if let Some(value) = self.find(b, |s| s == home.shape) {
                    self.tape.assign(home, value);
                }
                None
            }
            18..=20 => Some(self.tape.state(&self.variables[usize::from(a) % self.variables.len()])),
            21 | 22 => {
                self.tape.output(&format!("o{}", self.outputs), self.pick(a));
                self.outputs += 1;
                None
            }
            _ if self.style == Style::Smooth => {
                let (y, x) = (self.pick(a), self.pick(b));
                Some(self.tape.grad((y * y.tanh()).sum_all(), &[x])[0].tanh())
            }
            _ => Some(self.pick(a).stop_gradient()),
        };
        self.pool.extend(made.filter(|t| t.len() <= MAX_LEN));
    }

    fn binary(&self, a: u8, b: u8, c: u8) -> Option<Tensor<'t>> {
        let x = self.pick(a);
        let y = self.find(b, |s| broadcasts(s, &x.shape()))?;
        Some(match (self.style, c % 7) {
            (_, 0 | 1) => x + y,
            (_, 2) => x - y,
            (_, 3) => self.tame(x * y),
            (Style::Smooth, _) => self.tame(x / (y.softplus() + 0.5)),
            (_, 4) => x.maximum(y),
            (_, 5) => x.minimum(y),
            _ => x.greater(y) - x.equal(y),
        })
    }

    fn unary(&self, x: Tensor<'t>, b: u8, c: u8) -> Tensor<'t> {
        let scale = [0.5, 2.0, -1.0, 1.0][usize::from(c) % 4];
        match (self.style, b % 8) {
            (_, 0 | 1) => x.affine(scale, 1.0),
            (_, 2) => self.tame(x.square()),
            (Style::Exact, 3) => x.abs(),
            (Style::Exact, 4) => x.relu() + x.sign(),
            (Style::Exact, 5) => x.leaky_relu(0.5),
            (Style::Exact, 6) => x.step(),
            (Style::Exact, _) => x.clamp(-1.0, 2.0),
            (Style::Smooth, 3) => x.sigmoid(),
            (Style::Smooth, 4) => (x.softplus() + 0.5).log(),
            (Style::Smooth, 5) => (x.square() + 0.5).sqrt(),
            (Style::Smooth, 6) => x.tanh().exp(),
            (Style::Smooth, _) => 1.0 / (x.softplus() + 1.0),
        }
    }

    fn reduction(&self, x: Tensor<'t>, b: u8, c: u8) -> Tensor<'t> {
        let axes = self.axes(x, b);
        match (self.style, c % 4) {
            (Style::Exact, 0) => x.max(&axes),
            (Style::Exact, _) => self.tame(x.sum(&axes)),
            (Style::Smooth, 0) => x.mean(&axes),
            (Style::Smooth, 1) => x.variance(&axes),
            (Style::Smooth, 2) => (x - x.mean(&axes)) / (x.variance(&axes) + 0.1).sqrt(),
            (Style::Smooth, _) if x.rank() > 0 => x.softmax(usize::from(b) % x.rank()),
            (Style::Smooth, _) => x,
        }
    }

    fn rearranged(&self, x: Tensor<'t>, b: u8, c: u8) -> Option<Tensor<'t>> {
        let (shape, rank) = (x.shape(), x.rank());
        let axis = usize::from(b) % rank.max(1);
        Some(match c % 6 {
            0 => {
                let mut order: Vec<_> = (0..rank).collect();
                order.rotate_left(axis);
                x.permute(&order)
            }
            1 if rank > 0 => x.reshape(&[x.len()]),
            1 | 2 => x.reshape(&[&[1], shape.as_slice()].concat()),
            3 if rank > 0 => {
                let (mut low, mut step) = (vec![0; rank], vec![1; rank]);
                step[axis] = 1 + usize::from(b / 8) % 2;
                low[axis] = usize::from(b / 16) % shape[axis];
                x.slice(&low, &shape, &step)
            }
            4 if rank > 0 => {
                let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
                (low[axis], high[0]) = (1, usize::from(b / 8) % 2);
                x.pad(&low, &high)
            }
            5 => x.broadcast_to(&[&[2], shape.as_slice()].concat()),
            _ => return None,
        })
        .filter(|t| t.rank() <= 5)
    }

    fn product(&self, a: u8, b: u8, c: u8) -> Option<Tensor<'t>> {
        let x = self.find(a, |s| (2..=3).contains(&s.len()))?;
        let (s, trans_a) = (x.shape(), c & 1 == 1);
        let inner = s[s.len() - if trans_a { 2 } else { 1 }];
        let fits = |o: &[usize], t: bool| {
            (2..=3).contains(&o.len())
                && o[o.len() - if t { 1 } else { 2 }] == inner
                && (s.len() == 2 || o.len() == 2 || s[0] == o[0])
        };
        let trans_b = c & 2 == 2;
        Some(self.tame(x.matmul_with(self.find(b, |o| fits(o, trans_b))?, trans_a, trans_b)))
    }

    fn image(&self, b: u8, c: u8) -> Option<Tensor<'t>> {
        let image = |s: &[usize]| s.len() == 4 && s[1] == 2 && s[2] >= 3 && s[3] >= 2;
        let (x, w) = (self.find(b, image)?, self.find(c, |s| s == [2, 2, 3, 2])?);
        Some(match c % 6 {
            0 => self.tame(x.conv2d(w, ConvOptions::new(2, 1))),
            1 => self.tame(x.conv2d(w, ConvOptions::default()) + x.sum(&[0, 2, 3]).stop_gradient()),
            2 => self.tame(x.conv_transpose2d(w, ConvOptions::new(2, 1))),
            3 if self.style == Style::Exact => x.max_pool2d(PoolOptions::new([2, 2], [2, 2], [1, 1])),
            4 => x.upsample_nearest(2),
            _ => self.tame(x.avg_pool2d(PoolOptions::new([2, 2], [1, 1], [0, 0]))),
        })
    }
}

fn random_graph(variables: &[Variable], style: Style, code: &[[u8; 4]]) -> Graph {
    let tape = Tape::new();
    let inputs = INPUTS.iter().enumerate().map(|(i, shape)| tape.input(&format!("x{i}"), shape)).collect();
    let mut author = Author { tape: &tape, variables, style, pool: inputs, outputs: 0 };
    code.iter().for_each(|&c| author.instruction(c));
    tape.output("last", author.pick(0));
    tape.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// Replays a graph three times on the device and in the interpreter, with new inputs each time, and compares
/// all outputs and all states.
fn compare(device: &Device, graph: &Graph, states: &States, style: Style) -> Result<(), TestCaseError> {
    let program = compile(graph).map_err(|e| TestCaseError::fail(e.to_string()))?;
    check_plan(&program)?;
    let (mut executable, store) = load(device, &program, states, 0);
    let mut world = World::default();
    for (i, entry) in states.entries().iter().enumerate() {
        let Initial::Values(values) = &entry.initial else { unreachable!("states start with given values") };
        world.states.insert(i, values.iter().map(|&v| f64::from(v)).collect());
    }
    for round in 0..3 {
        for (i, shape) in INPUTS.iter().enumerate() {
            let values = values(shape.iter().product(), round * 10 + i as u32, style);
            world.inputs.insert(format!("x{i}"), values.iter().map(|&v| f64::from(v)).collect());
            write(&mut executable, &format!("x{i}"), &values);
        }
        let wanted = interpreter::replay(graph, &mut world);
        let unrepresentable = |v: &Vec<f64>| v.iter().any(|&v| f64::from(v as f32) != v);
        if style == Style::Exact {
            prop_assume!(!wanted.values().chain(world.states.values()).any(unrepresentable));
        }
        executable.run(1).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let got = wanted.keys().map(|name| (name.clone(), executable.read(name).unwrap()));
        let got: BTreeMap<_, _> = got.collect();
        let states_now = world.states.iter().map(|(&i, values)| (format!("state {i}"), i, values));
        for (name, got, want) in wanted
            .iter()
            .map(|(name, want)| (name.clone(), got[name].clone(), want))
            .chain(states_now.map(|(name, i, want)| {
                (name, store.read(states.find(&format!("s{i}")).unwrap().id).unwrap(), want)
            }))
        {
            let scale = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
            let tolerance = if style == Style::Exact { 0.0 } else { 2e-4 * scale };
            for (e, (&g, &w)) in got.iter().zip(want).enumerate() {
                let close = (f64::from(g) - w).abs() <= tolerance;
                prop_assert!(close, "round {round}, {name}[{e}] is {g}, not {w}\n{}", print(graph, &program));
            }
            prop_assert_eq!(got.len(), want.len());
        }
    }
    Ok(())
}

/// A graph and what became of it, a line for each node and launch.
fn print(graph: &Graph, program: &Program) -> String {
    let nodes =
        graph.nodes.iter().enumerate().map(|(i, n)| format!("%{i}{:?} = {:?} {:?}", n.shape, n.op, n.inputs));
    let ends = [format!("outputs {:?}, assigns {:?}", graph.outputs, graph.assigns)];
    let buffers = program.buffers.iter().enumerate().map(|(i, b)| format!("buffer {i}: {b:?}"));
    let launches =
        program.launches.iter().map(|l| format!("{:?} -> {:?}: {:?}", l.inputs, l.outputs, l.kernel));
    nodes.chain(ends).chain(buffers).chain(launches).collect::<Vec<_>>().join("\n")
}

/// What every program owes its device: no aliasing of inputs and outputs, buffers long enough, few enough
/// bindings.
fn check_plan(program: &Program) -> Result<(), TestCaseError> {
    for launch in &program.launches {
        prop_assert!(launch.kernel.check().is_ok());
        prop_assert!(
            launch.inputs.iter().all(|i| !launch.outputs.contains(i)),
            "{launch:?} reads what it writes"
        );
        let mut outputs = launch.outputs.clone();
        outputs.sort_unstable();
        outputs.dedup();
        prop_assert_eq!(outputs.len(), launch.outputs.len(), "an output is written twice");
        prop_assert!(launch.inputs.len() + launch.outputs.len() <= 8, "{:?} binds too much", launch);
        let (ins, outs) = (launch.kernel.input_lens(), launch.kernel.output_lens());
        prop_assert_eq!((ins.len(), outs.len()), (launch.inputs.len(), launch.outputs.len()));
        for (&buffer, len) in launch.inputs.iter().zip(ins).chain(launch.outputs.iter().zip(outs)) {
            prop_assert!(program.buffers[buffer].len >= len);
        }
        for &buffer in &launch.outputs {
            prop_assert!(
                !matches!(program.buffers[buffer].role, Role::Input(_)),
                "{launch:?} overwrites an input"
            );
        }
    }
    Ok(())
}

/// Runs random programs of at most `length` instructions; the same ones each time.
fn random_programs(device: &Device, style: Style, cases: u32, length: usize) {
    let config =
        Config { cases, max_global_rejects: 100_000, failure_persistence: None, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut states = States::new();
    let variables = register(&mut states, style);
    let outcome = TestRunner::new_with_rng(config, rng)
        .run(&proptest::collection::vec(any::<[u8; 4]>(), length / 4..length), |code| {
            compare(device, &random_graph(&variables, style, &code), &states, style)
        });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn random_exact_programs_equal_the_interpreter_on_cpu() {
    random_programs(&common::cpu(), Style::Exact, 1500, 120);
}

#[test]
fn random_smooth_programs_equal_the_interpreter_on_cpu() {
    random_programs(&common::cpu(), Style::Smooth, 500, 60);
}

// ---- state
// updates ------------------------------------------------------------------------------------------------

/// Runs a program over states `a = [1, 2, 3]`, `b = [10, 20, 30]` and input `x = [0.5, 0.25, 4]`, `replays`
/// times.
fn after(replays: usize, record: impl for<'t> Fn(&'t Tape, &Variable, &Variable)) -> [Vec<f32>; 2] {
    let mut states = States::new();
    let a = states.add("a", &[3], Initial::Values(vec![1.0, 2.0, 3.0]));
    let b = states.add("b", &[3], Initial::Values(vec![10.0, 20.0, 30.0]));
    let tape = Tape::new();
    record(&tape, &a, &b);
    let (mut executable, store) = load(&common::cpu(), &program(&tape), &states, 0);
    write(&mut executable, "x", &[0.5, 0.25, 4.0]);
    executable.run(replays).unwrap();
    [store.read(a.id).unwrap(), store.read(b.id).unwrap()]
}

#[test]
fn random_exact_programs_equal_the_interpreter_on_gpu() {
    random_programs(&common::gpu(), Style::Exact, 40, 60);
}

#[test]
fn random_smooth_programs_equal_the_interpreter_on_gpu() {
    random_programs(&common::gpu(), Style::Smooth, 20, 40);
}

#[test]
fn states_swap() {
    let [a, b] = after(3, |tape, a, b| {
        let (old_a, old_b) = (tape.state(a), tape.state(b));
        tape.assign(a, old_b);
        tape.assign(b, old_a);
    });
    assert_eq!((a, b), (vec![10.0, 20.0, 30.0], vec![1.0, 2.0, 3.0]));
}

#[test]
fn states_swap_through_functions() {
    let [a, b] = after(1, |tape, a, b| {
        let (old_a, old_b) = (tape.state(a), tape.state(b));
        tape.assign(a, old_b * 2.0);
        tape.assign(b, old_a + 1.0);
    });
    assert_eq!((a, b), (vec![20.0, 40.0, 60.0], vec![2.0, 3.0, 4.0]));
}

#[test]
fn a_state_is_read_after_its_assignment() {
    let [a, b] = after(2, |tape, a, b| {
        tape.assign(a, tape.state(a) + tape.input("x", &[3]));
        tape.assign(b, tape.state(a) * 2.0);
        tape.assign(a, tape.state(a) - 1.0);
    });
    assert_eq!((a, b), (vec![0.0, 0.5, 9.0], vec![2.0, 3.0, 20.0]));
}

#[test]
fn a_state_moves_along_itself() {
    // A reversed and shifted read cannot be updated in place.
    let [a, _] = after(1, |tape, a, _| {
        let old = tape.state(a);
        tape.assign(a, Tensor::concat(&[old.narrow(0, 1, 2), old.narrow(0, 0, 1)], 0) + old.sum(&[0]));
    });
    assert_eq!(a, [8.0, 9.0, 7.0]);
}

#[test]
fn outputs_may_be_inputs_states_reshapes_and_each_other() {
    let mut states = States::new();
    let a = states.add("a", &[2, 3], Initial::Values(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let tape = Tape::new();
    let (x, old) = (tape.input("x", &[6]), tape.state(&a));
    let sum = x + old.reshape(&[6]);
    tape.assign(&a, sum.reshape(&[2, 3]));
    let outputs = [
        ("x", x),
        ("x again", x.reshape(&[3, 2])),
        ("old", old),
        ("sum", sum),
        ("new", tape.state(&a)),
        ("sum again", sum),
    ];
    outputs.iter().for_each(|(name, value)| tape.output(name, *value));
    let (mut executable, store) = load(&common::cpu(), &program(&tape), &states, 0);
    write(&mut executable, "x", &[10.0; 6]);
    executable.run(2).unwrap();
    let read = |name: &str| executable.read(name).unwrap();
    assert_eq!(read("x"), [10.0; 6]);
    assert_eq!(read("x again"), [10.0; 6]);
    assert_eq!(read("old"), [11.0, 12.0, 13.0, 14.0, 15.0, 16.0]);
    for name in ["sum", "new", "sum again"] {
        assert_eq!(read(name), [21.0, 22.0, 23.0, 24.0, 25.0, 26.0], "{name}");
    }
    assert_eq!(store.read(a.id).unwrap(), read("new"));
}

// ---- dead code, shared code,
// fusion -------------------------------------------------------------------------------

/// Kernel names of the launches of a program without states.
fn launches(record: impl for<'t> Fn(&'t Tape)) -> Vec<&'static str> {
    let tape = Tape::new();
    record(&tape);
    program(&tape).launches.iter().map(|l| l.kernel.name()).collect()
}

#[test]
fn equal_expressions_are_computed_once() {
    let tape = Tape::new();
    let (x, w) = (tape.input("x", &[4, 5]), tape.input("w", &[5, 3]));
    let (a, b) = (x.matmul(w), x.matmul(w));
    tape.output("y", a.tanh() + b.sum(&[0]));
    let graph = tape.finish().unwrap();
    let products = |graph: &Graph| graph.nodes.iter().filter(|n| matches!(n.op, Op::MatMul { .. })).count();
    assert_eq!((products(&graph), products(&simplify(&graph))), (2, 1), "two handles, one value");
    let launches = compile(&graph).unwrap().launches;
    assert_eq!(launches.iter().filter(|l| matches!(l.kernel, Kernel::Gemm(_))).count(), 1);
}

#[test]
fn what_nothing_reads_is_not_computed() {
    let found = launches(|tape| {
        let x = tape.input("x", &[4, 5]);
        let _unread = x.exp().matmul(tape.input("w", &[5, 5])).sum_all();
        tape.output("y", x.tanh());
    });
    assert_eq!(found, ["pointwise"]);
}

#[test]
fn a_chain_of_element_wise_operations_is_one_launch() {
    let found = launches(|tape| {
        let (x, y, row) = (tape.input("x", &[3, 7]), tape.input("y", &[3, 7]), tape.input("row", &[7]));
        tape.output("z", ((x * row).tanh() + x.square()).sigmoid() / (y.softplus() + 1.0) - 2.0);
    });
    assert_eq!(found, ["pointwise"]);
    let found = launches(|tape| {
        let (x, row) = (tape.input("x", &[3, 7]), tape.input("row", &[7]));
        tape.output("z", x * row.exp());
    });
    assert_eq!(found, ["pointwise"; 2], "a row is not computed again for each of the rows it repeats in");
}

#[test]
fn a_reduction_takes_its_prologue() {
    let found = launches(|tape| {
        let (x, y) = (tape.input("x", &[3, 7]), tape.input("y", &[3, 7]));
        tape.output("loss", (x - y).abs().mean_all());
    });
    assert_eq!(found, ["reduce"]);
}

#[test]
fn bias_and_activation_are_epilogues() {
    let conv = launches(|tape| {
        let (x, w) = (tape.input("x", &[2, 3, 8, 8]), tape.input("w", &[4, 3, 4, 4]));
        let y = x.conv2d(w, ConvOptions::new(2, 1)) + tape.input("b", &[1, 4, 1, 1]);
        tape.output("y", y.leaky_relu(0.2));
    });
    assert_eq!(conv, ["conv"]);
    let linear = launches(|tape| {
        let y = tape.input("x", &[2, 3]).linear(tape.input("w", &[4, 3]), Some(tape.input("b", &[4])));
        tape.output("y", y.tanh());
    });
    assert_eq!(linear, ["gemm"]);
}

#[test]
fn batch_norm_and_its_activation_are_three_launches() {
    let found = launches(|tape| {
        let (x, w) = (tape.input("x", &[2, 3, 8, 8]), tape.input("w", &[4, 3, 4, 4]));
        let y = x.conv2d(w, ConvOptions::new(2, 1));
        let (mean, variance) = (y.mean(&[0, 2, 3]), y.variance(&[0, 2, 3]));
        let scale = tape.input("gamma", &[1, 4, 1, 1]) / (variance + 1e-5).sqrt();
        tape.output("y", ((y - mean) * scale + tape.input("beta", &[1, 4, 1, 1])).relu());
    });
    // Per channel first, γ / √(σ² + ε), so that the large tensor sees one multiplication and one addition.
    assert_eq!(found, ["conv", "moments", "pointwise", "pointwise"]);
}

#[test]
fn an_adam_step_of_a_parameter_is_one_launch() {
    let mut states = States::new();
    let p = states.add("p", &[5, 3], Initial::Constant(1.0));
    let adam = ganomede::nn::Adam::new(&mut states, "adam", vec![p.clone()], 1e-3, [0.5, 0.999]);
    let tape = Tape::new();
    adam.apply(&tape, &[tape.input("g", &[5, 3])]);
    let program = program(&tape);
    let large = |b: &usize| program.buffers[*b].len > 1;
    let touching = program.launches.iter().filter(|l| l.outputs.iter().any(large));
    assert_eq!(touching.count(), 1, "p, m and v change together: {:#?}", program.launches);
    assert!(!program.buffers.iter().any(|b| b.role == Role::Temporary && b.len > 1), "and in place");
}

#[test]
fn a_generator_step_computes_no_weight_gradient_of_the_discriminator() {
    let mut states = States::new();
    let g = states.add("g", &[3, 2, 4, 4], Initial::Constant(0.1));
    let d = states.add("d", &[2, 2, 4, 4], Initial::Constant(0.1));
    let tape = Tape::new();
    let (gw, dw) = (tape.state(&g), tape.state(&d));
    let fake = tape.input("z", &[2, 3, 4, 4]).conv_transpose2d(gw, ConvOptions::new(2, 1)).tanh();
    let loss = fake.conv2d(dw, ConvOptions::new(2, 1)).leaky_relu(0.2).mean_all();
    let gradients = tape.grad(loss, &[gw, dw]);
    tape.assign(&g, gw - gradients[0] * 0.1);
    let program = program(&tape);
    let weight =
        |l: &&ganomede::program::Launch| matches!(&l.kernel, Kernel::Conv(c) if c.face == Face::Weight);
    let weights: Vec<_> = program.launches.iter().filter(weight).collect();
    assert_eq!(weights.len(), 1, "G's alone");
    assert_eq!(weights[0].kernel.output_lens(), [3 * 2 * 16]);
    // What D would need for its own gradients goes with them: nothing of the fakes' size is kept twice.
    let backward =
        program.launches.iter().filter(|l| matches!(&l.kernel, Kernel::Conv(c) if c.face == Face::Transpose));
    assert_eq!(backward.count(), 2, "G forward and D's data gradient");
}

#[test]
fn memory_is_shared_by_values_that_do_not_live_together() {
    let tape = Tape::new();
    let mut x = tape.input("x", &[8, 8]);
    let w = tape.input("w", &[8, 8]);
    for _ in 0..10 {
        x = x.matmul(w);
    }
    tape.output("y", x);
    let program = program(&tape);
    assert_eq!(program.launches.len(), 10);
    assert_eq!(program.buffers.iter().filter(|b| b.role == Role::Temporary).count(), 2, "they take turns");
}

/// Real and fake images go through one network one after the other: neither branch keeps its activations
/// until the other is done, and of each only the gradients stay, small here beside one activation.
#[test]
fn branches_over_the_same_weights_do_not_live_together() {
    let step = |branches: &[&str]| {
        let mut states = States::new();
        let tape = Tape::new();
        let parameters: Vec<_> = (0..4)
            .map(|i| {
                let w = states.add(format!("w{i}"), &[8, 8], Initial::Constant(0.1));
                (w, states.add(format!("b{i}"), &[8], Initial::Constant(0.0)))
            })
            .collect();
        let loss = |name: &str| {
            let x = tape.input(name, &[4096, 8]);
            parameters
                .iter()
                .fold(x, |h, (w, b)| h.linear(tape.state(w), Some(tape.state(b))).tanh())
                .square()
                .mean_all()
        };
        let total = branches.iter().map(|name| loss(name)).reduce(|a, b| a + b).expect("a branch");
        let all: Vec<_> = parameters.iter().flat_map(|(w, b)| [w, b]).collect();
        let wrt: Vec<_> = all.iter().map(|v| tape.state(v)).collect();
        for (variable, gradient) in all.iter().zip(tape.grad(total, &wrt)) {
            tape.assign(variable, tape.state(variable) - gradient * 0.1);
        }
        let temporary = |program: &Program| -> usize {
            program.buffers.iter().filter(|b| b.role == Role::Temporary).map(|b| b.len).sum()
        };
        temporary(&program(&tape))
    };
    let (one, two) = (step(&["real"]), step(&["real", "fake"]));
    assert!(two < one + 4096 * 8, "{one} numbers for one branch, {two} for two");
}

/// A parameter is updated as soon as its gradient is there, and gradients of several never wait together.
#[test]
fn gradients_do_not_wait_for_each_other() {
    let mut states = States::new();
    let tape = Tape::new();
    let weights: Vec<_> =
        (0..6).map(|i| states.add(format!("w{i}"), &[64, 64], Initial::Constant(0.1))).collect();
    let y = weights.iter().fold(tape.input("x", &[2, 64]), |h, w| h.linear(tape.state(w), None).tanh());
    let adam = ganomede::nn::Adam::new(&mut states, "adam", weights, 1e-3, [0.5, 0.999]);
    adam.minimise(&tape, y.square().mean_all());
    let program = program(&tape);
    let gradients = program.buffers.iter().filter(|b| b.role == Role::Temporary && b.len >= 64 * 64);
    assert_eq!(gradients.count(), 1, "{:#?}", program.launches);
}

#[test]
fn constant_factors_leave_a_sum() {
    let tape = Tape::new();
    let x = tape.input("x", &[5, 3, 4]);
    tape.output("plain", x.sum(&[0, 2]));
    tape.output("scaled", (x * -3.0).sum(&[0, 2]));
    let program = program(&tape);
    let sums: Vec<_> = program.launches.iter().filter(|l| matches!(l.kernel, Kernel::Reduce(_))).collect();
    assert_eq!(sums.len(), 1, "one sum serves both: {:#?}", program.launches);
    assert_eq!(sums[0].outputs.len(), 1);
}

#[test]
fn a_program_of_a_shape_error_names_the_layer() {
    let tape = Tape::new();
    let _outer = tape.scope("generator");
    let _inner = tape.scope("up1");
    let _ = tape.input("x", &[2, 3]).matmul(tape.input("w", &[4, 5]));
    let error = tape.finish().unwrap_err();
    assert_eq!((error.op, error.scope.as_str()), ("matmul", "generator.up1"));
    assert!(error.what.contains("[2, 3]") && error.what.contains("[4, 5]"), "{error}");
}

#[test]
fn names_and_shapes_that_would_be_lost_are_errors() {
    let refused = |record: &dyn Fn(&Tape)| {
        let tape = Tape::new();
        record(&tape);
        tape.finish().unwrap_err().to_string()
    };
    let empty = refused(&|tape| tape.output("y", tape.input("x", &[0, 3]).mean_all()));
    assert!(empty.contains("'x'") && empty.contains("[0, 3]"), "{empty}");
    let shapes =
        refused(&|tape| tape.output("y", tape.input("x", &[2]).sum_all() + tape.input("x", &[3]).sum_all()));
    assert!(shapes.contains("'x'"), "{shapes}");
    let names = refused(&|tape| {
        tape.output("y", tape.input("x", &[2]));
        tape.output("y", tape.input("x", &[2]).tanh());
    });
    assert!(names.contains("'y'"), "{names}");
}
