//! Connected regions of a map above a threshold, found row by row.

use serde::{Deserialize, Serialize};

/// Regions that are kept; of more, those with the highest peaks.
const MOST: usize = 1000;

/// Pixels that touch, corners included, and are all at or above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// The smallest rectangle around it: left, upper edge, width, height.
    #[serde(rename = "box")]
    pub bounds: [usize; 4],
    /// Its pixels.
    pub area: usize,
    /// Its highest value.
    pub peak: f32,
    /// Column and row of that; the first of equals.
    pub at: [usize; 2],
}

impl Region {
    fn join(&mut self, other: &Region) {
        let ([ax, ay, aw, ah], [bx, by, bw, bh]) = (self.bounds, other.bounds);
        let (x, y) = (ax.min(bx), ay.min(by));
        self.bounds = [x, y, (ax + aw).max(bx + bw) - x, (ay + ah).max(by + bh) - y];
        self.area += other.area;
        if (other.peak, self.at[1], self.at[0]) > (self.peak, other.at[1], other.at[0]) {
            (self.peak, self.at) = (other.peak, other.at);
        }
    }
}

/// Neighbouring pixels of a row, `start..end`.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    /// The region it belongs to, among those that are open.
    open: usize,
}

/// Finds the regions of a map that comes row by row, by union and find over the runs of two rows; what no row
/// continues is closed, so that memory does not grow with the height.
#[derive(Debug, Clone)]
pub struct Regions {
    width: usize,
    threshold: f32,
    y: usize,
    /// Runs of the last row.
    last: Vec<Run>,
    /// Regions that the last row belongs to.
    open: Vec<Region>,
    closed: Vec<Region>,
    left_out: usize,
}

impl Regions {
    /// Of a map of rows of `width` pixels; a pixel that is NaN is in none.
    pub fn new(width: usize, threshold: f32) -> Self {
        Self { width, threshold, y: 0, last: vec![], open: vec![], closed: vec![], left_out: 0 }
    }

    /// Takes the next row.
    pub fn row(&mut self, values: &[f32]) {
        let (y, threshold) = (self.y, self.threshold);
        let mut runs: Vec<Run> = vec![];
        // Those that were open, and one for each run of this row; each points to what it was joined to.
        let mut regions: Vec<Region> = std::mem::take(&mut self.open);
        let mut x = 0;
        while x < self.width.min(values.len()) {
            if values[x] >= threshold {
                let start = x;
                let mut region = Region { bounds: [x, y, 0, 1], area: 0, peak: values[x], at: [x, y] };
                while x < values.len().min(self.width) && values[x] >= threshold {
                    if values[x] > region.peak {
                        (region.peak, region.at) = (values[x], [x, y]);
                    }
                    x += 1;
                }
                (region.bounds[2], region.area) = (x - start, x - start);
                runs.push(Run { start, end: x, open: regions.len() });
                regions.push(region);
            }
            x += 1;
        }
        let mut roots: Vec<usize> = (0..regions.len()).collect();
        let mut above = 0;
        for run in &runs {
            // Corners touch: a run above reaches one pixel further.
            while self.last.get(above).is_some_and(|last| last.end < run.start) {
                above += 1;
            }
            for last in self.last[above..].iter().take_while(|last| last.start <= run.end) {
                let (a, b) = (root(&mut roots, last.open), root(&mut roots, run.open));
                if a != b {
                    let other = regions[a.max(b)];
                    regions[a.min(b)].join(&other);
                    roots[a.max(b)] = a.min(b);
                }
            }
        }
        // What has no run in this row is closed; the others are numbered anew.
        let mut numbers = vec![usize::MAX; regions.len()];
        for run in &mut runs {
            let root = root(&mut roots, run.open);
            if numbers[root] == usize::MAX {
                numbers[root] = self.open.len();
                self.open.push(regions[root]);
            }
            run.open = numbers[root];
        }
        for (i, region) in regions.iter().enumerate() {
            if roots[i] == i && numbers[i] == usize::MAX {
                self.close(*region);
            }
        }
        self.last = runs;
        self.y += 1;
    }

