//! Lanes: which network's update a launch works for. A training step is the critic's step, the generator's
//! and the encoder's, one after the other or interleaved; scopes name the layers, and the discriminator's
//! layers serve all.

use ganomede_kernels::Kernel;
use ganomede_kernels::pointwise::Source;

use ganomede::program::Program;

/// What the update with this scope is, where it is an optimiser's: `adam_d` updates the discriminator.
fn update(scope: &str) -> Option<String> {
    let name = scope.rsplit('.').next().unwrap_or(scope);
    let network = ["adam", "rmsprop", "sgd"].iter().find_map(|optimiser| name.strip_prefix(optimiser))?;
    Some(match network.trim_start_matches('_') {
        "" if scope.contains("search") => "z-step".to_owned(),
        "" => "step".to_owned(),
        "d" | "discriminator" => "discriminator step".to_owned(),
        "c" | "critic" => "critic step".to_owned(),
        "g" | "generator" => "generator step".to_owned(),
        "e" | "encoder" => "encoder step".to_owned(),
        "z" => "z-step".to_owned(),
        other => format!("{other} step"),
    })
}

/// Buffers that a launch reads; an in-place operand is read through the output.
fn reads(launch: &ganomede::program::Launch) -> impl Iterator<Item = usize> + '_ {
    let in_place = move |output: usize| match &launch.kernel {
        Kernel::Pointwise(k) => k.operands.iter().any(|o| o.source == Source::Output(output)),
        _ => false,
    };
    let outputs = launch.outputs.iter().enumerate().filter(move |(i, _)| in_place(*i)).map(|(_, &b)| b);
    launch.inputs.iter().copied().chain(outputs)
}

/// The lane of each launch: that of the first update which its results reach, updates being ordered by their
/// ends. What reaches none, such as losses and running statistics, goes with the launch before it.
pub(super) fn lanes(program: &Program) -> Vec<String> {
    let scopes: Vec<Option<String>> = program.launches.iter().map(|launch| update(&launch.scope)).collect();
    // What an optimiser computes once, its corrections, may run at any time: an update is over with its last
    // launch.
    let mut names: Vec<&String> = vec![];
    for name in scopes.iter().rev().flatten() {
        if !names.contains(&name) {
            names.insert(0, name);
        }
    }
    let rank = |name: &String| names.iter().position(|known| *known == name);
    let updates: Vec<Option<usize>> = scopes.iter().map(|name| rank(name.as_ref()?)).collect();
    // From the end on: the first update that needs what a buffer holds.
    let mut needed: Vec<Option<usize>> = vec![None; program.buffers.len()];
    let mut found: Vec<Option<usize>> = vec![None; program.launches.len()];
    let first = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
    for (i, launch) in program.launches.iter().enumerate().rev() {
        let reached = launch.outputs.iter().fold(None, |lane, &buffer| first(lane, needed[buffer]));
        found[i] = updates[i].or(reached);
        launch.outputs.iter().for_each(|&buffer| needed[buffer] = None);
        for buffer in reads(launch) {
            needed[buffer] = first(needed[buffer], found[i]);
        }
    }
    let start = found.iter().flatten().next().copied();
    let mut last = start;
    let named = found.into_iter().map(|lane| {
        last = lane.or(last);
        last.map_or_else(|| "program".to_owned(), |lane| names[lane].clone())
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ganomede::nn::Sgd;
    use ganomede::program::compile;
    use ganomede::tape::{Initial, States, Tape};

    #[test]
    fn updates_are_named_by_their_scope() {
        let name = |scope| update(scope).unwrap_or_default();
        assert_eq!(name("adam_d"), "discriminator step");
        assert_eq!(name("egbad.adam_e"), "encoder step");
        assert_eq!(name("search.adam"), "z-step");
        assert_eq!(name("rmsprop_critic"), "critic step");
        assert_eq!(name("adam_memory"), "memory step");
        assert!(update("generator.up1").is_none() && update("").is_none());
    }

    #[test]
    fn launches_go_with_the_first_update_they_reach() {
        let (mut states, tape) = (States::new(), Tape::new());
        let weight = |states: &mut States, name: &str| states.add(name, &[64, 64], Initial::Constant(0.5));
        let (d, g) = (weight(&mut states, "d"), weight(&mut states, "g"));
        let optimiser_d = Sgd::new(&mut states, "sgd_d", vec![d.clone()], 0.1, 0.9);
        let optimiser_g = Sgd::new(&mut states, "sgd_g", vec![g.clone()], 0.1, 0.9);
        let fake = tape.input("z", &[64, 64]).matmul(tape.state(&g));
        optimiser_d.minimise(&tape, fake.stop_gradient().matmul(tape.state(&d)).square().sum_all());
        let loss = fake.matmul(tape.state(&d)).square().sum_all();
        optimiser_g.minimise(&tape, loss);
        tape.output("loss", loss);
        let program = compile(&tape.finish().unwrap()).unwrap();
        let lanes = lanes(&program);
        assert_eq!(lanes.len(), program.launches.len());
        let gemms: Vec<&str> = (0..lanes.len())
            .filter(|&i| program.launches[i].kernel.name() == "gemm")
            .map(|i| lanes[i].as_str())
            .collect();
        let steps = |name| gemms.iter().filter(|lane| **lane == name).count();
        // D: the fake, its logits, ∂d. G: its logits through the new d, their gradient in the fake, ∂g.
        assert_eq!((steps("discriminator step"), steps("generator step")), (3, 3), "{gemms:?}");
        for (launch, lane) in program.launches.iter().zip(&lanes) {
            if let Some(own) = update(&launch.scope) {
                assert_eq!(*lane, own);
            }
        }
    }

    #[test]
    fn a_program_without_updates_has_one_lane() {
        let tape = Tape::new();
        tape.output("y", tape.input("x", &[8]).tanh());
        assert_eq!(lanes(&compile(&tape.finish().unwrap()).unwrap()), ["program"]);
    }
}
