//! Random programs on both devices against what they mean: all operations, first and second gradients,
//! gradients of intermediate values, stopped gradients, shared norms, several outputs and states. A program
//! that fails is made as small as it can be and printed with its seed. `RANDOM_PROGRAMS=20000` looks at so
//! many on each device, from `RANDOM_SEED=…` on.

use crate::common;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::load;
use crate::random::author::{self, Dice, STATES};
use crate::random::number::Number;
use crate::random::reference::{self, World};
use crate::random::script::{Make, Script};
use ganomede::device::Device;
use ganomede::program::compile;
use ganomede::tape::{Initial, RandomState, States, Tape, Variable};
use rayon::prelude::*;

/// Numbers for an input or state: the same for the same seed, name and round.
fn values(seed: u64, name: usize, len: usize, whole: bool) -> Vec<f32> {
    let mut dice = Dice(seed ^ (name as u64 + 1).wrapping_mul(0x5851_F42D_4C95_7F2D));
    let number = |dice: &mut Dice| {
        if whole { dice.below(9) as f32 * 0.5 - 2.0 } else { (dice.unit() * 4.0 - 2.0) as f32 }
    };
    (0..len).map(|_| number(&mut dice)).collect()
}

/// What comparing found.
#[derive(Debug, Default, Clone, Copy)]
struct Looked {
    /// Elements that were compared.
    compared: usize,
    /// Elements that the program leaves open: they are NaN, or f32 may make anything of them.
    open: usize,
    /// Compared elements with three digits and more that must be right.
    sharp: usize,
    /// The largest difference, in bounds of the error.
    worst: f64,
}

impl Looked {
    fn and(self, other: Looked) -> Looked {
        Looked {
            compared: self.compared + other.compared,
            open: self.open + other.open,
            sharp: self.sharp + other.sharp,
            worst: self.worst.max(other.worst),
        }
    }
}

/// Bounds of the error that a device may be off: transforms of small convolutions and sums in other orders
/// round a little more often than the reference counts.
const SLACK: f64 = 2.0;

fn run(device: &Device, script: &Script, seed: u64) -> Result<Looked, String> {
    let mut states = States::new();
    let first = |state: usize| values(seed, 1000 + state, STATES[state].iter().product(), script.whole);
    let variables: Vec<Variable> = (0..STATES.len())
        .map(|i| states.add(format!("s{i}"), STATES[i], Initial::Values(first(i))))
        .collect();
    let tape = Tape::new();
    let key = values(seed, 2000, 2, false);
    let random = RandomState {
        key: states.add("key", &[2], Initial::Values(key.clone())),
        step: states.add("step", &[1], Initial::Constant(0.0)),
    };
    script.record(&tape, &variables, &random);
    let graph = tape.finish().map_err(|e| format!("refused: {e}"))?;
    let program = compile(&graph).map_err(|e| format!("does not compile: {e}"))?;
    let (mut executable, store) = load(device, &program, &states, 0);
    let exact = |v: Vec<f32>| v.into_iter().map(|v| Number::exact(f64::from(v))).collect();
    let mut world = World {
        states: (0..STATES.len()).map(|i| exact(first(i))).collect(),
        key: [key[0], key[1]],
        ..World::default()
    };
    let mut looked = Looked::default();
    for round in 0..2 {
        for value in &script.values {
            if let Make::Input(name) = value.make {
                let given = values(seed + round, name, value.len(), script.whole);
                common::write(&mut executable, &format!("x{name}"), &given);
                world.inputs.insert(name, given);
            }
        }
        world.step = round as f32;
        let meant = reference::evaluate(script, &world);
        executable.run(1).map_err(|e| format!("does not run: {e}"))?;
        let mut compare = |name: String, got: Vec<f32>, want: &[Number]| {
            assert_eq!(got.len(), want.len());
            for (i, (&got, want)) in got.iter().zip(want).enumerate() {
                if !want.certain() {
                    looked.open += 1;
                    continue;
                }
                let (value, error, misfit) = (want.part[0], want.error[0], reference::misfit(*want, got));
                if misfit > SLACK {
                    return Err(format!("round {round}, {name}[{i}] is {got}, not {value} ± {error:.1e}"));
                }
                looked.compared += 1;
                looked.sharp += usize::from(SLACK * error <= 1e-3 * value.abs().max(1e-2));
                looked.worst = looked.worst.max(misfit);
            }
            Ok(())
        };
        for &id in &script.outputs {
            let name = format!("v{id}");
            let got = executable.read(&name).map_err(|e| format!("{name} cannot be read: {e}"))?;
            compare(name, got, &meant[id])?;
        }
        for &(state, id) in &script.assigns {
            world.states[state] = meant[id].iter().map(|v| v.stopped()).collect();
        }
        for (i, variable) in variables.iter().enumerate() {
            compare(
                format!("state {i}"),
                store.read(variable.id).map_err(|e| e.to_string())?,
                &world.states[i],
            )?;
        }
    }
    Ok(looked)
}

/// As [`run`]; a panic is a failure like others.
fn check(device: &Device, script: &Script, seed: u64) -> Result<Looked, String> {
    catch_unwind(AssertUnwindSafe(|| run(device, script, seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panics: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

/// The smallest program found that still fails, and how.
fn shrunk(device: &Device, mut script: Script, seed: u64, mut failure: String) -> (Script, String) {
    while let Some((smaller, why)) =
        script.smaller().into_iter().find_map(|s| check(device, &s, seed).err().map(|why| (s, why)))
    {
        (script, failure) = (smaller, why);
    }
    (script, failure)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Looks at so many programs of so many moves.
fn programs_agree(device: &Device, count: u64, moves: usize) {
    let (first, count) = (number("RANDOM_SEED").unwrap_or(0), number("RANDOM_PROGRAMS").unwrap_or(count));
    let outcomes: Vec<_> = (first..first + count)
        .into_par_iter()
        .map(|seed| {
            let script = author::write(seed, 6 + seed as usize % moves);
            check(device, &script, seed).map_err(|why| (seed, script, why))
        })
        .collect();
    let looked = outcomes.iter().flatten().fold(Looked::default(), |all, one| all.and(*one));
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    println!("{count} programs: {looked:?}, {} fail", failures.len());
    let shown = failures.iter().take(5).map(|(seed, script, why)| {
        let (small, why_small) = shrunk(device, script.clone(), *seed, why.clone());
        format!("seed {seed}: {why}; made smaller: {why_small}\n{small}")
    });
    let text = shown.collect::<Vec<_>>().join("\n");
    let all = failures.iter().map(|(seed, _, why)| format!("  {seed}: {why}")).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {count} programs fail\n{all}\n{text}", failures.len());
    assert!(looked.open * 20 < looked.compared, "too much is left open: {looked:?}");
    assert!(looked.sharp * 20 > looked.compared * 19, "too little is compared sharply: {looked:?}");
}

#[test]
fn random_programs_agree_on_cpu() {
    programs_agree(&common::cpu(), 30_000, 60);
}

#[test]
fn random_programs_agree_on_gpu() {
    programs_agree(&common::gpu(), 600, 20);
}
