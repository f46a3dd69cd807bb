//! A file of weights under one interface: a checkpoint of torch.save, or safetensors.

use std::path::{Path, PathBuf};

use ganomede_host::files;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::ImportError;
use super::checkpoint::{Checkpoint, permit};
use super::pickle::{Id, Kind, Value, View};

/// Keys under which checkpoints have their state dict.
const NESTED: [&str; 4] = ["state_dict", "net_dict", "model_state_dict", "model"];
/// What begins every name of a state dict that torch.nn.DataParallel saved.
const PARALLEL: &str = "module.";
/// Bytes of the header of safetensors.
const MAX_HEADER: u64 = 16 << 20;
/// Memory for a byte of it.
const PARSED: u64 = 40;

/// Weights by name.
pub(super) struct Source {
    path: PathBuf,
    kind: Of,
}

enum Of {
    Torch { file: Box<Checkpoint>, tensors: Vec<(String, View)> },
    Safe { bytes: Vec<u8>, tensors: Vec<(String, Vec<usize>)> },
}

impl Source {
    /// Opens a file and finds its state dict.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read { path: path.to_owned(), source };
        let (_, length) = files::open_regular(path).map_err(read)?;
        let start = beginning(path).map_err(read)?;
        // Safetensors begin with the length of their header, and that with a bracket.
        let header = start.first_chunk().map_or(0, |b: &[u8; 8]| u64::from_le_bytes(*b));
        if start.get(8) == Some(&b'{') && header < length {
            return Self::safe(path, length, header);
        }
        let file = Box::new(Checkpoint::open(path)?);
        let tensors = state_dict(path, &file)?;
        Ok(Self { path: path.to_owned(), kind: Of::Torch { file, tensors } })
    }

    fn safe(path: &Path, length: u64, header: u64) -> Result<Self, ImportError> {
        let damaged = |e: safetensors::SafeTensorError| {
            ImportError::refused(
                path,
                format!("is not a complete safetensors file ({e}); copy or save it again"),
            )
        };
        if header > MAX_HEADER {
            return Err(ImportError::refused(
                path,
                format!("has a header of {header} bytes; at most {MAX_HEADER} are read"),
            ));
        }
        let _permit = permit(path, PARSED * header + length)?;
        let bytes = files::read_limited(path, length)
            .map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let found = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let mut tensors: Vec<_> =
            found.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
        tensors.sort();
        Ok(Self { path: path.to_owned(), kind: Of::Safe { bytes, tensors } })
    }

    /// The path that was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes of the tensors, but of counters of batches, which PyTorch keeps beside running
    /// statistics.
    pub(super) fn names(&self) -> Vec<(String, Vec<usize>)> {
        let all: Vec<(String, Vec<usize>)> = match &self.kind {
            Of::Torch { tensors, .. } => tensors
                .iter()
                .map(|(name, view)| (name.clone(), view.shape.iter().map(|&s| s as usize).collect()))
                .collect(),
            Of::Safe { tensors, .. } => tensors.clone(),
        };
        all.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect()
    }

    /// The values of these tensors, which are there, and the names of those that were rounded to single
    /// precision.
    ///
    /// # Errors
    /// [`ImportError`] for what cannot be read, and for numbers that no weight or variance is.
    pub(super) fn read(&mut self, names: &[&str]) -> Result<(Vec<Vec<f32>>, Vec<String>), ImportError> {
        let (values, doubles) = self.read_any(names)?;
        for (name, values) in names.iter().zip(&values) {
            let is_variance = name.ends_with("running_var");
            if let Some(bad) = values.iter().find(|v| !v.is_finite() || is_variance && **v < 0.0) {
                let what = match bad.is_finite() {
                    true => format!("has the variance {bad} in '{name}'; variances are not below 0"),
                    false => format!(
                        "has {bad} in '{name}', in single precision; a network of such weights scores nothing: train or \
                         save it again"
                    ),
                };
                return Err(ImportError::refused(&self.path, what));
            }
        }
        Ok((values, doubles))
    }

    fn read_any(&mut self, names: &[&str]) -> Result<(Vec<Vec<f32>>, Vec<String>), ImportError> {
        let path = self.path.clone();
        let short = || ImportError::refused(&path, "promises more numbers than any memory holds");
        match &mut self.kind {
            Of::Torch { file, tensors } => {
                let view =
                    |name: &&str| tensors.iter().find(|(of, _)| of == name).map(|(_, view)| view.clone());
                let views: Vec<View> = names.iter().filter_map(view).collect();
                let memory =
                    views.iter().map(Checkpoint::memory).collect::<Option<Vec<_>>>().ok_or_else(short)?;
                let values =
                    memory.iter().try_fold(0u64, |all, m| all.checked_add(m[0])).ok_or_else(short)?;
                let largest = memory.iter().map(|m| m[1]).max().unwrap_or(0);
                let _permit = permit(&path, values.saturating_add(largest))?;
                let doubles = names.iter().zip(&views).filter(|(_, view)| view.kind == Kind::F64);
                let doubles = doubles.map(|(name, _)| (*name).to_owned()).collect();
                let values = views.iter().map(|view| file.read(view)).collect::<Result<_, _>>()?;
                Ok((values, doubles))
            }
            Of::Safe { bytes, .. } => {
                let found = SafeTensors::deserialize(bytes)
                    .map_err(|e| ImportError::refused(&path, format!("is damaged ({e})")))?;
                let views = names.iter().filter_map(|name| found.tensor(name).ok().map(|view| (*name, view)));
                let views: Vec<_> = views.collect();
                let elements: u64 =
                    views.iter().map(|(_, v)| v.shape().iter().product::<usize>() as u64).sum();
                let _permit = permit(&path, elements.saturating_mul(4))?;
                let (mut all, mut doubles) = (vec![], vec![]);
                for (name, view) in views {
                    let data = view.data();
                    all.push(match view.dtype() {
                        Dtype::F32 => decode(data, f32::from_le_bytes),
                        Dtype::F16 => decode(data, |b| f16::from_le_bytes(b).to_f32()),
                        Dtype::BF16 => decode(data, |b| bf16::from_le_bytes(b).to_f32()),
                        Dtype::F64 => {
                            doubles.push(name.to_owned());
                            decode(data, |b| f64::from_le_bytes(b) as f32)
                        }
                        other => {
                            let what = format!("has '{name}' as {other:?}, expected F32, F16, BF16 or F64; convert it in Python: tensor.float()");
                            return Err(ImportError::refused(&path, what));
                        }
                    });
                }
                Ok((all, doubles))
            }
        }
    }

    /// A number of a checkpoint, or a list of them, by its name.
    pub(super) fn numbers(&mut self, name: &str) -> Result<Option<Vec<f32>>, ImportError> {
        let Of::Torch { file, .. } = &mut self.kind else { return Ok(None) };
        let values = &file.values;
        let Some(id) = values.find(values.root, name) else { return Ok(None) };
        let number = |id: &Id| match *values.get(*id) {
            Value::Float(value) => Some(value as f32),
            Value::Int(value) => Some(value as f32),
            _ => None,
        };
        match values.get(id) {
            Value::List(ids) | Value::Tuple(ids) => Ok(ids.iter().map(number).collect()),
            Value::Tensor(view) => {
                let view = View::clone(view);
                let [of_values, of_storage] = Checkpoint::memory(&view).unwrap_or([u64::MAX / 2; 2]);
                let _permit = permit(&self.path, of_values.saturating_add(of_storage))?;
                file.read(&view).map(Some)
            }
            _ => Ok(number(&id).map(|value| vec![value])),
        }
    }
}

fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let (file, _) = files::open_regular(path)?;
    let mut start = vec![];
    file.take(9).read_to_end(&mut start)?;
    Ok(start)
}

fn decode<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
}

/// The tensors of a checkpoint's state dict, without what DataParallel puts before their names.
fn state_dict(path: &Path, file: &Checkpoint) -> Result<Vec<(String, View)>, ImportError> {
    let values = &file.values;
    let nested = NESTED.iter().filter_map(|key| values.find(values.root, key));
    for dict in std::iter::once(values.root).chain(nested) {
        let mut tensors = file.tensors(dict)?;
        if tensors.is_empty() || dict == values.root && values.find(dict, "net_dict").is_some() {
            continue;
        }
        if tensors.iter().all(|(name, _)| name.starts_with(PARALLEL)) {
            tensors.iter_mut().for_each(|(name, _)| _ = name.drain(..PARALLEL.len()));
        }
        return Ok(tensors);
    }
    let what = format!(
        "has no state dict: no tensors by name, nor under {}; save one in Python: torch.save(model.state_dict(), file)",
        NESTED.map(|key| format!("'{key}'")).join(", ")
    );
    Err(ImportError::refused(path, what))
}
