//! Programs as files: what a page needs to replay a model on the reader's own GPU.
//!
//! A program is plain data, so nothing is translated: [`Export`] holds `program.json` (buffers, states,
//! launches; [`schema`]), the WGSL text of each distinct shader module, the model file as it is, and the
//! replayer with its pages (`web/`). Plans are made for WebGPU's default limits without optional features, so
//! every conforming browser runs them. `docs/web.md` describes the files.
//!
//! `onnx` (a feature) has models as ONNX graphs for other runtimes, `torch` (a feature) as modules of
//! PyTorch; `docs/onnx.md` and `docs/pytorch.md` describe them.

#[cfg(any(feature = "onnx", feature = "torch"))]
mod batches;
mod expressions;
mod folder;
mod kernels;
mod modules;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod schema;
mod tape;
#[cfg(feature = "torch")]
pub mod torch;
mod toy;
mod train;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::models::file::{Calibration, FileError, Header, ModelFile, Scaling};
use crate::models::scorer::{Portable, ScoreConfig, ScoreError, portable};
use crate::models::{Form, Info, Prior};
use modules::Modules;
use schema::{Document, FORMAT, File, Input, Maps, Program, Score, Search, State, Threshold, Train, VERSION};
pub use train::{Run, WAYS, Way};

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What a page cannot do.
    #[error("{path} cannot be exported to a page: {what}", path = path.display())]
    Refused {
        /// The model, as it was named.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// Settings or a file at fault.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A launch beyond WebGPU's default limits.
    #[error("layer '{scope}' does not fit WebGPU's default limits ({source}); train a smaller size or width")]
    Kernel {
        /// Layer at fault.
        scope: String,
        /// What does not fit, with the numbers.
        source: ganomede_kernels::KernelError,
    },
    /// Images that cannot be read.
    #[error(transparent)]
    Data(#[from] ganomede_datasets::DataError),
    /// A document that cannot be written.
    #[error("the export has no form in a file ({0}); this is a fault of ganomede, please report it")]
    Document(String),
    /// A folder that holds something else.
    #[error(
        "'{path}' is not empty and not an earlier export ({what}); choose another folder or remove it",
        path = path.display()
    )]
    Occupied {
        /// The folder, as it was named.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// The file system refused.
    #[error("cannot write to '{path}': {source}; choose another place or fix its permissions", path = path.display())]
    Write {
        /// The folder, as it was named.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl ExportError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Score(error) => error.is_machine_fault(),
            Self::Data(error) => error.is_machine_fault(),
            Self::Write { source, .. } => source.kind() != std::io::ErrorKind::AlreadyExists,
            Self::Refused { .. } | Self::Kernel { .. } | Self::Document(_) | Self::Occupied { .. } => false,
        }
    }
}

impl From<FileError> for ExportError {
    fn from(error: FileError) -> Self {
        Self::Score(error.into())
    }
}

/// The files of a page: names and bytes, `program.json` first.
#[derive(Debug, Clone)]
pub struct Export {
    files: Vec<(String, Vec<u8>)>,
}

/// The style of all pages, a service's among them.
pub const STYLE: &str = include_str!("../../web/style.css");
/// What every page needs.
const SHARED: [(&str, &str); 3] = [
    ("ganomede.js", include_str!("../../web/ganomede.js")),
    ("page.js", include_str!("../../web/page.js")),
    ("style.css", STYLE),
];
/// The page that scores images.
const SCORE: [(&str, &str); 2] =
    [("index.html", include_str!("../../web/index.html")), ("score.js", include_str!("../../web/score.js"))];
/// The pages of scores that are searched: one that scores, one that shows a search.
const SEARCHED: [(&str, &str); 4] = [
    SCORE[0],
    SCORE[1],
    ("search.html", include_str!("../../web/search.html")),
    ("search.js", include_str!("../../web/search.js")),
];
/// The page that shows a training.
const TRAIN: [(&str, &str); 2] =
    [("index.html", include_str!("../../web/train.html")), ("train.js", include_str!("../../web/train.js"))];
/// The page that shows expressions, their gradients and launches.
const TAPE: [(&str, &str); 3] = [
    ("index.html", include_str!("../../web/tape.html")),
    ("tape.js", include_str!("../../web/tape.js")),
    ("part.js", include_str!("../../web/part.js")),
];
/// The page that runs kernels.
const KERNELS: [(&str, &str); 3] = [
    ("index.html", include_str!("../../web/kernels.html")),
    ("kernels.js", include_str!("../../web/kernels.js")),
    ("part.js", include_str!("../../web/part.js")),
];
/// The page of the two-dimensional toy.
const TOY: [(&str, &str); 2] =
    [("index.html", include_str!("../../web/toy.html")), ("toy.js", include_str!("../../web/toy.js"))];
