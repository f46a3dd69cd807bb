//! Pictures of tensors: sample grids, heat maps, overlays.
//!
//! Images are CHW `f32` in [−1, 1]; values outside are clipped. One channel is gray and three are RGB; any
//! other number (multivariate signals) is drawn as gray strips, one channel below the other.

use super::{ReportError, write_atomic};
use image::{ImageEncoder, Rgb, RgbImage, codecs::png::PngEncoder, imageops};
use std::path::Path;

/// Space between the tiles of a grid, in pixels.
const GAP: u32 = 2;
const GAP_COLOUR: Rgb<u8> = Rgb([128; 3]);
/// Ground truth is tinted in a colour that neither gray images nor the heat map contain.
const TRUTH_COLOUR: Rgb<u8> = Rgb([0, 229, 255]);

/// Draws one CHW image; height is `channels × h` unless `channels` is 1 or 3.
///
/// Errors: a length other than `channels · h · w`, or an empty image.
pub fn picture(image: &[f32], channels: usize, h: usize, w: usize) -> Result<RgbImage, ReportError> {
    check_len("image", image.len(), &[channels, h, w])?;
    let byte = |v: f32| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8; // NaN becomes 0
    let plane = h * w;
    let rows = if channels == 3 { h } else { channels * h };
    Ok(RgbImage::from_fn(w as u32, rows as u32, |x, y| {
        let at = y as usize * w + x as usize;
        if channels == 3 {
            Rgb([0, 1, 2].map(|c| byte(image[c * plane + at])))
        } else {
            Rgb([byte(image[at]); 3])
        }
    }))
}

/// Tiles `n` NCHW images of `[height, width]` into a grid of `columns`, e.g. generator samples during
/// training.
///
/// Errors: a length other than `n · channels · height · width`, no image, no column.
pub fn image_grid(
    images: &[f32],
    n: usize,
    channels: usize,
    [h, w]: [usize; 2],
    columns: usize,
) -> Result<RgbImage, ReportError> {
    check_len("image grid", images.len(), &[n, channels, h, w])?;
    let tiles: Result<Vec<_>, _> =
        images.chunks(images.len() / n).map(|image| picture(image, channels, h, w)).collect();
    tile(&tiles?, columns)
}

/// Lays tiles row by row, each cell as large as the largest tile.
fn tile(tiles: &[RgbImage], columns: usize) -> Result<RgbImage, ReportError> {
    let columns = columns.min(tiles.len());
    if columns == 0 {
        return Err(ReportError::Shape {
            what: "image grid".into(),
            got: 0,
            shape: vec![tiles.len(), columns],
        });
    }
    let cell_w = tiles.iter().map(RgbImage::width).max().unwrap_or(0) + GAP;
    let cell_h = tiles.iter().map(RgbImage::height).max().unwrap_or(0) + GAP;
    let rows = tiles.len().div_ceil(columns) as u32;
    let mut grid = RgbImage::from_pixel(columns as u32 * cell_w - GAP, rows * cell_h - GAP, GAP_COLOUR);
    for (i, tile) in tiles.iter().enumerate() {
        let (x, y) = ((i % columns) as u32 * cell_w, (i / columns) as u32 * cell_h);
        imageops::replace(&mut grid, tile, i64::from(x), i64::from(y));
    }
    Ok(grid)
}

/// Enlarges by a whole factor: every pixel becomes a square.
#[cfg(feature = "report")]
pub(super) fn enlarged(image: &RgbImage, times: u32) -> RgbImage {
    if times <= 1 {
        return image.clone();
    }
    RgbImage::from_fn(image.width() * times, image.height() * times, |x, y| {
        *image.get_pixel(x / times, y / times)
    })
}

/// Shrinks by a whole factor: every pixel is the mean of a square, what is left at the edges goes.
#[cfg(feature = "report")]
pub(super) fn reduced(image: &RgbImage, part: u32) -> RgbImage {
    let mean = |x: u32, y: u32, c: usize| {
        let square = (0..part * part).map(|i| image.get_pixel(x * part + i % part, y * part + i / part).0[c]);
        let sum: u64 = square.map(u64::from).sum();
        (sum as f64 / f64::from(part * part)).round() as u8
    };
    let side = |s: u32| (s / part).max(1);
    match image.width() >= part && image.height() >= part {
        true => RgbImage::from_fn(side(image.width()), side(image.height()), |x, y| {
            Rgb([0, 1, 2].map(|c| mean(x, y, c)))
        }),
        false => imageops::thumbnail(image, side(image.width()), side(image.height())),
    }
}

