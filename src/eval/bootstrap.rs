//! Bootstrap interval of the AUROC.

use std::collections::HashMap;

use super::{EvalError, check};
use ganomede_host::interrupt;
use rayon::prelude::*;

const RESAMPLES: u64 = 1000;

/// 95 % percentile-bootstrap interval `[lo, hi]` of the AUROC.
///
/// 1000 stratified resamples: anomalous and normal images are redrawn separately, so the class counts stay.
/// The same `seed` gives the same interval on any number of threads. `None` if a class is missing.
///
/// Cost: one sort, then O(n) per resample. Scores are first replaced by the rank of their distinct value;
/// a resample histograms its normals by rank, and each redrawn anomaly looks up how many normals it beats.
pub fn auroc_ci95(scores: &[f64], truths: &[bool], seed: u64) -> Result<Option<[f64; 2]>, EvalError> {
    check(scores, truths)?;
    let mut distinct = scores.to_vec();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let ranks_of = |class: bool| -> Vec<u32> {
        let of_class = scores.iter().zip(truths).filter(|&(_, &t)| t == class);
        of_class.map(|(s, _)| distinct.partition_point(|d| d < s) as u32).collect()
    };
    let (anomalous, normal) = (ranks_of(true), ranks_of(false));
    if anomalous.is_empty() || normal.is_empty() {
        return Ok(None);
    }
    let resample = |i: u64| {
        interrupt::check()?;
        let mut random = SplitMix64(seed ^ i.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        // First the count of each rank, then, in place, twice the normals below plus those equal.
        let mut beaten = vec![0u32; distinct.len()];
        for _ in 0..normal.len() {
            beaten[normal[random.below(normal.len())] as usize] += 1;
        }
        let mut below = 0u64;
        let doubled_wins: Vec<u64> = beaten
            .iter()
            .map(|&equal| {
                let wins = 2 * below + u64::from(equal);
                below += u64::from(equal);
                wins
            })
            .collect();
        let draw = |_| u128::from(doubled_wins[anomalous[random.below(anomalous.len())] as usize]);
        let total: u128 = (0..anomalous.len()).map(draw).sum();
        Ok::<f64, EvalError>(total as f64 / (2.0 * anomalous.len() as f64 * normal.len() as f64))
    };
    let mut samples = (0..RESAMPLES).into_par_iter().map(resample).collect::<Result<Vec<_>, _>>()?;
    samples.sort_unstable_by(f64::total_cmp);
    Ok(Some([0.025, 0.975].map(|q| quantile_of_sorted(&samples, q))))
}

/// As [`auroc_ci95`] where samples come in groups: whole groups are redrawn, since samples of one are not
/// independent (Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, §3.8; of ROC curves
/// Obuchowski, *Biometrics* 1997).
///
/// `groups` has the number of the group of each sample. Groups of normal samples, of anomalous ones and of
/// both are redrawn separately, so that every resample has both classes; of groups of one sample each this is
/// [`auroc_ci95`], with the same bits.
///
/// Errors: as [`auroc_ci95`], and where the groups are not as many as the scores.
pub fn auroc_ci95_of_groups(
    scores: &[f64],
    truths: &[bool],
    groups: &[u32],
    seed: u64,
) -> Result<Option<[f64; 2]>, EvalError> {
    check(scores, truths)?;
    if groups.len() != scores.len() {
        let (got, expected) = (groups.len(), scores.len());
        return Err(EvalError::Length { what: "groups", got, expected, per: "score" });
    }
    let mut distinct = scores.to_vec();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    // Ranks of each group's normal and anomalous scores; groups in the order in which they are met.
    let (mut known, mut ranks) = (HashMap::new(), Vec::<[Vec<u32>; 2]>::new());
    for ((score, &truth), group) in scores.iter().zip(truths).zip(groups) {
        let number = *known.entry(group).or_insert(ranks.len());
        if number == ranks.len() {
            ranks.push(Default::default());
        }
        ranks[number][usize::from(truth)].push(distinct.partition_point(|d| d < score) as u32);
    }
    let of_kind = |kind: [bool; 2]| -> Vec<&[Vec<u32>; 2]> {
        ranks
            .iter()
            .filter(|[normal, anomalous]| [!normal.is_empty(), !anomalous.is_empty()] == kind)
            .collect()
    };
    let kinds = [[true, false], [false, true], [true, true]].map(of_kind);
    if truths.iter().all(|&truth| truth) || !truths.contains(&true) {
        return Ok(None);
    }
    let resample = |i: u64| {
        interrupt::check()?;
        let mut random = SplitMix64(seed ^ i.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let mut drawn: Vec<&[Vec<u32>; 2]> = Vec::with_capacity(ranks.len());
        for kind in &kinds {
            drawn.extend((0..kind.len()).map(|_| kind[random.below(kind.len())]));
        }
        // First the count of each rank, then, in place, twice the normals below plus those equal.
        let mut beaten = vec![0u64; distinct.len()];
        drawn.iter().for_each(|[normal, _]| normal.iter().for_each(|&rank| beaten[rank as usize] += 1));
        let mut below = 0u64;
        for count in &mut beaten {
            let equal = std::mem::replace(count, 2 * below + *count);
            below += equal;
        }
        let (mut total, mut anomalies) = (0u128, 0u64);
        for rank in drawn.iter().flat_map(|[_, anomalous]| anomalous) {
            total += u128::from(beaten[*rank as usize]);
            anomalies += 1;
        }
        Ok::<f64, EvalError>(total as f64 / (2.0 * anomalies as f64 * below as f64))
    };
    let mut samples = (0..RESAMPLES).into_par_iter().map(resample).collect::<Result<Vec<_>, _>>()?;
    samples.sort_unstable_by(f64::total_cmp);
    Ok(Some([0.025, 0.975].map(|q| quantile_of_sorted(&samples, q))))
}

/// Quantile of sorted values, linear between order statistics at `q (n − 1)`.
pub(crate) fn quantile_of_sorted(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a 64-bit state is enough for resampling.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    /// Uniform in [0, 1), 53 bits.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An index in `0..n`; the bias of the multiply-shift, n / 2⁶⁴, is nothing here.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