/// Name of the document that describes the others.
const DOCUMENT: &str = "program.json";
/// Name of the model file.
const MODEL: &str = "model.safetensors";

/// A page's file: its name and its text.
type Page = (&'static str, &'static str);

/// What an export is, in words, and the pages that show it.
struct Kind {
    system: &'static str,
    title: &'static str,
    paper: &'static str,
    pages: &'static [Page],
    /// Whether shaders keep their lines of comment, of pages that show them.
    is_read: bool,
}

impl Kind {
    fn of(info: &'static Info, pages: &'static [Page]) -> Self {
        Self { system: info.name, title: info.title, paper: info.paper, pages, is_read: false }
    }
}

/// What an export is made of.
struct Parts {
    kind: Kind,
    input: Option<Input>,
    score: Option<Score>,
    train: Option<Train>,
    states: Vec<State>,
    modules: Modules,
    programs: BTreeMap<String, Program>,
    /// Files of tensors.
    files: Vec<(String, Vec<u8>)>,
}

/// A page's file as it is sent: scripts without the comments that are for those who write pages, a third of
/// their bytes, but with the one at the head, and without indentation; shaders without lines of comment, a
/// fifth of theirs. No text of a script runs over lines, so that none loses a space.
fn sent(name: &str, text: &str) -> String {
    if name.ends_with(".wgsl") {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        return code.fold(String::with_capacity(text.len()), |all, line| all + line + "\n");
    }
    if !name.ends_with(".js") {
        return text.to_owned();
    }
    let (mut inside, mut blocks) = (false, 0);
    let mut sent = String::with_capacity(text.len());
    for line in text.lines() {
        let trimmed = line.trim();
        // A cast begins a line of code, and ends before the line does.
        let begins = trimmed.starts_with("/**") && (trimmed.ends_with("*/") || !trimmed.contains("*/"));
        blocks += usize::from(begins && !inside);
        inside |= begins;
        let drops = inside && blocks > 1 || blocks > 0 && trimmed.starts_with("//");
        inside &= !trimmed.ends_with("*/");
        if !drops {
            sent += without_casts(line).trim_start();
            sent.push('\n');
        }
    }
    sent
}

/// A line of a script without `/** @type … */` before its expressions.
fn without_casts(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some((before, cast)) = rest.split_once("/** @type ") {
        let Some((_, after)) = cast.split_once("*/") else { break };
        kept += before;
        rest = after.trim_start();
    }
    kept + rest
}

/// A shader's file.
fn shader((name, text): &(String, String), is_read: bool) -> (String, Vec<u8>) {
    let text = if is_read { text.clone() } else { sent(name, text) };
    (name.clone(), text.into_bytes())
}

/// What all pages need, and these.
fn pages(own: &'static [Page]) -> impl Iterator<Item = (String, Vec<u8>)> {
    SHARED.iter().chain(own).map(|&(name, text)| (name.to_owned(), sent(name, text).into_bytes()))
}

/// The document of an export with these files.
fn document(parts: Parts, files: BTreeMap<String, File>) -> Document {
    let Parts { kind, input, score, train, states, modules, programs, .. } = parts;
    Document {
        format: FORMAT.to_owned(),
        version: VERSION,
        written_by: format!("ganomede {}", env!("CARGO_PKG_VERSION")),
        system: kind.system.to_owned(),
        title: kind.title.to_owned(),
        paper: kind.paper.to_owned(),
        files,
        weights: MODEL.to_owned(),
        input,
        score,
        train,
        states,
        pipelines: modules.pipelines,
        programs,
        runs: vec![],
    }
}

fn bytes_of(document: &Document) -> Result<Vec<u8>, ExportError> {
    serde_json::to_vec(document).map_err(|e| ExportError::Document(e.to_string()))
}

