//! Checkpoints of the repositories that published a system: which of our layers each of their tensors is.

use std::path::PathBuf;

use ganomede_datasets::Fit;

use super::source::Source;
use super::{ImportError, Imported, rounded, tables};
use crate::models::file::{DataInfo, FORMAT, Header, ModelFile, NamedTensor, Progress};
use crate::models::recipe::Recipe;
use crate::models::{Config, Options, Training, find};
use crate::tape::States;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The files of the networks, in any order.
    pub files: Vec<PathBuf>,
    /// Least and greatest value of contrast-normalised training images, which Deep SVDD's checkpoints do not
    /// have.
    pub range: Option<[f32; 2]>,
}

/// A tensor's other layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The same numbers in the same order.
    Same,
    /// `[in, out, h, w]` of a transposed convolution of one place, for a linear layer `[out·h·w, in]`.
    Turned,
    /// The middle of a convolution's taps, where all others see zeros.
    Middle,
}

/// A tensor of ours and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) ours: String,
    /// Which network.
    pub(super) network: usize,
    pub(super) theirs: String,
    /// How its numbers lie there.
    pub(super) layout: Layout,
}

/// Names and shapes of a state dict.
pub(super) type Names = Vec<(String, Vec<usize>)>;

/// A network of a system.
pub(super) struct Network {
    /// What the repository calls its file.
    pub(super) file: &'static str,
    /// Whether these are the tensors of this network, by a name that only it has.
    pub(super) is: fn(&Names) -> bool,
    /// What a model is without it; empty where it cannot be.
    pub(super) without: &'static str,
}

/// What a repository's checkpoints are. A system may have several.
pub(super) struct Table {
    pub(super) system: &'static str,
    pub(super) repository: &'static str,
    pub(super) networks: &'static [Network],
    /// The plan of these networks, of which those that are not there are empty.
    pub(super) plan: fn(&mut Found<'_>) -> Result<Plan, String>,
}

/// Numbers of a checkpoint by name.
type Numbers<'f> = dyn FnMut(&str) -> Result<Option<Vec<f32>>, ImportError> + 'f;

/// What there is to plan by.
pub(super) struct Found<'f> {
    pub(super) names: Vec<Names>,
    pub(super) given: &'f Given,
    /// A number of the first network's checkpoint, or several.
    pub(super) numbers: &'f mut Numbers<'f>,
}

impl Found<'_> {
    /// The shape of a tensor.
    pub(super) fn shape(&self, network: usize, name: &str) -> Option<&[usize]> {
        self.names[network].iter().find(|(of, _)| of == name).map(|(_, shape)| shape.as_slice())
    }

    /// As [`Found::shape`], of a tensor that must be there with so many dimensions.
    pub(super) fn shape_of<const N: usize>(&self, network: usize, name: &str) -> Result<[usize; N], String> {
        let shape = self.shape(network, name).ok_or_else(|| format!("has no tensor '{name}'"))?;
        shape.try_into().map_err(|_| format!("has '{name}' of shape {shape:?}, expected {N} dimensions"))
    }
}

/// A model to be.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) options: Vec<(&'static str, String)>,
    pub(super) fit: Fit,
    pub(super) rows: Vec<Row>,
    /// Tensors that come from no state dict.
    pub(super) values: Vec<(&'static str, Vec<f32>)>,
}

/// Names of the systems whose published checkpoints are read.
pub const SYSTEMS: [&str; 4] = ["ganomaly", "skip-ganomaly", "f-anogan", "deep-svdd"];

impl Table {
    /// Which of its networks these are the tensors of.
    fn place(&self, names: &Names) -> Option<usize> {
        self.networks.iter().position(|network| (network.is)(names))
    }

    /// The repository with what it calls its files.
    fn describe(&self) -> String {
        let files: Vec<_> = self.networks.iter().map(|network| network.file).collect();
        format!("{} ({})", self.repository, files.join(", "))
    }
}

