//! Films: pictures in a row with words below them, as one picture or as an animation. Pictures are enlarged
//! by whole factors, so that every pixel of theirs is a square.

use super::picture::enlarged;
use super::{ReportError, write_atomic};
use image::{Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::path::Path;

/// Side that small pictures are enlarged towards, in pixels.
const SIDE: u32 = 128;
const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: [u8; 3] = [27, 33, 39];
/// Around and between pictures, and below words.
const SPACE: u32 = 8;
const LINE: u32 = 18;
/// Milliseconds that a frame stays, and the last one.
const FRAME_MS: u16 = 450;
const LAST_MS: u16 = 2500;

/// A picture with the lines that stand below it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The picture.
    pub image: RgbImage,
    /// Lines of Latin letters; others become question marks.
    pub lines: Vec<String>,
}

/// Lays frames out in rows, in columns as wide as the widest.
///
/// Errors: no frame.
pub fn film(rows: &[Vec<Frame>]) -> Result<RgbImage, ReportError> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    if count == 0 {
        return Err(ReportError::Shape { what: "film".into(), got: 0, shape: vec![rows.len(), count] });
    }
    let large = |frame: &Frame| enlarged(&frame.image, times(&frame.image));
    let sized = |frame: &Frame| [frame.image.width(), frame.image.height()].map(|s| s * times(&frame.image));
    let column = |i: usize| {
        let frames = rows.iter().filter_map(|row| row.get(i));
        frames
            .map(|f| sized(f)[0].max(f.lines.iter().map(|l| text_width(l)).max().unwrap_or(0)))
            .max()
            .unwrap_or(0)
    };
    let height = |row: &Vec<Frame>| {
        row.iter().map(|f| sized(f)[1] + SPACE / 2 + LINE * f.lines.len() as u32).max().unwrap_or(0)
    };
    let columns: Vec<u32> = (0..count).map(column).collect();
    let heights: Vec<u32> = rows.iter().map(height).collect();
    let total = |sizes: &[u32]| SPACE + sizes.iter().map(|s| s + SPACE).sum::<u32>();
    let mut paper = RgbImage::from_pixel(total(&columns), total(&heights), PAPER);
    let mut top = SPACE;
    for (row, height) in rows.iter().zip(&heights) {
        let mut left = SPACE;
        for (frame, width) in row.iter().zip(&columns) {
            let image = large(frame);
            let aside = i64::from(left + (width - image.width()) / 2);
            imageops::replace(&mut paper, &image, aside, i64::from(top));
            for (i, line) in frame.lines.iter().enumerate() {
                let at = left + (width - text_width(line)) / 2;
                write(&mut paper, line, at, top + image.height() + SPACE / 2 + LINE * i as u32);
            }
            left += width + SPACE;
        }
        top += height + SPACE;
    }
    Ok(paper)
}

/// Writes pictures of equal size as an animation that repeats: a GIF, or an animated PNG where the name ends
/// in `.apng`.
///
/// Errors: no picture, pictures of different sizes, a file that cannot be written.
pub fn save_animation(path: &Path, pictures: &[RgbImage]) -> Result<(), ReportError> {
    let Some(first) = pictures.first() else {
        return Err(ReportError::Shape { what: "animation".into(), got: 0, shape: vec![0] });
    };
    if let Some(odd) = pictures.iter().find(|p| p.dimensions() != first.dimensions()) {
        let shape = vec![first.height() as usize, first.width() as usize];
        let got = odd.width() as usize * odd.height() as usize;
        return Err(ReportError::Shape { what: "picture of an animation".into(), got, shape });
    }
    let is_png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("apng"));
    let bytes = if is_png { apng(pictures)? } else { gif(pictures)? };
    write_atomic(path, &bytes)
}

fn delay(at: usize, count: usize) -> u16 {
    if at + 1 == count { LAST_MS } else { FRAME_MS }
}

fn failed(error: impl ToString) -> ReportError {
    ReportError::Picture(error.to_string())
}

fn gif(pictures: &[RgbImage]) -> Result<Vec<u8>, ReportError> {
    let side =
        |s: u32| u16::try_from(s).map_err(|_| failed(format!("{s} pixels are more than a GIF can have")));
    let (width, height) = (side(pictures[0].width())?, side(pictures[0].height())?);
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(failed)?;
    for (at, picture) in pictures.iter().enumerate() {
        let mut frame = gif::Frame::from_rgb_speed(width, height, picture.as_raw(), 10);
        frame.delay = delay(at, pictures.len()) / 10;
        encoder.write_frame(&frame).map_err(failed)?;
    }
    drop(encoder);
    Ok(bytes)
}

