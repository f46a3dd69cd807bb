//! Image files, treated as hostile: headers are judged before pixels are allocated.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use crate::DataError;
use crate::pixels::Raw;

/// Extensions that are opened, lower case.
pub(crate) const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// Extensions that hold images this crate does not read: named as rejected, where other files are passed over.
pub(crate) const FOREIGN: [&str; 10] =
    ["gif", "webp", "avif", "heic", "dcm", "nii", "pgm", "ppm", "jp2", "exr"];

/// Shorter side below which a file cannot be a usable image.
pub(crate) const MIN_SIDE: u32 = 8;
/// 2²⁷ pixels, 134 megapixels: above any camera, below what would exhaust a machine.
const MAX_PIXELS: u64 = 1 << 27;
const MAX_SIDE: u32 = 1 << 16;
/// Decoded bytes: MAX_PIXELS of four 16-bit samples.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 8;
const MAX_FILE_BYTES: u64 = 1 << 29;
/// Enough for the header of most files, so that listing a folder does not read whole JPEGs.
const PREFIX_BYTES: u64 = 1 << 16;

/// What the header promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Columns, upright.
    pub(crate) width: u32,
    /// Rows, upright.
    pub(crate) height: u32,
}

/// Opens `path` and judges its kind and length; pipes and devices are refused, since reading could block.
fn open(path: &Path) -> Result<(File, u64), DataError> {
    // Missing, forbidden and vanished files are the file's own fault; anything else is the machine's.
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            DataError::file(path, format!("cannot be opened: {error}; check its name and permissions"))
        }
        _ => DataError::io("read", path)(error),
    };
    let metadata = path.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(DataError::file(path, "is not a regular file; remove it"));
    }
    let bytes = metadata.len();
    if bytes == 0 {
        return Err(DataError::file(path, "is empty (0 bytes); copy it again or remove it"));
    }
    if bytes > MAX_FILE_BYTES {
        let mib = bytes >> 20;
        return Err(DataError::file(
            path,
            format!("has {mib} MiB, above the limit of 512; cut it into tiles"),
        ));
    }
    Ok((File::open(path).map_err(fault)?, bytes))
}

/// Judges the header only; cheap and safe on any file.
pub(crate) fn probe(path: &Path) -> Result<Header, DataError> {
    let (mut file, bytes) = open(path)?;
    let mut prefix = Vec::with_capacity(PREFIX_BYTES.min(bytes) as usize);
    file.by_ref().take(PREFIX_BYTES).read_to_end(&mut prefix).map_err(DataError::io("read", path))?;
    match guarded(path, || header(path, Cursor::new(&prefix))) {
        // Headers may lie anywhere in a file (TIFF) or be long (colour profiles): judge by the whole.
        Err(DataError::File { .. }) if bytes > PREFIX_BYTES => {
            file.rewind().map_err(DataError::io("read", path))?;
            guarded(path, || header(path, BufReader::new(file)))
        }
        result => result,
    }
}

/// Decodes the whole file, upright.
pub(crate) fn decode(path: &Path) -> Result<Raw, DataError> {
    let (mut file, bytes) = open(path)?;
    let mut encoded = Vec::new();
    encoded.try_reserve_exact(bytes as usize).map_err(|_| out_of_memory(path))?;
    // The file may have grown since: the bound holds for what is read.
    file.by_ref().take(bytes).read_to_end(&mut encoded).map_err(DataError::io("read", path))?;
    guarded(path, || {
        if ends_early(&encoded) {
            return Err(DataError::file(
                path,
                "the JPEG ends before its end marker; copy it again or remove it",
            ));
        }
        let mut decoder = decoder(path, Cursor::new(&encoded))?;
        judge(path, decoder.dimensions())?;
        let orientation = decoder.orientation().map_err(|e| refused(path, &e))?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| refused(path, &e))?;
        image.apply_orientation(orientation);
        Raw::from_dynamic(image)
            .ok_or_else(|| DataError::file(path, "has floating-point pixels; convert it to 8 or 16 bit"))
    })
}

fn header(path: &Path, reader: impl io::BufRead + Seek) -> Result<Header, DataError> {
    let mut decoder = decoder(path, reader)?;
    let (width, height) = decoder.dimensions();
    judge(path, (width, height))?;
    let orientation = decoder.orientation().map_err(|e| refused(path, &e))?;
    use image::metadata::Orientation as O;
    Ok(match orientation {
        O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH => {
            Header { width: height, height: width }
        }
        _ => Header { width, height },
    })
}

fn decoder<'a, R: io::BufRead + Seek + 'a>(
    path: &Path,
    reader: R,
) -> Result<impl ImageDecoder + use<'a, R>, DataError> {
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|_| DataError::file(path, "ends before its first bytes; copy it again or remove it"))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    if reader.format().is_none() {
        return Err(DataError::file(path, "is not an image of a known format; use PNG, JPEG, BMP or TIFF"));
    }
    reader.into_decoder().map_err(|e| refused(path, &e))
}

fn judge(path: &Path, (width, height): (u32, u32)) -> Result<(), DataError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(DataError::file(
            path,
            format!(
                "its header promises {width}×{height} pixels, above the limit of {} megapixels; cut it into tiles",
                MAX_PIXELS / 1_000_000
            ),
        ));
    }
    if width.min(height) < MIN_SIDE {
        return Err(DataError::file(
            path,
            format!("is {width}×{height} pixels; each side needs at least {MIN_SIDE}; remove it"),
        ));
    }
    Ok(())
}

fn refused(path: &Path, error: &ImageError) -> DataError {
    match error {
        ImageError::Limits(_) => {
            DataError::file(path, format!("needs too much memory: {error}; cut it into tiles"))
        }
        ImageError::Unsupported(_) => {
            DataError::file(path, format!("cannot be decoded: {error}; convert it to 8 or 16 bit PNG"))
        }
        _ => DataError::file(path, format!("is damaged: {error}; copy it again or remove it")),
    }
}

fn out_of_memory(path: &Path) -> DataError {
    DataError::io("read", path)(io::Error::from(io::ErrorKind::OutOfMemory))
}

/// A decoder that panics on a crafted file must cost that file only.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(DataError::file(path, "makes the decoder fail; remove it")))
}

/// A cut-off JPEG, whose missing part the decoder would fill with gray. Entropy-coded data holds neither marker,
/// so a complete file has an end-of-image marker (FF D9) after its last start-of-scan (FF DA).
fn ends_early(encoded: &[u8]) -> bool {
    if !encoded.starts_with(&[0xff, 0xd8]) || encoded.ends_with(&[0xff, 0xd9]) {
        return false;
    }
    let last = |marker: u8| encoded.windows(2).rposition(|w| w == [0xff, marker]);
    last(0xd9) < last(0xda)
}
