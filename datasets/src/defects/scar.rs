//! A thin strip of the image, turned and pasted elsewhere.

use super::region::Rectangle;
use super::{Jitter, Kind, sample};
use crate::pixels::Image;
use crate::rng::Rng;

pub(super) const KIND: Kind = Kind {
    name: "scar",
    about: "a thin turned strip of the image pasted elsewhere (CutPaste-Scar, Li et al., CVPR 2021)",
    draw,
};

/// Sizes of the paper for images of 256 pixels (appendix A), as shares: 2 to 16 wide, 10 to 25 long, turned
/// by up to 45° either way from either axis; at least 1.5 by 4 pixels.
fn draw(image: &Image, _: &Image, rng: &mut Rng) -> Image {
    let side = image.height.min(image.width) as f32 / 256.0;
    let thin = (side * rng.range(2.0, 16.0)).max(1.5);
    let long = (side * rng.range(10.0, 25.0)).max(4.0).max(thin);
    let (height, width) = if rng.below(2) == 0 { (thin, long) } else { (long, thin) };
    let from = Rectangle::place(image, height, width, rng);
    let (cy, cx) = (rng.unit() * image.height as f32, rng.unit() * image.width as f32);
    // tan of half the angle: up to 22.5°.
    let t = rng.range(-0.414, 0.414);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let jitter = Jitter::new(rng, 0.1);
    let mut scarred = image.clone();
    let plane = image.height * image.width;
    for at in 0..plane {
        let (dy, dx) = ((at / image.width) as f32 + 0.5 - cy, (at % image.width) as f32 + 0.5 - cx);
        let (y, x) = (cos * dy - sin * dx, cos * dx + sin * dy);
        if y.abs() > 0.5 * height || x.abs() > 0.5 * width {
            continue;
        }
        for c in 0..image.channels {
            let (top, left) =
                (from.top as f32 + y + 0.5 * height - 0.5, from.left as f32 + x + 0.5 * width - 0.5);
            let value = sample(image, c, top, left);
            scarred.pixels[c * plane + at] = jitter.apply(value, c, image.channels);
        }
    }
    scarred
}