/// The upper rows of tiles of a grid that fit in a height, at least one; a picture without rows as it is.
#[cfg(feature = "report")]
pub(super) fn first_rows(grid: &RgbImage, height: u32) -> RgbImage {
    let is_gap = |y: u32| (0..grid.width()).all(|x| *grid.get_pixel(x, y) == GAP_COLOUR);
    let gaps: Vec<u32> = (1..grid.height()).filter(|&y| is_gap(y) && !is_gap(y - 1)).collect();
    match gaps.iter().rev().find(|&&y| y <= height).or(gaps.first()) {
        Some(&rows) if grid.height() > height => {
            imageops::crop_imm(grid, 0, 0, grid.width(), rows).to_image()
        }
        _ => grid.clone(),
    }
}

/// Draws an anomaly map in the inferno colours, from black at 0 to pale yellow at `scale` and above.
///
/// Inferno is perceptually uniform and survives colour blindness and gray print. Errors: a length other than
/// `h · w`.
pub fn heat_map(map: &[f32], h: usize, w: usize, scale: f32) -> Result<RgbImage, ReportError> {
    check_len("anomaly map", map.len(), &[h, w])?;
    Ok(RgbImage::from_fn(w as u32, h as u32, |x, y| {
        Rgb(heat_colour(heat(map[y as usize * w + x as usize], scale)))
    }))
}

/// Lays the heat map over the query: the hotter a pixel, the more opaque its colour.
///
/// Errors: lengths other than `channels · h · w` and `h · w`.
pub fn overlay(
    query: &[f32],
    channels: usize,
    map: &[f32],
    h: usize,
    w: usize,
    scale: f32,
) -> Result<RgbImage, ReportError> {
    check_len("anomaly map", map.len(), &[h, w])?;
    let mut drawn = picture(query, channels, h, w)?;
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let heat = heat(map[y as usize % h * w + x as usize], scale);
        *pixel = blend(*pixel, Rgb(heat_colour(heat)), 0.85 * heat);
    }
    Ok(drawn)
}

/// Draws the border of a rectangle (left edge, upper edge, width, height) in two colours, of which one stands
/// out from whatever lies below.
#[cfg(feature = "report")]
pub(super) fn frame(image: &mut RgbImage, [x, y, w, h]: [usize; 4]) {
    let [left, top, right, bottom] = [x, y, x + w.max(1) - 1, y + h.max(1) - 1].map(|v| v as u32);
    let [last_x, last_y] = [image.width().saturating_sub(1), image.height().saturating_sub(1)];
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let inside = |by: u32| {
            (left + by..=right.saturating_sub(by).min(last_x.saturating_sub(by))).contains(&x)
                && (top + by..=bottom.saturating_sub(by).min(last_y.saturating_sub(by))).contains(&y)
        };
        if inside(0) && !inside(2) {
            *pixel = if inside(1) { Rgb([0; 3]) } else { Rgb([255; 3]) };
        }
    }
}

/// Tints the pixels of the ground-truth mask in the query.
///
/// Errors: lengths other than `channels · h · w` and `h · w`.
pub fn truth_overlay(
    query: &[f32],
    channels: usize,
    mask: &[bool],
    h: usize,
    w: usize,
) -> Result<RgbImage, ReportError> {
    check_len("ground-truth mask", mask.len(), &[h, w])?;
    let mut drawn = picture(query, channels, h, w)?;
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        if mask[y as usize % h * w + x as usize] {
            *pixel = blend(*pixel, TRUTH_COLOUR, 0.7);
        }
    }
    Ok(drawn)
}

/// Writes a PNG atomically.
///
/// Errors: [`ReportError::Write`].
pub fn save_png_atomic(path: &Path, image: &RgbImage) -> Result<(), ReportError> {
    write_atomic(path, &png(image)?)
}

/// Encodes a PNG.
pub(crate) fn png(image: &RgbImage) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image.as_raw(), image.width(), image.height(), image::ExtendedColorType::Rgb8)
        .map_err(|e| ReportError::Picture(e.to_string()))?;
    Ok(bytes)
}

/// Colour of the heat map at `heat` in [0, 1].
pub(super) fn heat_colour(heat: f64) -> [u8; 3] {
    let colour = colorous::INFERNO.eval_continuous(heat);
    [colour.r, colour.g, colour.b]
}

/// Share of the scale, in [0, 1]; values that are not finite count as 0.
fn heat(value: f32, scale: f32) -> f64 {
    let share = f64::from(value) / f64::from(scale.max(f32::MIN_POSITIVE));
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

pub(super) fn blend(below: Rgb<u8>, above: Rgb<u8>, opacity: f64) -> Rgb<u8> {
    let mix = |c: usize| f64::from(below.0[c]) * (1.0 - opacity) + f64::from(above.0[c]) * opacity;
    Rgb([0, 1, 2].map(|c| mix(c).round() as u8))
}

/// Checks a length against a shape of non-zero sizes, without overflow.
fn check_len(what: &str, got: usize, shape: &[usize]) -> Result<(), ReportError> {
    let expected = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
    if expected == Some(got) && got > 0 && shape.iter().all(|&d| u32::try_from(d).is_ok()) {
        return Ok(());
    }
    Err(ReportError::Shape { what: what.to_owned(), got, shape: shape.to_vec() })
}
