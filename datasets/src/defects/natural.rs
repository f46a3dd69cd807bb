//! Natural synthetic anomalies, as NSA trains on them: patches of another image at another size and place,
//! blended in without a seam, and how much they changed, as a label.
//!
//! Schlüter, Tan, Hou & Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and
//! Localization" (ECCV 2022), §3, with the numbers of the authors' code: half-widths of 0.03 + Γ(2, 0.05) of
//! a side, at most 0.4; sizes changed by a factor of 1 ± 0.5, kept within 0.7 and 1.3, with the same bounds
//! on what results; each further patch by the toss of a coin. Filters have the code's radii on images of 256
//! pixels, and as much less on smaller ones.

use super::poisson::{Gradients, Patch, blend};
use crate::pixels::Image;
use crate::rng::Rng;

/// Least and greatest half-width of a patch, of a side.
const BOUNDS: [f32; 2] = [0.03, 0.4];
/// Scale of the gamma distribution of half-widths, whose shape is 2, of a side.
const SCALE: f64 = 0.05;
/// Factor by which a patch is resized: least and greatest.
const RESIZED: [f32; 2] = [0.7, 1.3];
/// Radii of the median filters of changed pixels and of labels, on images of [`USUAL`].
const RADII: [f32; 2] = [2.0, 5.0];
/// Side of the paper's images.
const USUAL: f32 = 256.0;
/// Steps of 8 bits by which a pixel must change to count.
const LEAST_CHANGE: f32 = 1.0;
/// Least side of a patch, which leaves a pixel inside of its border, and of an image that takes one.
const LEAST: usize = 3;

/// How the pixels of a patch are labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// 1 where something changed.
    Binary,
    /// σ(k·(d − d₀)) where something changed, d being the change in steps of 8 bits, its median around the
    /// pixel.
    Logistic {
        /// k, for a change of one step.
        steepness: f32,
        /// d₀, in steps.
        middle: f32,
    },
}

/// How anomalies are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Natural {
    /// Patches at most; the first always comes.
    pub patches: usize,
    /// What the blend follows.
    pub gradients: Gradients,
    /// Labels of its pixels.
    pub label: Label,
}

impl Natural {
    /// `image` with patches of `source`, an image of its shape, and the label of each pixel in [0, 1],
    /// `height × width`, row-major. A function of its arguments alone.
    pub fn draw(&self, image: &Image, source: &Image, key: &[u64]) -> (Image, Vec<f32>) {
        let (mut rng, mut made) = (Rng::new(key), image.clone());
        let mut touched = vec![false; image.height * image.width];
        for i in 0..self.patches {
            if i == 0 || rng.below(2) == 1 {
                self.patch(&mut made, source, &mut touched, &mut rng);
            }
        }
        let labels = self.labels(image, &made, &touched);
        (made, labels)
    }

    fn patch(&self, made: &mut Image, source: &Image, touched: &mut [bool], rng: &mut Rng) {
        let sides = [made.height, made.width];
        let bounds = sides.map(|s| BOUNDS.map(|b| ((b * s as f32).round() as usize).max(1)));
        if [source.height, source.width] != sides || sides.iter().any(|&s| s < 4 * LEAST) {
            return;
        }
        // Where it is taken from: rows and columns around a centre.
        let (mut low, mut extent) = ([0; 2], [0; 2]);
        for d in 0..2 {
            let [least, most] = bounds[d];
            let half = ((f64::from(BOUNDS[0]) + gamma(rng)) * sides[d] as f64) as usize;
            let half = half.clamp(least, most);
            let centre = least + rng.below((sides[d] - 2 * least) as u64) as usize;
            low[d] = centre.saturating_sub(half);
            extent[d] = (centre + half).min(sides[d]) - low[d];
        }
        // Another size of the same shape, as far as bounds allow.
        let factor = (1.0 + 0.5 * rng.bell()).clamp(RESIZED[0], RESIZED[1]);
        let fit =
            |d: usize, size: f32| (size as usize).clamp(bounds[d][0].max(LEAST), bounds[d][1].max(LEAST));
        let ratio = extent[1] as f32 / extent[0] as f32;
        let width = fit(1, fit(0, factor * extent[0] as f32) as f32 * ratio);
        let size = [fit(0, width as f32 / ratio), width];
        let piece = resized(source, low, extent, size);
        // Where it goes: anywhere that leaves a pixel around it.
        let place = [0, 1].map(|d| 1 + rng.below((sides[d] - size[d] - 1) as u64) as usize);
        let inner = |i: usize, d: usize| i > 0 && i + 1 < size[d];
        let mask: Vec<bool> =
            (0..size[0] * size[1]).map(|i| inner(i / size[1], 0) && inner(i % size[1], 1)).collect();
        let patch = Patch { image: &piece, mask: &mask, top: place[0], left: place[1] };
        blend(made, &patch, self.gradients);
        for row in touched.chunks_exact_mut(sides[1]).skip(place[0]).take(size[0]) {
            row[place[1]..place[1] + size[1]].fill(true);
        }
    }

