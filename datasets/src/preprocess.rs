//! From a decoded image of any size and colour type to the CHW floats of one size that a network takes.

use crate::DataError;
use crate::pixels::{Image, Mask, Raw, Samples};
use crate::size::Size;

/// Colour channels of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One channel: Rec. 601 luma of colour images.
    Gray,
    /// Three channels: gray images are repeated.
    Rgb,
}

impl Channels {
    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::Rgb => 3,
        }
    }
}

/// How an image comes to the height and width of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scale width and height independently: nothing is lost, proportions change.
    #[default]
    Stretch,
    /// Cut the largest centred part of the output's proportions, then scale it: proportions stay.
    Crop,
    /// Scale until the whole lies within the output, in its middle; around it is the gray between black and
    /// white, which no border of an image is further from than half the range. Nothing is lost, proportions
    /// stay. Of what is around, nothing counts in pixel metrics: [`Mask::picture`].
    Pad,
}

impl Fit {
    /// `stretch`, `crop` or `pad`.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Stretch => "stretch",
            Fit::Crop => "crop",
            Fit::Pad => "pad",
        }
    }
}

/// Size, colour and framing of every image of a data set. Alpha is dropped, not blended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preprocess {
    /// Height and width of the output, 1..=4096 each.
    pub size: Size,
    /// Gray or colour.
    pub channels: Channels,
    /// How an image of other proportions comes to these.
    pub fit: Fit,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess::new(64)
    }
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Columns at its left.
    pub x: usize,
    /// Rows above it.
    pub y: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

/// Where a preprocessed image lies in the one it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frame {
    /// Height and width of that image.
    pub size: [usize; 2],
    /// The part that is shown, in its pixels: left and upper edge, width and height. Where the image was
    /// padded it reaches beyond it.
    pub part: [f64; 4],
}

impl Preprocess {
    /// Gray images of this size (a number is a square), scaled whole.
    pub fn new(size: impl Into<Size>) -> Self {
        Preprocess { size: size.into(), channels: Channels::Gray, fit: Fit::Stretch }
    }

    /// Values of one image: channels × height × width.
    pub fn values(&self) -> usize {
        self.channels.count() * self.size.area()
    }

    /// Height and width of the output.
    pub(crate) fn extent(&self) -> [usize; 2] {
        [self.size.height, self.size.width]
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        if self.size.shorter() < 1 || self.size.longer() > 4096 {
            return Err(DataError::option("size", self.size, "use 1 to 4096 pixels a side"));
        }
        Ok(())
    }

    /// The part of a `width`×`height` image that is kept.
    pub(crate) fn window(&self, width: usize, height: usize) -> Window {
        match self.fit {
            Fit::Stretch | Fit::Pad => Window { x: 0, y: 0, width, height },
            Fit::Crop => {
                // In 128 bits, since sides may be as large as memory.
                let part = |across: usize, to: usize, from: usize| {
                    let part = (across as u128 * to as u128 / from as u128) as usize;
                    part.max(1)
                };
                let cut_width = width.min(part(height, self.size.width, self.size.height));
                let cut_height = height.min(part(width, self.size.height, self.size.width));
                let (x, y) = ((width - cut_width) / 2, (height - cut_height) / 2);
                Window { x, y, width: cut_width, height: cut_height }
            }
        }
    }

    /// The part of the output that a part of an image fills.
    pub(crate) fn picture(&self, window: Window) -> Window {
        let Size { height, width } = self.size;
        if self.fit != Fit::Pad {
            return Window { x: 0, y: 0, width, height };
        }
        // To the nearest pixel, one at least; in 128 bits, since sides may be as large as memory.
        let side = |side: usize, to: usize, of: usize| {
            let (side, to, of) = (side as u128, to as u128, of as u128);
            (((2 * side * to + of) / (2 * of)) as usize).max(1)
        };
        let filled_width = width.min(side(window.width, height, window.height));
        let filled_height = height.min(side(window.height, width, window.width));
        let (x, y) = ((width - filled_width) / 2, (height - filled_height) / 2);
        Window { x, y, width: filled_width, height: filled_height }
    }

    /// Where the output lies in the image that a part of it is made of.
    pub(crate) fn frame(&self, raw: &Raw, window: Window) -> Frame {
        let (picture, Size { height, width }) = (self.picture(window), self.size);
        // From edge to edge of the output, of which the picture may be a part.
        let reach = |start: usize, length: usize, at: usize, filled: usize, all: usize| {
            // Multiplied first, so that what is not padded comes out as it was.
            let scaled = |side: usize| side as f64 * length as f64 / filled as f64;
            (start as f64 - scaled(at), scaled(all))
        };
        let (x, across) = reach(window.x, window.width, picture.x, picture.width, width);
        let (y, down) = reach(window.y, window.height, picture.y, picture.height, height);
        Frame { size: [raw.height, raw.width], part: [x, y, across, down] }
    }

