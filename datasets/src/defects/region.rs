//! Where defects lie: rectangles and uneven blobs, with sizes relative to the image.

use crate::pixels::Image;
use crate::rng::Rng;
use crate::synth::field::Noise;

/// A rectangle in pixels, inside its image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rectangle {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Rectangle {
    /// One at a random place with this height and width, which are cut to the image's.
    pub(super) fn place(image: &Image, height: f32, width: f32, rng: &mut Rng) -> Self {
        let side = |wanted: f32, most: usize| ((wanted + 0.5) as usize).clamp(1, most.max(1));
        let (height, width) = (side(height, image.height), side(width, image.width));
        let mut start = |length: usize, n: usize| rng.below((n - length.min(n)) as u64 + 1) as usize;
        Rectangle { top: start(height, image.height), left: start(width, image.width), height, width }
    }

    /// Its pixels as (row, column) of the image, row by row.
    pub(super) fn places(self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.left..self.left + self.width;
        (self.top..self.top + self.height).flat_map(move |y| columns.clone().map(move |x| (y, x)))
    }
}

/// The rectangle around what is true of a mask `[height, width]`, with a margin of one pixel where there is
/// one.
pub(super) fn around(mask: &[bool], height: usize, width: usize) -> Option<Rectangle> {
    let rows = mask.chunks_exact(width.max(1));
    let is_in = |y: &usize| mask[y * width..][..width].contains(&true);
    let (top, bottom) = ((0..height).find(is_in)?, (0..height).rfind(is_in)?);
    let first = rows.clone().filter_map(|row| row.iter().position(|&here| here)).min()?;
    let last = rows.filter_map(|row| row.iter().rposition(|&here| here)).max()?;
    let (top, left) = (top.saturating_sub(1), first.saturating_sub(1));
    let (bottom, right) = ((bottom + 2).min(height), (last + 2).min(width));
    Some(Rectangle { top, left, height: bottom - top, width: right - left })
}

/// An uneven blob `(height × width of the image, row-major)` as long as `least` to `most` of the image's
/// shorter side, up to three times longer than wide, lying in any direction.
pub(super) fn blob(image: &Image, least: f32, most: f32, rng: &mut Rng) -> Vec<bool> {
    let (height, width) = (image.height, image.width);
    let side = height.min(width) as f32;
    let long = (0.5 * side * rng.range(least, most)).max(1.5);
    let short = (long * rng.range(0.34, 1.0)).max(1.2);
    // Half of all directions are all that an ellipse has: (1 − t², 2t)/(1 + t²) for t in ± 1.
    let t = rng.range(-1.0, 1.0);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let (cy, cx) = (rng.unit() * height as f32, rng.unit() * width as f32);
    let (noise, uneven) = (Noise::new(rng, 3.0), rng.range(0.1, 0.6));
    (0..height * width)
        .map(|i| {
            let (dy, dx) = ((i / width) as f32 + 0.5 - cy, (i % width) as f32 + 0.5 - cx);
            let (along, across) = ((cos * dx + sin * dy) / long, (cos * dy - sin * dx) / short);
            let square = along * along + across * across;
            // Noise on the blob's own square, so that its outline is as uneven at any size.
            square < 2.0 && {
                let wobble = uneven * noise.at(0.5 + 0.3 * along, 0.5 + 0.3 * across);
                square < (1.0 + wobble) * (1.0 + wobble)
            }
        })
        .collect()
}

/// Distance-free soft edge of a mask: its mean over windows of `2·radius + 1` pixels, rows then columns.
pub(super) fn soft(mask: &[bool], height: usize, width: usize, radius: usize) -> Vec<f32> {
    let mut plane: Vec<f32> = mask.iter().map(|&here| f32::from(u8::from(here))).collect();
    blur(&mut plane, height, width, radius);
    plane
}

/// Means over windows of `2·radius + 1` pixels, rows then columns, the border repeated.
pub(super) fn blur(plane: &mut [f32], height: usize, width: usize, radius: usize) {
    let line = |from: &[f32], to: &mut dyn FnMut(usize, f32)| {
        let n = from.len() as isize;
        let value = |i: isize| f64::from(from[i.clamp(0, n - 1) as usize]);
        let r = radius as isize;
        let mut sum: f64 = (-r..=r).map(value).sum();
        for i in 0..n {
            to(i as usize, (sum / (2 * r + 1) as f64) as f32);
            sum += value(i + r + 1) - value(i - r);
        }
    };
    if height == 0 || width == 0 {
        return;
    }
    for row in plane.chunks_exact_mut(width) {
        let from = row.to_vec();
        line(&from, &mut |i, value| row[i] = value);
    }
    for x in 0..width {
        let from: Vec<f32> = (0..height).map(|y| plane[y * width + x]).collect();
        line(&from, &mut |i, value| plane[i * width + x] = value);
    }
}
