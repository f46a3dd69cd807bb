//! Image files, treated as hostile: headers are judged before pixels are allocated, and memory is taken of
//! the budget before that.

use std::io::{self, BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::DataError;
use crate::dicom::{self, Dicom};
use crate::files;
use crate::memory::{self, Permit};
use crate::pixels::{Raw, Samples};
use crate::tiff::{self, Palette, Patched, Tiff};

/// Extensions that are opened, lower case.
pub(crate) const EXTENSIONS: [&str; 10] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "tif", "tiff", "dcm", "dicom"];

/// Whether a file has the name of an image that is opened.
pub fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// Extensions that hold images this crate does not read: named as rejected, where other files are passed
/// over.
pub(crate) const FOREIGN: [&str; 15] = [
    "gif", "webp", "avif", "heic", "heif", "nii", "pgm", "ppm", "pbm", "pnm", "jp2", "jxl", "exr", "tga",
    "dng",
];

/// Whether a file is taken for an image, by its name.
pub(crate) enum Reads {
    /// It is.
    Yes,
    /// It is one that is not read, and why.
    Foreign(String),
    /// It is none.
    No,
}

/// Whether `path` may be an image; `extension` is that of its name in small letters. DICOM files often have
/// none, or the end of a number, and are told by how they begin.
pub(crate) fn may_read(path: &Path, extension: &str) -> Reads {
    let is_numbered = extension.bytes().all(|byte| byte.is_ascii_digit());
    let is_dicom = || {
        let is_index = path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("DICOMDIR"));
        !is_index && files::open_regular(path).is_ok_and(|(mut file, _)| dicom::is_dicom(&mut file))
    };
    if EXTENSIONS.contains(&extension) || is_numbered && is_dicom() {
        Reads::Yes
    } else if FOREIGN.contains(&extension) {
        Reads::Foreign(format!("`.{extension}` is not read; convert it to PNG"))
    } else {
        Reads::No
    }
}

/// Shorter side below which a file cannot be a usable image.
pub(crate) const MIN_SIDE: u32 = 8;
/// 2²⁷ pixels, 134 megapixels: above any camera, below what would exhaust a machine.
const MAX_PIXELS: u64 = 1 << 27;
const MAX_SIDE: u32 = 1 << 16;
const MAX_FILE_BYTES: u64 = 1 << 29;
/// Enough for the header of most files, so that listing a folder does not read whole JPEGs.
const PREFIX_BYTES: u64 = 1 << 16;
/// No byte of a JPEG holds more pixels: a block of 8×8 takes a bit at least, and of channels that are stored
/// at half or a quarter of the size not all have that.
const MOST_PIXELS_A_JPEG_BYTE: u64 = 8 * 64 * 2;
/// What a decoder may allocate for a header (colour profiles, lists of strips) and beside pixels.
const ASIDE_BYTES: u64 = 4 << 20;

/// What the header promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    /// Columns, upright.
    pub(crate) width: u32,
    /// Rows, upright.
    pub(crate) height: u32,
    /// As stored, before it is turned upright.
    stored: (u32, u32),
    color: ColorType,
    format: ImageFormat,
    orientation: Orientation,
}

impl ImageHeader {
    /// Of pixels that are stored so and turned so.
    fn upright(stored: (u32, u32), color: ColorType, format: ImageFormat, orientation: Orientation) -> Self {
        let (width, height) = match orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (stored.1, stored.0),
            _ => stored,
        };
        Self { width, height, stored, color, format, orientation }
    }

    /// Bytes of the pixels.
    fn decoded(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.color.bytes_per_pixel())
    }

    /// Bytes that the decoder allocates beside the file of `bytes` and the pixels. JPEGs are copied, and may
    /// come as a list of 16-bit coefficients of up to four channels in whole blocks; TIFFs are decoded whole
    /// and copied, from pieces that may be the whole.
    fn inside(&self, bytes: u64) -> u64 {
        let blocks = |side: u32| u64::from(side).next_multiple_of(32);
        let pixels = match self.format {
            ImageFormat::Jpeg => 3 * bytes + 3 * 4 * blocks(self.width) * blocks(self.height),
            ImageFormat::Tiff => 4 * self.decoded(),
            _ => 0,
        };
        pixels + ASIDE_BYTES
    }
}

/// What an image is read from: a file, or bytes in memory.
pub(crate) trait Content: Read + Seek + Send {}

