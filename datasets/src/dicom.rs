//! DICOM images (PS3.5, PS3.3 C.7.6.3 and C.11), treated as hostile: every length is judged against the file
//! before anything of it is read, and nothing is kept but what the pixels need. No other element is read, so
//! that none of a patient's can reach an output.

use std::io::{Read, Seek, SeekFrom};

/// Bytes before the letters `DICM`.
const PREAMBLE: u64 = 128;
/// Elements that are looked at, sequences within one another, and bytes of a value that is read.
const MAX_ELEMENTS: usize = 1 << 18;
const MAX_DEPTH: usize = 16;
const MAX_VALUE: u64 = 256;
/// Frames of a file, and pieces of compressed ones.
const MAX_FRAMES: u64 = 1 << 16;
const UNDEFINED: u64 = 0xffff_ffff;

/// Tags (PS3.6).
const ITEM: u32 = 0xfffe_e000;
const END_OF_ITEM: u32 = 0xfffe_e00d;
const END_OF_SEQUENCE: u32 = 0xfffe_e0dd;
const TRANSFER_SYNTAX: u32 = 0x0002_0010;
const SAMPLES: u32 = 0x0028_0002;
const PHOTOMETRIC: u32 = 0x0028_0004;
const PLANAR: u32 = 0x0028_0006;
const FRAMES: u32 = 0x0028_0008;
const ROWS: u32 = 0x0028_0010;
const COLUMNS: u32 = 0x0028_0011;
const ALLOCATED: u32 = 0x0028_0100;
const STORED: u32 = 0x0028_0101;
const HIGH_BIT: u32 = 0x0028_0102;
const SIGNED: u32 = 0x0028_0103;
const CENTRE: u32 = 0x0028_1050;
const WIDTH: u32 = 0x0028_1051;
const INTERCEPT: u32 = 0x0028_1052;
const SLOPE: u32 = 0x0028_1053;
const FUNCTION: u32 = 0x0028_1056;
const MODALITY_TABLE: u32 = 0x0028_3000;
const WINDOW_TABLE: u32 = 0x0028_3010;
const PIXELS: u32 = 0x7fe0_0010;
/// Sequences that hold rescaling and window of enhanced objects: of all frames, and of each.
const SHARED: u32 = 0x5200_9229;
const PER_FRAME: u32 = 0x5200_9230;
const TRANSFORMATION: u32 = 0x0028_9145;
const WINDOWS: u32 = 0x0028_9132;

/// How values in a window become gray levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// How pixels are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    /// As they are.
    Native { is_little: bool },
    /// Runs of bytes (PS3.5, annex G).
    Rle,
    /// JPEG: baseline, extended or lossless.
    Jpeg,
}

/// What gray values of a frame mean.
#[derive(Clone, Debug, PartialEq)]
struct Levels {
    slope: f64,
    intercept: f64,
    window: Option<[f64; 2]>,
    function: Function,
}

/// A file with a header that was judged.
#[derive(Clone, Debug)]
pub(crate) struct Dicom {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: usize,
    /// 1, or 3 for colours.
    pub(crate) samples: u32,
    /// Bits of a stored value: 8 or 16, those in use, and the place of the highest of these.
    allocated: u32,
    stored: u32,
    high: u32,
    is_signed: bool,
    is_inverted: bool,
    is_planar: bool,
    codec: Codec,
    /// Of all frames, or of each.
    levels: Vec<Levels>,
    has_table: bool,
    /// Places and lengths of the pixels: of all frames, or of the pieces of compressed ones.
    pieces: Vec<(u64, u64)>,
    /// Starts of compressed frames, counted from the first piece.
    starts: Vec<u64>,
}

/// Whether a file begins as DICOM does.
pub(crate) fn is_dicom(file: &mut impl Read) -> bool {
    let mut start = [0; PREAMBLE as usize + 4];
    file.read_exact(&mut start).is_ok() && start.ends_with(b"DICM")
}

