//! What a device refuses before anything runs: programs that contradict themselves, stores that are not
//! theirs. The same check on the CPU, on a GPU, and on a mix of both, and no refusal touches the states.

use crate::common::{cpu, gpu, program};
use ganomede::device::{Device, DeviceError, Store};
use ganomede::program::{Buffer, Launch, Program, Role, StateId};
use ganomede::tape::{Initial, States, Tape};

fn devices() -> Vec<(&'static str, Device)> {
    let Device::Gpu(adapter) = gpu() else { panic!("an adapter") };
    vec![("cpu", cpu()), ("gpu", gpu()), ("mixed", Device::Mixed(adapter, 0..1))]
}

fn registry(shapes: &[&[usize]]) -> States {
    let mut states = States::new();
    for (i, shape) in shapes.iter().enumerate() {
        states.add(format!("s{i}"), shape, Initial::Constant(1.0));
    }
    states
}

/// y = x + s, and s becomes y + t.
fn step(states: &States) -> Program {
    let tape = Tape::new();
    let (s, t) = (states.find("s0").unwrap(), states.find("s1").unwrap());
    let y = tape.input("x", &[4]) + tape.state(&s);
    tape.output("y", y.square().sum_all() + y);
    tape.assign(&s, y + tape.state(&t));
    program(&tape)
}

/// Which error, as far as a caller can tell them apart.
fn kind(error: &DeviceError) -> &'static str {
    match error {
        DeviceError::UnknownName { .. } => "unknown",
        DeviceError::WrongLength { .. } => "length",
        DeviceError::OtherState { .. } => "other state",
        DeviceError::Launch { .. } => "launch",
        DeviceError::Kernel { .. } => "kernel",
        DeviceError::Memory { .. } | DeviceError::OutOfMemory { .. } | DeviceError::BufferTooLarge { .. } => {
            "memory"
        }
        _ => "other",
    }
}

fn refused(what: &str, device: &Device, program: &Program, store: &Store) -> DeviceError {
    match device.load(program, store) {
        Ok(_) => panic!("{what} was loaded"),
        Err(error) => error,
    }
}

#[test]
fn a_program_is_loaded_only_over_its_own_states() {
    let states = registry(&[&[4], &[4]]);
    let good = step(&states);
    for (name, device) in devices() {
        for (what, shapes, expected, says) in [
            ("no states", &[][..], "unknown", "state 0"),
            ("one state of two", &[&[4][..]], "unknown", "state 1"),
            ("a short state", &[&[4], &[2]], "length", "expected 4 values, got 2"),
            ("a long state", &[&[9], &[4]], "length", "expected 4 values, got 9"),
            ("both wrong", &[&[1], &[1, 1]], "length", "state 0"),
        ] {
            let store = device.store(&registry(shapes), 0).unwrap();
            let error = refused(what, &device, &good, &store);
            assert_eq!(kind(&error), expected, "{name}, {what}: {error}");
            assert!(error.to_string().contains(says), "{name}, {what}: '{error}' should say '{says}'");
            for (i, shape) in shapes.iter().enumerate() {
                let len = shape.iter().product();
                assert_eq!(store.read(StateId(i)).unwrap(), vec![1.0; len], "{name}, {what}");
            }
        }
        let store = device.store(&states, 0).unwrap();
        let mut executable = device.load(&good, &store).unwrap();
        executable.write("x", &[1.0, 2.0, 3.0, 4.0]).unwrap();
        executable.run(1).unwrap();
        assert_eq!(store.read(StateId(0)).unwrap(), [3.0, 4.0, 5.0, 6.0], "{name}");
    }
}