impl<T: Read + Seek + Send> Content for T {}

/// How pixels are stored.
enum Kind {
    /// As a decoder of images reads them.
    Plain,
    /// As indices, in TIFF.
    Indices(Palette),
    /// As gray numbers with a floating point, in TIFF: of masks.
    Floats,
    /// In a frame of DICOM.
    Dicom(Box<Dicom>, usize),
}

/// A file with a header that was judged.
pub(crate) struct ImageFile {
    path: PathBuf,
    file: Box<dyn Content>,
    bytes: u64,
    header: ImageHeader,
    /// Of each image in the file, whether it is one of its own.
    frames: Vec<bool>,
    kind: Kind,
    /// Taken instead of the window that DICOM has.
    window: Option<[f64; 2]>,
}

/// Opens `path` and judges kind, length and header; cheap and safe on any file. Pipes and devices are
/// refused, since reading could block.
pub(crate) fn open(path: &Path) -> Result<ImageFile, DataError> {
    open_frame(path, 0)
}

/// As [`open`], of a frame or page of a file that has several.
pub(crate) fn open_frame(path: &Path, frame: usize) -> Result<ImageFile, DataError> {
    let (file, bytes) = files::open(path)?;
    of_pixels(judged(path, Box::new(file), bytes, frame)?)
}

/// As [`open`], of an encoded image in memory; `name` is what messages call it.
pub(crate) fn of_bytes(name: &Path, bytes: Vec<u8>) -> Result<ImageFile, DataError> {
    let count = bytes.len() as u64;
    of_pixels(judged(name, Box::new(Cursor::new(bytes)), count, 0)?)
}

fn of_pixels(image: ImageFile) -> Result<ImageFile, DataError> {
    let path = &image.path;
    if is_float(image.header.color) {
        return Err(DataError::file(path, "has floating-point pixels; convert it to 8 or 16 bit"));
    }
    Ok(image)
}

/// As [`open`], of floating-point pixels as well: what is not 0 is marked, and no range need be known.
pub(crate) fn open_mask(path: &Path) -> Result<ImageFile, DataError> {
    let (file, bytes) = files::open(path)?;
    let mask = judged(path, Box::new(file), bytes, 0)?;
    let pages = mask.frames.iter().filter(|is_own| **is_own).count();
    if pages > 1 {
        let reason = format!("holds {pages} images, and a mask is one; give a file for each image");
        return Err(DataError::file(path, reason));
    }
    Ok(mask)
}

fn judged(path: &Path, mut file: Box<dyn Content>, bytes: u64, frame: usize) -> Result<ImageFile, DataError> {
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
    if let Some(header) = dicom::read(&mut BufReader::new(&mut file), bytes) {
        return open_dicom(path, file, bytes, header, frame);
    }
    let Tiff { pages: frames, palette, floats, orientation, link } =
        tiff::read(&mut BufReader::new(&mut file), frame).unwrap_or_default();
    let orientation = Orientation::from_exif(orientation).unwrap_or(Orientation::NoTransforms);
    if frame >= frames.len().max(1) {
        return Err(DataError::file(path, "was changed while it was read; run again"));
    }
    file.rewind().map_err(DataError::io("read", path))?;
    let mut file = match link {
        Some((place, bytes)) => Box::new(Patched { file, at: 0, place, bytes }),
        None => file,
    };
    let mut prefix = Vec::with_capacity(PREFIX_BYTES.min(bytes) as usize);
    file.by_ref().take(PREFIX_BYTES).read_to_end(&mut prefix).map_err(DataError::io("read", path))?;
    if let Some(palette) = palette {
        return open_palette(path, file, bytes, frames, palette, orientation);
    }
    if let Some(stored) = floats {
        judge(path, stored)?;
        // Of three colours, as far as memory goes: gray is not among the types.
        let (color, format) = (ColorType::Rgb32F, ImageFormat::Tiff);
        let header = ImageHeader::upright(stored, color, format, orientation);
        let path = path.to_owned();
        let image = ImageFile { path, file, bytes, header, frames, kind: Kind::Floats, window: None };
        memory::check(image.need()).map_err(|short| short.of(&image.path))?;
        return Ok(image);
    }
    let header = match guarded(path, || header(path, Cursor::new(&prefix))) {
        // Headers may lie anywhere in a file (TIFF) or be long (colour profiles): judge by the whole.
        Err(DataError::File { .. }) if bytes > PREFIX_BYTES => {
            let _permit = Permit::take(3 * bytes + ASIDE_BYTES).map_err(|short| short.of(path))?;
            file.rewind().map_err(DataError::io("read", path))?;
            guarded(path, || header(path, BufReader::new(&mut file)))?
        }
        result => result?,
    };
    let (width, height) = header.stored;
    let promised = u64::from(width) * u64::from(height);
    if header.format == ImageFormat::Jpeg && promised > MOST_PIXELS_A_JPEG_BYTE * bytes {
        // Its decoder would fill with gray what is not there, which takes a thousandfold time.
        return Err(DataError::file(
            path,
            format!(
                "is damaged: its header promises {width}×{height} pixels, more than the {bytes} bytes of a JPEG can hold; \
                 copy it again or remove it"
            ),
        ));
    }
    let path = path.to_owned();
    let image = ImageFile { path, file, bytes, header, frames, kind: Kind::Plain, window: None };
    // What never fits is told when a folder is listed.
    memory::check(image.need()).map_err(|short| short.of(&image.path))?;
    Ok(image)
}

