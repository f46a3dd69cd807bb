//! The two-dimensional toy: a generator that moves points, and a discriminator whose field one sees. Both are
//! recorded, differentiated and compiled as any model's.

use std::collections::BTreeMap;

use ganomede_kernels::sample::uniform;
use serde::Serialize;

use super::modules::Modules;
use super::{Export, ExportError, Kind, Parts, TOY};
use crate::device::{Device, DeviceError};
use crate::models::scorer::{ScoreError, compiled};
use crate::nn::{Adam, Linear, bce_with_logits};
use crate::program::Program;
use crate::tape::{StateId, States, Tape, Tensor};

/// Name of the file with points, sizes and the recorded run.
const FILE: &str = "toy.json";
/// Points in a step, points of the cloud, side of the field, neurons of a layer.
const BATCH: usize = 128;
const CLOUD: usize = 512;
const SIDE: usize = 40;
const WIDTH: usize = 32;
/// Points of each set.
const POINTS: usize = 1024;
/// Adam's step size.
const LR: f32 = 1e-3;
/// Steps of the recorded run, and from one picture to the next.
const STEPS: usize = 1200;
const EVERY: usize = 300;

/// `toy.json`.
#[derive(Debug, Serialize)]
struct Page {
    batch: usize,
    cloud: usize,
    side: usize,
    /// Fields and points reach from −`reach` to `reach`.
    reach: f32,
    lr: f32,
    sets: Vec<Set>,
    recorded: Vec<Moment>,
}

/// Points to learn, x and y of one after the other.
#[derive(Debug, Serialize)]
struct Set {
    name: &'static str,
    points: Vec<f32>,
}

/// What the CPU gave at a step, on the first set.
#[derive(Debug, Serialize)]
struct Moment {
    step: usize,
    loss_d: f32,
    loss_g: f32,
    cloud: Vec<f32>,
    field: Vec<f32>,
}

const REACH: f32 = 1.5;

/// A net of two hidden layers.
struct Net([Linear; 3]);

impl Net {
    fn new(states: &mut States, name: &str, to: usize) -> Self {
        let mut layer = |i: usize, features| Linear::new(states, &format!("{name}.{i}"), features, true);
        Self([layer(1, [2, WIDTH]), layer(2, [WIDTH, WIDTH]), layer(3, [WIDTH, to])])
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let [a, b, c] = &self.0;
        let h = a.forward(tape, x).leaky_relu(0.2);
        c.forward(tape, b.forward(tape, h).leaky_relu(0.2))
    }

    fn parameters(&self) -> Vec<crate::tape::Variable> {
        self.0.iter().flat_map(Linear::parameters).collect()
    }
}

impl Export {
    /// Exports the two-dimensional toy: steps of D and of G by themselves, the generator's cloud and D's
    /// field, with a recorded run of the CPU.
    ///
    /// # Errors
    /// [`ExportError`] for a fault of the machine.
    pub fn of_toy(seed: u64) -> Result<Self, ExportError> {
        let mut states = States::new();
        let (g, d) = (Net::new(&mut states, "generator", 2), Net::new(&mut states, "discriminator", 1));
        // Weights that suit nets of this width: the networks' own start, of deviation 0.02, is for images.
        for variable in g.parameters().iter().chain(&d.parameters()).filter(|v| v.shape.len() == 2) {
            let deviation = (2.0 / variable.shape[1] as f32).sqrt();
            states.set_initial(variable, crate::tape::Initial::Normal { mean: 0.0, std: deviation });
        }
        let adam = |states: &mut States, name: &str, net: &Net| {
            Adam::new(states, name, net.parameters(), LR, [0.5, 0.999])
        };
        let (adam_d, adam_g) = (adam(&mut states, "adam_d", &d), adam(&mut states, "adam_g", &g));
        let step_d = compiled(|tape| {
            let (x, z) = (tape.input("x", &[BATCH, 2]), tape.input("z", &[BATCH, 2]));
            let fake = g.forward(tape, z).stop_gradient();
            let real = bce_with_logits(d.forward(tape, x), 1.0);
            let loss = real + bce_with_logits(d.forward(tape, fake), 0.0);
            adam_d.minimise_at(tape, loss, tape.input("lr", &[1]));
            tape.output("loss", loss);
        });
        let step_g = compiled(|tape| {
            let fake = g.forward(tape, tape.input("z", &[BATCH, 2]));
            let loss = bce_with_logits(d.forward(tape, fake), 1.0);
            // Where each point is drawn to: down the loss, as G's next step hears it.
            tape.output("pull", -tape.grad(loss, &[fake])[0]);
            tape.output("at", fake);
            adam_g.minimise_at(tape, loss, tape.input("lr", &[1]));
            tape.output("loss", loss);
        });
        let cloud = compiled(|tape| tape.output("points", g.forward(tape, tape.input("z", &[CLOUD, 2]))));
        let field = compiled(|tape| {
            let at = tape.input("at", &[SIDE * SIDE, 2]);
            tape.output("belief", d.forward(tape, at).sigmoid());
        });
        let mut all = vec![];
        for (name, program) in [("d", step_d), ("g", step_g), ("cloud", cloud), ("field", field)] {
            all.push((name, program.map_err(ScoreError::from)?));
        }
        let mut modules = Modules::default();
        let mut programs = BTreeMap::new();
        for (name, program) in &all {
            programs.insert((*name).to_owned(), modules.program(program, &states)?);
        }
        let of = |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, program)| program);
        let sets = sets(seed);
        let device = |error: DeviceError| ExportError::Score(error.into());
        let store = Device::Cpu.store(&states, seed).map_err(device)?;
        let start = (0..states.entries().len()).map(|i| {
            let entry = &states.entries()[i];
            Ok((entry.name.clone(), entry.shape.clone(), store.read(StateId(i)).map_err(device)?))
        });
        let start = super::train::safetensors(&start.collect::<Result<Vec<_>, ExportError>>()?)?;
        let recorded = match [of("d"), of("g"), of("cloud"), of("field")] {
            [Some(d), Some(g), Some(cloud), Some(field)] => {
                record(&store, [d, g, cloud, field], &sets[0].points, seed).map_err(device)?
            }
            _ => vec![],
        };
        let page = Page { batch: BATCH, cloud: CLOUD, side: SIDE, reach: REACH, lr: LR, sets, recorded };
        let page = serde_json::to_vec(&page).map_err(|e| ExportError::Document(e.to_string()))?;
        Self::assemble(Parts {
            kind: Kind {
                system: "toy",
                title: "a GAN of points in the plane",
                paper: "",
                pages: &TOY,
                is_read: false,
            },
            input: None,
            score: None,
            train: None,
            states: modules.states(&states, |_| true),
            modules,
            programs,
            files: vec![(super::MODEL.to_owned(), start), (FILE.to_owned(), page)],
        })
    }
}

