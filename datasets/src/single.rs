//! Single images that are no part of a set: as a camera, a request or another program hands them over.

use std::path::Path;

use image::DynamicImage;

use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode;
use crate::flatten::flatten;
use crate::memory::Permit;
use crate::pixels::{Image, Raw};

/// Decodes an encoded image (PNG, JPEG, BMP or TIFF) and prepares it as a data set with these options would;
/// `name` is what messages call it.
///
/// # Errors
/// [`DataError`] for what is no usable image, takes more memory than the budget has, or comes from a model of
/// patches.
pub fn decode_image(name: &str, bytes: Vec<u8>, options: &OpenOptions) -> Result<Image, DataError> {
    let path = Path::new(name);
    let file = decode::of_bytes(path, bytes)?;
    let permit = Permit::take(file.need()).map_err(|short| short.of(path))?;
    let raw = file.decode(&permit)?;
    prepared(path, raw, options)
}

/// Prepares pixels as a data set with these options would; `name` is what messages call them.
///
/// # Errors
/// [`DataError`] for floating-point pixels, sides out of range, or options that cut patches.
pub fn prepare_image(name: &str, image: DynamicImage, options: &OpenOptions) -> Result<Image, DataError> {
    let path = Path::new(name);
    let (width, height) = (image.width(), image.height());
    if width.min(height) < decode::MIN_SIDE {
        let least = decode::MIN_SIDE;
        return Err(DataError::file(
            path,
            format!("is {width}×{height} pixels; each side needs at least {least}"),
        ));
    }
    let raw = Raw::from_dynamic(image)
        .ok_or_else(|| DataError::file(path, "has floating-point pixels; convert it to 8 or 16 bit"))?;
    prepared(path, raw, options)
}

fn prepared(path: &Path, mut raw: Raw, options: &OpenOptions) -> Result<Image, DataError> {
    if let Some(patch) = &options.patch {
        let reason = "the model was trained on patches; cut them first and score each";
        return Err(DataError::option("patch", patch.size, reason));
    }
    if let Some(bits) = options.bits {
        raw.stretch(bits).map_err(|largest| {
            DataError::file(path, format!("holds a sample of {largest}, more than {bits} bits can"))
        })?;
    }
    let raw = if options.flatten { flatten(&raw, None).0 } else { raw };
    let window = options.preprocess.window(raw.width, raw.height);
    Ok(options.preprocess.image(&raw, window))
}
