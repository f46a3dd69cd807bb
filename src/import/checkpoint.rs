//! Files of `torch.save` since PyTorch 1.6: an archive of `data.pkl` and one uncompressed entry a storage.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ganomede_datasets::memory::Permit;
use ganomede_host::files;
use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

use super::ImportError;
use super::pickle::{self, Id, Kind, Value, Values, View};

/// Bytes of `data.pkl`: a tensor takes some two hundred.
const MAX_PICKLE: u64 = 16 << 20;
/// Memory for a byte of it: values of one byte, in the arena, on the stack and in the memo, while these grow.
const PARSED: u64 = 200;
/// Entries of an archive, and bytes of their list.
const MAX_ENTRIES: u64 = 1 << 15;
const MAX_LIST: u64 = 8 << 20;
/// Bytes at the end of an archive that hold its last records.
const END: u64 = 22 + 20 + 56;
/// How files of older versions begin: a pickle of a magic number.
const LEGACY: [u8; 6] = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc];

/// An open checkpoint: its values, and tensors that are read when they are asked for.
pub(super) struct Checkpoint {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Folder of the entries, with its slash.
    root: String,
    pub(super) values: Values,
}

impl Checkpoint {
    /// Opens a file and reads what is no tensor.
    ///
    /// # Errors
    /// [`ImportError`] for what is no such file, or names anything but tensors.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read { path: path.to_owned(), source };
        let refused = |what: String| ImportError::refused(path, what);
        let (mut file, length) = files::open_regular(path).map_err(read)?;
        let mut start = vec![];
        file.by_ref().take(300).read_to_end(&mut start).map_err(read)?;
        let again = "read and save it again with a PyTorch since 1.6: torch.save(torch.load(file), new_file)";
        if start.starts_with(&LEGACY) || start.get(257..262) == Some(b"ustar") {
            return Err(refused(format!("is in the format of before PyTorch 1.6; {again}")));
        }
        let (count, list) = list(&mut file, length).map_err(read)?.ok_or_else(|| {
            refused(format!("is no archive of torch.save, or is cut short; copy it, or {again}"))
        })?;
        if count > MAX_ENTRIES || list > MAX_LIST {
            return Err(refused(format!(
                "lists {count} entries in {list} bytes; at most {MAX_ENTRIES} are read: save the state dict alone"
            )));
        }
        let damaged = |e| refused(format!("is damaged ({e}); copy or save it again"));
        let permit = permit(path, list * 8)?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let names: Vec<String> = archive.file_names().filter_map(Result::ok).map(|n| n.to_string()).collect();
        let roots: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("data.pkl")).collect();
        let root = match roots[..] {
            [root] if root.is_empty() || root.ends_with('/') => root.to_owned(),
            _ => {
                return Err(refused(
                    "has no data.pkl, which torch.save writes; save a state dict with it".to_owned(),
                ));
            }
        };
        let is_script = names
            .iter()
            .any(|n| n == &format!("{root}constants.pkl") || n.starts_with(&format!("{root}code/")));
        if is_script {
            let what = "is a TorchScript program, which is not executed; save its weights in Python: \
                        torch.save(torch.jit.load(file).state_dict(), new_file)";
            return Err(refused(what.to_owned()));
        }
        drop(permit);
        let mut found = Self { path: path.to_owned(), archive, root, values: Values::default() };
        if found.size("byteorder")?.is_some() && found.entry("byteorder", 6)?.starts_with(b"big") {
            return Err(refused(
                "has numbers of a machine with the highest byte first; save it on another".to_owned(),
            ));
        }
        let bytes = found.size("data.pkl")?.unwrap_or(0);
        if bytes > MAX_PICKLE {
            return Err(refused(format!(
                "describes its values in {bytes} bytes; at most {MAX_PICKLE} are read: save the state dict alone"
            )));
        }
        let _permit = self::permit(path, bytes * PARSED)?;
        let bytes = found.entry("data.pkl", bytes)?;
        found.values = pickle::read(&bytes).map_err(|what| refused(format!("cannot be read: {what}")))?;
        Ok(found)
    }

    fn fault(&self, what: impl Into<String>) -> ImportError {
        ImportError::refused(&self.path, what)
    }

    /// Bytes of an entry, if there is one.
    fn size(&mut self, name: &str) -> Result<Option<u64>, ImportError> {
        let name = format!("{}{name}", self.root);
        let Some(index) = self.archive.index_for_name(&name) else { return Ok(None) };
        let entry = self
            .archive
            .by_index_raw(index)
            .map_err(|e| ImportError::refused(&self.path, format!("is damaged ({e})")))?;
        match entry.compression() {
            CompressionMethod::Stored if entry.size() == entry.compressed_size() => Ok(Some(entry.size())),
            _ => Err(compressed(&self.path, &name)),
        }
    }

    /// The bytes of an entry, as many as are expected.
    fn entry(&mut self, name: &str, expected: u64) -> Result<Vec<u8>, ImportError> {
        let damaged = |what: String| {
            ImportError::refused(&self.path, format!("is damaged: '{name}' {what}; copy or save it again"))
        };
        let entry =
            self.archive.by_name(&format!("{}{name}", self.root)).map_err(|e| damaged(e.to_string()))?;
        let mut bytes = vec![];
        bytes.try_reserve_exact(expected as usize).map_err(|e| damaged(e.to_string()))?;
        entry.take(expected + 1).read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
        Ok(bytes)
    }

    /// The values of a view in single precision. The caller has taken [`Checkpoint::memory`] for it.
    pub(super) fn read(&mut self, view: &View) -> Result<Vec<f32>, ImportError> {
        let name = format!("data/{}", view.key);
        let there = self.size(&name)?.ok_or_else(|| self.fault(format!("is damaged: it has no '{name}'")))?;
        let promised = view.length.checked_mul(view.kind.bytes());
        if promised != Some(there) {
            let what = format!(
                "is damaged: '{name}' has {there} bytes where {} elements of {} are promised; copy or save it again",
                view.length,
                view.kind.name()
            );
            return Err(self.fault(what));
        }
        let decode: fn(&[u8]) -> f32 = match view.kind {
            Kind::F64 => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Kind::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Kind::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Kind::Bf16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Kind::Other(name, _) => {
                let what = format!(
                    "has a tensor of {name} where weights belong; convert it in Python: tensor.float()"
                );
                return Err(self.fault(what));
            }
        };
        let bytes = self.entry(&name, there)?;
        if bytes.len() as u64 != there {
            return Err(self.fault(format!("is damaged: '{name}' is cut short; copy or save it again")));
        }
        let size = view.kind.bytes() as usize;
        let elements = view.elements().unwrap_or(0) as usize;
        let mut values = Vec::with_capacity(elements);
        let (mut index, mut at) = (vec![0u64; view.shape.len()], view.offset as usize);
        for _ in 0..elements {
            values.push(decode(&bytes[at * size..(at + 1) * size]));
            for d in (0..index.len()).rev() {
                index[d] += 1;
                at += view.stride[d] as usize;
                if index[d] < view.shape[d] {
                    break;
                }
                at -= (view.shape[d] * view.stride[d]) as usize;
                index[d] = 0;
            }
        }
        Ok(values)
    }

    /// Memory that reading a view takes, bytes: its values, beside its storage.
    pub(super) fn memory(view: &View) -> Option<[u64; 2]> {
        Some([view.elements()?.checked_mul(4)?, view.length.checked_mul(view.kind.bytes())?])
    }

    /// The tensors of a dictionary, by name.
    ///
    /// # Errors
    /// [`ImportError`] for a name that stands there twice.
    pub(super) fn tensors(&self, dict: Id) -> Result<Vec<(String, View)>, ImportError> {
        let Value::Dict(entries) = self.values.get(dict) else { return Ok(vec![]) };
        let mut all = vec![];
        for (key, value) in entries {
            if let (Value::Text(name), Value::Tensor(view)) = (self.values.get(*key), self.values.get(*value))
            {
                all.push((name.clone(), View::clone(view)));
            }
        }
        let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.fault(format!("has two tensors named '{}'; save it again", pair[0]))),
            None => Ok(all),
        }
    }
}

