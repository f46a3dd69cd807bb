//! Localisation metrics: per-pixel anomaly maps against ground-truth masks.

use super::EvalError;
use rayon::prelude::*;
use serde::Serialize;

/// False-positive rate up to which the PRO curve is integrated (Bergmann et al., CVPR 2020).
const PRO_FPR_LIMIT: f64 = 0.3;

/// An anomaly map and its ground truth, both row-major `height × width`.
#[derive(Debug, Clone, Copy)]
pub struct PixelMap<'a> {
    /// Rows of the map, at least 1.
    pub height: usize,
    /// Columns of the map, at least 1.
    pub width: usize,
    /// Anomaly score of each pixel.
    pub map: &'a [f32],
    /// True where the pixel is anomalous; all false for a normal image.
    pub mask: &'a [bool],
}

/// Both localisation metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PixelMetrics {
    /// Pixel AUROC, see [`pixel_auroc`].
    pub auroc: f64,
    /// Normalised area under the per-region-overlap curve, see [`aupro`].
    pub aupro: f64,
}

/// AUROC over the pooled pixels of all images; exact, ties included. `None` if one class has no pixel.
pub fn pixel_auroc(images: &[PixelMap]) -> Result<Option<f64>, EvalError> {
    Ok(pixel_metrics(images)?.map(|m| m.auroc))
}

/// Area under the per-region-overlap (PRO) curve for FPR ≤ 0.3, divided by 0.3.
///
/// PRO(t) is the mean, over the 8-connected components of all masks, of the component's share of pixels
/// that score `>= t`; FPR(t) is the same share of all normal pixels. A small defect weighs as much as a
/// large one. Integrated by trapezoids, interpolated at the limit. `None` if one class has no pixel.
pub fn aupro(images: &[PixelMap]) -> Result<Option<f64>, EvalError> {
    Ok(pixel_metrics(images)?.map(|m| m.aupro))
}

/// [`pixel_auroc`] and [`aupro`] from one pass over the sorted pixels.
///
/// Memory: 4 bytes per normal pixel, 8 per anomalous pixel. Errors: a map or mask that is not
/// `height × width`, a map value that is not finite.
pub fn pixel_metrics(images: &[PixelMap]) -> Result<Option<PixelMetrics>, EvalError> {
    let mut pool = PixelPool::default();
    for image in images {
        ganomede_host::interrupt::check()?;
        check_image(image)?;
        let labels = pool.components(image.mask, image.height, image.width);
        pool.values(image.map, Some(&labels))?;
    }
    Ok(pool.metrics())
}

/// A normal pixel among labels of components.
const NORMAL: u32 = u32::MAX;

/// Pixels of maps, gathered row by row, so that no map of a large image is ever whole. Memory: 4 bytes a
/// normal pixel, 8 an anomalous one.
#[derive(Debug, Clone, Default)]
pub struct PixelPool {
    normal: Vec<u32>,
    /// Key in the high half, component in the low half.
    anomalous: Vec<u64>,
    component_sizes: Vec<u32>,
}

impl PixelPool {
    /// Labels of the pixels of a mask `height × width`, to be given with the values of its map.
    pub fn components(&mut self, mask: &[bool], height: usize, width: usize) -> Vec<u32> {
        components(mask, height, width, &mut self.component_sizes)
    }

    /// Adds values of a map with the labels of the same pixels; without labels all are normal.
    ///
    /// # Errors
    /// [`EvalError::NotFinite`] for a value that is not finite.
    pub fn values(&mut self, values: &[f32], labels: Option<&[u32]>) -> Result<(), EvalError> {
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            let value = f64::from(values[index]);
            return Err(EvalError::NotFinite { what: "anomaly map", index, value });
        }
        for (i, &value) in values.iter().enumerate() {
            match labels.map_or(NORMAL, |labels| labels[i]) {
                NORMAL => self.normal.push(descending_key(value)),
                component => {
                    let key = u64::from(descending_key(value)) << 32 | u64::from(component);
                    self.anomalous.push(key);
                }
            }
        }
        Ok(())
    }

    /// Both metrics; `None` if one class has no pixel.
    pub fn metrics(self) -> Option<PixelMetrics> {
        let Self { normal, anomalous, component_sizes } = self;
        metrics(normal, anomalous, &component_sizes)
    }
}