fn open_dicom(
    path: &Path,
    file: Box<dyn Content>,
    bytes: u64,
    header: Result<Dicom, String>,
    frame: usize,
) -> Result<ImageFile, DataError> {
    let dicom = header.map_err(|reason| DataError::file(path, reason))?;
    let stored @ (width, height) = (dicom.width, dicom.height);
    judge(path, stored)?;
    if frame >= dicom.frames {
        return Err(DataError::file(path, "was changed while it was read; run again"));
    }
    let color = if dicom.samples == 3 { ColorType::Rgb8 } else { ColorType::L16 };
    // Of the format nothing follows.
    let (format, orientation) = (ImageFormat::Pnm, Orientation::NoTransforms);
    let header = ImageHeader { width, height, stored, color, format, orientation };
    let (path, frames) = (path.to_owned(), vec![true; dicom.frames]);
    let kind = Kind::Dicom(Box::new(dicom), frame);
    let image = ImageFile { path, file, bytes, header, frames, kind, window: None };
    memory::check(image.need()).map_err(|short| short.of(&image.path))?;
    Ok(image)
}

/// A TIFF whose pixels are indices of 8 bits; those of other depths are rare, and no decoder at hand knows
/// them.
fn open_palette(
    path: &Path,
    file: Box<dyn Content>,
    bytes: u64,
    frames: Vec<bool>,
    palette: Palette,
    orientation: Orientation,
) -> Result<ImageFile, DataError> {
    let stored = (palette.width, palette.height);
    judge(path, stored)?;
    if palette.bits != 8 {
        let bits = palette.bits;
        return Err(DataError::file(
            path,
            format!("has a palette of {bits} bits; convert it to 8 or 16 bit PNG"),
        ));
    }
    let header = ImageHeader::upright(stored, ColorType::L8, ImageFormat::Tiff, orientation);
    let (path, kind) = (path.to_owned(), Kind::Indices(palette));
    let image = ImageFile { path, file, bytes, header, frames, kind, window: None };
    memory::check(image.need()).map_err(|short| short.of(&image.path))?;
    Ok(image)
}

fn is_float(color: ColorType) -> bool {
    matches!(color, ColorType::Rgb32F | ColorType::Rgba32F)
}