    fn close(&mut self, region: Region) {
        self.closed.push(region);
        if self.closed.len() >= 2 * MOST {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.closed.sort_by(|a, b| {
            b.peak.total_cmp(&a.peak).then(a.at[1].cmp(&b.at[1])).then(a.at[0].cmp(&b.at[0]))
        });
        self.left_out += self.closed.len().saturating_sub(MOST);
        self.closed.truncate(MOST);
    }

    /// The regions from the highest peak to the lowest, at most 1,000, and how many more there are.
    pub fn finish(mut self) -> (Vec<Region>, usize) {
        let open = std::mem::take(&mut self.open);
        open.into_iter().for_each(|region| self.close(region));
        self.cut();
        (self.closed, self.left_out)
    }
}

fn root(roots: &mut [usize], mut i: usize) -> usize {
    while roots[i] != i {
        roots[i] = roots[roots[i]];
        i = roots[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(map: &[f32], width: usize, threshold: f32) -> Vec<Region> {
        let mut regions = Regions::new(width, threshold);
        map.chunks(width).for_each(|row| regions.row(row));
        let (found, left_out) = regions.finish();
        assert_eq!(left_out, 0);
        found
    }

    /// The definition: from each pixel to its eight neighbours.
    fn flooded(map: &[f32], width: usize, threshold: f32) -> Vec<Region> {
        let height = map.len() / width;
        let mut seen = vec![false; map.len()];
        let mut found = vec![];
        for start in 0..map.len() {
            if seen[start] || map[start] < threshold {
                continue;
            }
            let (mut stack, mut pixels) = (vec![start], vec![]);
            seen[start] = true;
            while let Some(at) = stack.pop() {
                pixels.push(at);
                let (x, y) = (at % width, at / width);
                for v in y.saturating_sub(1)..(y + 2).min(height) {
                    for u in x.saturating_sub(1)..(x + 2).min(width) {
                        let next = v * width + u;
                        if !seen[next] && map[next] >= threshold {
                            seen[next] = true;
                            stack.push(next);
                        }
                    }
                }
            }
            pixels.sort_unstable();
            let (xs, ys) = (pixels.iter().map(|p| p % width), pixels.iter().map(|p| p / width));
            let (left, upper) = (xs.clone().min().unwrap(), ys.clone().min().unwrap());
            let bounds = [left, upper, xs.max().unwrap() + 1 - left, ys.max().unwrap() + 1 - upper];
            let best = pixels.iter().copied().reduce(|a, b| if map[b] > map[a] { b } else { a }).unwrap();
            found.push(Region {
                bounds,
                area: pixels.len(),
                peak: map[best],
                at: [best % width, best / width],
            });
        }
        found.sort_by(|a, b| b.peak.total_cmp(&a.peak).then((a.at[1], a.at[0]).cmp(&(b.at[1], b.at[0]))));
        found
    }

    #[test]
    fn shapes_of_every_kind_are_found_as_flooding_finds_them() {
        let mut state = 7u64;
        for (width, height, threshold) in
            [(1, 1, 0.5), (7, 9, 0.5), (30, 20, 0.4), (50, 50, 0.6), (64, 8, 0.05)]
        {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Few levels, so that there are ties.
                (state >> 33) as f32 % 20.0 / 20.0
            };
            let map: Vec<f32> = (0..width * height).map(|_| next()).collect();
            assert_eq!(of(&map, width, threshold), flooded(&map, width, threshold), "{width}×{height}");
        }
    }

    #[test]
    fn a_spiral_is_one_region_and_corners_touch() {
        let spiral = [
            "#######", //
            "......#", "#####.#", "#...#.#", "#.#.#.#", "#.###.#", "#.....#", "#######",
        ];
        let map: Vec<f32> =
            spiral.iter().flat_map(|r| r.chars().map(|c| if c == '#' { 1.0 } else { 0.0 })).collect();
        assert_eq!(of(&map, 7, 0.5), flooded(&map, 7, 0.5));
        let diagonal = [1.0, 0.0, 0.0, 1.0];
        assert_eq!(of(&diagonal, 2, 0.5).len(), 1);
        assert_eq!(of(&[f32::NAN; 4], 2, 0.5), []);
    }

    #[test]
    fn of_too_many_the_highest_are_kept() {
        let mut regions = Regions::new(3, 0.5);
        for y in 0..6000 {
            let value = if y % 2 == 0 { 1.0 + y as f32 } else { 0.0 };
            regions.row(&[value, 0.0, 0.0]);
        }
        let (found, left_out) = regions.finish();
        assert_eq!((found.len(), left_out), (MOST, 3000 - MOST));
        assert_eq!((found[0].at, found[0].peak), ([0, 5998], 5999.0));
    }
}