/// Two models may have as many states as each other, of the same shapes: what tells them apart is the names.
#[test]
fn a_store_of_another_model_is_refused_where_all_lengths_agree() {
    let states = registry(&[&[4], &[4]]);
    let named = |names: [&str; 2]| {
        let mut states = States::new();
        for name in names {
            states.add(name, &[4], Initial::Constant(1.0));
        }
        states
    };
    let good = step(&states);
    let pairs = [["s1", "s0"], ["s0", "other"], ["generator.weight", "generator.bias"]];
    for (name, device) in devices() {
        for (what, at) in pairs.into_iter().zip([0, 1, 0]) {
            let other = named(what);
            let store = device.store(&other, 0).unwrap();
            let error = refused("another model's store", &device, &good, &store);
            assert_eq!(kind(&error), "other state", "{name}, {what:?}: {error}");
            let says = format!("state {at} is 's{at}' in the program and '{}' in the store", what[at]);
            assert!(error.to_string().contains(&says), "{name}: '{error}' should say '{says}'");
            assert_eq!(kind(&store.initialise(&states, 0).unwrap_err()), "other state", "{name}, {what:?}");
            for id in [0, 1] {
                assert_eq!(store.read(StateId(id)).unwrap(), [1.0; 4], "{name}, {what:?}");
            }
            // A program that reads one state is held against that one alone.
            let tape = Tape::new();
            tape.output("y", tape.state(&states.find("s0").unwrap()).exp());
            assert_eq!(device.load(&program(&tape), &store).is_ok(), what[0] == "s0", "{name}, {what:?}");
        }
        // A registry that was made anew in the same way is the same model.
        let again = device.store(&named(["s0", "s1"]), 0).unwrap();
        assert!(device.load(&good, &again).is_ok(), "{name}");
        // Without names, as hand-made programs and stores of lengths are, lengths are all there is.
        let unnamed = Program { states: Default::default(), ..good.clone() };
        let store = device.store(&named(["a", "b"]), 0).unwrap();
        assert!(device.load(&unnamed, &store).is_ok(), "{name}");
        assert!(device.load(&good, &device.store_of(&[4, 4]).unwrap()).is_ok(), "{name}");
    }
}

#[test]
fn a_store_of_another_device_is_refused_even_where_no_state_is_read() {
    let tape = Tape::new();
    tape.output("y", tape.input("x", &[4]).exp());
    let stateless = program(&tape);
    let states = registry(&[&[4], &[4]]);
    for program in [&stateless, &step(&states)] {
        let (here, there) = (cpu().store(&states, 0).unwrap(), gpu().store(&states, 0).unwrap());
        assert_eq!(kind(&refused("a GPU's store", &cpu(), program, &there)), "launch");
        assert_eq!(kind(&refused("the CPU's store", &gpu(), program, &here)), "launch");
        let options = ganomede::device::gpu::GpuOptions::default();
        let other = Device::open(ganomede::device::Selector::Gpu, options).unwrap();
        assert_eq!(kind(&refused("another GPU's store", &other, program, &there)), "unknown");
    }
}

/// Ways to break a program that was compiled well.
type Breakage = fn(&mut Program);

#[test]
fn programs_that_contradict_themselves_are_refused() {
    let states = registry(&[&[4], &[4]]);
    let cases: &[(&str, Breakage, &str)] = &[
        ("input out of range", |p| p.launches[0].inputs[0] = 99, "launch"),
        ("output out of range", |p| p.launches[0].outputs[0] = usize::MAX, "launch"),
        ("input missing", |p| p.launches[0].inputs.clear(), "launch"),
        ("output missing", |p| p.launches[0].outputs.clear(), "launch"),
        ("input too many", |p| p.launches[0].inputs.push(0), "launch"),
        ("nine outputs", |p| p.launches[0].outputs = vec![0; 9], "launch"),
        ("nine outputs of the kernel too", nine_outputs, "kernel"),
        ("ten parts of a copy", ten_parts, "launch"),
        ("written and read", |p| p.launches[0].outputs[0] = p.launches[0].inputs[0], "launch"),
        ("written twice", written_twice, "launch"),
        ("buffer too short", |p| p.buffers.iter_mut().for_each(|b| b.len = b.len.min(1)), "launch"),
        ("empty buffer", |p| p.buffers[0].len = 0, "launch"),
        ("state of no store", |p| role(p, 1, Role::State(StateId(usize::MAX))), "unknown"),
        ("a state in two buffers", |p| p.buffers.push(p.buffers[state(p)].clone()), "launch"),
        ("an output's name twice", |p| p.buffers.push(p.buffers[p.output("y").unwrap()].clone()), "launch"),
        ("an input's name twice", |p| p.buffers.push(p.buffers[p.input("x").unwrap()].clone()), "launch"),
        ("a kernel's numbers", |p| pointwise(p).shape = vec![usize::MAX, 3], "kernel"),
        ("an empty kernel", |p| pointwise(p).shape = vec![0], "kernel"),
        ("a register that is not there", |p| pointwise(p).outputs[0] = 1 << 40, "kernel"),
        ("strides beyond the tensor", |p| pointwise(p).operands[0].strides[0] = usize::MAX, "kernel"),
        ("a buffer beyond all memory", |p| temporary(p, usize::MAX), "memory"),
        ("a buffer of 2^62", |p| temporary(p, 1 << 62), "memory"),
    ];
    for (name, device) in devices() {
        let store = device.store(&states, 0).unwrap();
        for (what, breakage, expected) in cases {
            let mut broken = step(&states);
            breakage(&mut broken);
            let error = refused(what, &device, &broken, &store);
            assert_eq!(kind(&error), *expected, "{name}, {what}: {error}");
            // What a program takes is asked before it is loaded.
            match device.program_bytes(&broken) {
                Ok(bytes) => assert!(bytes > 0, "{name}, {what}"),
                Err(error) => assert_ne!(kind(&error), "other", "{name}, {what}: {error}"),
            }
            assert_eq!(store.read(StateId(0)).unwrap(), [1.0; 4], "{name}, {what}");
        }
    }
}

