//! Models of other programs: checkpoints of PyTorch, of the repositories that published a system and of
//! modules that [`export`](crate::export) wrote, as model files.
//!
//! Nothing of a file is executed: `data.pkl` goes through a machine that knows tensors, dictionaries, lists,
//! texts and numbers (`pickle.rs`), and refuses every other name. Every size is checked before memory of the
//! budget is taken. `docs/pytorch.md` has the tables of names.

mod checkpoint;
mod pickle;
mod published;
mod source;
mod tables;

use std::path::{Path, PathBuf};

use ganomede_datasets::memory::Short;
use ganomede_host::files;

use crate::models::file::{FileError, Header, ModelFile, NamedTensor};
pub use published::{Given, SYSTEMS, published};
use source::Source;

/// Why a model cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file system refused.
    #[error("cannot read '{path}': {source}", path = path.display())]
    Read {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More memory than decoding may take.
    #[error("'{path}' {source}", path = path.display())]
    Memory {
        /// The file, as it was named.
        path: PathBuf,
        /// How much.
        source: Short,
    },
    /// A file of another kind, a damaged one, or one of another network.
    #[error("'{path}' {what}", path = path.display())]
    Refused {
        /// The file, as it was named.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A request that says too little or the wrong thing.
    #[error("{0}")]
    Asked(String),
    /// A model file at fault.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ImportError {
    fn refused(path: &Path, what: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), what: what.into() }
    }

    /// True where the machine is at fault, false where the file or the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Read { source, .. } => !files::is_path_fault(source),
            Self::File(error) => error.is_machine_fault(),
            _ => false,
        }
    }
}

/// A model that was imported.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The model, without a calibration.
    pub model: ModelFile,
    /// What a reader should know: numbers that were rounded, networks that are not there.
    pub notes: Vec<String>,
}

/// What weights are rounded from, in words.
fn rounded(names: &[&str]) -> Option<String> {
    let first = names.first()?;
    let others = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    Some(format!("rounded from float64 to float32: '{first}'{others}"))
}

/// A model like another with the weights of a file: a state dict with its names and shapes, as
/// [`Torch`](crate::export::torch) writes and PyTorch saves them, safetensors or a file of torch.save.
///
/// # Errors
/// [`ImportError`] for a file that cannot be read, and for a tensor that is missing, has another shape, or
/// that the model does not have.
pub fn like(path: &Path, model: &Path) -> Result<Imported, ImportError> {
    let original = ModelFile::load(model)?;
    let mut source = Source::open(path)?;
    let refused = |what: String| ImportError::refused(path, what);
    let names = source.names();
    for tensor in &original.tensors {
        let of_model =
            |what: String| refused(format!("{what}; it is no state dict of '{}'", model.display()));
        match names.iter().find(|(name, _)| *name == tensor.name) {
            None => return Err(of_model(format!("has no tensor '{}' {:?}", tensor.name, tensor.shape))),
            Some((_, shape)) if *shape != tensor.shape => {
                let what = format!("has '{}' of shape {shape:?}, expected {:?}", tensor.name, tensor.shape);
                return Err(of_model(what));
            }
            Some(_) => {}
        }
    }
    let known = |name: &str| original.tensors.iter().any(|tensor| tensor.name == name);
    if let Some((name, shape)) = names.iter().find(|(name, _)| !known(name)) {
        let what =
            format!("has a tensor '{name}' {shape:?} that '{}' has not; leave it out", model.display());
        return Err(refused(what));
    }
    let wanted: Vec<&str> = original.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let (values, doubles) = source.read(&wanted)?;
    let notes = rounded(&doubles.iter().map(String::as_str).collect::<Vec<_>>()).into_iter().collect();
    let tensors = original.tensors.iter().zip(values);
    let tensors =
        tensors.map(|(tensor, values)| NamedTensor::new(tensor.name.clone(), &tensor.shape, values));
    let header = Header { calibration: None, appearance: None, check: None, ..original.header.clone() };
    Ok(Imported { model: ModelFile { header, tensors: tensors.collect() }, notes })
}