/// The points that a field is looked at, row by row from the top.
fn lattice() -> Vec<f32> {
    let place = |i: usize| REACH * (2.0 * (i as f32 + 0.5) / SIDE as f32 - 1.0);
    (0..SIDE * SIDE).flat_map(|i| [place(i % SIDE), -place(i / SIDE)]).collect()
}

/// Two normal numbers for each two uniform ones.
fn normal(len: usize, seed: u64, stream: u32) -> Vec<f32> {
    let drawn = uniform(len, seed, stream);
    let pairs = drawn.chunks_exact(2).flat_map(|pair| {
        let (radius, angle) =
            ((-2.0 * (1.0 - f64::from(pair[0])).ln()).sqrt(), std::f64::consts::TAU * f64::from(pair[1]));
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    });
    pairs.collect()
}

/// What can be learned: a ring of eight heaps, a spiral, two moons.
fn sets(seed: u64) -> Vec<Set> {
    let (where_, noise) = (uniform(POINTS, seed, 900), normal(2 * POINTS, seed, 901));
    let points = |place: fn(usize, f32) -> [f32; 2], spread: f32| -> Vec<f32> {
        let one = |i: usize| {
            let [x, y] = place(i, where_[i]);
            [x + spread * noise[2 * i], y + spread * noise[2 * i + 1]]
        };
        (0..POINTS).flat_map(one).collect()
    };
    let ring = |i: usize, _: f32| {
        let angle = std::f32::consts::TAU * (i % 8) as f32 / 8.0;
        [angle.cos(), angle.sin()]
    };
    let spiral = |_: usize, t: f32| {
        let (angle, radius) = (t * 9.0, 0.15 + 0.95 * t);
        [radius * angle.cos(), radius * angle.sin()]
    };
    let moons = |i: usize, t: f32| {
        let angle = std::f32::consts::PI * t;
        match i % 2 {
            0 => [angle.cos() - 0.4, angle.sin() - 0.2],
            _ => [0.4 - angle.cos(), 0.2 - angle.sin()],
        }
    };
    vec![
        Set { name: "a ring of eight heaps", points: points(ring, 0.06) },
        Set { name: "a spiral", points: points(spiral, 0.03) },
        Set { name: "two moons", points: points(moons, 0.06) },
    ]
}

/// The first steps on the CPU: D, then G, in turn.
fn record(
    store: &crate::device::Store,
    programs: [&Program; 4],
    points: &[f32],
    seed: u64,
) -> Result<Vec<Moment>, DeviceError> {
    let [mut d, mut g, mut cloud, mut field] = {
        let [d, g, cloud, field] = programs.map(|program| Device::Cpu.load(program, store));
        [d?, g?, cloud?, field?]
    };
    for run in [&mut d, &mut g] {
        run.write("lr", &[LR])?;
    }
    cloud.write("z", &normal(2 * CLOUD, seed, 1))?;
    field.write("at", &lattice())?;
    let mut moments = vec![];
    for step in 0..=STEPS {
        if step % EVERY == 0 {
            cloud.run(1)?;
            field.run(1)?;
            let losses = if step == 0 { [0.0; 2] } else { [d.scalar("loss")?, g.scalar("loss")?] };
            moments.push(Moment {
                step,
                loss_d: losses[0],
                loss_g: losses[1],
                cloud: rounded(cloud.read("points")?),
                field: rounded(field.read("belief")?),
            });
        }
        let first = 2 * BATCH * (step % (POINTS / BATCH));
        d.write("x", &points[first..first + 2 * BATCH])?;
        d.write("z", &normal(2 * BATCH, seed, 1000 + 2 * step as u32))?;
        d.run(1)?;
        g.write("z", &normal(2 * BATCH, seed, 1001 + 2 * step as u32))?;
        g.run(1)?;
    }
    Ok(moments)
}

/// Three digits are enough for a picture.
fn rounded(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|v| (v * 1000.0).round() / 1000.0).collect()
}