    pub(crate) fn image(&self, raw: &Raw, window: Window) -> Image {
        let (picture, count) = (self.picture(window), self.channels.count());
        let Window { height, width, .. } = picture;
        let size = Size { height, width };
        let (hwc, max) = match &raw.samples {
            Samples::U8(s) => (resample(s, raw, window, size), 255.0),
            Samples::U16(s) => (resample(s, raw, window, size), 65535.0),
        };
        let scaled = |u: f32| (2.0 * u / max - 1.0).clamp(-1.0, 1.0);
        let mut pixels = vec![0.0; count * height * width];
        for (c, plane) in pixels.chunks_exact_mut(height * width).enumerate() {
            let source = hwc.chunks_exact(raw.channels);
            match (raw.channels, self.channels) {
                (1 | 2, _) => plane.iter_mut().zip(source).for_each(|(p, px)| *p = scaled(px[0])),
                (_, Channels::Rgb) => plane.iter_mut().zip(source).for_each(|(p, px)| *p = scaled(px[c])),
                (_, Channels::Gray) => {
                    let luma = |px: &[f32]| 0.299 * px[0] + 0.587 * px[1] + 0.114 * px[2];
                    plane.iter_mut().zip(source).for_each(|(p, px)| *p = scaled(luma(px)));
                }
            }
        }
        let pixels = self.placed(pixels, picture, 0.0);
        Image { channels: count, height: self.size.height, width: self.size.width, pixels }
    }

    /// Planes that fill `picture` as planes of the whole size, `around` where it does not reach.
    fn placed<T: Copy>(&self, planes: Vec<T>, picture: Window, around: T) -> Vec<T> {
        let Size { height, width } = self.size;
        if (picture.height, picture.width) == (height, width) {
            return planes;
        }
        let count = planes.len() / (picture.height * picture.width);
        let mut whole = vec![around; count * height * width];
        for (plane, whole) in
            planes.chunks_exact(picture.height * picture.width).zip(whole.chunks_exact_mut(height * width))
        {
            let rows = whole.chunks_exact_mut(width).skip(picture.y);
            for (row, to) in plane.chunks_exact(picture.width).zip(rows) {
                to[picture.x..picture.x + picture.width].copy_from_slice(row);
            }
        }
        whole
    }

    /// Of a mask whose non-zero pixels are anomalous. After scaling, a pixel covered at least by half is; a
    /// defect too thin for that keeps its best-covered pixel, so that an anomalous image never loses its
    /// whole mask.
    pub(crate) fn mask(&self, raw: &Raw, window: Window) -> Mask {
        let binary: Vec<u8> = match raw.marks().samples {
            Samples::U8(s) => s.into_iter().map(|mark| u8::from(mark != 0)).collect(),
            Samples::U16(s) => s.into_iter().map(|mark| u8::from(mark != 0)).collect(),
        };
        let flat = Raw::gray8(raw.width, raw.height, Vec::new());
        let picture = self.picture(window);
        let size = Size { height: picture.height, width: picture.width };
        let cover = resample(&binary, &flat, window, size);
        let most = cover.iter().copied().fold(0.0, f32::max);
        let cut = if most > 0.0 { most.min(0.5) } else { 1.0 };
        // The tap weights sum to 1 only within rounding.
        let pixels: Vec<bool> = cover.iter().map(|&c| c > 0.0 && c >= cut - 1e-5).collect();
        let pixels = self.placed(pixels, picture, false);
        Mask { height: self.size.height, width: self.size.width, pixels, picture }
    }
}

/// Taps of one output sample: `weights[k]` multiplies source sample `first + k`.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Triangle filter with antialias: output sample i sits at source position (i + ½)·scale and has support
/// max(1, scale), the definition of "bilinear with antialias" in the common imaging libraries.
fn taps(start: usize, length: usize, size: usize) -> Vec<Taps> {
    let scale = length as f64 / size as f64;
    let support = scale.max(1.0);
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).floor().max(0.0) as usize;
        let last = ((centre + support + 0.5).floor() as usize).min(length);
        let weight = |s: usize| (1.0 - ((s as f64 + 0.5 - centre) / support).abs()).max(0.0);
        let total: f64 = (first..last).map(weight).sum();
        let mut weights: Vec<f32> = (first..last).map(|s| (weight(s) / total) as f32).collect();
        while weights.last() == Some(&0.0) {
            weights.pop();
        }
        Taps { first: start + first, weights }
    };
    (0..size).map(tap).collect()
}

