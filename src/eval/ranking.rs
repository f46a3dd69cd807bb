//! Metrics of a ranking: how well scores separate anomalous from normal images.
//!
//! All of them read one sweep: cut the scores at each distinct value, from the highest down,
//! and count the true and false positives at or above the cut.

use super::{EvalError, check};
use serde::Serialize;

/// Counts of the images that score at or above `threshold`.
#[derive(Clone, Copy)]
struct Cut {
    threshold: f64,
    true_positives: u64,
    false_positives: u64,
}

/// The cuts at every distinct score, descending, with the number of anomalous and normal images. O(n log n).
struct Sweep {
    cuts: Vec<Cut>,
    anomalous: u64,
    normal: u64,
}

impl Sweep {
    fn new(scores: &[f64], truths: &[bool]) -> Result<Self, EvalError> {
        check(scores, truths)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut cuts: Vec<Cut> = Vec::new();
        let (mut tp, mut fp) = (0, 0);
        for i in order {
            if truths[i] {
                tp += 1
            } else {
                fp += 1
            }
            let cut = Cut { threshold: scores[i], true_positives: tp, false_positives: fp };
            match cuts.last_mut() {
                Some(last) if last.threshold == scores[i] => *last = cut,
                _ => cuts.push(cut),
            }
        }
        Ok(Self { cuts, anomalous: tp, normal: fp })
    }

    /// The sweep, if both classes are present.
    fn of_both(scores: &[f64], truths: &[bool]) -> Result<Option<Self>, EvalError> {
        let sweep = Self::new(scores, truths)?;
        Ok((sweep.anomalous > 0 && sweep.normal > 0).then_some(sweep))
    }

    fn roc(&self) -> Vec<RocPoint> {
        let start = RocPoint { threshold: f64::INFINITY, fpr: 0.0, tpr: 0.0 };
        let at = |cut: &Cut| RocPoint {
            threshold: cut.threshold,
            fpr: cut.false_positives as f64 / self.normal as f64,
            tpr: cut.true_positives as f64 / self.anomalous as f64,
        };
        std::iter::once(start).chain(self.cuts.iter().map(at)).collect()
    }
}

/// A point of the ROC curve: the rates at which normal and anomalous images score at or above `threshold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RocPoint {
    /// Cut; `+∞` at the curve's start, where nothing is flagged.
    pub threshold: f64,
    /// False-positive rate, FP / normals.
    pub fpr: f64,
    /// True-positive rate (recall), TP / anomalies.
    pub tpr: f64,
}

/// A point of the precision–recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PrPoint {
    /// Cut: images at or above it are flagged.
    pub threshold: f64,
    /// TP / (TP + FP).
    pub precision: f64,
    /// TP / anomalies.
    pub recall: f64,
}

/// Area under the ROC curve: the Mann–Whitney probability that an anomalous image outscores a normal one.
///
/// `AUROC = (#{a > n} + ½ #{a = n}) / (n₊ n₋)` over all pairs of an anomalous score `a` and a normal
/// score `n`; counted in integers, so it is exact, in O(n log n). `None` if a class is missing.
pub fn auroc(scores: &[f64], truths: &[bool]) -> Result<Option<f64>, EvalError> {
    Ok(Sweep::of_both(scores, truths)?.map(|sweep| {
        // A trapezoid per cut, doubled to stay in integers: normals of this cut × (anomalies above + up to
        // it).
        let (mut doubled, mut tp, mut fp) = (0u128, 0u64, 0u64);
        for cut in &sweep.cuts {
            doubled += u128::from(cut.false_positives - fp) * u128::from(cut.true_positives + tp);
            (tp, fp) = (cut.true_positives, cut.false_positives);
        }
        doubled as f64 / (2.0 * sweep.anomalous as f64 * sweep.normal as f64)
    }))
}