fn state(p: &Program) -> usize {
    p.buffers.iter().position(|b| matches!(b.role, Role::State(_))).unwrap()
}

fn role(p: &mut Program, of: usize, role: Role) {
    p.buffers[of].role = role;
}

fn temporary(p: &mut Program, len: usize) {
    p.buffers.push(Buffer { len, role: Role::Temporary });
}

fn pointwise(p: &mut Program) -> &mut ganomede_kernels::pointwise::Pointwise {
    let found = p.launches.iter_mut().find_map(|launch| match &mut launch.kernel {
        ganomede_kernels::Kernel::Pointwise(pointwise) => Some(pointwise),
        _ => None,
    });
    found.expect("the program has a pointwise launch")
}

fn nine_outputs(p: &mut Program) {
    let kernel = pointwise(p);
    kernel.outputs = vec![0; 9];
    let at = p.launches.iter().position(|l| l.kernel.output_lens().len() == 9).unwrap();
    p.launches[at].outputs = vec![0; 9];
}

fn ten_parts(p: &mut Program) {
    let part = |i: usize| ganomede_kernels::copy::CopyPart {
        src_len: 1,
        shape: vec![1],
        src_offset: 0,
        src_strides: vec![1],
        dst_offset: i,
        dst_strides: vec![1],
    };
    let copy = ganomede_kernels::copy::Copy { len: 10, zero: false, parts: (0..10).map(part).collect() };
    let first = p.buffers.len();
    (0..=10).for_each(|_| temporary(p, 10));
    p.launches.push(Launch {
        kernel: ganomede_kernels::Kernel::Copy(copy),
        inputs: (first..first + 10).collect(),
        outputs: vec![first + 10],
        scope: String::new(),
    });
}

fn written_twice(p: &mut Program) {
    let kernel = pointwise(p);
    kernel.outputs = vec![kernel.outputs[0]; 2];
    let at = p.launches.iter().position(|l| l.kernel.output_lens().len() == 2).unwrap();
    p.launches[at].outputs = vec![p.launches[at].outputs[0]; 2];
}

#[test]
fn states_that_a_store_does_not_have_are_refused() {
    for (name, device) in devices() {
        let store = device.store(&registry(&[&[2]]), 0).unwrap();
        for id in [1, 5, usize::MAX] {
            assert_eq!(kind(&store.read(StateId(id)).unwrap_err()), "unknown", "{name}");
            assert_eq!(kind(&store.write(StateId(id), &[0.0; 2]).unwrap_err()), "unknown", "{name}");
        }
        assert_eq!(kind(&store.write(StateId(0), &[0.0; 3]).unwrap_err()), "length", "{name}");
        let more = registry(&[&[2], &[3]]);
        assert_eq!(kind(&store.initialise(&more, 0).unwrap_err()), "unknown", "{name}");
        assert_eq!(store.read(StateId(0)).unwrap(), [1.0; 2], "{name}");
    }
}

#[test]
fn a_store_beyond_all_memory_is_an_error() {
    for (name, device) in devices() {
        for lens in [&[1 << 40][..], &[1 << 62], &[usize::MAX], &[usize::MAX, usize::MAX], &[1 << 62; 8]] {
            let Err(error) = device.store_of(lens) else { panic!("{name}: {lens:?} fits") };
            assert_eq!(kind(&error), "memory", "{name}, {lens:?}: {error}");
            assert!(device.store_bytes(lens) >= 1 << 42, "{name}, {lens:?}");
        }
    }
}
