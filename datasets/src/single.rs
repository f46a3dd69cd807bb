//! Single images that are no part of a set: as a camera, a request or another program hands them over.

use std::path::Path;

use image::DynamicImage;

use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode;
use crate::flatten::flatten;
use crate::memory::Permit;
use crate::pixels::{Image, Raw};

/// Decodes an encoded image (PNG, JPEG, BMP, TIFF or DICOM) and prepares it as a data set with these options
/// would; `name` is what messages call it.
///
/// # Errors
/// [`DataError`] for what is no usable image, takes more memory than the budget has, or comes from a model of
/// patches.
pub fn decode_image(name: &str, bytes: Vec<u8>, options: &OpenOptions) -> Result<Image, DataError> {
    let path = Path::new(name);
    let (raw, _permit) = decoded(path, bytes, options)?;
    prepared(raw, options)
}

/// The pixels of an encoded image as the options ask for them, with their memory.
pub(crate) fn decoded(
    path: &Path,
    bytes: Vec<u8>,
    options: &OpenOptions,
) -> Result<(Raw, Permit), DataError> {
    let file = decode::of_bytes(path, bytes)?;
    let permit = Permit::take(file.need()).map_err(|short| short.of(path))?;
    if file.frames().len() > 1 {
        let reason = format!("holds {} images; give them one by one", file.frames().len());
        return Err(DataError::file(path, reason));
    }
    let file = file.with_window(options.window);
    // The gray levels of DICOM come over the whole range.
    let bits = options.bits.filter(|_| !file.is_scaled());
    let raw = file.decode(&permit)?;
    Ok((levelled(path, raw, &OpenOptions { bits, ..options.clone() })?, permit))
}

/// Prepares pixels as a data set with these options would; `name` is what messages call them.
///
/// # Errors
/// [`DataError`] for floating-point pixels, sides out of range, or options that cut patches.
pub fn prepare_image(name: &str, image: DynamicImage, options: &OpenOptions) -> Result<Image, DataError> {
    let path = Path::new(name);
    prepared(levelled(path, of_pixels(path, image)?, options)?, options)
}

/// Pixels that are in memory, as a file holds them.
pub(crate) fn of_pixels(path: &Path, image: DynamicImage) -> Result<Raw, DataError> {
    let (width, height) = (image.width(), image.height());
    if width.min(height) < decode::MIN_SIDE {
        let least = decode::MIN_SIDE;
        return Err(DataError::file(
            path,
            format!("is {width}×{height} pixels; each side needs at least {least}"),
        ));
    }
    Raw::from_dynamic(image)
        .ok_or_else(|| DataError::file(path, "has floating-point pixels; convert it to 8 or 16 bit"))
}

fn prepared(raw: Raw, options: &OpenOptions) -> Result<Image, DataError> {
    let window = options.preprocess.window(raw.width, raw.height);
    Ok(options.preprocess.image(&raw, window))
}

/// Pixels in the range, and on the level, that the options ask for.
pub(crate) fn levelled(path: &Path, mut raw: Raw, options: &OpenOptions) -> Result<Raw, DataError> {
    if let Some(patch) = &options.patch {
        let reason = "the model was trained on patches; cut them first and score each";
        return Err(DataError::option("patch", patch.size, reason));
    }
    if let Some(bits) = options.bits {
        raw.stretch(bits).map_err(|largest| {
            DataError::file(path, format!("holds a sample of {largest}, more than {bits} bits can"))
        })?;
    }
    Ok(if options.flatten { flatten(&raw, None).0 } else { raw })
}
