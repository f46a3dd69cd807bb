//! NPZ files as MedMNIST has them: a ZIP archive of `train_images.npy`, `train_labels.npy` and the same for
//! `val` and `test`. Images are N × H × W or N × H × W × 3 unsigned bytes, labels N or N × 1 integers.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::labelled::{ImageBlock, Labelled, check_count};
use crate::dataset::OpenOptions;
use crate::memory::{self, Held};
use crate::{DataError, files};

const MAX_SIDE: u64 = 4096;
/// Entries of an archive and bytes of a header beyond which it is no set of ours.
const MAX_MEMBERS: usize = 1024;
const MAX_HEADER: u64 = 1 << 16;
/// Bytes of the list of entries.
const MAX_LIST: u32 = 1 << 20;
/// Bytes at the end of an archive that hold its last record and a comment.
const END: u64 = 22 + 0xffff;
/// Deflate cannot expand further (RFC 1951: 258 bytes from two bits), so a larger promise is a lie.
const MAX_EXPANSION: u64 = 1032;

/// Told by the name.
pub(crate) fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"))
}

/// The validation images follow the training images: what is held out of training is cut from both.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Labelled, DataError> {
    let (mut file, length) = files::open(path)?;
    check_end(path, &mut file, length)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, "the archive", e))?;
    if archive.len() > MAX_MEMBERS {
        let reason = format!("holds {} arrays; at most {MAX_MEMBERS} are read", archive.len());
        return Err(DataError::file(path, reason));
    }
    let (mut train, validation) = (part(path, &mut archive, "train")?, part(path, &mut archive, "val")?);
    let test = part(path, &mut archive, "test")?.unwrap_or_default();
    if let (Some(train), Some(mut more)) = (&mut train, validation) {
        let same = (train.width, train.height, train.channels) == (more.width, more.height, more.channels);
        if !same || train.labels.is_empty() != more.labels.is_empty() {
            let reason =
                "`val_images` differ from `train_images` in size, colour or having labels; repair it";
            return Err(DataError::file(path, reason));
        }
        let images = train.pixels.len() / (train.width * train.height * train.channels);
        train.appended = Some((images, "val".into()));
        // The old list lives on while a longer one is made.
        let joined = (train.pixels.len() + more.pixels.len()) as u64;
        train.held.grow(joined).map_err(|short| short.of(path))?;
        let mut pixels = memory::room(path, joined)?;
        pixels.append(&mut train.pixels);
        pixels.append(&mut more.pixels);
        train.pixels = pixels;
        train.labels.append(&mut more.labels);
    }
    let parts = [train.unwrap_or_default(), test];
    if parts.iter().all(|part| part.pixels.is_empty()) {
        let names = archive.file_names().filter_map(Result::ok).take(8);
        let there: Vec<String> = names.map(|name| name.chars().take(40).collect()).collect();
        let reason = format!("holds neither `train_images` nor `test_images`; there is {}", there.join(", "));
        return Err(DataError::file(path, reason));
    }
    let highest = parts.iter().flat_map(|p| p.labels.iter().copied()).max();
    let classes = (0..=highest.unwrap_or(9)).map(|n| n.to_string()).collect();
    Labelled::new("npz", &path.to_string_lossy(), parts, classes, options)
}

/// Judges the end of an archive (PKWARE APPNOTE, 4.3.16) before anything is allocated for what it lists.
fn check_end(path: &Path, file: &mut std::fs::File, length: u64) -> Result<(), DataError> {
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))
        .and_then(|_| file.take(END).read_to_end(&mut end))
        .and_then(|_| file.rewind())
        .map_err(DataError::io("read", path))?;
    let Some(at) = end.windows(22).rposition(|record| record.starts_with(b"PK\x05\x06")) else {
        return Err(DataError::file(path, "is no archive, or is cut short; download it again"));
    };
    let count = u16::from_le_bytes([end[at + 10], end[at + 11]]);
    let bytes = u32::from_le_bytes([end[at + 12], end[at + 13], end[at + 14], end[at + 15]]);
    if usize::from(count) > MAX_MEMBERS || bytes > MAX_LIST {
        let reason = format!("lists {count} arrays in {bytes} bytes; at most {MAX_MEMBERS} are read");
        return Err(DataError::file(path, reason));
    }
    Ok(())
}

