//! What `train`, `score`, `eval` and `demo` share: scoring a list of images batch by batch, and calibration.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ganomede_datasets::{
    Batch, BatchOptions, Batches, Channels, DataError, Dataset, Indices, OpenOptions, Reads, Rejected, Split,
};

use ganomede_host::line;

use crate::shared::args::DataArgs;
use crate::shared::progress::Progress;
use crate::shared::{CliError, Interrupt, shown};
use ganomede::device::Device;
use ganomede::eval::Quantiles;
use ganomede::models::file::{Calibration, ModelFile};
use ganomede::models::scorer::{Found, ScoreConfig, Scorer};
use ganomede::report::REPORT_FILES;

/// Share of false alarms among normal images that a threshold aims at, unless told otherwise.
pub(crate) const FALSE_ALARM_RATE: f64 = 0.05;
/// Held-out images scored for calibration, at most.
const MAX_CALIBRATION: usize = 256;

/// Opens data for a trained model: framed (flattened, cut into patches) as the model was trained, labelled sets with the
/// model's classes where the command gives none; it may not give the contrary. `without_masks` where only scores are wanted.
pub(crate) fn open_data(
    data: &DataArgs,
    model: &ModelFile,
    without_masks: bool,
) -> Result<Dataset, DataError> {
    let info = &model.header.data;
    let config = &model.header.config;
    let channels = if config.channels == 1 { Channels::Gray } else { Channels::Rgb };
    let options = data.open_options(config.size, channels, info);
    Dataset::open(&data.data, &OpenOptions { without_masks, ..options })
}

/// Makes sure before the work that its results can be written to a folder and will not lie among what the run reads:
/// makes the folder and tries it.
pub(crate) fn check_folder(folder: &Path, reads: &Reads) -> Result<(), CliError> {
    reads.check_folder(folder)?;
    ganomede_host::try_folder(folder).map_err(|e| {
        CliError::machine(format!(
            "cannot write to folder '{}': {e}; choose another place or fix its permissions",
            shown(folder)
        ))
    })
}

/// As [`check_folder`], for a file that will be written: it replaces nothing that the run reads, and no device or pipe.
pub(crate) fn check_file(file: &Path, reads: &Reads) -> Result<(), CliError> {
    // Below a file there is no place at all; the system says that best about the folder.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check_folder(folder, &Reads::new())?;
    Ok(reads.check_file(file)?)
}

/// As [`check_folder`], for the folder of a report.
pub(crate) fn check_report(folder: &Path, reads: &Reads) -> Result<(), CliError> {
    check_folder(folder, reads)?;
    REPORT_FILES.iter().try_for_each(|name| Ok(reads.check_file(&folder.join(name))?))
}

/// The error of a command for which no image was left.
pub(crate) fn no_image(what: &str, rejected: &[Rejected]) -> CliError {
    let first = rejected
        .first()
        .map_or(String::new(), |r| format!("; the first, {}: {}", line(&r.path), line(&r.reason)));
    CliError::input(format!("none of the images of {} can be used{first}", line(what)))
}

/// A place in a data set.
pub(crate) struct Selection {
    pub(crate) data: Arc<Dataset>,
    pub(crate) split: Split,
    pub(crate) indices: Indices,
}

/// Sees a batch with what was found in it.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&Batch, Vec<Found>) -> Result<(), CliError>;

/// Scores a selection in its order; `each` sees every batch with what was found. Returns images and seconds.
pub(crate) fn score_all(
    scorer: &mut Scorer,
    selection: &Selection,
    label: &str,
    interrupt: &Interrupt,
    each: Each<'_>,
) -> Result<(usize, f64), CliError> {
    let options = BatchOptions { batch: scorer.batch(), prefetch: 2, ..BatchOptions::default() };
    let batches = Batches::new(selection.data.clone(), selection.split, selection.indices.clone(), options)?;
    let mut progress = Progress::new(label, "images", 0, Some(selection.indices.len() as u64));
    let started = Instant::now();
    let mut done = 0;
    for batch in batches {
        let batch = batch?;
        if interrupt.raised() {
            progress.end();
            return Err(CliError::interrupted("interrupted; nothing was written"));
        }
        let found = scorer.score(&batch.images, None)?;
        done += found.len();
        progress.at(done as u64, "");
        each(&batch, found)?;
    }
    progress.end();
    Ok((done, started.elapsed().as_secs_f64()))
}

/// Scores held-out normal images and turns them into a scale and a threshold.
pub(crate) fn calibrate(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    batch: usize,
    held_out: &Selection,
    rate: f64,
    interrupt: &Interrupt,
) -> Result<Option<Calibration>, CliError> {
    let indices = held_out.indices.take(MAX_CALIBRATION);
    if indices.is_empty() {
        return Ok(None);
    }
    let selection = Selection { data: held_out.data.clone(), split: held_out.split, indices };
    let mut scorer = Scorer::new(device, model, path, score, batch.min(selection.indices.len()))?;
    let mut scores = vec![];
    score_all(&mut scorer, &selection, "calibrating on held-out normals", interrupt, &mut |_, found| {
        scores.extend(found.iter().map(|f| f.score));
        Ok(())
    })?;
    let quantiles = Quantiles::new(&scores)?;
    let threshold = quantiles.threshold(rate)?;
    Ok(Some(Calibration {
        score: score.clone(),
        quantiles,
        threshold: threshold.value,
        source: threshold.source,
    }))
}