/// The ROC curve from (0, 0) to (1, 1), a point per distinct score. `None` if a class is missing.
pub fn roc_curve(scores: &[f64], truths: &[bool]) -> Result<Option<Vec<RocPoint>>, EvalError> {
    Ok(Sweep::of_both(scores, truths)?.map(|sweep| sweep.roc()))
}

/// The precision–recall curve in order of rising recall, a point per distinct score. `None` if a class is
/// missing.
pub fn pr_curve(scores: &[f64], truths: &[bool]) -> Result<Option<Vec<PrPoint>>, EvalError> {
    Ok(Sweep::of_both(scores, truths)?.map(|sweep| {
        let at = |cut: &Cut| PrPoint {
            threshold: cut.threshold,
            precision: cut.true_positives as f64 / (cut.true_positives + cut.false_positives) as f64,
            recall: cut.true_positives as f64 / sweep.anomalous as f64,
        };
        sweep.cuts.iter().map(at).collect()
    }))
}

/// Average precision, the step-wise area under the precision–recall curve (AUPR).
///
/// `AP = Σ_k (R_k − R_{k−1}) P_k` over distinct thresholds; no interpolation, which would be optimistic.
/// Read it beside [`no_skill_aupr`]. `None` if a class is missing.
pub fn average_precision(scores: &[f64], truths: &[bool]) -> Result<Option<f64>, EvalError> {
    Ok(pr_curve(scores, truths)?.map(|curve| {
        let mut recall = 0.0;
        curve.iter().map(|p| (p.recall - std::mem::replace(&mut recall, p.recall)) * p.precision).sum()
    }))
}

/// The trapezoid area under the precision–recall curve, from (recall 0, precision 1) on.
///
/// `Σ_k (R_k − R_{k−1}) (P_k + P_{k−1}) / 2`: published by EGBAD and others (scikit-learn's `auc(recall,
/// precision)`). Straight lines between points claim precisions that no threshold reaches, so it is
/// optimistic where recall is low; [`average_precision`] is the figure to quote. `None` if a class is
/// missing.
pub fn auprc_trapz(scores: &[f64], truths: &[bool]) -> Result<Option<f64>, EvalError> {
    Ok(pr_curve(scores, truths)?.map(|curve| {
        let (mut area, mut recall, mut precision) = (0.0, 0.0, 1.0);
        for p in curve {
            area += (p.recall - recall) * (p.precision + precision) / 2.0;
            (recall, precision) = (p.recall, p.precision);
        }
        area
    }))
}

/// The AUPR of a detector without skill: the prevalence, anomalies / images. `None` if a class is missing.
pub fn no_skill_aupr(truths: &[bool]) -> Option<f64> {
    let anomalous = truths.iter().filter(|&&t| t).count();
    (anomalous > 0 && anomalous < truths.len()).then(|| anomalous as f64 / truths.len() as f64)
}

/// **Oracle.** The best F1 of any threshold, and the highest threshold that reaches it.
///
/// It looks at the truths, so no deployed detector attains it; compare F1 at a calibrated threshold.
/// `None` if a class is missing.
pub fn f1_max(scores: &[f64], truths: &[bool]) -> Result<Option<(f64, f64)>, EvalError> {
    Ok(Sweep::of_both(scores, truths)?.map(|sweep| {
        let f1 = |c: &Cut| {
            2.0 * c.true_positives as f64 / (sweep.anomalous + c.true_positives + c.false_positives) as f64
        };
        sweep.cuts.iter().fold((f64::NEG_INFINITY, f64::NAN), |best, cut| {
            if f1(cut) > best.0 { (f1(cut), cut.threshold) } else { best }
        })
    }))
}

/// **Oracle.** F1 where as many images are flagged as are anomalous, by their scores; all of those that tie
/// with the last.
///
/// The share of anomalies must be known. Published figures of KDD99 are such: they flag the fifth that scores
/// highest, since a fifth is anomalous. `None` if a class is missing.
pub fn f1_at_prevalence(scores: &[f64], truths: &[bool]) -> Result<Option<f64>, EvalError> {
    let Some(sweep) = Sweep::of_both(scores, truths)? else { return Ok(None) };
    let flagged = |cut: &&Cut| cut.true_positives + cut.false_positives >= sweep.anomalous;
    Ok(sweep.cuts.iter().find(flagged).map(|cut| {
        2.0 * cut.true_positives as f64 / (sweep.anomalous + cut.true_positives + cut.false_positives) as f64
    }))
}