/// `window` of an interleaved image scaled to `size`, same channels. Vertical first: whole rows are
/// accumulated contiguously, and memory beside source and output is one row.
fn resample<T: Copy + Into<f32>>(samples: &[T], raw: &Raw, window: Window, size: Size) -> Vec<f32> {
    let Size { height, width } = size;
    let (channels, stride) = (raw.channels, raw.width * raw.channels);
    let (left, length) = (window.x * channels, window.width * channels);
    let (rows, columns) = (taps(window.y, window.height, height), taps(0, window.width, width));
    let mut output = vec![0.0f32; height * width * channels];
    let mut row = vec![0.0f32; length];
    for (vertical, output) in rows.iter().zip(output.chunks_exact_mut(width * channels)) {
        row.fill(0.0);
        for (k, &weight) in vertical.weights.iter().enumerate() {
            let from = (vertical.first + k) * stride + left;
            for (sum, &sample) in row.iter_mut().zip(&samples[from..from + length]) {
                *sum += weight * sample.into();
            }
        }
        match channels {
            1 => across::<1>(&row, &columns, output),
            2 => across::<2>(&row, &columns, output),
            3 => across::<3>(&row, &columns, output),
            _ => across::<4>(&row, &columns, output),
        }
    }
    output
}

/// One row of `C` interleaved channels scaled horizontally; `C` is known when compiled, which is worth a
/// factor of three.
fn across<const C: usize>(row: &[f32], columns: &[Taps], output: &mut [f32]) {
    let (pixels, _) = row.as_chunks::<C>();
    let (output, _) = output.as_chunks_mut::<C>();
    for (taps, output) in columns.iter().zip(output) {
        let mut sum = [0.0; C];
        for (&weight, pixel) in taps.weights.iter().zip(&pixels[taps.first..]) {
            for (sum, &sample) in sum.iter_mut().zip(pixel) {
                *sum += weight * sample;
            }
        }
        *output = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preprocess(size: usize, channels: Channels, fit: Fit) -> Preprocess {
        Preprocess { size: size.into(), channels, fit }
    }

    fn whole(p: &Preprocess, raw: &Raw) -> Image {
        p.image(raw, p.window(raw.width, raw.height))
    }

    #[test]
    fn same_size_is_exact_and_spans_minus_one_to_one() {
        let raw = Raw::gray8(2, 2, vec![0, 51, 204, 255]);
        let image = whole(&preprocess(2, Channels::Gray, Fit::Stretch), &raw);
        assert_eq!(image.pixels, [-1.0, 2.0 * 51.0 / 255.0 - 1.0, 2.0 * 204.0 / 255.0 - 1.0, 1.0]);
        let deep = Raw { samples: Samples::U16(vec![0, 65535, 13107, 65535]), ..raw };
        let image = whole(&preprocess(2, Channels::Rgb, Fit::Stretch), &deep);
        assert_eq!(image.pixels[..4], [-1.0, 1.0, 2.0 * 13107.0 / 65535.0 - 1.0, 1.0]);
        assert_eq!(image.pixels[..4], image.pixels[8..]);
    }

    #[test]
    fn triangle_weights_match_the_published_definition() {
        // Halving 0..8: taps of output 1 sit at centre 4·½·… = 3.0 with support 2: weights 1,3,3,1 over 8.
        let rows = taps(0, 8, 4);
        assert_eq!(rows[1].first, 1);
        assert_eq!(rows[1].weights, [0.125, 0.375, 0.375, 0.125]);
        // Enlarging is plain bilinear with a replicated border.
        let rows = taps(0, 2, 4);
        assert_eq!(rows[0].weights, [1.0]);
        assert_eq!(rows[1].weights, [0.75, 0.25]);
    }

    #[test]
    fn a_constant_image_stays_constant_at_any_scale() {
        for (w, h, size) in [(227, 113, 64), (7, 9, 64), (1, 1, 3), (1000, 3, 5)] {
            let raw = Raw { width: w, height: h, channels: 4, samples: Samples::U8(vec![100; w * h * 4]) };
            for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
                let preprocess = preprocess(size, Channels::Gray, fit);
                let image = whole(&preprocess, &raw);
                let picture = preprocess.picture(preprocess.window(w, h));
                let filled = image.pixels.iter().filter(|p| (**p - (200.0 / 255.0 - 1.0)).abs() < 1e-5);
                assert_eq!(filled.count(), picture.width * picture.height, "{w}×{h} {fit:?}");
                let around = image.pixels.iter().filter(|p| **p == 0.0).count();
                assert_eq!(around, size * size - picture.width * picture.height);
            }
        }
    }

    #[test]
    fn centre_crop_takes_the_centre() {
        let raw = Raw::gray8(6, 2, vec![0, 0, 255, 255, 0, 0, 0, 0, 255, 255, 0, 0]);
        let image = whole(&preprocess(2, Channels::Gray, Fit::Crop), &raw);
        assert_eq!(image.pixels, [1.0; 4]);
    }

    #[test]
    fn rectangles_scale_each_side_and_crop_to_their_proportions() {
        let across: Vec<u8> = (0..4 * 6).map(|i| if i % 6 < 3 { 0 } else { 255 }).collect();
        let raw = Raw::gray8(6, 4, across);
        let wide = Preprocess::new(Size { height: 2, width: 4 });
        let image = whole(&wide, &raw);
        assert_eq!((image.height, image.width, image.pixels.len()), (2, 4, wide.values()));
        assert!(image.pixels[0] < -0.9 && image.pixels[3] > 0.9 && image.pixels[..4] == image.pixels[4..]);
        let mask = wide.mask(&raw, wide.window(6, 4));
        assert_eq!((mask.height, mask.width), (2, 4));
        assert_eq!(mask.pixels, [false, false, true, true, false, false, true, true]);

        let window = |height, width, of: [usize; 2]| {
            let p = Preprocess { fit: Fit::Crop, ..Preprocess::new(Size { height, width }) };
            let w = p.window(of[0], of[1]);
            [w.x, w.y, w.width, w.height]
        };
        // The largest part of 2:1, and of 1:3; never nothing.
        assert_eq!(window(32, 64, [100, 100]), [0, 25, 100, 50]);
        assert_eq!(window(48, 16, [100, 60]), [40, 0, 20, 60]);
        assert_eq!(window(17, 4096, [1, 9]), [0, 4, 1, 1]);
    }

    #[test]
    fn padding_keeps_proportions_and_the_whole() {
        let picture = |height, width, of: [usize; 2]| {
            let p = Preprocess { fit: Fit::Pad, ..Preprocess::new(Size { height, width }) };
            let w = p.picture(p.window(of[0], of[1]));
            [w.x, w.y, w.width, w.height]
        };
        assert_eq!(picture(64, 64, [640, 480]), [0, 8, 64, 48]);
        assert_eq!(picture(64, 64, [480, 640]), [8, 0, 48, 64]);
        assert_eq!(picture(48, 64, [640, 480]), [0, 0, 64, 48]);
        assert_eq!(picture(17, 33, [100, 100]), [8, 0, 17, 17]);
        assert_eq!(picture(16, 16, [100_000, 8]), [0, 7, 16, 1]);
        assert_eq!(picture(33, 50, [3, 2]), [0, 0, 50, 33]);

        // White 4×2 within 4×4: a row of gray above and below.
        let p = preprocess(4, Channels::Rgb, Fit::Pad);
        let raw = Raw::gray8(4, 2, vec![255; 8]);
        let image = whole(&p, &raw);
        for plane in image.pixels.chunks(16) {
            assert_eq!(
                (&plane[..4], &plane[4..12], &plane[12..]),
                (&[0.0; 4][..], &[1.0; 8][..], &[0.0; 4][..])
            );
        }
        let mask = p.mask(&raw, p.window(4, 2));
        assert_eq!(mask.pixels.iter().filter(|&&m| m).count(), 8, "nothing around is marked");
        assert_eq!(mask.of_picture(&mask.pixels), [true; 8]);
        let frame = p.frame(&raw, p.window(4, 2));
        assert_eq!((frame.size, frame.part), ([2, 4], [0.0, -1.0, 4.0, 4.0]));
        let stretched = preprocess(3, Channels::Gray, Fit::Stretch);
        assert_eq!(stretched.frame(&raw, stretched.window(4, 2)).part, [0.0, 0.0, 4.0, 2.0]);
    }

    #[test]
    fn masks_threshold_at_half_and_never_vanish() {
        let p = preprocess(4, Channels::Gray, Fit::Stretch);
        let mut samples = vec![0; 64 * 64];
        for y in 0..32 {
            samples[y * 64..y * 64 + 32].fill(1);
        }
        let mask = p.mask(&Raw::gray8(64, 64, samples), p.window(64, 64));
        let corner = [true, true, false, false];
        assert_eq!(mask.pixels[..4], corner);
        assert_eq!(mask.pixels[4..8], corner);
        assert!(!mask.pixels[8..].contains(&true));

        let mut thin = vec![0; 64 * 64];
        thin[20 * 64 + 40] = 255;
        let mask = p.mask(&Raw::gray8(64, 64, thin), p.window(64, 64));
        assert_eq!(mask.pixels.iter().filter(|&&m| m).count(), 1);
        assert!(mask.pixels[4 + 2]);
        assert!(!p.mask(&Raw::gray8(64, 64, vec![0; 4096]), p.window(64, 64)).any());
    }
}