/// A model of a system from the checkpoints of the repository that published it.
///
/// # Errors
/// [`ImportError`] for files that cannot be read, and for networks that ours cannot express, with the first
/// layer that differs.
pub fn published(system: &str, given: &Given) -> Result<Imported, ImportError> {
    let mut of_system: Vec<&Table> = tables::ALL.iter().filter(|table| table.system == system).collect();
    if of_system.is_empty() {
        return Err(ImportError::Asked(format!(
            "published checkpoints of '{system}' are not known; those of {} are",
            SYSTEMS.join(", ")
        )));
    }
    let mut sources: Vec<Option<Source>> = vec![];
    for path in &given.files {
        let source = Source::open(path)?;
        let names = source.names();
        // The first file says which repository all are of.
        let found = of_system.iter().find_map(|&table| Some((table, table.place(&names)?)));
        let (table, at) = found.ok_or_else(|| {
            let beginning: Vec<&str> = names.iter().take(3).map(|(name, _)| name.as_str()).collect();
            let known: Vec<_> = of_system.iter().map(|table| table.describe()).collect();
            ImportError::refused(
                path,
                format!(
                    "is no network of {}: its tensors are {}, …{}",
                    known.join(" or "),
                    beginning.join(", "),
                    tables::known_others(system, &names)
                ),
            )
        })?;
        of_system = vec![table];
        sources.resize_with(table.networks.len(), || None);
        if let Some(before) = &sources[at] {
            let what = format!(
                "is {} as '{}' is; name one of them",
                table.networks[at].file,
                before.path().display()
            );
            return Err(ImportError::refused(path, what));
        }
        sources[at] = Some(source);
    }
    let table = of_system[0];
    sources.resize_with(table.networks.len(), || None);
    let mut notes = vec![];
    for (network, source) in table.networks.iter().zip(&sources) {
        match (source, network.without) {
            (None, "") => {
                let files: Vec<_> =
                    table.networks.iter().filter(|n| n.without.is_empty()).map(|n| n.file).collect();
                return Err(ImportError::Asked(format!(
                    "{} is missing: name {} of {}",
                    network.file,
                    files.join(", "),
                    table.repository
                )));
            }
            (None, without) => notes.push(format!("without {}: {without}", network.file)),
            _ => {}
        }
    }
    // Of whichever file is at fault; the first is there.
    let first = given.files.first().cloned().unwrap_or_default();
    let path = sources.first().and_then(Option::as_ref).map_or(first, |source| source.path().to_owned());
    let names = sources.iter().map(|source| source.as_ref().map(Source::names).unwrap_or_default()).collect();
    let mut numbers = |name: &str| match sources.first_mut().and_then(Option::as_mut) {
        Some(source) => source.numbers(name),
        None => Ok(None),
    };
    let mut found = Found { names, given, numbers: &mut numbers };
    let plan = (table.plan)(&mut found).map_err(|what| ImportError::refused(&path, what))?;
    let names = found.names;
    filled(table, plan, &mut sources, &names, (given, notes))
}

