//! Textures from a folder of images, in place of the drawn ones of [`texture`](super::texture): read once,
//! held at the size of the samples, and given out with other colours each time, as DRAEM changes those of its
//! photographs (Zavrtanik, Kristan & Skočaj, ICCV 2021, §3.3 and its published code).

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::decode::{has_image_name, open};
use crate::error::DataError;
use crate::memory::{Held, Permit};
use crate::pixels::Image;
use crate::preprocess::{Channels, Preprocess};
use crate::rng::Rng;
use crate::size::Size;
use crate::source::{Rejected, list};

/// How deep below the folder images are looked for.
const DEPTH: usize = 8;

/// Images of surfaces, `[channels, height, width]` of 8 bits each.
#[derive(Debug)]
pub struct Photographs {
    images: Vec<Vec<u8>>,
    channels: usize,
    size: Size,
    digest: String,
    rejected: Vec<Rejected>,
    /// The memory of `images`.
    _held: Held,
}

impl Photographs {
    /// Reads the images of a folder and of the folders in it, in order of their names, stretched to `size`.
    /// Hidden files, and files that are named as no image is, are passed over; a file that cannot be decoded
    /// is among [`Photographs::rejected`].
    ///
    /// # Errors
    /// [`DataError`] for what is no folder, one without a usable image, or more images than the memory that
    /// data may take ([`crate::memory`]) holds.
    pub fn open(folder: &Path, channels: Channels, size: Size) -> Result<Self, DataError> {
        let spec = || folder.to_string_lossy().into_owned();
        if !folder.is_dir() {
            return Err(DataError::spec(spec(), "is no folder; textures are the images of one"));
        }
        let preprocess = Preprocess { channels, ..Preprocess::new(size) };
        preprocess.check()?;
        let mut files = vec![];
        walk(folder, DEPTH, &mut files)?;
        let (mut images, mut rejected, mut hasher) = (vec![], vec![], Sha256::new());
        let held = Held::default();
        for path in files {
            ganomede_host::interrupt::check()?;
            let pixels = match read(&path, &preprocess) {
                Ok(pixels) => pixels,
                Err(DataError::File { path, reason }) => {
                    rejected.push(Rejected::of(&path, reason));
                    continue;
                }
                Err(error) => return Err(error),
            };
            held.grow(pixels.len() as u64).map_err(|short| {
                DataError::spec(
                    spec(),
                    format!("with its texture number {} {short}, or give fewer textures", images.len() + 1),
                )
            })?;
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
            hasher.update(format!("{name}\0"));
            hasher.update(&pixels);
            images.push(pixels);
        }
        if images.is_empty() {
            let reason = match rejected.first() {
                Some(first) => format!(
                    "none of its {} images can be used as a texture; the first: {} {}",
                    rejected.len(),
                    first.path,
                    first.reason
                ),
                None => "holds no image to be used as a texture; PNG, JPEG, BMP and TIFF are read".to_owned(),
            };
            return Err(DataError::spec(spec(), reason));
        }
        let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { images, channels: channels.count(), size, digest, rejected, _held: held })
    }

    /// Number of images; never 0.
    pub fn count(&self) -> usize {
        self.images.len()
    }

    /// SHA-256 over names and pixels of all images, as 64 hexadecimal digits; where the folder lies does not
    /// matter.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Files that could not be used.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// One of the images with three changes of its colours, mirrored as often as not, in [−1, 1].
    pub fn draw(&self, rng: &mut Rng) -> Image {
        let chosen = &self.images[rng.below(self.images.len() as u64) as usize];
        let Size { height, width } = self.size;
        // Values of [0, 1] until the end.
        let mut pixels: Vec<f32> = chosen.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        if rng.below(2) == 1 {
            pixels.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
        if rng.below(2) == 1 {
            for plane in pixels.chunks_exact_mut(height * width) {
                for row in 0..height / 2 {
                    let (above, below) = plane.split_at_mut((height - 1 - row) * width);
                    above[row * width..][..width].swap_with_slice(&mut below[..width]);
                }
            }
        }
        let mut left = CHANGES.to_vec();
        for _ in 0..3 {
            let change = left.swap_remove(rng.below(left.len() as u64) as usize);
            change(&mut pixels, self.channels, rng);
        }
        pixels.iter_mut().for_each(|v| *v = (2.0 * *v - 1.0).clamp(-1.0, 1.0));
        Image { channels: self.channels, height, width, pixels }
    }
}

