//! What the `image` crate does not say of a TIFF file: how many pages it has, and the colours of a palette.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

/// Directories (pages) that are followed, and entries of one.
const MAX_PAGES: usize = 1 << 16;
const MAX_ENTRIES: u64 = 4096;

/// Tags (TIFF 6.0, section 8).
const SUBFILE: u16 = 254;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const SAMPLE_FORMAT: u16 = 339;
/// Value of [`SAMPLE_FORMAT`].
const FLOAT: u64 = 3;
const COLOUR_MAP: u16 = 320;
const ORIENTATION: u16 = 274;
/// Values of [`PHOTOMETRIC`].
const BLACK_IS_ZERO: u64 = 1;
const PALETTE: u64 = 3;

/// A TIFF file beside its pixels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tiff {
    /// Of each page, whether it is an image of its own, and none that belongs to another: a smaller copy, or
    /// a mask of what is transparent.
    pub(crate) pages: Vec<bool>,
    /// Where the pixels of the page that is looked at are indices.
    pub(crate) palette: Option<Palette>,
    /// Width and height where its pixels are gray numbers with a floating point.
    pub(crate) floats: Option<(u32, u32)>,
    /// How it is turned upright, as EXIF counts; 0 where nothing is said.
    pub(crate) orientation: u8,
    /// What to put where in the file, so that this page becomes the first.
    pub(crate) link: Option<(u64, Vec<u8>)>,
}

/// A file in which some bytes are others than stored.
pub(crate) struct Patched<R> {
    pub(crate) file: R,
    pub(crate) at: u64,
    pub(crate) place: u64,
    pub(crate) bytes: Vec<u8>,
}

impl<R: Read> Read for Patched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        for (k, &byte) in self.bytes.iter().enumerate() {
            let place = (self.place + k as u64).checked_sub(self.at).map(|place| place as usize);
            if let Some(slot) = place.filter(|&place| place < read).and_then(|place| buffer.get_mut(place)) {
                *slot = byte;
            }
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Patched<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Colours of the indices of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bits of an index.
    pub(crate) bits: u64,
    /// All reds, then all greens, then all blues, of 16 bits each.
    colours: Vec<u16>,
    /// Where the file says that its samples are indices.
    photometric_at: u64,
    is_little: bool,
}

impl Palette {
    /// Alters a file in memory so that it holds its indices as gray levels, which every decoder reads.
    pub(crate) fn indices_as_gray(&self, file: &mut [u8]) {
        let word = if self.is_little { [BLACK_IS_ZERO as u8, 0] } else { [0, BLACK_IS_ZERO as u8] };
        let at = self.photometric_at as usize;
        if let Some(field) = file.get_mut(at..at + 2) {
            field.copy_from_slice(&word);
        }
    }

    /// Red, green and blue of each index in turn; None for an index that the palette lacks.
    pub(crate) fn colours(&self, indices: &[u8]) -> Option<Vec<u8>> {
        let length = self.colours.len() / 3;
        let mut rgb = Vec::new();
        rgb.try_reserve_exact(indices.len().checked_mul(3)?).ok()?;
        for &index in indices {
            let index = usize::from(index);
            if index >= length {
                return None;
            }
            // Palettes hold 8 bits in the upper half of 16.
            rgb.extend([0, 1, 2].map(|c| (self.colours[c * length + index] >> 8) as u8));
        }
        Some(rgb)
    }
}

/// Reads the directories of a file and looks at a page; None where it is no TIFF, or a damaged one.
pub(crate) fn read(file: &mut (impl Read + Seek), page: usize) -> Option<Tiff> {
    let mut reader = Reader { file, is_little: true, is_big: false };
    let mut start = [0; 4];
    reader.file.rewind().ok()?;
    reader.file.read_exact(&mut start).ok()?;
    (reader.is_little, reader.is_big) = match &start {
        b"II*\0" => (true, false),
        b"MM\0*" => (false, false),
        b"II+\0" => (true, true),
        b"MM\0+" => (false, true),
        _ => return None,
    };
    if reader.is_big {
        reader.number(4)?;
    }
    let (place, word) = if reader.is_big { (8, 8) } else { (4, 4) };
    let mut at = reader.number(reader.word())?;
    let (mut tiff, mut seen) = (Tiff::default(), BTreeSet::new());
    while at != 0 && tiff.pages.len() < MAX_PAGES && seen.insert(at) {
        // A chain that leads out of the file ends it.
        let is_wanted = tiff.pages.len() == page;
        let Some(Page { is_own, palette, floats, orientation, next }) = reader.page(at, is_wanted) else {
            break;
        };
        if is_wanted {
            (tiff.palette, tiff.floats, tiff.orientation) = (palette, floats, orientation);
            if page > 0 {
                let bytes = if reader.is_little { at.to_le_bytes() } else { at.to_be_bytes() };
                let bytes = if reader.is_little { &bytes[..word] } else { &bytes[8 - word..] };
                tiff.link = Some((place, bytes.to_vec()));
            }
        }
        tiff.pages.push(is_own);
        at = next;
    }
    (!tiff.pages.is_empty()).then_some(tiff)
}

