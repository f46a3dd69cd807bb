//! Synthetic defects: what a normal image looks like with something wrong in it, and where.
//!
//! Pure functions of an image and a stream of random numbers, for judging a detector without labels and for
//! systems that learn from defects. They are no substitute for real ones: a detector that finds them may miss
//! what a factory makes.
//!
//! A kind is found by its file's name: `scar` is `scar.rs`. A new one is a file and a line in [`KINDS`].
//!
//! ```
//! use ganomede_datasets::{Image, Rng, defects};
//!
//! let pixels = (0..64 * 64).map(|i| (i % 7) as f32 / 7.0 - 0.5).collect();
//! let image = Image { channels: 1, height: 64, width: 64, pixels };
//! let kind = defects::kind("scar").ok_or("no such kind")?;
//! let defect = defects::draw(kind, &image, &image, &mut Rng::new(&[1, 2]));
//! let changed = defect.mask.pixels.iter().filter(|&&here| here).count();
//! assert!(changed > 0 && changed < 64 * 64 / 4);
//! # Ok::<(), &str>(())
//! ```

mod blend;
mod blur;
mod cut_paste;
mod missing;
pub mod natural;
pub mod photographs;
pub mod poisson;
mod region;
mod scar;
pub mod texture;

use crate::pixels::{Image, Mask};
use crate::rng::Rng;

/// A kind of defect.
#[derive(Debug)]
pub struct Kind {
    /// Its name, that of its file.
    pub name: &'static str,
    /// What it is, with its source.
    pub about: &'static str,
    draw: fn(&Image, &Image, &mut Rng) -> Image,
}

/// Every kind.
pub static KINDS: [Kind; 5] = [cut_paste::KIND, scar::KIND, blend::KIND, blur::KIND, missing::KIND];

/// The kind with this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A normal image with a defect.
#[derive(Clone, Debug, PartialEq)]
pub struct Defect {
    /// The image; outside the mask it is the normal one, bit for bit.
    pub image: Image,
    /// Exactly the pixels that changed.
    pub mask: Mask,
}

/// Draws before the most visible one is taken.
const ATTEMPTS: usize = 10;
/// Mean change of the changed pixels from which a defect is taken at once: ten steps of 8 bits.
const VISIBLE: f32 = 20.0 / 255.0;
/// A change below half a step of 8 bits is none.
const STEP: f32 = 1.0 / 255.0;

/// Draws a defect of one kind onto a normal `image`; `source` is another normal image, from which some kinds
/// take what they put in (the same image will do; of another size or with other channels, too). Sizes are
/// relative to the image. The defect is drawn anew until it can be seen, ten times at most; the most visible
/// one is given then. The mask is empty only where nothing can be seen at all, as blur in a constant image.
pub fn draw(kind: &Kind, image: &Image, source: &Image, rng: &mut Rng) -> Defect {
    let mut best: Option<(f32, Defect)> = None;
    for _ in 0..ATTEMPTS {
        let (change, defect) = compared((kind.draw)(image, source, rng), image);
        if best.as_ref().is_none_or(|(most, _)| change > *most) {
            best = Some((change, defect));
        }
        if change >= VISIBLE {
            break;
        }
    }
    match best {
        Some((_, defect)) => defect,
        None => Defect { image: image.clone(), mask: Mask::none(image.height, image.width) },
    }
}

/// As [`draw`], of a kind that is drawn as well.
pub fn draw_any(image: &Image, source: &Image, rng: &mut Rng) -> (&'static Kind, Defect) {
    let kind = &KINDS[rng.below(KINDS.len() as u64) as usize];
    (kind, draw(kind, image, source, rng))
}

/// What changed, and by how much on average; 0 where fewer than four pixels did.
fn compared(mut changed: Image, image: &Image) -> (f32, Defect) {
    let plane = (image.height * image.width).max(1);
    let mut mask = Mask::none(image.height, image.width);
    let (mut sum, mut count) = (0.0f64, 0u32);
    for at in 0..image.height * image.width {
        let places = || (at..image.pixels.len()).step_by(plane);
        let difference = places().map(|i| (changed.pixels[i] - image.pixels[i]).abs()).fold(0.0, f32::max);
        if difference >= STEP {
            mask.pixels[at] = true;
            sum += f64::from(difference);
            count += 1;
        } else {
            places().for_each(|i| changed.pixels[i] = image.pixels[i]);
        }
    }
    let mean = if count >= 4 { (sum / f64::from(count)) as f32 } else { 0.0 };
    (mean, Defect { image: changed, mask })
}

/// A random change of colour, as CutPaste's jitter of a tenth: brightness, contrast, and a tint.
struct Jitter {
    brightness: f32,
    contrast: f32,
    tints: [f32; 3],
}

impl Jitter {
    fn new(rng: &mut Rng, strength: f32) -> Self {
        Jitter {
            brightness: 2.0 * rng.range(-strength, strength),
            contrast: 1.0 + rng.range(-strength, strength),
            tints: std::array::from_fn(|_| rng.range(-strength, strength)),
        }
    }

    /// A value of channel `c` of an image with so many channels.
    fn apply(&self, value: f32, c: usize, channels: usize) -> f32 {
        let tint = if channels > 1 { self.tints[c % 3] } else { 0.0 };
        (value * self.contrast + self.brightness + tint).clamp(-1.0, 1.0)
    }
}

