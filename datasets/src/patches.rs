//! Random square patches of large images.

use std::path::Path;

use crate::DataError;
use crate::preprocess::Window;
use crate::rng::Rng;

/// Domain of the patch positions, so that no other use of the seed repeats them.
const PATCH: u64 = 0x7061_7463;

/// Cut random squares out of images instead of scaling them whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchOptions {
    /// Side in pixels of the source image, 8..=65536; scaled to the preprocessing size if that differs.
    pub size: usize,
    /// Patches of each image, 1..=1000000; each counts as an entry.
    pub per_image: usize,
}

/// Left and upper edge of a random part of an image, drawn from `key`; None if the image is smaller. Sizes
/// are heights before widths.
pub(crate) fn place(key: &[u64], part: [usize; 2], image: [usize; 2]) -> Option<[usize; 2]> {
    let mut rng = Rng::new(&[key, &[PATCH]].concat());
    let mut place = |axis: usize| {
        let room = image[axis].checked_sub(part[axis])?;
        Some(rng.below(room as u64 + 1) as usize)
    };
    let x = place(1)?;
    Some([x, place(0)?])
}

impl PatchOptions {
    pub(crate) fn check(&self) -> Result<(), DataError> {
        if !(8..=65536).contains(&self.size) {
            return Err(DataError::option("patch size", self.size, "use 8 to 65536 pixels"));
        }
        if !(1..=1_000_000).contains(&self.per_image) {
            return Err(DataError::option("patches per image", self.per_image, "use 1 to 1000000"));
        }
        Ok(())
    }

    /// Position drawn from `key`; None if the image is smaller than the patch.
    pub(crate) fn window(&self, key: &[u64], width: usize, height: usize) -> Option<Window> {
        let size = self.size;
        let [x, y] = place(key, [size, size], [height, width])?;
        Some(Window { x, y, width: size, height: size })
    }

    pub(crate) fn too_large(&self, path: &Path, width: usize, height: usize) -> DataError {
        let size = self.size;
        let reason =
            format!("is {width}×{height} pixels, too small for patches of {size}; use smaller patches");
        DataError::file(path, reason)
    }
}
