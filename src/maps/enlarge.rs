//! A map of a network's input at the size of the image that it was made of.

/// The part of an image that a network's input shows, in pixels of the image. It may reach beyond the image,
/// where that was padded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width, above 0.
    pub width: f64,
    /// Height, above 0.
    pub height: f64,
}

impl View {
    /// A whole image.
    pub fn whole(width: usize, height: usize) -> Self {
        Self { x: 0.0, y: 0.0, width: width as f64, height: height as f64 }
    }
}

/// Two neighbours and the share of the second.
#[derive(Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    share: f32,
}

/// Where the pixels of an axis lie between those of a map; `None` outside of what the map shows.
fn between(length: usize, from: f64, extent: f64, map: usize) -> Vec<Option<Between>> {
    let place = |i: usize| {
        let centre = i as f64 + 0.5;
        if centre < from || centre > from + extent {
            return None;
        }
        let at = ((centre - from) / extent * map as f64 - 0.5).clamp(0.0, map as f64 - 1.0);
        let low = (at as usize).min(map - 1);
        Some(Between { low, high: (low + 1).min(map - 1), share: (at - low as f64) as f32 })
    };
    (0..length).map(place).collect()
}

/// The rows of a map `[height, width]` at the size of an image: linear between the centres of pixels,
/// constant beyond the outermost; NaN where the network saw nothing.
///
/// # Errors
/// Of the function.
pub fn enlarge<E>(
    map: &[f32],
    [height, width]: [usize; 2],
    view: View,
    size: [usize; 2],
    out: &mut impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let columns = between(size[1], view.x, view.width, width);
    let mut row = vec![f32::NAN; size[1]];
    for vertical in between(size[0], view.y, view.height, height) {
        let Some(vertical) = vertical else {
            row.fill(f32::NAN);
            out(&row)?;
            continue;
        };
        let (above, below) = (&map[vertical.low * width..][..width], &map[vertical.high * width..][..width]);
        for (pixel, column) in row.iter_mut().zip(&columns) {
            *pixel = column.map_or(f32::NAN, |Between { low, high, share }| {
                let across = |row: &[f32]| row[low] + share * (row[high] - row[low]);
                let (above, below) = (across(above), across(below));
                above + vertical.share * (below - above)
            });
        }
        out(&row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enlarged(map: &[f32], shape: [usize; 2], view: View, size: [usize; 2]) -> Vec<f32> {
        let mut rows = vec![];
        enlarge(map, shape, view, size, &mut |row| {
            rows.extend_from_slice(row);
            Ok::<(), ()>(())
        })
        .unwrap();
        rows
    }

    #[test]
    fn at_its_own_size_a_map_is_what_it_is() {
        let map = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
        assert_eq!(enlarged(&map, [2, 3], View::whole(3, 2), [2, 3]), map);
    }

    #[test]
    fn pixels_lie_between_centres() {
        let map = [0.0, 1.0];
        let row = enlarged(&map, [1, 2], View::whole(8, 1), [1, 8]);
        assert_eq!(row, [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]);
        assert_eq!(enlarged(&map, [2, 1], View::whole(1, 8), [8, 1]), row);
    }

    #[test]
    fn what_was_not_seen_is_no_number() {
        // The middle two of four columns, and a view that is larger than the image.
        let cropped = View { x: 1.0, y: 0.0, width: 2.0, height: 1.0 };
        let row = enlarged(&[5.0, 7.0], [1, 2], cropped, [1, 4]);
        assert!(row[0].is_nan() && row[3].is_nan());
        assert_eq!(row[1..3], [5.0, 7.0]);
        let padded = View { x: -1.0, y: 0.0, width: 4.0, height: 1.0 };
        assert_eq!(enlarged(&[1.0, 2.0, 3.0, 4.0], [1, 4], padded, [1, 2]), [2.0, 3.0]);
    }
}