/// Bilinear value of a channel at (y, x) in pixels, its border repeated.
fn sample(image: &Image, c: usize, y: f32, x: f32) -> f32 {
    let (h, w) = (image.height, image.width);
    let plane = &image.pixels[(c % image.channels.max(1)) * h * w..][..h * w];
    let (y, x) = (y.clamp(0.0, (h - 1) as f32), x.clamp(0.0, (w - 1) as f32));
    let (i, j) = (y as usize, x as usize);
    let (fy, fx) = (y - i as f32, x - j as f32);
    let (i1, j1) = ((i + 1).min(h - 1), (j + 1).min(w - 1));
    let row = |i: usize| plane[i * w + j] + (plane[i * w + j1] - plane[i * w + j]) * fx;
    row(i) + (row(i1) - row(i)) * fy
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disc with bands on a plain ground, as parts are photographed.
    fn part(channels: usize, height: usize, width: usize, seed: u64) -> Image {
        let mut rng = Rng::new(&[seed, 77]);
        let (cy, cx) = (height as f32 * rng.range(0.45, 0.55), width as f32 * rng.range(0.45, 0.55));
        let radius = height.min(width) as f32 * 0.4;
        let mut pixels = vec![];
        for c in 0..channels {
            for i in 0..height * width {
                let (y, x) = ((i / width) as f32 - cy, (i % width) as f32 - cx);
                let r = (y * y + x * x).sqrt() / radius;
                let value = if r > 1.0 { 0.7 } else { 0.3 - 0.6 * r + 0.2 * ((9.0 * r) as i32 % 2) as f32 };
                pixels.push(value - 0.1 * c as f32 + rng.range(-0.02, 0.02));
            }
        }
        Image { channels, height, width, pixels }
    }

    #[test]
    fn masks_are_exactly_what_changed_at_any_size() {
        for (channels, height, width) in [(1, 64, 64), (3, 64, 48), (1, 16, 16), (1, 17, 101), (3, 128, 128)]
        {
            for kind in &KINDS {
                let (mut shares, mut changes) = (vec![], vec![]);
                for seed in 0..20 {
                    let (image, source) =
                        (part(channels, height, width, seed), part(channels, height, width, seed + 100));
                    let defect = draw(kind, &image, &source, &mut Rng::new(&[seed]));
                    let again = draw(kind, &image, &source, &mut Rng::new(&[seed]));
                    assert_eq!(defect, again, "{}", kind.name);
                    let plane = height * width;
                    let (mut count, mut sum) = (0, 0.0);
                    for at in 0..plane {
                        let places = (0..channels).map(|c| c * plane + at);
                        let same = places
                            .clone()
                            .all(|i| defect.image.pixels[i].to_bits() == image.pixels[i].to_bits());
                        assert_eq!(same, !defect.mask.pixels[at], "{} {seed} at {at}", kind.name);
                        if !same {
                            count += 1;
                            let changes = places.map(|i| (defect.image.pixels[i] - image.pixels[i]).abs());
                            sum += changes.fold(0.0, f32::max);
                        }
                    }
                    assert!(defect.image.pixels.iter().all(|p| (-1.0..=1.0).contains(p)));
                    assert!(count >= 4, "{} {seed}: {count} pixels at {height}×{width}", kind.name);
                    shares.push(count as f64 / plane as f64);
                    changes.push(sum / count as f32);
                }
                let most = shares.iter().copied().fold(0.0, f64::max);
                assert!(most < 0.3, "{} at {height}×{width} covers {most}", kind.name);
                let mean = changes.iter().sum::<f32>() / changes.len() as f32;
                assert!(mean > VISIBLE / 2.0, "{} at {height}×{width} changes by {mean}", kind.name);
                changes.sort_by(f32::total_cmp);
                assert!(changes[0] != changes[19], "{}", kind.name);
            }
        }
    }

    #[test]
    fn kinds_are_found_by_name_and_all_are_drawn() {
        for one in &KINDS {
            assert_eq!(kind(one.name).map(|kind| kind.about), Some(one.about));
        }
        assert!(kind("rust").is_none());
        let image = part(1, 32, 32, 0);
        let mut rng = Rng::new(&[3]);
        let drawn: std::collections::BTreeSet<_> =
            (0..60).map(|_| draw_any(&image, &image, &mut rng).0.name).collect();
        assert_eq!(drawn.len(), KINDS.len());
    }

    #[test]
    fn what_cannot_be_seen_has_an_empty_mask_and_odd_sources_are_taken() {
        let plain = Image { channels: 1, height: 20, width: 24, pixels: vec![0.2; 480] };
        let blurred = draw(&blur::KIND, &plain, &plain, &mut Rng::new(&[1]));
        assert_eq!((blurred.mask.any(), &blurred.image), (false, &plain));
        for (height, width) in [(1, 1), (1, 9), (2, 2), (3, 40)] {
            let tiny = Image { channels: 1, height, width, pixels: vec![0.5; height * width] };
            for kind in &KINDS {
                let defect = draw(kind, &tiny, &plain, &mut Rng::new(&[2]));
                assert_eq!(defect.image.pixels.len(), height * width);
                let other = draw(kind, &part(3, 33, 20, 1), &tiny, &mut Rng::new(&[2]));
                assert_eq!(other.image.pixels.len(), 3 * 33 * 20);
            }
        }
    }
}