fn apng(pictures: &[RgbImage]) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pictures[0].width(), pictures[0].height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(pictures.len() as u32, 0).map_err(failed)?;
    let mut writer = encoder.write_header().map_err(failed)?;
    for (at, picture) in pictures.iter().enumerate() {
        writer.set_frame_delay(delay(at, pictures.len()), 1000).map_err(failed)?;
        writer.write_image_data(picture.as_raw()).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The whole factor by which a picture is enlarged.
fn times(image: &RgbImage) -> u32 {
    (SIDE / image.width().max(image.height()).max(1)).max(1)
}

fn text_width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, RasterHeight::Size16)) as u32
}

/// Writes a line whose upper left corner is at (x, y).
fn write(paper: &mut RgbImage, text: &str, x: u32, y: u32) {
    let step = get_raster_width(FontWeight::Regular, RasterHeight::Size16) as u32;
    let raster = |letter| get_raster(letter, FontWeight::Regular, RasterHeight::Size16);
    for (i, letter) in text.chars().enumerate() {
        let Some(letter) = raster(letter).or_else(|| raster('?')) else { continue };
        for (dy, row) in letter.rows().enumerate() {
            for (dx, &ink) in row.iter().enumerate() {
                let at = (x + i as u32 * step + dx as u32, y + dy as u32);
                if let Some(pixel) = paper.get_pixel_mut_checked(at.0, at.1) {
                    let share = f64::from(ink) / 255.0;
                    let mix = |c: usize| f64::from(pixel.0[c]) * (1.0 - share) + f64::from(INK[c]) * share;
                    *pixel = Rgb([0, 1, 2].map(|c| mix(c).round() as u8));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: u8, side: u32, lines: &[&str]) -> Frame {
        let image = RgbImage::from_fn(side, side, |x, y| Rgb([value + ((x + y) % 2) as u8; 3]));
        Frame { image, lines: lines.iter().map(|&l| l.to_owned()).collect() }
    }

    #[test]
    fn a_film_shows_every_pixel_as_a_square_with_its_words_below() {
        let rows = [
            vec![frame(10, 32, &["query"]), frame(20, 32, &["step 0", "loss 812.25"])],
            vec![frame(30, 32, &["query"])],
        ];
        let film = film(&rows).unwrap();
        assert_eq!(film.dimensions(), (8 + 2 * 136, 8 + (128 + 4 + 36 + 8) + (128 + 4 + 18 + 8)));
        for (x, y) in [(0, 0), (31, 0), (7, 30)] {
            let square: Vec<u8> =
                (0..16).map(|i| film.get_pixel(8 + 4 * x + i % 4, 8 + 4 * y + i / 4).0[0]).collect();
            assert_eq!(square, [10 + ((x + y) % 2) as u8; 16]);
        }
        let dark =
            |top: u32| (0..film.width()).any(|x| (top..top + 16).any(|y| film.get_pixel(x, y).0[0] < 60));
        assert!(dark(8 + 128 + 4) && dark(8 + 128 + 4 + 18), "there are words");
        // A letter without a picture is said, not left out.
        let odd = super::film(&[vec![frame(0, 8, &["∂"])]]).unwrap();
        let asked = super::film(&[vec![frame(0, 8, &["?"])]]).unwrap();
        assert_eq!(odd, asked);
        assert!(super::film(&[]).is_err() && super::film(&[vec![]]).is_err());
    }

    #[test]
    fn animations_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let pictures: Vec<RgbImage> =
            (0..3).map(|i| film(&[vec![frame(40 * i, 16, &["step", "x"])]]).unwrap()).collect();
        let [gif, apng] = ["a.gif", "a.apng"].map(|name| folder.path().join(name));
        save_animation(&gif, &pictures).unwrap();
        save_animation(&apng, &pictures).unwrap();

        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut reader = options.read_info(std::fs::File::open(&gif).unwrap()).unwrap();
        for (i, picture) in pictures.iter().enumerate() {
            let frame = reader.read_next_frame().unwrap().expect("frame");
            assert_eq!(frame.delay, if i == 2 { 250 } else { 45 });
            let rgb: Vec<u8> = frame.buffer.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            let off = rgb.iter().zip(picture.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(2), "{off:?}");
        }
        assert!(reader.read_next_frame().unwrap().is_none());

        let file = std::io::BufReader::new(std::fs::File::open(&apng).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        assert_eq!(reader.info().animation_control().map(|a| (a.num_frames, a.num_plays)), Some((3, 0)));
        for picture in &pictures {
            let mut pixels = vec![0; picture.as_raw().len()];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(&pixels, picture.as_raw());
        }
        let odd = [pictures[0].clone(), RgbImage::new(2, 2)];
        assert!(matches!(save_animation(&gif, &odd), Err(ReportError::Shape { .. })));
        assert!(matches!(save_animation(&gif, &[]), Err(ReportError::Shape { .. })));
    }
}
