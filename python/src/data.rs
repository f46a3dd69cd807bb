//! Arrays and paths as samples.

use ganomede::datasets::{Channels, OpenOptions, Preprocess, prepare_image};
use ganomede::detect::{DetectError, InMemory};
use ganomede::models::{Form, Size};
use image::{DynamicImage, ImageBuffer};
use numpy::{PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Pixels of an image, `[height, width]` or `[height, width, channels]`.
#[derive(FromPyObject)]
pub(crate) enum Pixels<'py> {
    Bytes(PyReadonlyArrayDyn<'py, u8>),
    Words(PyReadonlyArrayDyn<'py, u16>),
}

impl Pixels<'_> {
    /// The image, copied once.
    pub(crate) fn image(&self) -> PyResult<DynamicImage> {
        let image = match self {
            Self::Bytes(array) => {
                let (size, channels) = sides(array.as_array().shape())?;
                let values = array.as_array().iter().copied().collect();
                match channels {
                    1 => buffer(size, values).map(DynamicImage::ImageLuma8),
                    3 => buffer(size, values).map(DynamicImage::ImageRgb8),
                    _ => buffer(size, values).map(DynamicImage::ImageRgba8),
                }
            }
            Self::Words(array) => {
                let (size, channels) = sides(array.as_array().shape())?;
                let values = array.as_array().iter().copied().collect();
                match channels {
                    1 => buffer(size, values).map(DynamicImage::ImageLuma16),
                    3 => buffer(size, values).map(DynamicImage::ImageRgb16),
                    _ => buffer(size, values).map(DynamicImage::ImageRgba16),
                }
            }
        };
        image.ok_or_else(|| PyValueError::new_err("the pixels do not fill the image"))
    }
}

fn buffer<P: image::Pixel>(
    (width, height): (u32, u32),
    values: Vec<P::Subpixel>,
) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
    ImageBuffer::from_raw(width, height, values)
}

/// Width, height and channels of an image's array.
fn sides(shape: &[usize]) -> PyResult<((u32, u32), usize)> {
    let (height, width, channels) = match *shape {
        [height, width] => (height, width, 1),
        [height, width, channels @ (1 | 3 | 4)] => (height, width, channels),
        _ => {
            let text = format!(
                "an image of shape {shape:?}; [height, width] or [height, width, channels] with 1, 3 or 4 channels, \
                 which come last, is expected"
            );
            return Err(PyValueError::new_err(text));
        }
    };
    match (u32::try_from(width), u32::try_from(height)) {
        (Ok(width), Ok(height)) => Ok(((width, height), channels)),
        _ => Err(PyValueError::new_err(format!("an image of {width}×{height} pixels is too large"))),
    }
}

/// What a detector is trained on.
pub(crate) enum Source {
    /// A folder, file or `builtin:NAME`.
    Path(Form, String),
    /// Images in memory, of any sizes.
    Images(Vec<DynamicImage>),
    /// Rows or windows, one a sample, in their own units, with the names of their columns.
    Measured(Form, Vec<String>, Vec<Vec<f64>>),
}

impl Source {
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Path(form, _) | Self::Measured(form, ..) => *form,
            Self::Images(_) => Form::Image,
        }
    }

    /// Images and measured samples as a training takes them.
    pub(crate) fn samples(
        self,
        size: Size,
        channels: Channels,
        hold_out: f64,
        seed: u64,
    ) -> Result<InMemory, DetectError> {
        match self {
            Self::Images(images) => {
                let preprocess = Preprocess { channels, ..Preprocess::new(size) };
                let options = OpenOptions { preprocess, ..OpenOptions::default() };
                let prepared = images
                    .into_iter()
                    .enumerate()
                    .map(|(i, image)| Ok(prepare_image(&format!("image {i}"), image, &options)?.pixels));
                let prepared: Result<Vec<_>, DetectError> = prepared.collect();
                InMemory::new(Form::Image, channels.count(), prepared?, hold_out, seed)
            }
            Self::Measured(form, names, samples) => InMemory::measured(form, &names, samples, hold_out, seed),
            Self::Path(..) => Err(DetectError::Input("a path is opened by the training itself".to_owned())),
        }
    }
}

/// The samples of a matrix, one a row.
pub(crate) fn rows(matrix: &PyReadonlyArray2<'_, f64>) -> Vec<Vec<f64>> {
    matrix.as_array().outer_iter().map(|row| row.iter().copied().collect()).collect()
}

/// A form by its name: `image`, `series`, `table`.
pub(crate) fn form(name: &str) -> PyResult<Form> {
    match name {
        "image" => Ok(Form::Image),
        "series" => Ok(Form::Signal),
        "table" => Ok(Form::Table),
        _ => Err(PyValueError::new_err(format!("form '{name}' is unknown; use image, series or table"))),
    }
}