/// Images below a folder, in order of names.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for path in list(folder, |_| true)? {
        if path.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, files)?;
            }
        } else if has_image_name(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// An image as bytes of its planes.
fn read(path: &Path, preprocess: &Preprocess) -> Result<Vec<u8>, DataError> {
    let file = open(path)?;
    let permit = Permit::take(file.need()).map_err(|short| short.of(path))?;
    let raw = file.decode(&permit)?;
    let image = preprocess.image(&raw, preprocess.window(raw.width, raw.height));
    Ok(image.pixels.into_iter().map(|v| (127.5 * (v + 1.0)).round() as u8).collect())
}

/// A change of planes with values of [0, 1], which stay there.
type Change = fn(&mut [f32], usize, &mut Rng);

const CHANGES: [Change; 7] = [gamma, brightness, invert, solarise, posterise, stretch, turn_colours];

fn gamma(pixels: &mut [f32], channels: usize, rng: &mut Rng) {
    for plane in pixels.chunks_exact_mut(pixels.len() / channels) {
        let power = rng.range(0.5, 2.0);
        plane.iter_mut().for_each(|v| *v = v.powf(power));
    }
}

/// A factor of 0.8 to 1.2, and up to 30 of 255 steps more or less.
fn brightness(pixels: &mut [f32], _: usize, rng: &mut Rng) {
    let (factor, more) = (rng.range(0.8, 1.2), rng.range(-30.0, 30.0) / 255.0);
    pixels.iter_mut().for_each(|v| *v = (*v * factor + more).clamp(0.0, 1.0));
}

fn invert(pixels: &mut [f32], _: usize, _: &mut Rng) {
    pixels.iter_mut().for_each(|v| *v = 1.0 - *v);
}

/// What is brighter than 32 to 128 of 255 steps is inverted.
fn solarise(pixels: &mut [f32], _: usize, rng: &mut Rng) {
    let most = rng.range(32.0, 128.0) / 255.0;
    pixels.iter_mut().filter(|v| **v > most).for_each(|v| *v = 1.0 - *v);
}

/// 2 to 16 levels.
fn posterise(pixels: &mut [f32], _: usize, rng: &mut Rng) {
    let last = ((2u32 << rng.below(4)) - 1) as f32;
    pixels.iter_mut().for_each(|v| *v = (*v * last).round() / last);
}

/// Each plane over its whole range.
fn stretch(pixels: &mut [f32], channels: usize, _: &mut Rng) {
    for plane in pixels.chunks_exact_mut(pixels.len() / channels) {
        let least = plane.iter().copied().fold(1.0, f32::min);
        let most = plane.iter().copied().fold(0.0, f32::max);
        if most > least {
            plane.iter_mut().for_each(|v| *v = (*v - least) / (most - least));
        }
    }
}

/// Red as green, say; gray stays.
fn turn_colours(pixels: &mut [f32], channels: usize, rng: &mut Rng) {
    let turns = rng.below(channels as u64) as usize;
    let plane = pixels.len() / channels;
    pixels.rotate_left(turns * plane);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, shade: impl Fn(u32, u32) -> [u8; 3]) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_fn(40, 30, |x, y| image::Rgb(shade(x, y))).save(path).unwrap();
    }

    #[test]
    fn a_folder_is_read_whole_and_in_order_and_what_is_drawn_of_it_varies() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, "b/stripes.png", |x, _| [(x * 6) as u8, 40, 200]);
        write(at, "a.png", |x, y| [(x * y % 251) as u8, (y * 8) as u8, 90]);
        std::fs::write(at.join("broken.png"), "no image").unwrap();
        std::fs::write(at.join("notes.txt"), "no image either").unwrap();
        let size = Size { height: 17, width: 24 };
        for channels in [Channels::Gray, Channels::Rgb] {
            let found = Photographs::open(at, channels, size).unwrap();
            assert_eq!(found.count(), 2);
            assert_eq!(found.rejected().len(), 1);
            assert!(found.rejected()[0].path.ends_with("broken.png"), "{:?}", found.rejected());
            let mut drawn = vec![];
            for seed in 0..40 {
                let image = found.draw(&mut Rng::new(&[seed]));
                assert_eq!(image, found.draw(&mut Rng::new(&[seed])), "the same again");
                assert_eq!((image.channels, image.height, image.width), (channels.count(), 17, 24));
                assert_eq!(image.pixels.len(), channels.count() * 17 * 24);
                assert!(image.pixels.iter().all(|v| (-1.0..=1.0).contains(v)));
                if !drawn.contains(&image) {
                    drawn.push(image);
                }
            }
            assert!(drawn.len() > 30, "{} of 40 differ", drawn.len());
            let again = Photographs::open(at, channels, size).unwrap();
            assert_eq!(again.digest(), found.digest());
        }
        let before = Photographs::open(at, Channels::Gray, size).unwrap();
        write(at, "a.png", |x, y| [(x * y % 241) as u8, (y * 8) as u8, 90]);
        let after = Photographs::open(at, Channels::Gray, size).unwrap();
        assert_ne!(before.digest(), after.digest(), "other pixels under the same name");
    }

    #[test]
    fn what_holds_no_texture_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused =
            |path: &Path| Photographs::open(path, Channels::Gray, Size::square(16)).unwrap_err().to_string();
        assert!(refused(folder.path()).contains("no image"), "{}", refused(folder.path()));
        assert!(refused(&folder.path().join("none")).contains("no folder"));
        std::fs::write(folder.path().join("broken.png"), "no image").unwrap();
        assert!(refused(folder.path()).contains("none of its 1 images"), "{}", refused(folder.path()));
    }
}
