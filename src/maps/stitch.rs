//! Tiles of an image, and their maps put together.

/// Where the tiles of an image lie: on a grid that begins at its upper left corner; the last of each row and
/// column is moved back to the border, so that every pixel is covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Left edges.
    xs: Vec<usize>,
    /// Upper edges.
    ys: Vec<usize>,
    /// Height and width of a tile.
    tile: [usize; 2],
    /// Height and width of the image.
    size: [usize; 2],
}

impl Grid {
    /// Tiles of `tile` every `step` pixels; `None` where the image is smaller than a tile, or a step is 0 or
    /// leaves gaps.
    pub fn new(size: [usize; 2], tile: [usize; 2], step: [usize; 2]) -> Option<Self> {
        let fits = |axis: usize| tile[axis] <= size[axis] && (1..=tile[axis]).contains(&step[axis]);
        let starts = |axis: usize| {
            let last = size[axis] - tile[axis];
            let mut starts: Vec<usize> = (0..=last).step_by(step[axis]).collect();
            if starts.last() != Some(&last) {
                starts.push(last);
            }
            starts
        };
        (fits(0) && fits(1)).then(|| Self { xs: starts(1), ys: starts(0), tile, size })
    }

    /// Number of tiles.
    pub fn len(&self) -> usize {
        self.xs.len() * self.ys.len()
    }

    /// Never: an image has a tile at least.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Left and upper edge of tile `i`; rows come one after the other.
    pub fn at(&self, i: usize) -> [usize; 2] {
        [self.xs[i % self.xs.len()], self.ys[i / self.xs.len()]]
    }
}

/// The maps of tiles blended into one of the size of the image.
///
/// The weight of a pixel of a tile falls from the tile's middle to its borders as a squared sine; all weights
/// of a pixel of the image add up to 1. The memory is that of one row of tiles.
#[derive(Debug, Clone)]
pub struct Stitch {
    grid: Grid,
    /// For each tile of a row, and of a column, the weights of its pixels.
    across: Vec<Vec<f64>>,
    down: Vec<Vec<f64>>,
    /// As many rows as a tile has; row y is at y mod their number.
    band: Vec<f64>,
    /// Tiles added so far.
    added: usize,
    /// Rows handed on so far.
    done: usize,
    row: Vec<f32>,
}

impl Stitch {
    /// An empty map.
    pub fn new(grid: Grid) -> Self {
        let [height, width] = grid.size;
        let (across, down) =
            (weights(&grid.xs, grid.tile[1], width), weights(&grid.ys, grid.tile[0], height));
        let band = vec![0.0; grid.tile[0] * width];
        Self { grid, across, down, band, added: 0, done: 0, row: vec![] }
    }

    /// Bytes that it takes for an image of this width.
    pub fn bytes(tile_height: usize, width: usize) -> u64 {
        (tile_height as u64 + 2) * width as u64 * 8
    }

    /// Adds the map of the next tile, in the order of [`Grid::at`], and hands on the rows that no further
    /// tile covers.
    ///
    /// # Errors
    /// Of the function.
    pub fn add<E>(&mut self, map: &[f32], out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let [x, y] = self.grid.at(self.added);
        self.emit(y, out)?;
        let ([rows, columns], [_, width]) = (self.grid.tile, self.grid.size);
        let across = &self.across[self.added % self.grid.xs.len()];
        let down = &self.down[self.added / self.grid.xs.len()];
        for (v, (values, vertical)) in map.chunks_exact(columns).zip(down).enumerate() {
            let at = (y + v) % rows * width + x;
            let sums = &mut self.band[at..at + columns];
            for ((sum, &value), weight) in sums.iter_mut().zip(values).zip(across) {
                *sum += vertical * weight * f64::from(value);
            }
        }
        self.added += 1;
        Ok(())
    }

    /// Hands on the last rows, when all tiles have been added.
    ///
    /// # Errors
    /// Of the function.
    pub fn finish<E>(&mut self, out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        self.emit(self.grid.size[0], out)
    }

    fn emit<E>(&mut self, until: usize, out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let width = self.grid.size[1];
        while self.done < until {
            let at = self.done % self.grid.tile[0] * width;
            let sums = &mut self.band[at..at + width];
            self.row.clear();
            self.row.extend(sums.iter().map(|&sum| sum as f32));
            sums.fill(0.0);
            self.done += 1;
            out(&self.row)?;
        }
        Ok(())
    }
}

