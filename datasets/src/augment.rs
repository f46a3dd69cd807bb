//! Random changes of training images, off by default.

use std::str::FromStr;

use crate::DataError;
use crate::pixels::{Image, Mask};
use crate::rng::Rng;

/// Domain of previews, so that no other use of the seed repeats them.
const PREVIEW: u64 = 0x7072_6576;

/// Strength of each change; 0 or false is off. Parsed from a list such as `flip,rotate:10,noise:0.05`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left and right, with probability ½.
    pub flip: bool,
    /// Mirror top and bottom, with probability ½.
    pub vflip: bool,
    /// Rotate by up to ± this many degrees, 0..=180.
    pub rotate_degrees: f32,
    /// Shift by up to ± this share of the side in each direction, 0..=0.5.
    pub shift: f32,
    /// Add up to ± this share of the value range, 0..=1.
    pub brightness: f32,
    /// Scale the distance to the image's mean by up to 1 ± this, 0..=1.
    pub contrast: f32,
    /// Standard deviation of added noise, as a share of the value range, 0..=1.
    pub noise: f32,
}

impl FromStr for Augment {
    type Err = DataError;

    fn from_str(list: &str) -> Result<Self, DataError> {
        let mut augment = Augment::default();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let fail = |reason: &str| DataError::option("augment", item, reason);
            let (name, amount) = match item.split_once(':') {
                Some((name, amount)) => (name, Some(amount)),
                None => (item, None),
            };
            let (field, most) = match name {
                "flip" | "vflip" if amount.is_some() => {
                    return Err(fail("takes no amount; write the name alone"));
                }
                "flip" => {
                    augment.flip = true;
                    continue;
                }
                "vflip" => {
                    augment.vflip = true;
                    continue;
                }
                "rotate" => (&mut augment.rotate_degrees, 180.0),
                "shift" => (&mut augment.shift, 0.5),
                "brightness" => (&mut augment.brightness, 1.0),
                "contrast" => (&mut augment.contrast, 1.0),
                "noise" => (&mut augment.noise, 1.0),
                _ => {
                    return Err(fail(
                        "is not known; use flip, vflip, rotate:DEGREES, shift:F, brightness:F, contrast:F, noise:F",
                    ));
                }
            };
            match amount.and_then(|a| a.parse().ok()) {
                Some(value) if (0.0..=most).contains(&value) => *field = value,
                _ => {
                    return Err(fail(&format!(
                        "needs an amount from 0 to {most}, such as `{name}:{}`",
                        most / 10.0
                    )));
                }
            }
        }
        Ok(augment)
    }
}

impl Augment {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Augment::default()
    }

    /// `image` as one of many possible changes, number `version` of `seed`: for previews.
    pub fn version(&self, image: &Image, seed: u64, version: u64) -> Image {
        let mut changed = image.clone();
        self.apply(&mut changed, None, &[seed, PREVIEW, version]);
        changed
    }

    /// Changes `image`, and `mask` along with it, as drawn from `key`.
    pub(crate) fn apply(&self, image: &mut Image, mask: Option<&mut Mask>, key: &[u64]) {
        let mut rng = Rng::new(key);
        let map = Map::new(self, &mut rng, image.width, image.height);
        if let Some(map) = &map {
            let planes = image.pixels.chunks_exact(image.width * image.height);
            let planes = planes.flat_map(|plane| map.bilinear(plane));
            image.pixels = planes.collect();
            if let Some(mask) = mask {
                mask.pixels = map.nearest(&mask.pixels);
            }
        }
        // Values span 2, from −1 to 1.
        let brightness = 2.0 * rng.range(-self.brightness, self.brightness);
        let contrast = 1.0 + rng.range(-self.contrast, self.contrast);
        if self.brightness > 0.0 || self.contrast > 0.0 {
            let mean = image.pixels.iter().sum::<f32>() / image.pixels.len() as f32;
            for pixel in &mut image.pixels {
                *pixel = ((*pixel - mean) * contrast + mean + brightness).clamp(-1.0, 1.0);
            }
        }
        if self.noise > 0.0 {
            for pixel in &mut image.pixels {
                *pixel = (*pixel + 2.0 * self.noise * rng.bell()).clamp(-1.0, 1.0);
            }
        }
    }
}

/// From an output pixel to the source position it takes its value from: p = M·(q − centre) + centre + shift.
struct Map {
    width: usize,
    height: usize,
    matrix: [f32; 4],
    shift: [f32; 2],
}

impl Map {
    /// None if the draw leaves every pixel in place. The number of draws is fixed, so that switching one
    /// change on does not alter the others.
    fn new(augment: &Augment, rng: &mut Rng, width: usize, height: usize) -> Option<Self> {
        let mirror = |on: bool, rng: &mut Rng| if rng.below(2) == 1 && on { -1.0 } else { 1.0 };
        let (mirror_x, mirror_y) = (mirror(augment.flip, rng), mirror(augment.vflip, rng));
        let angle = rng.range(-augment.rotate_degrees, augment.rotate_degrees);
        let shift_x = rng.range(-augment.shift, augment.shift) * width as f32;
        let shift_y = rng.range(-augment.shift, augment.shift) * height as f32;
        let (sin, cos) = f64::from(angle).to_radians().sin_cos();
        let (sin, cos) = (sin as f32, cos as f32);
        let matrix = [mirror_x * cos, mirror_x * -sin, mirror_y * sin, mirror_y * cos];
        let shift = [shift_x, shift_y];
        (matrix != [1.0, 0.0, 0.0, 1.0] || shift != [0.0, 0.0]).then_some(Map {
            width,
            height,
            matrix,
            shift,
        })
    }