/// The model of a plan.
fn filled(
    table: &Table,
    plan: Plan,
    sources: &mut [Option<Source>],
    names: &[Names],
    (given, mut notes): (&Given, Vec<String>),
) -> Result<Imported, ImportError> {
    let asked = |what: String| ImportError::Asked(format!("{what} (of {})", table.repository));
    let info = find(table.system).ok_or_else(|| asked("the system is not known".to_owned()))?;
    let options = plan.options.iter().map(|(key, value)| (*key, value.as_str()));
    let options = Options::new(info.options, options).map_err(|e| asked(e.to_string()))?;
    let mut states = States::new();
    info.build(&mut states, &plan.config, &options).map_err(|e| asked(e.to_string()))?;
    let path = |network: usize| sources[network].as_ref().map_or(PathBuf::new(), |s| s.path().to_owned());

    // In the order of our layers, so that the first difference is the first layer's.
    let mut rounded_names = vec![];
    let mut tensors = vec![];
    let mut jobs: Vec<Vec<(usize, String, Layout)>> = sources.iter().map(|_| vec![]).collect();
    for (id, entry) in states.entries().iter().enumerate() {
        let mut tensor = NamedTensor::new(entry.name.clone(), &entry.shape, vec![]);
        if let Some((_, values)) = plan.values.iter().find(|(name, _)| *name == &*entry.name) {
            tensor.values.clone_from(values);
            if tensor.values.len() != entry.shape.iter().product::<usize>() {
                let what =
                    format!("has {} numbers for '{}', expected {:?}", values.len(), entry.name, entry.shape);
                return Err(ImportError::refused(&path(0), what));
            }
        } else if let Some(row) = plan.rows.iter().find(|row| row.ours == *entry.name) {
            if sources[row.network].is_some() {
                check(row, &entry.shape, &names[row.network])
                    .map_err(|what| ImportError::refused(&path(row.network), what))?;
                jobs[row.network].push((tensors.len(), row.theirs.clone(), row.layout));
            }
        } else {
            let what = format!("has nothing for our tensor '{}' {:?}", entry.name, entry.shape);
            return Err(ImportError::refused(&path(0), what));
        }
        let is_filled = !tensor.values.is_empty()
            || jobs.iter().any(|jobs| jobs.iter().any(|job| job.0 == tensors.len()));
        if !is_filled {
            tensor.values =
                states.initial_values(crate::program::StateId(id), 0).map_err(|e| asked(e.to_string()))?;
        }
        tensors.push(tensor);
    }
    for (network, names) in names.iter().enumerate() {
        let known = |name: &str| plan.rows.iter().any(|row| row.network == network && row.theirs == name);
        if let Some((name, shape)) = names.iter().find(|(name, _)| !known(name)) {
            let what = format!(
                "has a tensor '{name}' {shape:?}, for which {} here has no layer: this is another network than {} publishes",
                table.system, table.repository
            );
            return Err(ImportError::refused(&path(network), what));
        }
    }
    for (source, jobs) in sources.iter_mut().zip(&jobs) {
        let Some(source) = source else { continue };
        let wanted: Vec<&str> = jobs.iter().map(|(_, name, _)| name.as_str()).collect();
        let (values, doubles) = source.read(&wanted)?;
        rounded_names.extend(doubles);
        for ((at, name, layout), values) in jobs.iter().zip(values) {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(ImportError::refused(
                    source.path(),
                    format!("has numbers in '{name}' that are not finite"),
                ));
            }
            let shape = tensors[*at].shape.clone();
            tensors[*at].values = laid_out(*layout, &shape, values);
        }
    }
    notes.extend(rounded(&rounded_names.iter().map(String::as_str).collect::<Vec<_>>()));
    let names: Vec<_> =
        given.files.iter().filter_map(|path| path.file_name()).map(|n| n.to_string_lossy()).collect();
    let header = Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        system: table.system.to_owned(),
        config: plan.config,
        options,
        training: Training { lr: info.defaults.lr, betas: info.defaults.betas },
        recipe: Recipe::default(),
        batch: info.defaults.batch,
        seed: 0,
        device: "another program".to_owned(),
        precision: None,
        data: DataInfo {
            spec: format!("unknown: imported from {}", names.join(", ")),
            fit: plan.fit,
            ..DataInfo::default()
        },
        progress: Progress::default(),
        calibration: None,
        appearance: None,
        check: None,
    };
    Ok(Imported { model: ModelFile { header, tensors }, notes })
}

/// Whether a tensor is there with the shape that its layout has.
fn check(row: &Row, ours: &[usize], names: &Names) -> Result<(), String> {
    let Row { theirs, layout, .. } = row;
    let Some((_, found)) = names.iter().find(|(name, _)| name == theirs) else {
        return Err(format!("has no tensor '{theirs}', our '{}' {ours:?}", row.ours));
    };
    let fits = match (layout, found.as_slice(), ours) {
        (Layout::Same, found, ours) if found.len() == ours.len() => found == ours,
        // A convolution of one place as a linear layer.
        (Layout::Same, [a, rest @ ..], [b, c]) => a == b && rest.iter().product::<usize>() == *c,
        (Layout::Turned, [from, to @ ..], [a, b]) => from == b && to.iter().product::<usize>() == *a,
        (Layout::Middle, [a, b, 3, 3], [c, d]) => (a, b) == (c, d),
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "differs from the network here at '{theirs}': its shape is {found:?}, expected one for our '{}' {ours:?}",
            row.ours
        )),
    }
}

fn laid_out(layout: Layout, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    match (layout, shape) {
        (Layout::Turned, &[to, from]) => {
            (0..to).flat_map(|t| (0..from).map(move |f| (t, f))).map(|(t, f)| values[f * to + t]).collect()
        }
        (Layout::Middle, _) => values.chunks_exact(9).map(|taps| taps[4]).collect(),
        _ => values,
    }
}
