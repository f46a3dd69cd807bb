//! Maps as files, written row by row: pictures over their image, masks, and raw values.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ganomede_host::NewFile;
use image::Rgb;
use png::{BitDepth, ColorType, Encoder, StreamWriter};

use super::ReportError;
use super::picture::{blend, heat_colour};

/// Colours between the ends of a scale.
const SHADES: usize = 1023;

/// A file that the encoder and its owner both hold.
#[derive(Clone)]
struct Shared(Arc<Mutex<Option<NewFile>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(file) => file.write(bytes),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A PNG that is written row by row; the file appears when it is whole.
pub struct PngRows {
    path: PathBuf,
    file: Shared,
    encoder: StreamWriter<'static, Shared>,
}

impl PngRows {
    /// A picture of `width × height` pixels: red, green and blue, or gray, in 8 bits.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the file cannot be made.
    pub fn create(path: &Path, [height, width]: [usize; 2], colours: bool) -> Result<Self, ReportError> {
        let file = NewFile::create(path).map_err(|e| write_error(path, e))?;
        let file = Shared(Arc::new(Mutex::new(Some(file))));
        let encoding = |e: png::EncodingError| write_error(path, e.into());
        let side = |side: usize| {
            u32::try_from(side).map_err(|_| write_error(path, std::io::ErrorKind::InvalidInput.into()))
        };
        let mut encoder = Encoder::new(file.clone(), side(width)?, side(height)?);
        encoder.set_color(if colours { ColorType::Rgb } else { ColorType::Grayscale });
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let encoder = encoder.write_header().and_then(png::Writer::into_stream_writer).map_err(encoding)?;
        Ok(Self { path: path.to_owned(), file, encoder })
    }

    /// The next row: three bytes a pixel, or one.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the disk is full.
    pub fn row(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        self.encoder.write_all(bytes).map_err(|e| write_error(&self.path, e))
    }

    /// Moves the whole picture into its place.
    ///
    /// # Errors
    /// [`ReportError::Write`] where rows are missing or the system refuses.
    pub fn finish(self) -> Result<(), ReportError> {
        let Self { path, file, encoder } = self;
        encoder.finish().map_err(|e| write_error(&path, e.into()))?;
        let file = file.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        file.map_or(Ok(()), NewFile::finish).map_err(|e| write_error(&path, e))
    }
}

/// Raw values as NumPy reads them: an `.npy` file of 32-bit floats, `[height, width]`.
pub struct NpyRows {
    path: PathBuf,
    file: NewFile,
}

impl NpyRows {
    /// An array of this height and width.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the file cannot be made.
    pub fn create(path: &Path, [height, width]: [usize; 2]) -> Result<Self, ReportError> {
        let mut file = NewFile::create(path).map_err(|e| write_error(path, e))?;
        let mut header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
        // Magic, version, length and header fill whole lines of 64 bytes, the last of which is a line feed.
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()]
            .iter()
            .try_for_each(|part| file.write_all(part))
            .map_err(|e| write_error(path, e))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The next row.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the disk is full.
    pub fn row(&mut self, values: &[f32]) -> Result<(), ReportError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(|e| write_error(&self.path, e))
    }

    /// Moves the whole array into its place.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the system refuses.
    pub fn finish(self) -> Result<(), ReportError> {
        let Self { path, file } = self;
        file.finish().map_err(|e| write_error(&path, e))
    }
}

fn write_error(path: &Path, source: std::io::Error) -> ReportError {
    ReportError::Write { path: path.to_owned(), source }
}

/// A row of a picture, red, green and blue, under the colours of a row of its map; the hotter a pixel, the
/// more opaque its colour. `range` is where the colours begin and end; what is NaN stays as it is.
pub fn overlay_row(picture: &[u8], map: &[f32], [low, high]: [f32; 2]) -> Vec<u8> {
    static COLOURS: LazyLock<Vec<Rgb<u8>>> =
        LazyLock::new(|| (0..=SHADES).map(|i| Rgb(heat_colour(i as f64 / SHADES as f64))).collect());
    let reach = f64::from(high) - f64::from(low);
    let scale = SHADES as f64 / reach.max(f64::MIN_POSITIVE);
    let mut row = picture.to_vec();
    for (pixel, &value) in row.chunks_exact_mut(3).zip(map) {
        // NaN becomes 0.
        let shade = ((f64::from(value) - f64::from(low)) * scale).clamp(0.0, SHADES as f64) as usize;
        if shade > 0 {
            let below = Rgb([pixel[0], pixel[1], pixel[2]]);
            let opacity = 0.85 * shade as f64 / SHADES as f64;
            pixel.copy_from_slice(&blend(below, COLOURS[shade], opacity).0);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_whole_files_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let mut picture = PngRows::create(&place("a.png"), [2, 3], true).unwrap();
        picture.row(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert!(!place("a.png").exists());
        picture.row(&[9; 9]).unwrap();
        picture.finish().unwrap();
        let read = image::open(place("a.png")).unwrap().to_rgb8();
        assert_eq!(
            (read.dimensions(), read.get_pixel(1, 0).0, read.get_pixel(2, 1).0),
            ((3, 2), [4, 5, 6], [9; 3])
        );

        let mut missing = PngRows::create(&place("b.png"), [2, 3], false).unwrap();
        missing.row(&[0, 255, 0]).unwrap();
        assert!(missing.finish().is_err() && !place("b.png").exists());
        drop(NpyRows::create(&place("c.npy"), [1, 1]).unwrap());
        assert!(!place("c.npy").exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn arrays_are_such_as_numpy_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.npy");
        let mut rows = NpyRows::create(&path, [2, 2]).unwrap();
        rows.row(&[1.0, -2.5]).unwrap();
        rows.row(&[f32::NAN, 3.0]).unwrap();
        rows.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
        assert_eq!((&bytes[..8], bytes.len()), (&b"\x93NUMPY\x01\x00"[..], 128 + 16));
        assert_eq!((&bytes[8..10], bytes[127]), (&[118, 0][..], b'\n'));
        assert!(bytes[10..].starts_with(header.as_bytes()));
        assert_eq!(bytes[128..136], [0, 0, 128, 63, 0, 0, 32, 192]);
    }

    #[test]
    fn colours_begin_and_end_with_the_range() {
        let gray = [100; 12];
        let row = overlay_row(&gray, &[1.0, 2.0, 3.0, f32::NAN], [1.0, 3.0]);
        assert_eq!((&row[..3], &row[9..]), (&gray[..3], &gray[..3]));
        assert_ne!(row[3..6], gray[..3]);
        assert_eq!(row[6..9], overlay_row(&gray[..3], &[9.0], [1.0, 3.0]));
    }
}