    /// Source position of output pixel (x, y), clamped to the image: the border is replicated.
    fn source(&self, x: usize, y: usize) -> (f32, f32) {
        let (right, bottom) = ((self.width - 1) as f32, (self.height - 1) as f32);
        let (dx, dy) = (x as f32 - right * 0.5, y as f32 - bottom * 0.5);
        let [a, b, c, d] = self.matrix;
        let sx = a * dx + b * dy + right * 0.5 + self.shift[0];
        let sy = c * dx + d * dy + bottom * 0.5 + self.shift[1];
        (sx.clamp(0.0, right), sy.clamp(0.0, bottom))
    }

    fn positions(&self) -> impl Iterator<Item = (f32, f32)> + '_ {
        (0..self.height).flat_map(move |y| (0..self.width).map(move |x| self.source(x, y)))
    }

    fn bilinear(&self, plane: &[f32]) -> Vec<f32> {
        let sample = |(sx, sy): (f32, f32)| {
            let (x, y) = (sx as usize, sy as usize);
            let (fx, fy) = (sx - x as f32, sy - y as f32);
            let (x1, y1) = ((x + 1).min(self.width - 1), (y + 1).min(self.height - 1));
            let row = |y: usize| plane[y * self.width + x] * (1.0 - fx) + plane[y * self.width + x1] * fx;
            row(y) * (1.0 - fy) + row(y1) * fy
        };
        self.positions().map(sample).collect()
    }

    fn nearest(&self, plane: &[bool]) -> Vec<bool> {
        let sample = |(sx, sy): (f32, f32)| plane[(sy + 0.5) as usize * self.width + (sx + 0.5) as usize];
        self.positions().map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Image {
        let pixels = (0..n * n).map(|i| i as f32 / (n * n) as f32 * 1.6 - 0.8).collect();
        Image { channels: 1, height: n, width: n, pixels }
    }

    fn applied(list: &str, key: u64) -> Image {
        let mut image = ramp(8);
        list.parse::<Augment>().unwrap().apply(&mut image, None, &[key]);
        image
    }

    #[test]
    fn lists_are_parsed_and_refused_with_a_reason() {
        let augment: Augment =
            "flip, vflip,rotate:10,shift:0.1,brightness:0.2,contrast:0.3,noise:0.05".parse().unwrap();
        assert!(augment.flip && augment.vflip && augment.rotate_degrees == 10.0 && augment.noise == 0.05);
        assert!("".parse::<Augment>().unwrap().is_none());
        for bad in
            ["spin", "flip:1", "rotate", "rotate:x", "rotate:181", "shift:-1", "noise:NaN", "noise:inf"]
        {
            let message = bad.parse::<Augment>().unwrap_err().to_string();
            assert!(message.contains(bad), "{message}");
        }
    }

    #[test]
    fn flips_are_exact_and_happen_half_the_time() {
        let (original, mut mirrored) = (ramp(8), ramp(8));
        mirrored.pixels.chunks_mut(8).for_each(<[f32]>::reverse);
        let flips = (0..200).filter(|&key| {
            let image = applied("flip", key);
            assert!(image == original || image == mirrored);
            image == mirrored
        });
        assert!((70..130).contains(&flips.count()));
    }

    #[test]
    fn every_change_is_a_function_of_its_key_and_stays_in_range() {
        for list in ["rotate:30", "shift:0.2", "brightness:0.5", "contrast:0.5", "noise:0.2"] {
            assert_eq!(applied(list, 3), applied(list, 3), "{list}");
            assert_ne!(applied(list, 3), applied(list, 4), "{list}");
            assert_ne!(applied(list, 3), ramp(8), "{list}");
            assert!(applied(list, 3).pixels.iter().all(|p| (-1.0..=1.0).contains(p)), "{list}");
        }
    }

    #[test]
    fn masks_follow_the_image() {
        let augment: Augment = "flip,vflip,rotate:40,shift:0.2".parse().unwrap();
        for key in 0..20 {
            let mut image = Image { channels: 1, height: 33, width: 33, pixels: vec![-1.0; 33 * 33] };
            let mut mask = Mask::none(33, 33);
            for at in (8..18).flat_map(|y| (5..20).map(move |x| y * 33 + x)) {
                image.pixels[at] = 1.0;
                mask.pixels[at] = true;
            }
            augment.apply(&mut image, Some(&mut mask), &[key]);
            let disagree = image.pixels.iter().zip(&mask.pixels).filter(|(p, m)| (**p > 0.0) != **m).count();
            assert!(disagree <= 12, "{disagree} pixels disagree");
        }
    }
}