    /// Labels from what changed.
    fn labels(&self, image: &Image, made: &Image, touched: &[bool]) -> Vec<f32> {
        let plane = touched.len();
        let channels = image.channels.max(1);
        let change = |i: usize| {
            let of = |c: usize| (image.pixels[c * plane + i] - made.pixels[c * plane + i]).abs();
            // Values span 2, bytes 255.
            (0..channels).map(of).sum::<f32>() * 127.5 / channels as f32
        };
        let size = [image.height, image.width];
        let radii = RADII.map(|r| (r * size[0].min(size[1]) as f32 / USUAL).round().max(1.0) as isize);
        let mut changes: Vec<f32> = (0..plane).map(|i| if touched[i] { change(i) } else { 0.0 }).collect();
        let raw: Vec<bool> = changes.iter().map(|&d| d > LEAST_CHANGE).collect();
        // The median of truths is what most of them say.
        let square: Vec<_> = around(radii[0], |_, _| true);
        let changed: Vec<bool> = (0..plane)
            .map(|i| touched[i] && 2 * near(i, size, &square).filter(|&j| raw[j]).count() > square.len())
            .collect();
        let Label::Logistic { steepness, middle } = self.label else {
            return changed.into_iter().map(|c| if c { 1.0 } else { 0.0 }).collect();
        };
        changes.iter_mut().zip(&changed).filter(|(_, changed)| !**changed).for_each(|(d, _)| *d = 0.0);
        let disk: Vec<_> = around(radii[1], |y, x| y * y + x * x <= radii[1] * radii[1]);
        let mut held = Vec::with_capacity(disk.len());
        let label = |(i, changed): (usize, bool)| {
            if !changed {
                return 0.0;
            }
            held.clear();
            held.extend(near(i, size, &disk).map(|j| changes[j]));
            let half = held.len() / 2;
            let median = *held.select_nth_unstable_by(half, f32::total_cmp).1;
            1.0 / (1.0 + (-steepness * (median - middle)).exp())
        };
        changed.into_iter().enumerate().map(label).collect()
    }
}

/// A number of Γ(2, [`SCALE`]): two waiting times.
fn gamma(rng: &mut Rng) -> f64 {
    // Within (0, 1].
    let mut uniform = || 1.0 - f64::from(rng.unit());
    -SCALE * (uniform() * uniform()).ln()
}

/// Offsets (rows, columns) up to `radius` that `inside` takes.
fn around(radius: isize, inside: impl Fn(isize, isize) -> bool) -> Vec<[isize; 2]> {
    let steps = || -radius..=radius;
    steps().flat_map(|y| steps().map(move |x| [y, x])).filter(|&[y, x]| inside(y, x)).collect()
}

/// Pixels at these offsets from pixel `i` of a plane, those beyond its border being the border's.
fn near(i: usize, size: [usize; 2], offsets: &[[isize; 2]]) -> impl Iterator<Item = usize> {
    let at = [i / size[1], i % size[1]];
    offsets.iter().map(move |offset| {
        let [y, x] = [0, 1].map(|d| at[d].saturating_add_signed(offset[d]).min(size[d] - 1));
        y * size[1] + x
    })
}