fn compressed(path: &Path, name: &str) -> ImportError {
    let what = format!(
        "has a compressed entry '{name}', and torch.save compresses none; save it again with torch.save"
    );
    ImportError::refused(path, what)
}

/// Memory of the budget, while this is kept.
pub(super) fn permit(path: &Path, bytes: u64) -> Result<Permit, ImportError> {
    Permit::take(bytes).map_err(|source| ImportError::Memory { path: path.to_owned(), source })
}

/// Entries of an archive and bytes of their list, by its last records (PKWARE APPNOTE, 4.3.14 to 4.3.16),
/// before anything is allocated for what it lists; `None` where they are not there, or not at the very end,
/// where torch.save has them.
fn list(file: &mut File, length: u64) -> std::io::Result<Option<(u64, u64)>> {
    let mut end = vec![];
    let from = length.saturating_sub(END);
    file.seek(SeekFrom::Start(from))?;
    file.take(END).read_to_end(&mut end)?;
    file.rewind()?;
    let number = |at: usize, bytes: usize| {
        let digits = end[at..at + bytes].iter().rev();
        digits.fold(0u64, |number, &digit| number << 8 | u64::from(digit))
    };
    let is = |at: Option<usize>, sign: &[u8]| at.filter(|&at| end[at..].starts_with(sign));
    let Some(last) = is(end.len().checked_sub(22), b"PK\x05\x06") else { return Ok(None) };
    let (count, bytes) = (number(last + 10, 2), number(last + 12, 4));
    // Of large archives, and of all that torch.save writes: the same numbers once more, in 64 bits.
    let Some(pointer) = is(last.checked_sub(20), b"PK\x06\x07") else { return Ok(Some((count, bytes))) };
    let Some(large) = is(pointer.checked_sub(56), b"PK\x06\x06") else { return Ok(None) };
    let is_there = number(pointer + 8, 8) == from + large as u64;
    Ok(is_there.then(|| (count.max(number(large + 32, 8)), bytes.max(number(large + 40, 8)))))
}
