//! A large image and its map, made small enough for a page.

use ganomede_datasets::WholeImage;

use crate::report::Whole;

/// Longest side of what is kept, in pixels.
const MAX_SIDE: usize = 256;

/// Takes the rows of an image's map and keeps the highest value of each square of pixels.
pub(super) struct Reducing {
    /// Height and width of the image.
    size: [usize; 2],
    /// Pixels of a side of a square.
    part: usize,
    map: Vec<f32>,
    row: usize,
}

impl Reducing {
    /// Of an image of this height and width.
    pub(super) fn new(size: [usize; 2]) -> Self {
        let part = size[0].max(size[1]).div_ceil(MAX_SIDE).max(1);
        let mut reducing = Self { size, part, map: vec![], row: 0 };
        let [height, width] = reducing.reduced();
        reducing.map = vec![0.0; height * width];
        reducing
    }

    /// Height and width of what is kept; squares at the edges may be cut.
    fn reduced(&self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(self.part))
    }

    /// The next row of the map.
    pub(super) fn row(&mut self, row: &[f32]) {
        let width = self.reduced()[1];
        let first = self.row / self.part * width;
        for (kept, values) in self.map[first..].iter_mut().zip(row.chunks(self.part)) {
            *kept = values.iter().fold(*kept, |kept, &value| kept.max(value));
        }
        self.row += 1;
    }

    /// The image with its map; `tile` has these left and upper edges, and this height and width.
    pub(super) fn drawn(&self, image: &WholeImage, [x, y]: [usize; 2], [h, w]: [usize; 2]) -> Whole {
        let ([height, width], part, across) = (self.reduced(), self.part, self.size[1]);
        let truth = image.mask();
        let (mut query, mut mask) = (vec![0.0; 3 * height * width], truth.as_ref().map(|_| vec![]));
        for at in 0..height {
            let rows = at * part..self.size[0].min((at + 1) * part);
            let (mut sums, mut counts) = (vec![[0u64; 3]; width], vec![0u64; width]);
            for row in rows.clone() {
                for (x, colour) in image.colours(row).chunks_exact(3).enumerate() {
                    counts[x / part] += 1;
                    for (sum, &value) in sums[x / part].iter_mut().zip(colour) {
                        *sum += u64::from(value);
                    }
                }
            }
            for (x, (sums, count)) in sums.iter().zip(counts).enumerate() {
                for (channel, &sum) in sums.iter().enumerate() {
                    let mean = sum as f32 / count as f32;
                    query[(channel * height + at) * width + x] = mean / 127.5 - 1.0;
                }
            }
            if let (Some(truth), Some(mask)) = (&truth, &mut mask) {
                let any = |x: usize| {
                    let columns = x * part..across.min((x + 1) * part);
                    rows.clone().any(|row| truth[row * across..][columns.clone()].contains(&true))
                };
                mask.extend((0..width).map(any));
            }
        }
        let tile = [x / part, y / part, w.div_ceil(part), h.div_ceil(part)];
        Whole { height, width, query, map: self.map.clone(), mask, tile }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ganomede_datasets::OpenOptions;
    use image::{DynamicImage, GrayImage, Luma};

    #[test]
    fn squares_keep_the_mean_of_the_image_and_the_maximum_of_the_map() {
        // Squares of 3: 515 columns make 172, of which the last is 2 wide.
        let size = [400, 515];
        let image =
            GrayImage::from_fn(515, 400, |x, y| Luma([if x >= 513 { 200 } else { (x + y) as u8 % 7 }]));
        let image = DynamicImage::ImageLuma8(image);
        let whole = WholeImage::of_pixels("x", image.clone(), &OpenOptions::default()).unwrap();
        let mut reducing = Reducing::new(size);
        for y in 0..400 {
            let row: Vec<f32> = (0..515).map(|x| if x == 100 && y == 50 { 9.0 } else { f32::NAN }).collect();
            reducing.row(&row);
        }
        let seen = reducing.drawn(&whole, [96, 48], [64, 128]);
        assert_eq!([seen.height, seen.width], [134, 172]);
        assert_eq!(seen.tile, [32, 16, 43, 22]);
        let hot: Vec<_> = (0..seen.map.len()).filter(|&i| seen.map[i] != 0.0).collect();
        assert_eq!(hot, [16 * 172 + 33]);
        assert_eq!(seen.map[hot[0]], 9.0);
        let luma = image.to_luma8();
        let mean = |x0: u32, y0: u32, w: u32, h: u32| {
            let pixels = (0..w * h).map(|i| f32::from(luma.get_pixel(x0 + i % w, y0 + i / w).0[0]));
            pixels.sum::<f32>() / (w * h) as f32 / 127.5 - 1.0
        };
        for (at, [x, y], [w, h]) in
            [(0, [0, 0], [3, 3]), (171, [513, 0], [2, 3]), (133 * 172 + 5, [15, 399], [3, 1])]
        {
            for channel in 0..3 {
                let kept = seen.query[channel * 134 * 172 + at];
                assert!((kept - mean(x, y, w, h)).abs() < 1e-6, "{at}: {kept}");
            }
        }
    }
}
