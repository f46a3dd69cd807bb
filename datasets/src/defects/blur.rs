//! A region out of focus.

use super::Kind;
use super::region::{blob, blur, soft};
use crate::pixels::Image;
use crate::rng::Rng;

pub(super) const KIND: Kind = Kind { name: "blur", about: "a region that is out of focus, or smeared", draw };

/// A blob of 0.15 to 0.5 of the side, whose pixels become means over windows of 0.04 to 0.15 of the side,
/// three times over (about a Gaussian); its edge is soft over two pixels.
fn draw(image: &Image, _: &Image, rng: &mut Rng) -> Image {
    let (height, width) = (image.height, image.width);
    let mask = blob(image, 0.15, 0.5, rng);
    let window = rng.range(0.04, 0.15) * height.min(width) as f32;
    let radius = ((0.5 * window) as usize).max(1);
    let cover = soft(&mask, height, width, 1);
    let mut blurred = image.clone();
    for plane in blurred.pixels.chunks_exact_mut((height * width).max(1)) {
        let mut smooth = plane.to_vec();
        (0..3).for_each(|_| blur(&mut smooth, height, width, radius));
        for ((pixel, smooth), cover) in plane.iter_mut().zip(smooth).zip(&cover) {
            *pixel = (*pixel + (smooth - *pixel) * cover).clamp(-1.0, 1.0);
        }
    }
    blurred
}
