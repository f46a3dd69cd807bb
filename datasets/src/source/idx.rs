//! IDX files, the format of the MNIST family: `[0, 0, type, dimensions]`, big-endian sizes, then the data.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::labelled::{ImageBlock, Labelled, check_count};
use crate::dataset::OpenOptions;
use crate::memory::{self, Held};
use crate::{DataError, files};

const IMAGES: &str = "-images-idx3-ubyte";
const LABELS: &str = "-labels-idx1-ubyte";
const UNSIGNED_BYTE: u8 = 8;
const MAX_SIDE: u32 = 4096;
/// Deflate cannot expand further (RFC 1951: 258 bytes from two bits), so a larger promise is a lie.
const MAX_EXPANSION: u64 = 1032;

/// `*-images-idx3-ubyte`, gzipped or not; some mirrors write `.idx3-ubyte`.
pub(crate) fn is_image_file(path: &Path) -> bool {
    stem(path).is_some_and(|stem| stem.ends_with(IMAGES))
}

/// File name without `.gz`, with the mirrors' dot put back to a dash.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    Some(name.replace(".idx", "-idx"))
}

/// `train-…` and `t10k-…` (or `test-…`) of a folder; None if it holds no IDX images.
pub(crate) fn open_folder(folder: &Path, options: &OpenOptions) -> Result<Option<Labelled>, DataError> {
    let files = super::list(folder, |name| is_image_file(Path::new(name)))?;
    let mut parts = [ImageBlock::default(), ImageBlock::default()];
    let mut sources: [Option<&PathBuf>; 2] = [None, None];
    for path in &files {
        let Some(prefix) = stem(path).and_then(|s| s.strip_suffix(IMAGES).map(str::to_string)) else {
            continue;
        };
        let slot = usize::from(!prefix.contains("train"));
        if let Some(other) = sources[slot] {
            // `x` beside `x.gz` is the same set twice; anything else is ambiguous.
            if stem(other) == stem(path) {
                continue;
            }
            let reason = format!("{} would be the same split; open one file by its path", other.display());
            return Err(DataError::file(path, reason));
        }
        sources[slot] = Some(path);
        parts[slot] = read_part(path, &prefix)?;
    }
    if sources == [None, None] {
        return Ok(None);
    }
    finish(folder, parts, options).map(Some)
}

/// One image file, with its labels where they lie beside it. It serves as both splits would: a `train` file
/// as the training part, any other as the test part.
pub(crate) fn open_file(path: &Path, options: &OpenOptions) -> Result<Labelled, DataError> {
    let prefix = stem(path).and_then(|s| s.strip_suffix(IMAGES).map(str::to_string)).unwrap_or_default();
    let part = read_part(path, &prefix)?;
    let parts =
        if prefix.contains("train") { [part, ImageBlock::default()] } else { [ImageBlock::default(), part] };
    finish(path, parts, options)
}

fn finish(path: &Path, parts: [ImageBlock; 2], options: &OpenOptions) -> Result<Labelled, DataError> {
    let highest = parts.iter().flat_map(|p| p.labels.iter().copied()).max();
    let classes = (0..=highest.unwrap_or(9)).map(|n| n.to_string()).collect();
    Labelled::new("idx", &path.to_string_lossy(), parts, classes, options)
}

fn read_part(images: &Path, prefix: &str) -> Result<ImageBlock, DataError> {
    let held = Held::default();
    let (sizes, pixels) = read(images, &["count", "height", "width"], &held)?;
    let (height, width) = (sizes[1] as usize, sizes[2] as usize);
    let folder = images.parent().unwrap_or(Path::new(""));
    let spellings = [LABELS.to_string(), LABELS.replace("-idx", ".idx")];
    let candidates = spellings.iter().flat_map(|l| [format!("{prefix}{l}"), format!("{prefix}{l}.gz")]);
    let labels = match candidates.map(|name| folder.join(name)).find(|path| path.exists()) {
        Some(path) => {
            let (count, labels) = read(&path, &["count"], &held)?;
            if count[0] != sizes[0] {
                let reason = format!(
                    "field count: {} labels for {} images of {}; download both again",
                    count[0],
                    sizes[0],
                    images.display()
                );
                return Err(DataError::file(&path, reason));
            }
            labels
        }
        None => Vec::new(),
    };
    let name = prefix.to_string();
    Ok(ImageBlock { name, width, height, pixels, channels: 1, labels, held, ..ImageBlock::default() })
}

/// Sizes and data of one file, whose header is checked against the file's length, and its memory taken into
/// `held`, before anything is allocated.
fn read(path: &Path, fields: &[&str], held: &Held) -> Result<(Vec<u32>, Vec<u8>), DataError> {
    let (file, stored) = files::open(path)?;
    let zipped = path.extension().is_some_and(|e| e == "gz");
    let mut reader: Box<dyn Read> = match zipped {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(BufReader::new(file)),
    };
    let header_bytes = 4 + 4 * fields.len() as u64;
    let mut header = vec![0; header_bytes as usize];
    reader.read_exact(&mut header).map_err(|e| unreadable(path, "the header", e))?;
    if header[..2] != [0, 0] || header[3] as usize != fields.len() {
        let reason = format!(
            "field magic: {:02x?} is not that of an IDX file with {} dimensions (00 00 08 {:02x}); download it again",
            &header[..4],
            fields.len(),
            fields.len()
        );
        return Err(DataError::file(path, reason));
    }
    if header[2] != UNSIGNED_BYTE {
        let reason =
            format!("field type: 0x{:02x}; only unsigned bytes (0x08) are read; convert it", header[2]);
        return Err(DataError::file(path, reason));
    }
    let sizes: Vec<u32> =
        header[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    for (i, (&size, field)) in sizes.iter().zip(fields).enumerate() {
        if size == 0 || (i > 0 && size > MAX_SIDE) {
            let most = if i > 0 { format!(" to {MAX_SIDE}") } else { " or more".into() };
            return Err(DataError::file(
                path,
                format!("field {field}: {size}; 1{most} is allowed; download it again"),
            ));
        }
    }
    check_count(path, u64::from(sizes[0]))?;
    // 2³² · 2¹² · 2¹² fits in u64.
    let promised: u64 = sizes.iter().map(|&s| u64::from(s)).product();
    let ceiling = match zipped {
        true => stored.saturating_mul(MAX_EXPANSION),
        false => stored.saturating_sub(header_bytes),
    };
    if promised > ceiling {
        let reason = format!(
            "field count: the header promises {promised} bytes of data, but the file of {stored} bytes can hold at \
             most {ceiling}; download it again"
        );
        return Err(DataError::file(path, reason));
    }
    held.grow(promised).map_err(|short| short.of(path))?;
    let mut data = memory::room(path, promised)?;
    reader.by_ref().take(promised).read_to_end(&mut data).map_err(|e| unreadable(path, "the data", e))?;
    let more = reader.read(&mut [0]).map_err(|e| unreadable(path, "the end", e))?;
    if data.len() as u64 != promised || more != 0 {
        let there = if more == 0 { data.len().to_string() } else { "more".into() };
        let reason = format!(
            "field count: the header promises {promised} bytes of data and {there} are there; download it again"
        );
        return Err(DataError::file(path, reason));
    }
    Ok((sizes, data))
}

/// A short or corrupt file is bad input; a failing disk is not.
fn unreadable(path: &Path, part: &str, error: io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            DataError::file(path, format!("ends within {part}; the download is incomplete, repeat it"))
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            DataError::file(path, format!("{part} cannot be unpacked ({error}); download it again"))
        }
        _ => DataError::io("read", path)(error),
    }
}