impl Export {
    /// Exports how a model of images scores, one image at a time: a pass, or a latent search. `path` is the
    /// model's name in messages.
    ///
    /// # Errors
    /// [`ExportError::Refused`] for what only the host does: series, tables, tiles and layers made level.
    pub fn of_model(model: &ModelFile, path: &Path, score: &ScoreConfig) -> Result<Self, ExportError> {
        check(model, path, score)?;
        let portable = portable(model, path, score)?;
        let mut modules = Modules::default();
        let programs = portable
            .programs
            .iter()
            .map(|(name, program)| Ok(((*name).to_owned(), modules.program(program, &portable.states)?)));
        let programs = programs.collect::<Result<_, ExportError>>()?;
        let searched = portable.programs.len() > 1;
        let stored = |name: &str| model.tensors.iter().any(|tensor| tensor.name == name);
        Self::assemble(Parts {
            kind: Kind::of(model.header.info(path)?, if searched { &SEARCHED } else { &SCORE }),
            input: Some(input(&model.header)),
            score: Some(scored(model, &portable)),
            train: None,
            states: modules.states(&portable.states, stored),
            modules,
            programs,
            files: vec![(MODEL.to_owned(), model.to_bytes(path)?)],
        })
    }

    /// Joins shaders, pages and the document that describes all files.
    fn assemble(mut parts: Parts) -> Result<Self, ExportError> {
        let mut files = std::mem::take(&mut parts.files);
        files.extend(parts.modules.texts.iter().map(|text| shader(text, parts.kind.is_read)));
        files.extend(pages(parts.kind.pages));
        let listed = files.iter().map(|(name, bytes)| (name.clone(), File::of(bytes))).collect();
        let json = bytes_of(&document(parts, listed))?;
        files.insert(0, (DOCUMENT.to_owned(), json));
        Ok(Self { files })
    }

    /// Joins several trainings: a document each, with the weights, images and shaders that it needs; what two
    /// have in common is one file.
    fn assemble_runs(mut runs: Vec<(schema::Run, Parts)>) -> Result<Self, ExportError> {
        let mut files: Vec<(String, Vec<u8>)> = vec![];
        let several = runs.len() > 1;
        let shown: Vec<schema::Run> = runs.iter().map(|(shown, _)| shown.clone()).collect();
        let mut documents = vec![];
        for (number, (_, parts)) in runs.iter_mut().enumerate() {
            let mut own = BTreeMap::new();
            for (name, bytes) in std::mem::take(&mut parts.files) {
                let name = match files.iter().find(|(_, known)| *known == bytes) {
                    Some((known, _)) => known.clone(),
                    None if number == 0 => name,
                    None => name.replace('.', &format!("-{}.", number + 1)),
                };
                own.insert(name.clone(), File::of(&bytes));
                if !files.iter().any(|(known, _)| *known == name) {
                    files.push((name, bytes));
                }
            }
            documents.push(own);
        }
        // The last has the texts of all.
        let texts = runs.last().map(|(_, parts)| parts.modules.texts.clone()).unwrap_or_default();
        files.extend(texts.iter().map(|text| shader(text, false)));
        let kind_pages = runs.first().map_or(&[][..], |(_, parts)| parts.kind.pages);
        files.extend(pages(kind_pages));
        let mut first = None;
        for ((run, parts), own) in runs.into_iter().zip(documents).rev() {
            let is_first = run.file == DOCUMENT;
            let mut listed = own.clone();
            let used: Vec<&str> = parts.modules.pipelines.iter().map(|p| p.module.as_str()).collect();
            let wanted = |name: &str| is_first || used.contains(&name);
            let more = files.iter().filter(|(name, _)| wanted(name));
            listed.extend(more.map(|(name, bytes)| (name.clone(), File::of(bytes))));
            let named = |stem: &str| own.keys().find(|name| name.starts_with(stem)).cloned();
            let (weights, images) = (named("model"), named("images"));
            let mut made = document(parts, listed);
            made.weights = weights.unwrap_or(made.weights);
            if let (Some(train), Some(images)) = (&mut made.train, images) {
                train.images = images;
            }
            if is_first {
                made.runs = if several { shown.clone() } else { vec![] };
                first = Some(bytes_of(&made)?);
            } else {
                files.push((run.file, bytes_of(&made)?));
            }
        }
        files.insert(0, (DOCUMENT.to_owned(), first.unwrap_or_default()));
        Ok(Self { files })
    }

    /// The files: names and bytes, `program.json` first.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Writes the files beside the place, reads them back, and moves the whole folder there. What was an
    /// export before is replaced.
    ///
    /// # Errors
    /// [`ExportError::Occupied`] for a folder with other files, [`ExportError::Write`] where the system
    /// refuses; what was there stays.
    pub fn write(&self, folder: &Path) -> Result<(), ExportError> {
        folder::write(&self.files, folder, folder::replaces(folder)?)
    }
}

/// Whether an export to a folder would be refused for what is there.
///
/// # Errors
/// [`ExportError::Occupied`], naming a file that no export wrote.
pub fn check_folder(folder: &Path) -> Result<(), ExportError> {
    folder::replaces(folder).map(|_| ())
}