/// **Oracle.** The equal error rate: where the false-positive rate equals the miss rate `1 − TPR`.
///
/// Interpolated linearly along the ROC curve. `None` if a class is missing.
pub fn equal_error_rate(scores: &[f64], truths: &[bool]) -> Result<Option<f64>, EvalError> {
    Ok(roc_curve(scores, truths)?.map(|curve| {
        // gap = FPR − (1 − TPR) climbs from −1 to 1: find the segment that crosses zero.
        let gap = |p: &RocPoint| p.fpr + p.tpr - 1.0;
        let at = curve.iter().position(|p| gap(p) >= 0.0).unwrap_or(curve.len() - 1);
        let (a, b) = (&curve[at - 1], &curve[at]);
        a.fpr + (b.fpr - a.fpr) * -gap(a) / (gap(b) - gap(a))
    }))
}

/// **Oracle.** The ROC point that maximises Youden's `J = TPR − FPR`. `None` if a class is missing.
pub fn youden(scores: &[f64], truths: &[bool]) -> Result<Option<RocPoint>, EvalError> {
    Ok(roc_curve(scores, truths)?.map(|curve| {
        curve[1..]
            .iter()
            .fold(curve[1], |best, p| if p.tpr - p.fpr > best.tpr - best.fpr { *p } else { best })
    }))
}

/// Decisions of one threshold against the truths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Anomalies flagged.
    pub true_positives: u64,
    /// Normal images flagged: false alarms.
    pub false_positives: u64,
    /// Normal images passed.
    pub true_negatives: u64,
    /// Anomalies missed.
    pub false_negatives: u64,
}

impl Confusion {
    /// `TP / (TP + FP)`; 0 if nothing is flagged, `None` without anomalies.
    pub fn precision(&self) -> Option<f64> {
        self.of_anomalies(self.true_positives + self.false_positives)
    }

    /// `TP / (TP + FN)`; `None` without anomalies.
    pub fn recall(&self) -> Option<f64> {
        self.of_anomalies(self.true_positives + self.false_negatives)
    }

    /// `2 TP / (2 TP + FP + FN)`, the harmonic mean of precision and recall; `None` without anomalies.
    pub fn f1(&self) -> Option<f64> {
        self.of_anomalies(2 * self.true_positives + self.false_positives + self.false_negatives)
            .map(|half| 2.0 * half)
    }

    /// `FP / (FP + TN)`; `None` without normal images.
    pub fn false_alarm_rate(&self) -> Option<f64> {
        let normal = self.false_positives + self.true_negatives;
        (normal > 0).then(|| self.false_positives as f64 / normal as f64)
    }

    fn of_anomalies(&self, denominator: u64) -> Option<f64> {
        let any = self.true_positives + self.false_negatives > 0;
        any.then(|| self.true_positives as f64 / denominator.max(1) as f64)
    }
}

/// Counts the decisions `score >= threshold` against the truths. Works with one class as well.
pub fn confusion(scores: &[f64], truths: &[bool], threshold: f64) -> Result<Confusion, EvalError> {
    check(scores, truths)?;
    let mut c = Confusion { true_positives: 0, false_positives: 0, true_negatives: 0, false_negatives: 0 };
    for (&score, &anomalous) in scores.iter().zip(truths) {
        let count = match (score >= threshold, anomalous) {
            (true, true) => &mut c.true_positives,
            (true, false) => &mut c.false_positives,
            (false, false) => &mut c.true_negatives,
            (false, true) => &mut c.false_negatives,
        };
        *count += 1;
    }
    Ok(c)
}
