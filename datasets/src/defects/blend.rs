//! A piece of another normal image, blended in without a seam.

use super::poisson::{self, Gradients, Patch};
use super::region::{around, blob};
use super::{Kind, sample};
use crate::pixels::Image;
use crate::rng::Rng;

pub(super) const KIND: Kind = Kind {
    name: "blend",
    about: "a piece of another normal image blended in without a seam (NSA, Schlüter et al., ECCV 2022, by \
            Poisson blending, Pérez et al. 2003)",
    draw,
};

/// A blob of 0.12 to 0.5 of the side, its piece 0.7 to 1.3 times as large in the other image, from anywhere;
/// gradients of the piece alone or the steeper of both.
fn draw(image: &Image, source: &Image, rng: &mut Rng) -> Image {
    let mask = blob(image, 0.12, 0.5, rng);
    let gradients = if rng.below(2) == 0 { Gradients::Source } else { Gradients::Mixed };
    let zoom = rng.range(0.7, 1.3);
    let mut shift = |n: usize| rng.range(-0.5, 0.5) * n as f32;
    let (dy, dx) = (shift(source.height), shift(source.width));
    let (height, width) = (image.height, image.width);
    // Beyond the border of the other image, its mirror image.
    let mirror = |at: f32, n: usize| {
        let most = (n.max(2) - 1) as f32;
        let at = at.rem_euclid(2.0 * most);
        if at > most { 2.0 * most - at } else { at }
    };
    // Of the piece only what the blob and its neighbours need.
    let Some(part) = around(&mask, height, width) else { return image.clone() };
    let mut pixels = Vec::with_capacity(image.channels * part.height * part.width);
    for c in 0..image.channels {
        for (y, x) in part.places() {
            let (sy, sx) = (y as f32 * zoom + dy, x as f32 * zoom + dx);
            pixels.push(sample(source, c, mirror(sy, source.height), mirror(sx, source.width)));
        }
    }
    let cut: Vec<bool> = part.places().map(|(y, x)| mask[y * width + x]).collect();
    let piece = Image { channels: image.channels, height: part.height, width: part.width, pixels };
    let mut blended = image.clone();
    let patch = Patch { image: &piece, mask: &cut, top: part.top, left: part.left };
    poisson::blend(&mut blended, &patch, gradients);
    blended
}