/// For tiles of `tile` pixels that begin at `starts`, the weights of their pixels; those of each of `length`
/// pixels add up to 1.
fn weights(starts: &[usize], tile: usize, length: usize) -> Vec<Vec<f64>> {
    let rise = |u: usize| ((u as f64 + 0.5) / tile as f64 * std::f64::consts::PI).sin().powi(2);
    let mut totals = vec![0.0; length];
    for &start in starts {
        (0..tile).for_each(|u| totals[start + u] += rise(u));
    }
    starts.iter().map(|&start| (0..tile).map(|u| rise(u) / totals[start + u]).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stitched(grid: &Grid, map: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
        let mut stitch = Stitch::new(grid.clone());
        let mut rows = vec![];
        let mut keep = |row: &[f32]| {
            rows.extend_from_slice(row);
            Ok::<(), ()>(())
        };
        (0..grid.len()).for_each(|i| stitch.add(&map(i), &mut keep).unwrap());
        stitch.finish(&mut keep).unwrap();
        rows
    }

    #[test]
    fn every_pixel_is_covered_and_the_last_tile_lies_at_the_border() {
        for (size, tile, step) in [
            ([40, 50], [16, 16], [16, 16]),
            ([33, 47], [16, 16], [5, 7]),
            ([16, 90], [16, 20], [1, 20]),
            ([17, 17], [16, 16], [8, 8]),
        ] {
            let grid = Grid::new(size, tile, step).unwrap();
            let mut seen = vec![0; size[0] * size[1]];
            for i in 0..grid.len() {
                let [x, y] = grid.at(i);
                assert!(x + tile[1] <= size[1] && y + tile[0] <= size[0], "{size:?}");
                (y..y + tile[0]).for_each(|y| (x..x + tile[1]).for_each(|x| seen[y * size[1] + x] += 1));
            }
            assert!(seen.iter().all(|&n| n > 0), "{size:?}");
            assert_eq!(grid.at(grid.len() - 1), [size[1] - tile[1], size[0] - tile[0]]);
        }
    }

    #[test]
    fn what_leaves_gaps_or_does_not_fit_is_no_grid() {
        assert_eq!(Grid::new([16, 15], [16, 16], [8, 8]), None);
        assert_eq!(Grid::new([16, 16], [16, 16], [0, 8]), None);
        assert_eq!(Grid::new([64, 64], [16, 16], [8, 17]), None);
    }

    #[test]
    fn constant_tiles_give_a_constant_map() {
        for (size, tile, step) in
            [([40, 50], [16, 16], [8, 8]), ([33, 47], [16, 12], [5, 7]), ([16, 16], [16, 16], [1, 1])]
        {
            let grid = Grid::new(size, tile, step).unwrap();
            let map = stitched(&grid, |_| vec![0.7; tile[0] * tile[1]]);
            assert_eq!(map, vec![0.7; size[0] * size[1]], "{size:?}");
        }
    }

    #[test]
    fn equal_tiles_give_equal_values_at_equal_places_of_a_step() {
        let (size, tile, step) = ([64, 80], [16, 16], [8, 8]);
        let grid = Grid::new(size, tile, step).unwrap();
        let one: Vec<f32> = (0..256).map(|i| ((i * 37) % 101) as f32 / 7.0).collect();
        let map = stitched(&grid, |_| one.clone());
        // Within the outermost step at each side fewer tiles meet.
        for y in 8..size[0] - 16 {
            for x in 8..size[1] - 16 {
                let value = map[y * size[1] + x];
                assert_eq!(value.to_bits(), map[(y + 8) * size[1] + x].to_bits());
                assert_eq!(value.to_bits(), map[y * size[1] + x + 8].to_bits());
            }
        }
    }

    #[test]
    fn no_seam_shows() {
        // Tiles that disagree by 1: from pixel to pixel the map changes by a small part of that.
        let grid = Grid::new([32, 128], [32, 32], [16, 16]).unwrap();
        let map = stitched(&grid, |i| vec![(i % 2) as f32; 32 * 32]);
        let step = map[..128].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!(step < 0.12, "{step}");
        assert!(map.iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