fn metrics(mut normal: Vec<u32>, mut anomalous: Vec<u64>, component_sizes: &[u32]) -> Option<PixelMetrics> {
    if normal.is_empty() || anomalous.is_empty() {
        return None;
    }
    normal.par_sort_unstable();
    anomalous.par_sort_unstable();

    let regions = component_sizes.len() as f64;
    let (n_normal, n_anomalous) = (normal.len() as f64, anomalous.len() as f64);
    let (mut auroc, mut aupro) = (0.0, 0.0);
    let (mut fp, mut tp, mut overlap) = (0, 0, 0.0);
    while fp < normal.len() || tp < anomalous.len() {
        // Step to the next distinct score and take every pixel that has it.
        let before = (fp as f64 / n_normal, tp as f64 / n_anomalous, overlap);
        let next_normal = normal.get(fp).map_or(u64::MAX, |&k| u64::from(k));
        let key = next_normal.min(anomalous.get(tp).map_or(u64::MAX, |&k| k >> 32));
        fp += normal[fp..].iter().take_while(|&&k| u64::from(k) == key).count();
        for pixel in anomalous[tp..].iter().take_while(|&&k| k >> 32 == key) {
            let size = component_sizes[(pixel & u64::from(u32::MAX)) as usize];
            overlap += 1.0 / (f64::from(size) * regions);
            tp += 1;
        }
        let fpr = fp as f64 / n_normal;
        auroc += (fpr - before.0) * (before.1 + tp as f64 / n_anomalous) / 2.0;
        if fpr > before.0 && before.0 < PRO_FPR_LIMIT {
            let end = fpr.min(PRO_FPR_LIMIT);
            let overlap_at_end = before.2 + (overlap - before.2) * (end - before.0) / (fpr - before.0);
            aupro += (end - before.0) * (before.2 + overlap_at_end) / 2.0;
        }
    }
    Some(PixelMetrics { auroc, aupro: aupro / PRO_FPR_LIMIT })
}

fn check_image(image: &PixelMap) -> Result<(), EvalError> {
    let expected = image.height.saturating_mul(image.width);
    for (what, got) in [("anomaly map", image.map.len()), ("ground-truth mask", image.mask.len())] {
        if got != expected {
            return Err(EvalError::Length { what, got, expected, per: "pixel" });
        }
    }
    match image.map.iter().position(|v| !v.is_finite()) {
        Some(index) => {
            let value = f64::from(image.map[index]);
            Err(EvalError::NotFinite { what: "anomaly map", index, value })
        }
        None => Ok(()),
    }
}

/// An unsigned key that sorts finite floats from high to low, with −0 equal to +0.
fn descending_key(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    // Ascending order flips the sign bit of positives and every bit of negatives; descending inverts that.
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

/// Labels the 8-connected components of the mask; appends their sizes and numbers them from there on.
fn components(mask: &[bool], h: usize, w: usize, sizes: &mut Vec<u32>) -> Vec<u32> {
    let mut labels = vec![NORMAL; h * w];
    let mut stack = Vec::new();
    for start in 0..h * w {
        if !mask[start] || labels[start] != NORMAL {
            continue;
        }
        let label = sizes.len() as u32;
        labels[start] = label;
        stack.push(start);
        let mut size = 0;
        while let Some(at) = stack.pop() {
            size += 1;
            let (y, x) = (at / w, at % w);
            for ny in y.saturating_sub(1)..(y + 2).min(h) {
                for nx in x.saturating_sub(1)..(x + 2).min(w) {
                    let next = ny * w + nx;
                    if mask[next] && labels[next] == NORMAL {
                        labels[next] = label;
                        stack.push(next);
                    }
                }
            }
        }
        sizes.push(size);
    }
    labels
}