/// Reads the header of a file of `bytes`; None where it is no DICOM.
///
/// Errors: why it cannot be used.
pub(crate) fn read(file: &mut (impl Read + Seek), bytes: u64) -> Option<Result<Dicom, String>> {
    file.rewind().ok()?;
    if !is_dicom(file) {
        return None;
    }
    let mut walk =
        Walk { file, at: PREAMBLE + 4, end: bytes, explicit: true, little: true, met: Met::default() };
    Some(walk.data_set().and_then(|()| walk.met.judge(bytes)))
}

/// What is met on the way.
#[derive(Default)]
struct Met {
    syntax: String,
    numbers: std::collections::BTreeMap<u32, u64>,
    photometric: String,
    /// As it stands in the data set, in what all frames share, and for each.
    own: Gray,
    shared: Gray,
    each: Vec<Gray>,
    has_modality_table: bool,
    has_window_table: bool,
    pieces: Vec<(u64, u64)>,
    starts: Vec<u64>,
    is_encapsulated: bool,
}

#[derive(Clone, Default)]
struct Gray {
    slope: Option<f64>,
    intercept: Option<f64>,
    centre: Option<f64>,
    width: Option<f64>,
    function: Option<String>,
}

impl Gray {
    fn put(&mut self, tag: u32, text: &str) -> Result<(), String> {
        // Of several windows the first is meant to be shown first.
        let first = text.split('\\').next().unwrap_or_default().trim();
        if tag == FUNCTION {
            self.function = Some(first.to_owned());
            return Ok(());
        }
        if first.is_empty() {
            return Ok(());
        }
        let value: f64 = first
            .parse()
            .ok()
            .filter(|v: &f64| v.is_finite())
            .ok_or("holds a number that cannot be read in its rescaling or window")?;
        match tag {
            SLOPE => self.slope = Some(value),
            INTERCEPT => self.intercept = Some(value),
            CENTRE => self.centre = Some(value),
            _ => self.width = Some(value),
        }
        Ok(())
    }

    /// What is said here, else there.
    fn or(&self, other: &Gray) -> Gray {
        Gray {
            slope: self.slope.or(other.slope),
            intercept: self.intercept.or(other.intercept),
            centre: self.centre.or(other.centre),
            width: self.width.or(other.width),
            function: self.function.clone().or_else(|| other.function.clone()),
        }
    }

    fn levels(&self) -> Result<Levels, String> {
        let function = match self.function.as_deref() {
            None | Some("" | "LINEAR") => Function::Linear,
            Some("LINEAR_EXACT") => Function::LinearExact,
            Some("SIGMOID") => Function::Sigmoid,
            Some(_) => return Err("has a window whose function is not known".to_owned()),
        };
        let (slope, window) = (self.slope.unwrap_or(1.0), self.centre.zip(self.width).map(|(c, w)| [c, w]));
        if slope == 0.0 {
            return Err("has a rescale slope of 0, which leaves no picture".to_owned());
        }
        let levels = Levels { slope, intercept: self.intercept.unwrap_or(0.0), window, function };
        levels.check().map(|()| levels)
    }
}

impl Levels {
    fn check(&self) -> Result<(), String> {
        match self.window {
            Some([_, width]) if self.function == Function::Linear && width < 1.0 || width <= 0.0 => {
                Err("has a window of no width".to_owned())
            }
            _ => Ok(()),
        }
    }
}

struct Walk<'a, F> {
    file: &'a mut F,
    at: u64,
    end: u64,
    explicit: bool,
    little: bool,
    met: Met,
}

struct Element {
    tag: u32,
    is_sequence: bool,
    length: u64,
}

fn ends() -> String {
    "ends within an element; copy it again or remove it".to_owned()
}

