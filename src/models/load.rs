//! From a header, and a file if there is one, to a system whose states are on a device.

use std::collections::BTreeSet;
use std::path::Path;

use ganomede_kernels::half;

use super::file::{FileError, Header, ModelFile, NamedTensor, Storage};
use super::scorer::{ScoreError, TracedState};
use super::system::{Share, System};
use crate::device::{Device, DeviceError, Store};
use crate::program::{Program, StateId, halvable};
use crate::tape::{StateError, States};

/// A system with its states on a device.
pub struct Loaded {
    /// The system.
    pub system: Box<dyn System>,
    /// Its states: weights first, then what was registered for training or searching.
    pub states: States,
    /// The number of weights.
    pub weights: usize,
    /// Values of all states, on the device.
    pub store: Store,
}

/// Makes the system of a header; `more` registers states beyond its weights. With a file its tensors are
/// loaded: those of the weights, or of all states where `all`.
///
/// Everything is checked before memory is taken: a file whose configuration promises more than its tensors
/// hold costs nothing.
///
/// # Errors
/// [`FileError::System`] for a system that this program does not have, [`FileError::Tensor`] for a tensor
/// that is missing or has another shape, [`ScoreError::Config`] for sizes out of range,
/// [`ScoreError::Device`] where memory is short.
pub fn load(
    device: &Device,
    header: &Header,
    file: Option<(&ModelFile, &Path)>,
    all: bool,
    more: impl FnOnce(&mut dyn System, &mut States),
) -> Result<Loaded, ScoreError> {
    Ok(Prepared::new(header, file, all, more)?.place(device, &BTreeSet::new())?)
}

/// A model of a header's system as it is before any training; `None` for systems that are fitted in passes of
/// their own, which are nothing before.
///
/// # Errors
/// As [`load`].
pub fn untrained(device: &Device, header: &Header) -> Result<Option<ModelFile>, ScoreError> {
    let Loaded { system, states, weights, store } = load(device, header, None, false, |_, _| {})?;
    if !system.stages().iter().any(|stage| matches!(stage.share, Share::Part(_))) {
        return Ok(None);
    }
    let tensors = states.entries().iter().enumerate().take(weights).map(|(i, entry)| {
        let values = store.read(StateId(i))?;
        Ok(NamedTensor::new(entry.name.clone(), &entry.shape, values))
    });
    let tensors = tensors.collect::<Result<_, DeviceError>>()?;
    let header = Header { calibration: None, appearance: None, check: None, ..header.clone() };
    Ok(Some(ModelFile { header, tensors }))
}

/// A system with its states, and what a file says of their values, before any memory is taken.
pub(super) struct Prepared<'a> {
    pub(super) system: Box<dyn System>,
    pub(super) states: States,
    weights: usize,
    seed: u64,
    values: Vec<(StateId, &'a NamedTensor)>,
}

impl<'a> Prepared<'a> {
    /// As [`load`].
    pub(super) fn new(
        header: &Header,
        file: Option<(&'a ModelFile, &Path)>,
        all: bool,
        more: impl FnOnce(&mut dyn System, &mut States),
    ) -> Result<Self, ScoreError> {
        let path = file.map_or(Path::new(""), |(_, path)| path);
        let mut states = States::new();
        let built = header.info(path)?.build(&mut states, &header.config, &header.options);
        let mut system = match (built, file) {
            (Err(source), Some(_)) => return Err(FileError::Config { path: path.to_owned(), source }.into()),
            (built, _) => built?,
        };
        let weights = states.entries().len();
        more(system.as_mut(), &mut states);
        let values = match file {
            Some((file, path)) => fitting(file, path, &states, if all { usize::MAX } else { weights })?,
            None => vec![],
        };
        Ok(Self { system, states, weights, seed: header.seed, values })
    }

    /// The states that may stay in halves: those that the file has so, and these programs read as weights
    /// alone.
    pub(super) fn halves(&self, programs: &[Program]) -> BTreeSet<StateId> {
        let stored = self.values.iter().filter(|(_, tensor)| tensor.storage == Storage::F16);
        let stored: BTreeSet<_> = stored.map(|(id, _)| *id).collect();
        &stored & &halvable(programs)
    }

    /// A state with the values that it starts from; those beyond the weights have none.
    pub(super) fn state(&self, id: StateId) -> Result<TracedState<'_>, ScoreError> {
        let Some(entry) = self.states.entries().get(id.0) else {
            let known = self.states.entries().len();
            return Err(DeviceError::from(StateError::Unknown { id: id.0, known }).into());
        };
        let values = self.values.iter().find(|(of, _)| *of == id).map(|(_, tensor)| tensor.values.as_slice());
        Ok(TracedState { name: &entry.name, shape: &entry.shape, values })
    }

    /// Puts the states on the device, those of `halves` in halves.
    pub(super) fn place(self, device: &Device, halves: &BTreeSet<StateId>) -> Result<Loaded, DeviceError> {
        self.states.check()?;
        let mut lens = self.states.lens();
        halves.iter().for_each(|id| lens[id.0] = half::words(lens[id.0]));
        let store = device.store_as(&self.states, &lens)?;
        for id in (0..lens.len()).map(StateId) {
            match self.values.iter().find(|(of, _)| *of == id) {
                Some((_, tensor)) if halves.contains(&id) => store.write(id, &half::pack(&tensor.values))?,
                Some((_, tensor)) => store.write(id, &tensor.values)?,
                None => store.write(id, &self.states.initial_values(id, self.seed)?)?,
            }
        }
        Ok(Loaded { system: self.system, states: self.states, weights: self.weights, store })
    }
}

/// The tensors of a file with the states they belong to; the first `needed` states must be there.
fn fitting<'a>(
    file: &'a ModelFile,
    path: &Path,
    states: &States,
    needed: usize,
) -> Result<Vec<(StateId, &'a NamedTensor)>, FileError> {
    let fault = |tensor: &str, what: String| FileError::Tensor {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        what,
    };
    let mut values = vec![];
    for tensor in &file.tensors {
        let Some(state) = states.find(&tensor.name) else {
            return Err(fault(&tensor.name, "is unknown to this system".to_owned()));
        };
        if state.shape != tensor.shape {
            let what = format!("has shape {:?}, expected {:?}", tensor.shape, state.shape);
            return Err(fault(&tensor.name, what));
        }
        values.push((state.id, tensor));
    }
    for entry in states.entries().iter().take(needed) {
        if !file.tensors.iter().any(|t| t.name == entry.name) {
            return Err(fault(&entry.name, format!("is missing (shape {:?})", entry.shape)));
        }
    }
    Ok(values)
}
