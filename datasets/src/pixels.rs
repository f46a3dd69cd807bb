//! Images as the rest of the project sees them, and as files hold them.

use image::{DynamicImage, ImageBuffer, Pixel};

use crate::preprocess::Window;

/// An image ready for a network: CHW, values in [−1, 1] (x = 2·u/max − 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// `channels × height × width` values, row-major.
    pub pixels: Vec<f32>,
}

/// Which pixels are anomalous, aligned with an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// `height × width` values, row-major; true is anomalous.
    pub pixels: Vec<bool>,
    /// Where in it the picture lies; around it, where [`crate::Fit::Pad`] leaves room, nothing is known.
    pub picture: Window,
}

impl Mask {
    /// A mask without any anomalous pixel.
    pub fn none(height: usize, width: usize) -> Self {
        let picture = Window { x: 0, y: 0, width, height };
        Mask { height, width, pixels: vec![false; height * width], picture }
    }

    /// The part of a plane of the mask's size in which the picture lies.
    pub fn of_picture<T: Copy>(&self, plane: &[T]) -> Vec<T> {
        let Window { x, y, width, height } = self.picture;
        let rows = plane.chunks_exact(self.width.max(1)).skip(y).take(height);
        rows.flat_map(|row| row.iter().skip(x).take(width)).copied().collect()
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

    /// The largest sample of an image of 16 bits, alpha not counted; None for one of 8 bits.
    pub(crate) fn largest_of_16_bits(&self) -> Option<u16> {
        let colours = self.colours();
        match &self.samples {
            Samples::U8(_) => None,
            Samples::U16(s) => s.chunks_exact(self.channels).flat_map(|px| &px[..colours]).max().copied(),
        }
    }

    /// Stretches the colours of an image whose 16 bits hold only `bits` to the whole range; what has 8 bits
    /// stays as it is.
    ///
    /// Errors: a larger sample, which is returned.
    pub(crate) fn stretch(&mut self, bits: u32) -> Result<(), u16> {
        let (channels, colours) = (self.channels, self.colours());
        let top = (1u32 << bits) - 1;
        if let Some(largest) = self.largest_of_16_bits().filter(|&largest| u32::from(largest) > top) {
            return Err(largest);
        }
        if let Samples::U16(samples) = &mut self.samples {
            for sample in samples.chunks_exact_mut(channels).flat_map(|px| &mut px[..colours]) {
                *sample = ((u32::from(*sample) * 65535 + top / 2) / top) as u16;
            }
        }
        Ok(())
    }

    /// Samples of a pixel that are colours.
    fn colours(&self) -> usize {
        self.channels - usize::from(self.channels.is_multiple_of(2))
    }

    /// What is marked when the image is a mask: gray of 8 bits, 255 where any sample of any colour is not 0,
    /// else 0.
    ///
    /// Alpha counts where it tells pixels apart: what is transparent is not marked, and if no colour is, what
    /// is opaque is.
    pub(crate) fn marks(&self) -> Raw {
        let samples = match &self.samples {
            Samples::U8(s) => marks(s, self.channels, self.colours()),
            Samples::U16(s) => marks(s, self.channels, self.colours()),
        };
        Raw::gray8(self.width, self.height, samples)
    }

    /// Whether a mask marks any pixel.
    pub(crate) fn is_marked(&self) -> bool {
        match &self.samples {
            Samples::U8(s) => s.iter().any(|&s| s != 0),
            Samples::U16(s) => s.iter().any(|&s| s != 0),
        }
    }

    /// Marks what another mask of 8 bits and the same size marks as well.
    pub(crate) fn unite(&mut self, other: &Raw) {
        if let (Samples::U8(own), Samples::U8(others)) = (&mut self.samples, &other.samples) {
            own.iter_mut().zip(others).for_each(|(own, &other)| *own |= other);
        }
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

fn marks<T: Copy + Default + PartialEq>(samples: &[T], channels: usize, colours: usize) -> Vec<u8> {
    let zero = T::default();
    let pixels = || samples.chunks_exact(channels);
    let is_coloured = |px: &[T]| px[..colours].iter().any(|&s| s != zero);
    let alpha = |px: &[T]| px[channels - 1];
    // An alpha that is the same everywhere says nothing.
    let first = pixels().next().map(alpha);
    let has_alpha = colours < channels && pixels().any(|px| Some(alpha(px)) != first);
    let mark = |is_marked: bool| u8::from(is_marked) * 255;
    if !has_alpha {
        return pixels().map(|px| mark(is_coloured(px))).collect();
    }
    let visible: Vec<u8> = pixels().map(|px| mark(is_coloured(px) && alpha(px) != zero)).collect();
    match visible.contains(&255) {
        true => visible,
        false => pixels().map(|px| mark(alpha(px) != zero)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(channels: usize, samples: &[u8]) -> Vec<bool> {
        let raw = |samples| Raw { width: samples_len(&samples) / channels, height: 1, channels, samples };
        let wide: Vec<u16> = samples.iter().map(|&s| u16::from(s) << 8).collect();
        let marks = |raw: Raw| match raw.marks().samples {
            Samples::U8(marks) => marks.iter().map(|&m| m == 255).collect::<Vec<_>>(),
            Samples::U16(_) => panic!("marks have 8 bits"),
        };
        let (narrow, wide) = (marks(raw(Samples::U8(samples.to_vec()))), marks(raw(Samples::U16(wide))));
        assert_eq!(narrow, wide, "both depths alike");
        narrow
    }

    fn samples_len(samples: &Samples) -> usize {
        match samples {
            Samples::U8(s) => s.len(),
            Samples::U16(s) => s.len(),
        }
    }

    #[test]
    fn any_sample_of_any_colour_marks_a_pixel() {
        assert_eq!(marked(1, &[0, 1, 255]), [false, true, true]);
        assert_eq!(marked(3, &[0, 0, 0, 0, 9, 0, 0, 0, 1, 7, 0, 0]), [false, true, true, true]);
        // Opaque: alpha says nothing.
        assert_eq!(marked(2, &[0, 255, 3, 255]), [false, true]);
        assert_eq!(marked(4, &[0, 0, 0, 255, 0, 0, 1, 255]), [false, true]);
        assert_eq!(marked(4, &[0, 0, 0, 255, 0, 0, 0, 255]), [false, false]);
        // No opacity at all, as some programs write it: nothing either.
        assert_eq!(marked(4, &[0, 0, 0, 0, 0, 5, 0, 0]), [false, true]);
        // What is transparent is not there, whatever its colour.
        assert_eq!(marked(4, &[255, 255, 255, 0, 255, 0, 0, 255]), [false, true]);
        // Black on transparent.
        assert_eq!(marked(4, &[0, 0, 0, 0, 0, 0, 0, 255]), [false, true]);
        assert_eq!(marked(2, &[0, 0, 0, 200]), [false, true]);
    }
}
