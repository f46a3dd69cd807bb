//! A rectangle of the image, pasted elsewhere.

use super::region::Rectangle;
use super::{Jitter, Kind};
use crate::pixels::Image;
use crate::rng::Rng;

pub(super) const KIND: Kind = Kind {
    name: "cut_paste",
    about: "a rectangle of the image pasted elsewhere (CutPaste, Li et al., CVPR 2021)",
    draw,
};

/// Shares of the area and aspect ratios of the paper (section 2.2 and appendix A): 0.02 to 0.15, and 0.3 to 1
/// either way; jitter of colours by a tenth.
fn draw(image: &Image, _: &Image, rng: &mut Rng) -> Image {
    let area = rng.range(0.02, 0.15) * (image.height * image.width) as f32;
    let aspect = rng.range(0.3, 1.0);
    let (long, short) = ((area / aspect).sqrt(), (area * aspect).sqrt());
    let (height, width) = if rng.below(2) == 0 { (long, short) } else { (short, long) };
    let from = Rectangle::place(image, height, width, rng);
    let to = Rectangle::place(image, height, width, rng);
    let jitter = Jitter::new(rng, 0.1);
    let mut pasted = image.clone();
    let plane = image.height * image.width;
    for c in 0..image.channels {
        for (y, x) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
            let value = image.pixels[c * plane + (from.top + y) * image.width + from.left + x];
            let place = c * plane + (to.top + y) * image.width + to.left + x;
            pasted.pixels[place] = jitter.apply(value, c, image.channels);
        }
    }
    pasted
}
