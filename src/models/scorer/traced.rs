//! The graphs of a score as they are recorded, for those who translate them into something else.

use std::path::Path;

use super::{Chosen, ScoreConfig, ScoreError, chosen, record_pass, searchable};
use crate::models::file::ModelFile;
use crate::models::load::Prepared;
use crate::models::search::SearchConfig;
use crate::program::{CompileError, StateId};
use crate::tape::{Graph, Tape};

/// The graphs of a score, of one batch.
pub struct Traced<'a> {
    /// The settings in use, with their names and numbers.
    pub score: ScoreConfig,
    /// `score`, of one pass, with input `x`; of a search `prepare`, `step` and `finish` over its states, then
    /// `generator` from `z` to `image`, and `discriminator` from `x` to `features`.
    pub graphs: Vec<(&'static str, Graph)>,
    /// Of a search: whether it starts from E(x); otherwise its start is the input `z` of `prepare`.
    pub encodes: bool,
    prepared: Prepared<'a>,
}

/// A state that a graph reads: a weight of the model, or one of a search.
pub struct TracedState<'a> {
    /// Its name in the model file, `search.*` of a search.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// The values that the model has; `None` of a search's states.
    pub values: Option<&'a [f32]>,
}

impl Traced<'_> {
    /// Whether the score is searched.
    pub fn is_searched(&self) -> bool {
        self.graphs.len() > 1
    }

    /// The graph of this name.
    pub fn graph(&self, name: &str) -> Option<&Graph> {
        self.graphs.iter().find(|(of, _)| *of == name).map(|(_, graph)| graph)
    }

    /// A state that a graph reads or writes.
    ///
    /// # Errors
    /// [`ScoreError`] where there is no such state.
    pub fn state(&self, id: StateId) -> Result<TracedState<'_>, ScoreError> {
        self.prepared.state(id)
    }
}

/// Records the graphs of a score in batches of `batch`, without compiling them. Searches go on to their last
/// step, whatever their tolerance, and have one lane a sample.
///
/// # Errors
/// As [`Scorer::new`](super::Scorer::new), but for what is a device's.
pub fn traced<'a>(
    model: &'a ModelFile,
    path: &Path,
    score: &ScoreConfig,
    batch: usize,
) -> Result<Traced<'a>, ScoreError> {
    let one = SearchConfig { tolerance: 0.0, restarts: 1, ..score.search.clone() };
    let restarts = if score.refine > 0 { 1 } else { score.search.restarts };
    let asked = ScoreConfig { search: one, ..score.clone() };
    let Chosen { mut score, prepared, levels, how } =
        chosen(&model.header, Some((model, path)), &asked, batch)?;
    score.search.restarts = restarts;
    let system = prepared.system.as_ref();
    let mut graphs = vec![];
    let mut add = |name, tape: &Tape| -> Result<(), ScoreError> {
        graphs.push((name, tape.finish().map_err(CompileError::from)?));
        Ok(())
    };
    match levels.first() {
        None => {
            let tape = Tape::new();
            record_pass(&tape, system, how, batch)?;
            add("score", &tape)?;
        }
        Some(search) => {
            let latent = searchable(system, &model.header, how)?;
            let [prepare, step, finish, generator, discriminator] = std::array::from_fn(|_| Tape::new());
            search.prepare(&prepare, latent, how.encodes);
            add("prepare", &prepare)?;
            search.step(&step, latent);
            add("step", &step)?;
            search.finish_by(&finish, latent, system.config(), (!how.own).then_some(how.name))?;
            add("finish", &finish)?;
            let z = generator.input("z", &[batch, system.config().latent]);
            generator.output("image", latent.generate(&generator, z));
            add("generator", &generator)?;
            let x = discriminator.input("x", &system.config().images(batch));
            discriminator.output("features", latent.features(&discriminator, x));
            add("discriminator", &discriminator)?;
        }
    }
    Ok(Traced { score, graphs, encodes: how.encodes, prepared })
}
