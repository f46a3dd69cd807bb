//! Images as the rest of the project sees them, and as files hold them.

use image::{DynamicImage, ImageBuffer, Pixel};

use crate::preprocess::Window;

/// An image ready for a network: CHW, values in [−1, 1] (x = 2·u/max − 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `channels × height × width` values, row-major.
    pub pixels: Vec<f32>,
}

/// Which pixels are anomalous, aligned with an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height × width` values, row-major; true is anomalous.
    pub pixels: Vec<bool>,
}

impl Mask {
    /// A mask without any anomalous pixel.
    pub fn none(height: usize, width: usize) -> Self {
        Mask { height, width, pixels: vec![false; height * width] }
    }

    /// Whether any pixel is anomalous.
    pub fn any(&self) -> bool {
        self.pixels.contains(&true)
    }
}

/// Samples as stored: 8 or 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// An undistorted image as decoded or generated: interleaved (HWC), upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Samples per pixel: 1 gray, 2 gray + alpha, 3 colour, 4 colour + alpha.
    pub(crate) channels: usize,
    pub(crate) samples: Samples,
}

impl Raw {
    pub(crate) fn gray8(width: usize, height: usize, samples: Vec<u8>) -> Self {
        Raw { width, height, channels: 1, samples: Samples::U8(samples) }
    }

    /// None for floating-point images, whose range is not known.
    pub(crate) fn from_dynamic(image: DynamicImage) -> Option<Self> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let channels = usize::from(image.color().channel_count());
        let samples = match image {
            DynamicImage::ImageLuma8(b) => Samples::U8(b.into_raw()),
            DynamicImage::ImageLumaA8(b) => Samples::U8(b.into_raw()),
            DynamicImage::ImageRgb8(b) => Samples::U8(b.into_raw()),
            DynamicImage::ImageRgba8(b) => Samples::U8(b.into_raw()),
            DynamicImage::ImageLuma16(b) => Samples::U16(b.into_raw()),
            DynamicImage::ImageLumaA16(b) => Samples::U16(b.into_raw()),
            DynamicImage::ImageRgb16(b) => Samples::U16(b.into_raw()),
            DynamicImage::ImageRgba16(b) => Samples::U16(b.into_raw()),
            _ => return None,
        };
        Some(Raw { width, height, channels, samples })
    }

    /// None if the samples do not fill the size.
    pub(crate) fn into_dynamic(self) -> Option<DynamicImage> {
        fn buffer<P: Pixel>(
            w: usize,
            h: usize,
            s: Vec<P::Subpixel>,
        ) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
            ImageBuffer::from_raw(u32::try_from(w).ok()?, u32::try_from(h).ok()?, s)
        }
        let (w, h) = (self.width, self.height);
        Some(match (self.samples, self.channels) {
            (Samples::U8(s), 1) => DynamicImage::ImageLuma8(buffer(w, h, s)?),
            (Samples::U8(s), 2) => DynamicImage::ImageLumaA8(buffer(w, h, s)?),
            (Samples::U8(s), 3) => DynamicImage::ImageRgb8(buffer(w, h, s)?),
            (Samples::U8(s), _) => DynamicImage::ImageRgba8(buffer(w, h, s)?),
            (Samples::U16(s), 1) => DynamicImage::ImageLuma16(buffer(w, h, s)?),
            (Samples::U16(s), 2) => DynamicImage::ImageLumaA16(buffer(w, h, s)?),
            (Samples::U16(s), 3) => DynamicImage::ImageRgb16(buffer(w, h, s)?),
            (Samples::U16(s), _) => DynamicImage::ImageRgba16(buffer(w, h, s)?),
        })
    }

    /// The part inside `window`, which must lie within the image.
    pub(crate) fn cut(&self, window: Window) -> Raw {
        fn rows<T: Copy>(samples: &[T], raw: &Raw, window: Window) -> Vec<T> {
            let start = |y: usize| (y * raw.width + window.x) * raw.channels;
            let row = |y: usize| &samples[start(y)..start(y) + window.width * raw.channels];
            (window.y..window.y + window.height).flat_map(row).copied().collect()
        }
        let samples = match &self.samples {
            Samples::U8(s) => Samples::U8(rows(s, self, window)),
            Samples::U16(s) => Samples::U16(rows(s, self, window)),
        };
        Raw { width: window.width, height: window.height, channels: self.channels, samples }
    }

    /// How the file stores colour, for `data info`.
    pub(crate) fn colour_type(&self) -> &'static str {
        match (&self.samples, self.channels) {
            (Samples::U8(_), 1) => "gray8",
            (Samples::U8(_), 2) => "gray8+alpha",
            (Samples::U8(_), 3) => "rgb8",
            (Samples::U8(_), _) => "rgb8+alpha",
            (Samples::U16(_), 1) => "gray16",
            (Samples::U16(_), 2) => "gray16+alpha",
            (Samples::U16(_), 3) => "rgb16",
            (Samples::U16(_), _) => "rgb16+alpha",
        }
    }
}