impl ImageFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> ImageHeader {
        self.header
    }

    /// Of each image in the file, whether it is one of its own; empty where there is only one by its format.
    pub(crate) fn frames(&self) -> &[bool] {
        &self.frames
    }

    /// Whether gray levels come over the whole range, whatever bits are stored.
    pub(crate) fn is_scaled(&self) -> bool {
        matches!(self.kind, Kind::Dicom(..))
    }

    /// Takes this window, centre and width, instead of the one that DICOM has.
    pub(crate) fn with_window(self, window: Option<[f64; 2]>) -> Self {
        ImageFile { window, ..self }
    }

    /// Bytes of memory that decoding takes, and what is made of the pixels afterwards: a copy turned upright,
    /// flattened or encoded anew, and a byte a pixel.
    pub(crate) fn need(&self) -> u64 {
        let ImageHeader { width, height, .. } = self.header;
        if let Kind::Dicom(dicom, _) = &self.kind {
            return dicom.inside() + 3 * self.header.decoded() + u64::from(width) * u64::from(height);
        }
        // Of indices three colours are made.
        let samples = if matches!(self.kind, Kind::Indices(_)) { 4 } else { 1 };
        let after = 2 * samples * self.header.decoded() + u64::from(width) * u64::from(height);
        self.bytes + self.header.decoded() + self.header.inside(self.bytes).max(after)
    }

    /// Decodes the file, upright. A permit of [`ImageFile::need`] must be held as long as the pixels are.
    pub(crate) fn decode(self, _: &Permit) -> Result<Raw, DataError> {
        let ImageFile { path, mut file, bytes, header, kind, window, .. } = self;
        let path = path.as_path();
        let palette = match kind {
            Kind::Dicom(dicom, frame) => {
                return guarded(path, || in_gray(path, &dicom, &mut BufReader::new(file), frame, window));
            }
            Kind::Floats => {
                file.rewind().map_err(DataError::io("read", path))?;
                return guarded(path, || floats(path, BufReader::new(file), header));
            }
            Kind::Indices(palette) => Some(palette),
            Kind::Plain => None,
        };
        file.rewind().map_err(DataError::io("read", path))?;
        let mut encoded = memory::room(path, bytes)?;
        // The file may have grown since: the bound holds for what is read.
        file.take(bytes).read_to_end(&mut encoded).map_err(DataError::io("read", path))?;
        if let Some(palette) = &palette {
            palette.indices_as_gray(&mut encoded);
        }
        guarded(path, || {
            if ends_early(&encoded) {
                return Err(DataError::file(
                    path,
                    "the JPEG ends before its end marker; copy it again or remove it",
                ));
            }
            let (decoder, format) = decoder(path, Cursor::new(&encoded), header.inside(bytes))?;
            // It may be another file by now.
            if (decoder.dimensions(), decoder.color_type(), format)
                != (header.stored, header.color, header.format)
            {
                return Err(DataError::file(path, "was changed while it was read; run again"));
            }
            let raw = pixels(path, decoder, header.color)?;
            let raw = match &palette {
                Some(palette) => in_colours(path, raw, palette)?,
                None => raw,
            };
            turned(path, raw, header.orientation)
        })
    }
}

fn turned(path: &Path, raw: Raw, orientation: Orientation) -> Result<Raw, DataError> {
    if orientation == Orientation::NoTransforms {
        return Ok(raw);
    }
    let upright = raw.into_dynamic().and_then(|mut image| {
        image.apply_orientation(orientation);
        Raw::from_dynamic(image)
    });
    upright.ok_or_else(|| DataError::file(path, "cannot be turned upright; remove it"))
}

impl ImageFile {
    /// Decodes a mask: gray of 8 bits, 255 where [`Raw::marks`] says so. The permit is as for
    /// [`ImageFile::decode`].
    ///
    /// JPEG blurs what was drawn: there, a pixel is marked from half of the range on.
    pub(crate) fn decode_mask(self, permit: &Permit) -> Result<Raw, DataError> {
        let is_blurred = self.header.format == ImageFormat::Jpeg;
        let mut mask = self.decode(permit)?;
        if let (true, Samples::U8(samples)) = (is_blurred, &mut mask.samples) {
            samples.iter_mut().for_each(|sample| *sample &= 128);
        }
        Ok(mask.marks())
    }
}

/// Which of the numbers of a mask are not 0.
fn floats(path: &Path, file: impl Read + Seek, header: ImageHeader) -> Result<Raw, DataError> {
    use ::tiff::decoder::{Decoder, DecodingResult, Limits};
    let damaged = |error| DataError::file(path, format!("is damaged: {error}; copy it again or remove it"));
    let mut limits = Limits::default();
    let most = usize::try_from(header.decoded()).unwrap_or(usize::MAX);
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    let mut decoder = Decoder::new(file).map_err(damaged)?.with_limits(limits);
    let (width, height) = (header.stored.0 as usize, header.stored.1 as usize);
    let marked = match decoder.read_image().map_err(damaged)? {
        DecodingResult::F32(values) => values.iter().map(|&v| u8::from(v.abs() > 0.0)).collect(),
        DecodingResult::F64(values) => values.iter().map(|&v| u8::from(v.abs() > 0.0)).collect(),
        _ => Vec::new(),
    };
    match marked.len() == width * height {
        true => turned(path, Raw::gray8(width, height, marked), header.orientation),
        false => Err(DataError::file(path, "was changed while it was read; run again")),
    }
}