/// A part of an image at another size, bilinear, samples being the middles of equal pieces.
fn resized(image: &Image, low: [usize; 2], extent: [usize; 2], size: [usize; 2]) -> Image {
    // The two rows or columns that a new one lies between, and how near it is to the second.
    let between = |d: usize, i: usize| {
        let at = ((i as f32 + 0.5) * extent[d] as f32 / size[d] as f32 - 0.5).max(0.0);
        let first = (at as usize).min(extent[d] - 1);
        let second = (first + 1).min(extent[d] - 1);
        (low[d] + first, low[d] + second, at - first as f32)
    };
    let columns: Vec<_> = (0..size[1]).map(|x| between(1, x)).collect();
    let mut pixels = Vec::with_capacity(image.channels * size[0] * size[1]);
    for plane in image.pixels.chunks_exact(image.height * image.width) {
        for y in 0..size[0] {
            let (above, below, down) = between(0, y);
            let row = |y: usize| &plane[y * image.width..][..image.width];
            let (above, below) = (row(above), row(below));
            pixels.extend(columns.iter().map(|&(left, right, along)| {
                let mix = |a: f32, b: f32, part: f32| a + (b - a) * part.min(1.0);
                let [top, bottom] = [above, below].map(|row| mix(row[left], row[right], along));
                mix(top, bottom, down)
            }));
        }
    }
    Image { channels: image.channels, height: size[0], width: size[1], pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, height: usize, width: usize, seed: u64) -> Image {
        let mut rng = Rng::new(&[seed]);
        let smooth = |rng: &mut Rng| rng.range(-0.6, 0.6);
        let pixels = (0..channels * height * width).map(|_| smooth(&mut rng)).collect();
        Image { channels, height, width, pixels }
    }

    const LOGISTIC: Label = Label::Logistic { steepness: 1.0 / 6.0, middle: 15.0 };

    #[test]
    fn what_is_labelled_has_changed_and_what_has_not_changed_is_as_it_was() {
        for (channels, height, width) in [(1, 16, 16), (3, 33, 47), (1, 128, 61)] {
            let (a, b) = (image(channels, height, width, 1), image(channels, height, width, 2));
            let mut labelled = 0;
            for gradients in [Gradients::Source, Gradients::Mixed] {
                for key in 0..8 {
                    let natural = Natural { patches: 3, gradients, label: LOGISTIC };
                    let (made, labels) = natural.draw(&a, &b, &[key]);
                    assert_eq!(
                        natural.draw(&a, &b, &[key]),
                        (made.clone(), labels.clone()),
                        "the same again"
                    );
                    assert!(made.pixels.iter().all(|v| (-1.0..=1.0).contains(v)));
                    assert!(labels.iter().all(|l| (0.0..=1.0).contains(l)));
                    labelled += labels.iter().filter(|&&l| l > 0.0).count();
                    let binary = Natural { label: Label::Binary, ..natural }.draw(&a, &b, &[key]);
                    assert_eq!(binary.0, made);
                    for (l, b) in labels.iter().zip(&binary.1) {
                        assert_eq!(*b, if *l > 0.0 { 1.0 } else { 0.0 });
                    }
                    let same = (0..height * width).filter(|&i| {
                        (0..channels)
                            .all(|c| a.pixels[c * height * width + i] == made.pixels[c * height * width + i])
                    });
                    assert!(same.count() > height * width / 4, "most stays as it was");
                }
            }
            assert!(labelled > 16, "{channels}×{height}×{width}: {labelled} pixels");
        }
    }

    #[test]
    fn an_image_without_contrast_gives_nothing_to_label() {
        let flat = Image { channels: 1, height: 32, width: 32, pixels: vec![0.3; 1024] };
        let natural = Natural { patches: 4, gradients: Gradients::Source, label: LOGISTIC };
        let (made, labels) = natural.draw(&flat, &flat, &[5]);
        assert!(labels.iter().all(|&l| l == 0.0));
        assert!(made.pixels.iter().all(|v| (v - 0.3).abs() < 1e-4));
    }

    #[test]
    fn a_part_at_its_own_size_is_itself_and_a_ramp_stays_a_ramp() {
        let a = image(3, 9, 7, 3);
        let part = resized(&a, [2, 1], [5, 4], [5, 4]);
        for (i, v) in part.pixels.iter().enumerate() {
            let (c, y, x) = (i / 20, i / 4 % 5, i % 4);
            assert_eq!(*v, a.pixels[c * 63 + (y + 2) * 7 + x + 1]);
        }
        let ramp =
            Image { channels: 1, height: 8, width: 8, pixels: (0..64).map(|i| (i % 8) as f32).collect() };
        let double = resized(&ramp, [0, 0], [8, 8], [8, 16]);
        assert_eq!(double.pixels[..4], [0.0, 0.25, 0.75, 1.25]);
    }
}
