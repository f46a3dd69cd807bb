//! Built-in generators: seeded images with pixel masks, so that demo and tests need no download.
//!
//! A new one is a file beside `retina.rs` that implements [`ImageGenerator`], and a line in [`GENERATORS`].

pub(crate) mod casting;
pub(crate) mod concrete;
mod curve;
pub(crate) mod digits;
pub(crate) mod field;
pub(crate) mod retina;
pub(crate) mod telemetry;

use std::ops::RangeInclusive;

/// Every built-in generator of images; telemetry is a series and has its own type.
pub(crate) const GENERATORS: [&dyn ImageGenerator; 4] =
    [&retina::Retina, &concrete::Concrete, &casting::Casting, &digits::Digits];

/// A gray image with its mask, both `size × size`, row-major.
pub(crate) struct Drawing {
    pub(crate) gray: Vec<u8>,
    /// Non-zero is anomalous; all zero where no anomaly was asked for.
    pub(crate) mask: Vec<u8>,
}

/// Draws image after image as a pure function of a key.
pub(crate) trait ImageGenerator: Send + Sync {
    /// Name in `builtin:NAME`.
    fn name(&self) -> &'static str;

    /// Raised whenever the same key gives other pixels; part of the digest.
    fn version(&self) -> u32;

    /// Class names of the anomalies.
    fn kinds(&self) -> &'static [&'static str];

    /// Sizes that can be drawn.
    fn sizes(&self) -> RangeInclusive<usize>;

    /// A normal image, or one with the anomaly `kinds()[kind]`. Without anomaly, the same key gives the same
    /// scene: the pair differs only by the anomaly.
    fn draw(&self, key: &[u64], size: usize, kind: Option<usize>) -> Drawing;
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Retina has tests of its own: its lesions move the layers around them.
    const SURFACES: [&dyn ImageGenerator; 2] = [&concrete::Concrete, &casting::Casting];

    #[test]
    fn without_an_anomaly_the_scene_is_the_same_and_the_mask_holds_every_change() {
        for generator in SURFACES {
            for size in [32, 64, 128] {
                for (kind, name) in generator.kinds().iter().enumerate() {
                    let (mut inside, mut outside, mut masked) = ((0u64, 0u64), (0u64, 0u64), 0);
                    for index in 0..20 {
                        let sound = generator.draw(&[0, 1, index], size, None);
                        let faulty = generator.draw(&[0, 1, index], size, Some(kind));
                        assert!(sound.mask.iter().all(|&m| m == 0));
                        let here = faulty.mask.iter().filter(|&&m| m != 0).count();
                        assert!(here > 0, "{name} {index} at {size} has no mask");
                        assert!(here < size * size / 4, "{name} {index} at {size} covers {here} pixels");
                        masked += here;
                        for ((a, b), m) in sound.gray.iter().zip(&faulty.gray).zip(&faulty.mask) {
                            let (sum, count) = if *m != 0 { &mut inside } else { &mut outside };
                            *sum += u64::from(a.abs_diff(*b));
                            *count += 1;
                        }
                    }
                    let (inside, change) = (inside.0 as f64 / inside.1 as f64, inside.0 + outside.0);
                    assert!(inside > 12.0, "{name} at {size}: masked pixels change by {inside} of 255");
                    // The soft edge of a line or hole lies half outside its mask.
                    let missed = outside.0 as f64 / change as f64;
                    assert!(
                        missed < 0.3,
                        "{name} at {size}: {missed} of the change lies outside {masked} pixels"
                    );
                }
            }
        }
    }

    #[test]
    fn pixels_change_only_with_the_version() {
        let digests = SURFACES.map(|generator| {
            let mut hasher = Sha256::new();
            for (index, size) in [(0, 16), (1, 32), (2, 64)] {
                for kind in [None, Some(0), Some(1), Some(2), Some(3)] {
                    let drawing = generator.draw(&[9, 1, index], size, kind);
                    hasher.update(drawing.gray);
                    hasher.update(drawing.mask);
                }
            }
            (generator.version(), format!("{:02x?}", &hasher.finalize()[..4]))
        });
        let expected = [(1, "[d3, 55, 58, 52]".to_string()), (1, "[8f, d9, c4, 2e]".to_string())];
        assert_eq!(digests, expected, "raise the version, then write down the new digest");
    }
}