fn in_gray(
    path: &Path,
    dicom: &Dicom,
    file: &mut (impl Read + Seek),
    frame: usize,
    window: Option<[f64; 2]>,
) -> Result<Raw, DataError> {
    let pixels = dicom.frame(file, frame, window).map_err(|reason| DataError::file(path, reason))?;
    let (width, height) = (dicom.width as usize, dicom.height as usize);
    let (channels, samples) = match pixels {
        dicom::Pixels::Gray(samples) => (1, Samples::U16(samples)),
        dicom::Pixels::Colours(samples) => (3, Samples::U8(samples)),
    };
    Ok(Raw { width, height, channels, samples })
}

/// An image of indices in the colours of its palette.
fn in_colours(path: &Path, indices: Raw, palette: &Palette) -> Result<Raw, DataError> {
    let rgb = match &indices.samples {
        Samples::U8(samples) => palette.colours(samples),
        Samples::U16(_) => None,
    };
    let rgb = rgb.ok_or_else(|| DataError::file(path, "has pixels beyond its palette; save it as PNG"))?;
    Ok(Raw { channels: 3, samples: Samples::U8(rgb), ..indices })
}

/// All pixels in memory that was reserved, so that none to be had is an error and not the end.
fn pixels(path: &Path, decoder: impl ImageDecoder, color: ColorType) -> Result<Raw, DataError> {
    let (width, height) = decoder.dimensions();
    let (width, height, channels) = (width as usize, height as usize, usize::from(color.channel_count()));
    let samples = (width * height * channels) as u64;
    let samples = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {
            let mut bytes: Vec<u8> = memory::room(path, samples)?;
            bytes.resize(samples as usize, 0);
            decoder.read_image(&mut bytes).map_err(|e| refused(path, &e))?;
            Samples::U8(bytes)
        }
        // Of masks, which are the same of 8 bits.
        ColorType::Rgb32F | ColorType::Rgba32F => {
            let mut values: Vec<f32> = memory::room(path, samples)?;
            values.resize(samples as usize, 0.0);
            decoder.read_image(bytemuck::cast_slice_mut(&mut values)).map_err(|e| refused(path, &e))?;
            Samples::U8(values.iter().map(|value| u8::from(value.abs() > 0.0)).collect())
        }
        _ => {
            let mut words: Vec<u16> = memory::room(path, samples)?;
            words.resize(samples as usize, 0);
            decoder.read_image(bytemuck::cast_slice_mut(&mut words)).map_err(|e| refused(path, &e))?;
            Samples::U16(words)
        }
    };
    Ok(Raw { width, height, channels, samples })
}

fn header(path: &Path, reader: impl io::BufRead + Seek) -> Result<ImageHeader, DataError> {
    let (mut decoder, format) = decoder(path, reader, ASIDE_BYTES)?;
    let stored = decoder.dimensions();
    judge(path, stored)?;
    let color = decoder.color_type();
    let orientation = decoder.orientation().map_err(|e| refused(path, &e))?;
    Ok(ImageHeader::upright(stored, color, format, orientation))
}

/// A decoder that allocates at most `bytes`, pixels included.
fn decoder<'a, R: io::BufRead + Seek + 'a>(
    path: &Path,
    reader: R,
    bytes: u64,
) -> Result<(impl ImageDecoder + use<'a, R>, ImageFormat), DataError> {
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|_| DataError::file(path, "ends before its first bytes; copy it again or remove it"))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(bytes);
    reader.limits(limits);
    let Some(format) = reader.format() else {
        return Err(DataError::file(
            path,
            "is not an image of a known format; use PNG, JPEG, BMP, TIFF or DICOM",
        ));
    };
    Ok((reader.into_decoder().map_err(|e| refused(path, &e))?, format))
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

/// A decoder that panics on a crafted file must cost that file only.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(DataError::file(path, "makes the decoder fail; remove it")))
}

/// A cut-off JPEG, whose missing part the decoder would fill with gray. Entropy-coded data holds neither
/// marker, so a complete file has an end-of-image marker (FF D9) after its last start-of-scan (FF DA).
fn ends_early(encoded: &[u8]) -> bool {
    if !encoded.starts_with(&[0xff, 0xd8]) || encoded.ends_with(&[0xff, 0xd9]) {
        return false;
    }
    let last = |marker: u8| encoded.windows(2).rposition(|w| w == [0xff, marker]);
    last(0xd9) < last(0xda)
}