/// Whether a page is an image of its own, its palette, the size of its floating-point numbers, how it is
/// turned upright, the next page.
struct Page {
    is_own: bool,
    palette: Option<Palette>,
    floats: Option<(u32, u32)>,
    orientation: u8,
    next: u64,
}

struct Reader<'a, F> {
    file: &'a mut F,
    is_little: bool,
    /// BigTIFF: 64-bit offsets.
    is_big: bool,
}

impl<F: Read + Seek> Reader<'_, F> {
    /// Bytes of an offset.
    fn word(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let mut buffer = [0; 8];
        self.file.read_exact(&mut buffer[..bytes]).ok()?;
        Some(self.value(&buffer[..bytes]))
    }

    fn value(&self, bytes: &[u8]) -> u64 {
        let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        match self.is_little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        }
    }

    /// Whether the page whose directory lies at `at` is an image of its own, its palette, if wanted and there
    /// is one, and where the next page is.
    fn page(&mut self, at: u64, wanted: bool) -> Option<Page> {
        self.file.seek(SeekFrom::Start(at)).ok()?;
        let counted = if self.is_big { 8 } else { 2 };
        let entries = self.number(counted)?;
        let length = 4 + 2 * self.word() as u64;
        if entries > MAX_ENTRIES {
            return None;
        }
        let mut bytes = vec![0; (entries * length) as usize];
        self.file.read_exact(&mut bytes).ok()?;
        let next = self.number(self.word())?;
        let kind = bytes.chunks_exact(length as usize).find(|e| self.value(&e[..2]) == u64::from(SUBFILE));
        let kind = kind.map_or(0, |e| self.value(&e[4 + self.word()..][..4]));
        let palette = wanted.then(|| self.palette(&bytes, at + counted as u64)).flatten();
        // Smaller copies and masks of what is transparent (TIFF 6.0, NewSubfileType).
        let floats = wanted.then(|| self.floats(&bytes)).flatten();
        let orientation =
            bytes.chunks_exact(length as usize).find(|e| self.value(&e[..2]) == u64::from(ORIENTATION));
        let orientation = orientation.map_or(0, |e| self.value(&e[4 + self.word()..][..2]) as u8);
        Some(Page { is_own: kind & 0b101 == 0, palette, floats, orientation, next })
    }

    /// Width and height, where the entries `bytes` tell of gray numbers with a floating point.
    fn floats(&self, bytes: &[u8]) -> Option<(u32, u32)> {
        let value = |tag: u16| {
            let entry = bytes
                .chunks_exact(4 + 2 * self.word())
                .find(|entry| self.value(&entry[..2]) == u64::from(tag))?;
            let width = if self.value(&entry[2..4]) == 3 { 2 } else { 4 };
            Some(self.value(&entry[4 + self.word()..][..width]))
        };
        let is_gray = value(SAMPLES_PER_PIXEL).is_none_or(|samples| samples == 1);
        let is_float = value(SAMPLE_FORMAT) == Some(FLOAT) && matches!(value(BITS_PER_SAMPLE), Some(32 | 64));
        let side = |tag: u16| value(tag).and_then(|side| u32::try_from(side).ok());
        (is_gray && is_float).then_some((side(WIDTH)?, side(HEIGHT)?))
    }

    /// The palette that the entries `bytes`, which lie at `from`, tell of.
    fn palette(&mut self, bytes: &[u8], from: u64) -> Option<Palette> {
        let (word, length) = (self.word(), 4 + 2 * self.word());
        let entry = |tag: u16| {
            let place = bytes.chunks_exact(length).position(|e| self.value(&e[..2]) == u64::from(tag))?;
            let fields = &bytes[place * length..][..length];
            let width = if self.value(&fields[2..4]) == 3 { 2 } else { 4 };
            let count = self.value(&fields[4..4 + word]);
            // Shorts lie at the start of the field; a single number is there itself.
            let value = self.value(&fields[4 + word..][..width]);
            let offset = self.value(&fields[4 + word..]);
            Some((count, value, offset, from + (place * length + 4 + word) as u64))
        };
        let (_, photometric, _, photometric_at) = entry(PHOTOMETRIC)?;
        if photometric != PALETTE {
            return None;
        }
        let (_, width, ..) = entry(WIDTH)?;
        let (_, height, ..) = entry(HEIGHT)?;
        let bits = entry(BITS_PER_SAMPLE).map_or(1, |(_, bits, ..)| bits);
        let (count, _, offset, _) = entry(COLOUR_MAP)?;
        if !(3..=3 << 16).contains(&count) {
            return None;
        }
        self.file.seek(SeekFrom::Start(offset)).ok()?;
        let mut map = vec![0; 2 * count as usize];
        self.file.read_exact(&mut map).ok()?;
        let colours = map.chunks_exact(2).map(|pair| self.value(pair) as u16).collect();
        let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        Some(Palette { width, height, bits, colours, photometric_at, is_little: self.is_little })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A little-endian file of two pages, the first of 1×2 indices into a palette of two colours.
    fn two_pages() -> Vec<u8> {
        let entry = |tag: u16, kind: u16, count: u32, value: u32| {
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
        };
        let first = [
            entry(WIDTH, 3, 1, 2),
            entry(HEIGHT, 3, 1, 1),
            entry(BITS_PER_SAMPLE, 3, 1, 8),
            entry(PHOTOMETRIC, 3, 1, PALETTE as u32),
            entry(COLOUR_MAP, 3, 6, 8),
        ];
        // Header, palette at 8, first directory at 20, second after it.
        let mut file = [&b"II*\0"[..], &20u32.to_le_bytes()].concat();
        for colour in [0x0a00u16, 0xff00, 0x1400, 0x8000, 0x1e00, 0x0000] {
            file.extend(colour.to_le_bytes());
        }
        file.extend((first.len() as u16).to_le_bytes());
        file.extend(first.concat());
        let second = file.len() as u32 + 4;
        file.extend(second.to_le_bytes());
        file.extend(1u16.to_le_bytes());
        file.extend(entry(WIDTH, 3, 1, 2));
        file.extend(0u32.to_le_bytes());
        file
    }

    #[test]
    fn pages_are_counted_and_palettes_read() {
        let mut file = two_pages();
        let tiff = read(&mut Cursor::new(&file), 0).unwrap();
        let palette = tiff.palette.unwrap();
        assert_eq!((tiff.pages.len(), palette.width, palette.height, palette.bits), (2, 2, 1, 8));
        assert_eq!(palette.colours(&[1, 0]).unwrap(), [0xff, 0x80, 0, 0x0a, 0x14, 0x1e]);
        assert_eq!(palette.colours(&[2]), None);
        palette.indices_as_gray(&mut file);
        let gray = read(&mut Cursor::new(&file), 0).unwrap();
        assert_eq!((gray.pages.len(), gray.palette), (2, None));
    }

    #[test]
    fn chains_that_loop_or_leave_the_file_end() {
        let mut file = two_pages();
        let last = file.len() - 4;
        file[last..].copy_from_slice(&20u32.to_le_bytes());
        assert_eq!(read(&mut Cursor::new(&file), 0).unwrap().pages.len(), 2, "back to the first");
        file[last..].copy_from_slice(&9999u32.to_le_bytes());
        assert_eq!(read(&mut Cursor::new(&file), 0).unwrap().pages.len(), 2, "beyond the end");
        for cut in 0..file.len() {
            let _ = read(&mut Cursor::new(&file[..cut]), cut % 2);
        }
        assert_eq!(read(&mut Cursor::new(b"\x89PNG\r\n\x1a\n"), 0), None);
    }
}
