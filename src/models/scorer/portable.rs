//! The programs of a score without a device, for those who replay them elsewhere.

use std::path::Path;

use super::{Recorded, ScoreConfig, ScoreError, compiled, planned};
use crate::models::common::is_common;
use crate::models::file::ModelFile;
use crate::models::search::SearchConfig;
use crate::program::Program;
use crate::tape::States;

/// The programs of a score, of one sample at a time.
pub struct Portable {
    /// The settings in use, with their names and numbers.
    pub score: ScoreConfig,
    /// `score`, of one pass; of a search `prepare`, `step` and `finish`, whose Γ, λ and step size are inputs
    /// ([`Search::tunable`](crate::models::search::Search::tunable)).
    pub programs: Vec<(&'static str, Program)>,
    /// What the score is made of: outputs of one element.
    pub parts: Vec<&'static str>,
    /// Of a search: whether it starts from E(x); otherwise its start is the input `z` of `prepare`.
    pub encodes: bool,
    /// The states that the programs name: the model's weights, then those of a search, which start as 0.
    pub states: States,
}

/// Records the programs of a score. Searches go on to their last step, whatever their tolerance: lanes that
/// stop early are what the host does for batches.
///
/// # Errors
/// As [`Scorer::new`](super::Scorer::new), but for what is a device's.
pub fn portable(model: &ModelFile, path: &Path, score: &ScoreConfig) -> Result<Portable, ScoreError> {
    // Restarts are one search after the other here.
    let one = SearchConfig { tolerance: 0.0, restarts: 1, ..score.search.clone() };
    let restarts = if score.refine > 0 { 1 } else { score.search.restarts };
    let asked = ScoreConfig { search: one, ..score.clone() };
    let (mut score, prepared, recorded) = planned(&model.header, Some((model, path)), &asked, 1)?;
    score.search.restarts = restarts;
    let system = prepared.system.as_ref();
    let (programs, parts, encodes) = match recorded {
        Recorded::Pass { program, parts, .. } => (vec![("score", program)], parts, false),
        Recorded::Search { levels, encodes, .. } => {
            let (Some(search), Some(latent)) = (levels.into_iter().next(), system.latent()) else {
                unreachable!("a search is recorded of a system with a latent, and has a first level")
            };
            let search = search.tunable();
            let info = model.header.info(path)?;
            let common = is_common(info, &score.score).then_some(score.score.as_str());
            let mut finished = Ok(());
            let programs = vec![
                ("prepare", compiled(|tape| search.prepare(tape, latent, encodes))?),
                ("step", compiled(|tape| search.step(tape, latent))?),
                ("finish", {
                    compiled(|tape| finished = search.finish_by(tape, latent, system.config(), common))?
                }),
            ];
            finished?;
            (programs, vec!["residual", "discrimination"], encodes)
        }
    };
    Ok(Portable { score, programs, parts, encodes, states: prepared.states })
}
