//! A part that is not there.

use super::Kind;
use super::poisson::fill;
use super::region::blob;
use crate::pixels::Image;
use crate::rng::Rng;

pub(super) const KIND: Kind = Kind {
    name: "missing",
    about: "a part that is not there: its surroundings go on over it, or the background shows",
    draw,
};

/// A blob of 0.12 to 0.45 of the side. Half the time a membrane between its surroundings takes its place,
/// half the time the background: the median of the pixels along the border of the image, in each channel.
fn draw(image: &Image, _: &Image, rng: &mut Rng) -> Image {
    let (height, width) = (image.height, image.width);
    let mask = blob(image, 0.12, 0.45, rng);
    let mut without = image.clone();
    if rng.below(2) == 0 {
        fill(&mut without, &mask);
        return without;
    }
    for plane in without.pixels.chunks_exact_mut((height * width).max(1)) {
        let is_border = |i: usize| {
            let (y, x) = (i / width, i % width);
            y == 0 || x == 0 || y + 1 == height || x + 1 == width
        };
        let mut border: Vec<f32> = (0..plane.len()).filter(|&i| is_border(i)).map(|i| plane[i]).collect();
        let middle = border.len() / 2;
        if border.is_empty() {
            continue;
        }
        let (_, &mut median, _) = border.select_nth_unstable_by(middle, f32::total_cmp);
        plane.iter_mut().zip(&mask).filter(|(_, here)| **here).for_each(|(pixel, _)| *pixel = median);
    }
    without
}