/// Refuses what only the host does.
fn check(model: &ModelFile, path: &Path, score: &ScoreConfig) -> Result<(), ExportError> {
    let header = &model.header;
    let refused = |what: &str| Err(ExportError::Refused { path: path.to_owned(), what: what.to_owned() });
    if header.config.form != Form::Image || header.data.scaling != Scaling::Pixels {
        return refused(
            "it scores numbers of series or tables, a page takes images; train a model of images",
        );
    }
    if score.tiles.is_some() {
        return refused("it scores images tile by tile, which pages do not yet; train without `tile`");
    }
    if header.data.flatten {
        return refused(
            "layers of scans are made level before it sees them, which pages do not; train without `flatten`",
        );
    }
    Ok(())
}

/// What becomes of an image before the networks see it.
fn input(header: &Header) -> Input {
    let [_, channels, height, width] = header.config.images(1);
    let fit = header.data.fit.name().to_owned();
    Input { height, width, channels, fit, standardise: header.recipe.standardise }
}

/// The calibration of a model, if it is of scores as these.
fn calibration<'m>(header: &'m Header, score: &ScoreConfig, is_pass: bool) -> Option<&'m Calibration> {
    // Graphs of series give scores of points.
    header.calibration_of_data().filter(|c| {
        // Searches that stop early end elsewhere than those that go on.
        let search = crate::models::search::SearchConfig { tolerance: 0.0, ..c.score.search.clone() };
        let own = ScoreConfig { search, ..c.score.clone() };
        own.score == score.score && own.refine == score.refine && (is_pass || own.search == score.search)
            || is_pass && own.score.is_empty()
    })
}

/// The score with its calibration, if the model has one for these settings.
fn scored(model: &ModelFile, portable: &Portable) -> Score {
    let Portable { score, programs, parts, encodes, .. } = portable;
    let (header, last) = (&model.header, &programs[programs.len() - 1].1);
    let calibration = calibration(header, score, programs.len() == 1);
    let maps = calibration.and_then(|c| c.maps.as_ref());
    let relative = score.maps.relative && maps.is_some_and(|m| m.place.is_some());
    Score {
        name: score.score.clone(),
        parts: parts.iter().map(|&part| part.to_owned()).collect(),
        reconstruction: last.output("reconstruction").is_some(),
        map: last.output("map").map(|_| Maps {
            smooth: score.maps.sigma(&header.config),
            relative: relative
                .then(|| ["calibration.map.mean".to_owned(), "calibration.map.deviation".to_owned()]),
            range: maps.filter(|_| relative == score.maps.relative).map(|m| m.levels.range()),
            threshold: maps.filter(|_| relative == score.maps.relative).map(|m| m.threshold),
        }),
        threshold: calibration.map(|c| Threshold {
            value: c.threshold,
            source: c.source.clone(),
            held_out: c.quantiles.clone(),
        }),
        search: (programs.len() > 1).then(|| Search {
            steps: score.search.steps,
            restarts: score.search.restarts,
            lambda: score.search.lambda,
            lr: score.search.lr,
            latent: header.config.latent,
            start: match (encodes, header.config.prior) {
                (true, _) => "encoder",
                (false, Prior::Uniform) => "uniform",
                (false, Prior::Normal) => "normal",
            }
            .to_owned(),
            key: [header.seed as u32, (header.seed >> 32) as u32],
        }),
    }
}

impl File {
    /// Size and SHA-256 of a file.
    fn of(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        Self { bytes: bytes.len(), sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_sent_without_comments_and_indentation() {
        for (name, text) in [&SHARED[..], &SEARCHED, &TRAIN, &TAPE, &KERNELS, &TOY].concat() {
            if !name.ends_with(".js") {
                assert_eq!(sent(name, text), text);
                continue;
            }
            // A template over several lines would lose spaces that are text.
            for line in text.lines() {
                assert!(line.matches('`').count().is_multiple_of(2), "{name}: {line}");
            }
            let (code, sent) =
                (text.lines().filter(|l| l.trim_end().ends_with([';', '{', '}'])), sent(name, text));
            let missing: Vec<_> = code
                .filter(|line| !line.contains("/*") && !line.trim_start().starts_with(['*', '/']))
                .collect();
            let lines: std::collections::HashSet<_> = sent.lines().collect();
            assert!(
                missing.len() > 20 && missing.iter().all(|line| lines.contains(line.trim_start())),
                "{name}"
            );
            assert!(sent.len() < text.len() && !sent.contains("@param"), "{name}");
        }
    }
}