/// Images and labels of one part; None if it has no images.
fn part<R: Read + io::Seek>(
    path: &Path,
    archive: &mut ZipArchive<R>,
    name: &str,
) -> Result<Option<ImageBlock>, DataError> {
    let member = format!("{name}_images");
    let held = Held::default();
    let Some(images) = read(path, archive, &member, &held)? else { return Ok(None) };
    let refuse = |reason: String| DataError::file(path, format!("`{member}`: {reason}"));
    let (height, width, channels) = match images.shape[..] {
        [_, height, width] => (height, width, 1),
        [_, height, width, channels @ (1 | 3)] => (height, width, channels),
        _ => {
            let reason = format!("shape {:?} is not N × H × W or N × H × W × 3; save it so", images.shape);
            return Err(refuse(reason));
        }
    };
    if images.kind != Kind::Unsigned || images.width != 1 {
        return Err(refuse(format!("type `{}` is not unsigned bytes; save it as uint8", images.descr)));
    }
    if images.shape[0] == 0 {
        return Ok(None);
    }
    if [height, width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Err(refuse(format!("sides of {height} × {width}; 1 to {MAX_SIDE} are allowed")));
    }
    let labels = match read(path, archive, &format!("{name}_labels"), &held)? {
        Some(labels) => labels.classes(path, name, images.shape[0])?,
        None => Vec::new(),
    };
    Ok(Some(ImageBlock {
        name: name.into(),
        width: width as usize,
        height: height as usize,
        pixels: images.bytes,
        channels: channels as usize,
        interleaved: true,
        labels,
        held,
        ..ImageBlock::default()
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unsigned,
    Signed,
    Bool,
}

/// An array in C order, as stored.
struct Array {
    /// As the header writes it: `|u1`, `<i8`.
    descr: String,
    kind: Kind,
    /// Bytes of an item.
    width: usize,
    big_endian: bool,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

impl Array {
    /// One class an image. Several columns of 0 and 1 (findings of a chest image, say) count as class 1 if
    /// any is set.
    fn classes(&self, path: &Path, part: &str, images: u64) -> Result<Vec<u8>, DataError> {
        let refuse = |reason: String| DataError::file(path, format!("`{part}_labels`: {reason}"));
        let columns = match self.shape[..] {
            [count] if count == images => 1,
            [count, columns] if count == images && columns > 0 => columns as usize,
            _ => {
                return Err(refuse(format!(
                    "shape {:?} for {images} images; one label an image is needed",
                    self.shape
                )));
            }
        };
        let item = |bytes: &[u8]| {
            let of =
                |i: usize| u64::from(bytes[if self.big_endian { bytes.len() - 1 - i } else { i }]) << (8 * i);
            (0..bytes.len()).map(of).sum::<u64>()
        };
        let values = self.bytes.chunks_exact(self.width).map(item);
        let label = |(i, value): (usize, u64)| {
            let most = if columns == 1 { 255 } else { 1 };
            let is_negative = self.kind == Kind::Signed && value >> (8 * self.width - 1) == 1;
            u8::try_from(value)
                .ok()
                .filter(|_| !is_negative)
                .filter(|&v| v <= most)
                .ok_or_else(|| refuse(format!("item {i} is out of range; labels are 0 to {most}")))
        };
        let labels: Vec<u8> = values.enumerate().map(label).collect::<Result<_, _>>()?;
        Ok(match columns {
            1 => labels,
            _ => labels.chunks_exact(columns).map(|row| u8::from(row.contains(&1))).collect(),
        })
    }
}

/// One array of the archive; None if there is none of that name. The header is checked against the sizes that
/// the archive states before anything is allocated.
fn read<R: Read + io::Seek>(
    path: &Path,
    archive: &mut ZipArchive<R>,
    name: &str,
    held: &Held,
) -> Result<Option<Array>, DataError> {
    let mut member = match archive.by_name(&format!("{name}.npy")) {
        Ok(member) => member,
        Err(ZipError::FileNotFound) => return Ok(None),
        Err(error) => return Err(damaged(path, name, error)),
    };
    let refuse = |reason: String| DataError::file(path, format!("`{name}`: {reason}"));
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            refuse(format!("cannot be unpacked ({error}); download it again"))
        }
        // The checksum of the archive does not fit, or the disk fails.
        _ if error.raw_os_error().is_none() => refuse(format!("is damaged ({error}); download it again")),
        _ => DataError::io("read", path)(error),
    };
    let mut start = [0; 8];
    member.read_exact(&mut start).map_err(cut)?;
    if start[..6] != *b"\x93NUMPY" || !matches!(start[6], 1..=3) {
        return Err(refuse("is not an array that NumPy wrote; save it with numpy.savez".into()));
    }
    let mut length = [0; 4];
    let bytes = if start[6] == 1 { 2 } else { 4 };
    member.read_exact(&mut length[..bytes]).map_err(cut)?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > MAX_HEADER {
        return Err(refuse(format!("a header of {length} bytes is too long; the file is damaged")));
    }
    let mut header = Vec::new();
    (&mut member).take(length).read_to_end(&mut header).map_err(cut)?;
    let header = std::str::from_utf8(&header).ok().and_then(parse_header);
    let Some((descr, fortran, shape)) = header else {
        return Err(refuse("its header cannot be understood; the file is damaged".into()));
    };
    if fortran && shape.iter().filter(|&&n| n > 1).count() > 1 {
        return Err(refuse("is in Fortran order; save numpy.ascontiguousarray of it".into()));
    }
    let mut symbols = descr.chars();
    let order = symbols.next().unwrap_or(' ');
    let kind = match symbols.next() {
        Some('u') => Kind::Unsigned,
        Some('i') => Kind::Signed,
        Some('b') => Kind::Bool,
        _ => {
            return Err(refuse(format!(
                "type `{descr}` is not read; save it as uint8 (labels: any integer)"
            )));
        }
    };
    let width = match symbols.as_str() {
        "1" => 1,
        "2" => 2,
        "4" => 4,
        "8" => 8,
        _ => {
            return Err(refuse(format!(
                "type `{descr}` is not read; save it as uint8 (labels: any integer)"
            )));
        }
    };
    let big_endian = match order {
        '<' | '|' | '=' => false,
        '>' => true,
        _ => return Err(refuse(format!("byte order of `{descr}` is not known; save it as uint8"))),
    };
    check_count(path, shape.first().copied().unwrap_or(0))?;
    let promised = shape.iter().try_fold(width as u64, |product, &n| product.checked_mul(n));
    let ceiling = member.compressed_size().saturating_mul(MAX_EXPANSION);
    let Some(promised) = promised.filter(|&bytes| bytes <= ceiling) else {
        let reason = format!(
            "shape {shape:?} promises more than the {ceiling} bytes that can be there; download it again"
        );
        return Err(refuse(reason));
    };
    // Labels are turned into a byte each beside what was read.
    held.grow(2 * promised).map_err(|short| short.of(path))?;
    let mut bytes = memory::room(path, promised)?;
    (&mut member).take(promised).read_to_end(&mut bytes).map_err(cut)?;
    let more = member.read(&mut [0]).map_err(cut)?;
    if bytes.len() as u64 != promised || more != 0 {
        let there = if more == 0 { bytes.len().to_string() } else { "more".into() };
        let reason =
            format!("shape {shape:?} promises {promised} bytes and {there} are there; download it again");
        return Err(refuse(reason));
    }
    Ok(Some(Array { descr, kind, width, big_endian, shape, bytes }))
}

/// `{'descr': '|u1', 'fortran_order': False, 'shape': (60, 28, 28), }` with the keys in any order; None for
/// all else. Structured types are a list instead of a string and so refused.
fn parse_header(text: &str) -> Option<(String, bool, Vec<u64>)> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let after = |key: &str| {
        let (_, rest) = inner.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_string();
    let order = after("fortran_order")?;
    let fortran = match (order.starts_with("True"), order.starts_with("False")) {
        (true, false) => true,
        (false, true) => false,
        _ => return None,
    };
    let list = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = list.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<u64> = sizes.map(|n| n.parse().ok()).collect::<Option<_>>()?;
    (shape.len() <= 32 && descr.len() <= 16).then_some((descr, fortran, shape))
}

fn damaged(path: &Path, what: &str, error: ZipError) -> DataError {
    match error {
        ZipError::Io(e) if e.raw_os_error().is_some() => DataError::io("read", path)(e),
        ZipError::UnsupportedArchive(reason) => DataError::file(
            path,
            format!("{what} is packed in a way that is not read ({reason}); save it with numpy.savez"),
        ),
        other => DataError::file(path, format!("{what} is damaged ({other}); download it again")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_header;

    #[test]
    fn headers_are_parsed_in_any_order_or_refused() {
        let parsed = parse_header("{'shape': (2, 3,), 'fortran_order': False, 'descr': '<i8'}   \n");
        assert_eq!(parsed, Some(("<i8".into(), false, vec![2, 3])));
        assert_eq!(
            parse_header("{'descr': '|u1', 'fortran_order': True, 'shape': ()}").unwrap().2,
            Vec::<u64>::new()
        );
        for bad in [
            "",
            "{}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, -3)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2,",
            "{'descr': '|u1, 'fortran_order': False}",
        ] {
            assert_eq!(parse_header(bad), None, "{bad}");
        }
    }
}