impl<F: Read + Seek> Walk<'_, F> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|_| ends())?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.bytes()?;
        Ok(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.bytes()?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn go(&mut self, at: u64) -> Result<(), String> {
        if at > self.end {
            return Err(ends());
        }
        self.file.seek(SeekFrom::Start(at)).map_err(|_| ends())?;
        self.at = at;
        Ok(())
    }

    fn element(&mut self) -> Result<Element, String> {
        let tag = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        if tag >> 16 == 0xfffe || !self.explicit {
            let length = u64::from(self.u32()?);
            // Sequences of the implicit form are told by their tags, or by their open end.
            let is_sequence =
                matches!(tag, SHARED | PER_FRAME | TRANSFORMATION | WINDOWS | MODALITY_TABLE | WINDOW_TABLE)
                    || length == UNDEFINED && tag != PIXELS;
            return Ok(Element { tag, is_sequence, length });
        }
        let kind = self.bytes::<2>()?;
        let is_long = matches!(
            &kind,
            b"OB"
                | b"OW"
                | b"OF"
                | b"OD"
                | b"OL"
                | b"OV"
                | b"SQ"
                | b"UC"
                | b"UR"
                | b"UT"
                | b"UN"
                | b"SV"
                | b"UV"
        );
        let length = if is_long {
            self.u16()?;
            u64::from(self.u32()?)
        } else {
            u64::from(self.u16()?)
        };
        let is_sequence = &kind == b"SQ" || length == UNDEFINED && tag != PIXELS;
        // Of unknown kind and open length: what is in it has the implicit form.
        if &kind == b"UN" && is_sequence {
            return Err(
                "holds an element of unknown kind and open length; save it in another transfer syntax"
                    .to_owned(),
            );
        }
        Ok(Element { tag, is_sequence, length })
    }

    fn text(&mut self, length: u64) -> Result<String, String> {
        if length > MAX_VALUE.min(self.end - self.at) {
            return Err(if length > MAX_VALUE {
                "holds a value too long to be one of an image".to_owned()
            } else {
                ends()
            });
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|_| ends())?;
        self.at += length;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    }

    /// Walks all elements up to the pixels.
    fn data_set(&mut self) -> Result<(), String> {
        // Tags of the sequences around, and where each ends.
        let mut around: Vec<(u32, u64)> = Vec::new();
        let mut is_meta = true;
        for _ in 0..MAX_ELEMENTS {
            while around.last().is_some_and(|&(_, end)| end != UNDEFINED && self.at >= end) {
                around.pop();
            }
            if self.at + 8 > self.end {
                return Ok(());
            }
            if is_meta {
                // The meta elements have a form of their own; the group tells where they end.
                let group = self.u16()?;
                self.go(self.at - 2)?;
                if group != 2 {
                    is_meta = false;
                    self.choose()?;
                }
            }
            let Element { tag, is_sequence, length } = self.element()?;
            match tag {
                // Items and their ends are seen within sequences; lengths of items are those of their
                // content.
                ITEM => {
                    if length != UNDEFINED && self.at + length > self.end {
                        return Err(ends());
                    }
                    if let [(PER_FRAME, _)] = around[..] {
                        if self.met.each.len() as u64 == MAX_FRAMES {
                            return Err("has too many frames".to_owned());
                        }
                        self.met.each.push(Gray::default());
                    }
                    continue;
                }
                END_OF_ITEM => continue,
                END_OF_SEQUENCE => {
                    around.pop();
                    continue;
                }
                PIXELS if around.is_empty() => return self.pixels(length),
                _ => {}
            }
            let end = if length == UNDEFINED { UNDEFINED } else { self.at + length };
            if end != UNDEFINED && end > self.end {
                return Err(ends());
            }
            if is_sequence {
                let path: Vec<u32> = around.iter().map(|&(tag, _)| tag).chain([tag]).collect();
                if path == [MODALITY_TABLE] && length != 0 {
                    self.met.has_modality_table = true;
                }
                if path == [WINDOW_TABLE] && length != 0 {
                    self.met.has_window_table = true;
                }
                let is_wanted =
                    matches!(path[..], [SHARED | PER_FRAME] | [SHARED | PER_FRAME, TRANSFORMATION | WINDOWS]);
                if !is_wanted && end != UNDEFINED {
                    self.go(end)?;
                } else if around.len() == MAX_DEPTH {
                    return Err("has sequences too deep within one another".to_owned());
                } else {
                    around.push((tag, end));
                }
                continue;
            }
            let path: Vec<u32> = around.iter().map(|&(tag, _)| tag).collect();
            self.value(&path, tag, length)?;
            self.go(end)?;
        }
        Err("has too many elements before its pixels".to_owned())
    }

    /// Keeps what the pixels need of an element.
    fn value(&mut self, path: &[u32], tag: u32, length: u64) -> Result<(), String> {
        match (path, tag) {
            ([], TRANSFER_SYNTAX) => self.met.syntax = self.text(length)?,
            ([], PHOTOMETRIC) => self.met.photometric = self.text(length)?,
            ([], FRAMES) => {
                let text = self.text(length)?;
                let frames =
                    text.parse().map_err(|_| "has a number of frames that cannot be read".to_owned())?;
                self.met.numbers.insert(tag, frames);
            }
            ([], SAMPLES | PLANAR | ROWS | COLUMNS | ALLOCATED | STORED | HIGH_BIT | SIGNED)
                if length >= 2 =>
            {
                let value = self.u16()?;
                self.met.numbers.insert(tag, u64::from(value));
            }
            (_, CENTRE | WIDTH | INTERCEPT | SLOPE | FUNCTION) => {
                // Only where they are of the pixels.
                if !matches!(path, [] | [SHARED | PER_FRAME, TRANSFORMATION | WINDOWS]) {
                    return Ok(());
                }
                let text = self.text(length)?;
                let gray = match path.first() {
                    None => Some(&mut self.met.own),
                    Some(&SHARED) => Some(&mut self.met.shared),
                    Some(_) => self.met.each.last_mut(),
                };
                gray.map_or(Ok(()), |gray| gray.put(tag, &text))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The form of the elements after the meta elements.
    fn choose(&mut self) -> Result<(), String> {
        const COMMON: &str = "1.2.840.10008.1.2";
        let rest = self.met.syntax.strip_prefix(COMMON);
        (self.explicit, self.little) = match rest {
            Some("") => (false, true),
            Some(".2") => (true, false),
            Some(".1.99") => return Err("is deflated; save it uncompressed".to_owned()),
            _ => (true, true),
        };
        Ok(())
    }

    fn pixels(&mut self, length: u64) -> Result<(), String> {
        if length != UNDEFINED {
            if self.at + length > self.end {
                return Err(ends());
            }
            self.met.pieces.push((self.at, length));
            return Ok(());
        }
        self.met.is_encapsulated = true;
        let mut is_first = true;
        loop {
            if self.at + 8 > self.end {
                return Err(ends());
            }
            let Element { tag, length, .. } = self.element()?;
            match tag {
                END_OF_SEQUENCE => return Ok(()),
                ITEM if self.at + length <= self.end => {}
                _ => return Err("has compressed pixels in pieces that cannot be told apart".to_owned()),
            }
            let next = self.at + length;
            if is_first {
                // A table of where frames begin, which may be empty.
                if length > 4 * MAX_FRAMES {
                    return Err("has too many frames".to_owned());
                }
                for _ in 0..length / 4 {
                    let start = self.u32()?;
                    self.met.starts.push(u64::from(start));
                }
            } else if self.met.pieces.len() as u64 == 4 * MAX_FRAMES {
                return Err("has compressed pixels in too many pieces".to_owned());
            } else {
                self.met.pieces.push((self.at, length));
            }
            is_first = false;
            self.go(next)?;
        }
    }
}

impl Met {
    fn judge(&mut self, _bytes: u64) -> Result<Dicom, String> {
        let number = |tag: u32| self.numbers.get(&tag).copied();
        let (Some(height), Some(width)) = (number(ROWS), number(COLUMNS)) else {
            return Err("holds no image (no rows and columns)".to_owned());
        };
        if self.pieces.is_empty() {
            return Err("holds no pixels".to_owned());
        }
        let codec = match (self.syntax.strip_prefix("1.2.840.10008.1.2"), self.is_encapsulated) {
            (Some("" | ".1"), false) => Codec::Native { is_little: true },
            (Some(".2"), false) => Codec::Native { is_little: false },
            (Some(".5"), true) => Codec::Rle,
            (Some(".4.50" | ".4.51" | ".4.57" | ".4.70"), true) => Codec::Jpeg,
            (Some(".4.80" | ".4.81"), _) => {
                return Err("is compressed as JPEG-LS; save it uncompressed".to_owned());
            }
            (Some(".4.90" | ".4.91" | ".4.92" | ".4.93" | ".4.201" | ".4.202" | ".4.203"), _) => {
                return Err("is compressed as JPEG 2000; save it uncompressed".to_owned());
            }
            _ => return Err("has a transfer syntax that is not read; save it uncompressed".to_owned()),
        };
        let samples = number(SAMPLES).unwrap_or(1);
        let allocated = number(ALLOCATED).unwrap_or(0);
        let is_colour = match (self.photometric.as_str(), samples) {
            ("MONOCHROME1" | "MONOCHROME2", 1) => false,
            ("RGB", 3) if allocated == 8 && matches!(codec, Codec::Native { .. }) => true,
            _ => {
                return Err("has colours in a form that is not read (read are MONOCHROME1, MONOCHROME2, and RGB of 8 bits \
                            that is not compressed); convert it"
                    .to_owned());
            }
        };
        let stored = number(STORED).unwrap_or(allocated);
        let high = number(HIGH_BIT).unwrap_or(stored.wrapping_sub(1));
        if !matches!(allocated, 8 | 16)
            || !(2..=allocated).contains(&stored)
            || high >= allocated
            || high + 1 < stored
        {
            return Err(format!(
                "stores {stored} bits of {allocated} up to bit {high}; 2 to 16 bits in 8 or 16 are read"
            ));
        }
        let frames = number(FRAMES).unwrap_or(1);
        if !(1..=MAX_FRAMES).contains(&frames) {
            return Err(format!("has {frames} frames; 1 to {MAX_FRAMES} are read"));
        }
        let frame = width * height * samples * (allocated / 8);
        if matches!(codec, Codec::Native { .. })
            && frame.checked_mul(frames).is_none_or(|all| all > self.pieces[0].1)
        {
            return Err(format!(
                "is damaged: its header promises {frames} frames of {width}×{height} pixels, more than the {} bytes of \
                 its pixels hold; copy it again or remove it",
                self.pieces[0].1
            ));
        }
        // Frames cannot be more than pieces.
        if !matches!(codec, Codec::Native { .. }) && frames > self.pieces.len() as u64 {
            return Err(format!(
                "has {frames} frames in {} pieces; copy it again or remove it",
                self.pieces.len()
            ));
        }
        if self.has_modality_table {
            return Err("has a table of values (Modality LUT), which is not read; convert it".to_owned());
        }
        let common = self.own.or(&self.shared);
        let each: Vec<Levels> =
            self.each.iter().map(|gray| gray.or(&common).levels()).collect::<Result<_, _>>()?;
        let levels = match each.len() as u64 {
            0 => vec![common.levels()?],
            n if n == frames => each,
            n => return Err(format!("describes {n} frames and has {frames}")),
        };
        Ok(Dicom {
            width: width as u32,
            height: height as u32,
            frames: frames as usize,
            samples: samples as u32,
            allocated: allocated as u32,
            stored: stored as u32,
            high: high as u32,
            is_signed: number(SIGNED) == Some(1),
            is_inverted: !is_colour && self.photometric == "MONOCHROME1",
            is_planar: number(PLANAR) == Some(1),
            codec,
            levels,
            has_table: self.has_window_table,
            pieces: std::mem::take(&mut self.pieces),
            starts: std::mem::take(&mut self.starts),
        })
    }
}

impl Dicom {
    fn area(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Bytes that decoding a frame takes beside what is returned: its bytes, packed and unpacked.
    pub(crate) fn inside(&self) -> u64 {
        let unpacked = self.area() as u64 * u64::from(self.samples) * u64::from(self.allocated / 8);
        let packed: u64 = match self.codec {
            Codec::Native { .. } => 0,
            _ if self.frames == 1 => self.pieces.iter().map(|(_, length)| length).sum(),
            _ => self.pieces.iter().map(|&(_, length)| length).max().unwrap_or(0) * 2,
        };
        // A lossless JPEG is unpacked into numbers of 16 bits, and copied.
        3 * unpacked.max(2 * self.area() as u64) + 2 * packed + (1 << 20)
    }

    /// Gray levels of a frame over the whole range of 16 bits, or its colours of 8 bits. `window` is taken
    /// instead of the file's.
    pub(crate) fn frame(
        &self,
        file: &mut (impl Read + Seek),
        number: usize,
        window: Option<[f64; 2]>,
    ) -> Result<Pixels, String> {
        let stored = self.stored(file, number)?;
        if self.samples == 3 {
            let area = self.area();
            let bytes: Vec<u8> = stored.iter().map(|&value| value as u8).collect();
            return Ok(Pixels::Colours(match self.is_planar {
                true => (0..3 * area).map(|k| bytes[k % 3 * area + k / 3]).collect(),
                false => bytes,
            }));
        }
        let mut levels = self.levels.get(number).unwrap_or(&self.levels[0]).clone();
        if let Some(window) = window {
            (levels.window, levels.function) = (Some(window), Function::Linear);
            levels.check()?;
        }
        if levels.window.is_none() && self.has_table {
            return Err(
                "has its gray levels in a table (VOI LUT), which is not read; give a window".to_owned()
            );
        }
        Ok(Pixels::Gray(self.gray(&stored, &levels)))
    }

    fn gray(&self, stored: &[u16], levels: &Levels) -> Vec<u16> {
        let bits = self.stored;
        let value = |stored: u16| -> f64 {
            let field = (u32::from(stored) >> (self.high + 1 - bits)) & ((1 << bits) - 1);
            match self.is_signed && field >> (bits - 1) == 1 {
                true => f64::from(field as i32 - (1 << bits)),
                false => f64::from(field),
            }
        };
        let [least, most] = match self.is_signed {
            true => [-f64::from(1 << (bits - 1)), f64::from((1 << (bits - 1)) - 1)],
            false => [0.0, f64::from((1u32 << bits) - 1)],
        };
        let rescaled = |value: f64| value * levels.slope + levels.intercept;
        let share = |value: f64| {
            let x = rescaled(value);
            let share = match (levels.window, levels.function) {
                (None, _) => {
                    let (a, b) = (rescaled(least), rescaled(most));
                    (x - a.min(b)) / (a - b).abs()
                }
                (Some([_, width]), Function::Linear) if width <= 1.0 => {
                    f64::from(x > levels.window.unwrap_or_default()[0] - 0.5)
                }
                (Some([centre, width]), Function::Linear) => (x - (centre - 0.5)) / (width - 1.0) + 0.5,
                (Some([centre, width]), Function::LinearExact) => (x - centre) / width + 0.5,
                (Some([centre, width]), Function::Sigmoid) => {
                    1.0 / (1.0 + (-4.0 * (x - centre) / width).exp())
                }
            };
            let share = share.clamp(0.0, 1.0);
            if self.is_inverted { 1.0 - share } else { share }
        };
        // Of each stored value once.
        let table: Vec<u16> = (0..1u32 << self.allocated)
            .map(|stored| (share(value(stored as u16)) * 65535.0).round() as u16)
            .collect();
        stored.iter().map(|&stored| table[usize::from(stored)]).collect()
    }

    /// The values of a frame as they are stored.
    fn stored(&self, file: &mut (impl Read + Seek), number: usize) -> Result<Vec<u16>, String> {
        let count = self.area() * self.samples as usize;
        let wide = self.allocated == 16;
        match self.codec {
            Codec::Native { is_little } => {
                let length = (count * if wide { 2 } else { 1 }) as u64;
                let bytes = part(file, &[(self.pieces[0].0 + number as u64 * length, length)])?;
                Ok(match (wide, is_little) {
                    (false, _) => bytes.into_iter().map(u16::from).collect(),
                    (true, true) => {
                        bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect()
                    }
                    (true, false) => {
                        bytes.as_chunks().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect()
                    }
                })
            }
            Codec::Rle => runs(&part(file, self.pieces_of(number)?)?, count, wide),
            Codec::Jpeg => self.jpeg(&part(file, self.pieces_of(number)?)?),
        }
    }

    /// The pieces of a compressed frame.
    fn pieces_of(&self, number: usize) -> Result<&[(u64, u64)], String> {
        if self.frames == 1 {
            return Ok(&self.pieces);
        }
        if self.pieces.len() == self.frames {
            return Ok(&self.pieces[number..=number]);
        }
        // Starts are counted from the first piece's header, of 8 bytes.
        let first = self.pieces[0].0;
        let place = |start: &u64| self.pieces.iter().position(|&(at, _)| at - first == *start);
        let from = self.starts.get(number).and_then(place);
        let to = self.starts.get(number + 1).map_or(Some(self.pieces.len()), place);
        match (from, to) {
            (Some(from), Some(to)) if from < to && self.starts.len() == self.frames => {
                Ok(&self.pieces[from..to])
            }
            _ => Err("has compressed frames that cannot be told apart; save it uncompressed".to_owned()),
        }
    }

    fn jpeg(&self, bytes: &[u8]) -> Result<Vec<u16>, String> {
        use jpeg_decoder::PixelFormat;
        let damaged =
            |error: jpeg_decoder::Error| format!("is damaged ({error}); copy it again or remove it");
        let mut decoder = jpeg_decoder::Decoder::new(bytes);
        decoder.set_max_decoding_buffer_size(2 * self.area() + 64);
        decoder.read_info().map_err(damaged)?;
        let info = decoder.info().ok_or("holds no picture in its JPEG")?;
        let is_gray = matches!(info.pixel_format, PixelFormat::L8 | PixelFormat::L16);
        if (u32::from(info.width), u32::from(info.height)) != (self.width, self.height) || !is_gray {
            return Err("holds a JPEG of another size or kind than its header says; copy it again".to_owned());
        }
        let pixels = decoder.decode().map_err(damaged)?;
        let values: Vec<u16> = match info.pixel_format {
            PixelFormat::L16 => pixels.as_chunks().0.iter().map(|&pair| u16::from_ne_bytes(pair)).collect(),
            _ => pixels.into_iter().map(u16::from).collect(),
        };
        let top = if self.allocated == 16 { u16::MAX } else { 255 };
        match values.len() == self.area() && values.iter().all(|&value| value <= top) {
            true => Ok(values),
            false => Err("holds a JPEG of other values than its header says; copy it again".to_owned()),
        }
    }
}

/// What a frame is decoded to, in rows.
pub(crate) enum Pixels {
    Gray(Vec<u16>),
    Colours(Vec<u8>),
}

/// The pieces, one after another. Their lengths lie within the file.
fn part(file: &mut (impl Read + Seek), pieces: &[(u64, u64)]) -> Result<Vec<u8>, String> {
    let total: u64 = pieces.iter().map(|(_, length)| length).sum();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(total as usize).map_err(|_| "needs more memory than there is".to_owned())?;
    for &(at, length) in pieces {
        file.seek(SeekFrom::Start(at)).map_err(|_| ends())?;
        let read = file.by_ref().take(length).read_to_end(&mut bytes).map_err(|_| ends())?;
        if read as u64 != length {
            return Err(ends());
        }
    }
    Ok(bytes)
}

/// Runs of bytes, a plane for each byte of a value, the higher first.
fn runs(bytes: &[u8], count: usize, wide: bool) -> Result<Vec<u16>, String> {
    let damaged = || "has damaged runs of bytes; copy it again or remove it".to_owned();
    let number = |i: usize| {
        let at = bytes.get(4 * i..4 * i + 4)?;
        Some(u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize)
    };
    let planes = if wide { 2 } else { 1 };
    if number(0) != Some(planes) {
        return Err(damaged());
    }
    let mut values = vec![0u16; count];
    for plane in 1..=planes {
        let mut at = number(plane).filter(|&at| at >= 64).ok_or_else(damaged)?;
        let mut done = 0;
        while done < count {
            let mut put = |byte: u8| {
                if let Some(value) = values.get_mut(done) {
                    *value = *value << 8 | u16::from(byte);
                }
                done += 1;
            };
            let control = *bytes.get(at).ok_or_else(damaged)? as i8;
            at += 1;
            if control >= 0 {
                let literal = bytes.get(at..at + control as usize + 1).ok_or_else(damaged)?;
                at += literal.len();
                literal.iter().for_each(|&byte| put(byte));
            } else if control != i8::MIN {
                let byte = *bytes.get(at).ok_or_else(damaged)?;
                at += 1;
                (0..=-i16::from(control)).for_each(|_| put(byte));
            }
        }
    }
    Ok(values)
}
