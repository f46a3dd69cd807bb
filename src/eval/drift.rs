//! Whether a stream of samples is flagged more often than normal ones would be.

use serde::Serialize;

use super::Quantiles;

/// How many of a stream are flagged, beside what was promised of normal samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// Samples flagged.
    pub flagged: usize,
    /// Samples judged.
    pub of: usize,
    /// Share of normal samples that the threshold flags, at most.
    pub promised: f64,
    /// How often a stream of normal samples is flagged as much or more, 0 to 1.
    pub p_value: f64,
    /// Whether that is rarer than [`Drift::ALARM`].
    pub alarm: bool,
}

impl Drift {
    /// The `p_value` below which a stream is an alarm.
    pub const ALARM: f64 = 1e-3;

    /// Of `of` samples `flagged` reach `threshold`. `None` for a stream without samples, for a threshold that
    /// all held-out samples reach, which promises nothing, and for one of groups of samples: one odd group
    /// may have all of its samples flagged.
    ///
    /// Of n held-out scores r reach the threshold. If those and the stream's are exchangeable, the number
    /// flagged is beta-binomial with a = r + 1 and b = n − r: a binomial whose share is known from n samples
    /// only. With the binomial itself, thresholds from few samples would raise alarms by themselves.
    pub fn of(quantiles: &Quantiles, threshold: f64, flagged: usize, of: usize) -> Option<Self> {
        Self::of_counts(Self::held_out(quantiles, threshold)?, flagged, of)
    }

    /// Held-out scores that reach a threshold, and all of them; `None` where they promise nothing.
    pub(crate) fn held_out(quantiles: &Quantiles, threshold: f64) -> Option<[usize; 2]> {
        let n = quantiles.count();
        let reach = n - quantiles.lower(threshold);
        (reach < n && !quantiles.is_of_groups()).then_some([reach, n])
    }

    /// As [`Drift::of`], of the counts of held-out scores.
    pub(crate) fn of_counts([reach, n]: [usize; 2], flagged: usize, of: usize) -> Option<Self> {
        if of == 0 || reach >= n || flagged > of {
            return None;
        }
        let [a, b] = [reach + 1, n - reach].map(|v| v as f64);
        let p_value = tail(a, b, of, flagged);
        Some(Self { flagged, of, promised: a / (n as f64 + 1.0), p_value, alarm: p_value < Self::ALARM })
    }

    /// What an alarm says; `None` where there is none.
    pub fn warning(&self) -> Option<String> {
        let Self { flagged, of, promised, p_value, alarm } = *self;
        let share = 100.0 * flagged as f64 / of as f64;
        alarm.then(|| {
            format!(
                "{flagged} of {of} samples are flagged ({share:.1} %), of normal ones {:.1} % would be and as many \
                 as this with probability {p_value:.1e}: many are anomalous, or what comes in is no longer like \
                 what the model was trained on (light, camera, material); look at some, and `calibrate` or train \
                 again if they are sound",
                100.0 * promised
            )
        })
    }
}

/// P(K ≥ `least`) of K beta-binomial over `m` trials.
fn tail(a: f64, b: f64, m: usize, least: usize) -> f64 {
    let m_ = m as f64;
    // log P(K = 0) = log B(a, m + b) / B(a, b).
    let mut log: f64 = (0..m).map(|i| ((b + i as f64) / (a + b + i as f64)).ln()).sum();
    let (mut below, mut above) = (0.0, 0.0);
    for k in 0..=m {
        *(if k < least { &mut below } else { &mut above }) += log.exp();
        let j = k as f64;
        if k < m {
            log += ((m_ - j) / (j + 1.0) * (a + j) / (b + m_ - j - 1.0)).ln();
        }
    }
    // The sum of all is 1 but for rounding, which would show in a share of it only.
    (above / (above + below)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(n: usize) -> Quantiles {
        Quantiles::new(&(0..n).map(|i| i as f64).collect::<Vec<_>>()).unwrap()
    }

    /// scipy.stats.betabinom(m, a, b).sf(k − 1).
    #[test]
    fn tails_are_scipys() {
        for (m, a, b, k, want) in SCIPY {
            let found = tail(a, b, m, k);
            assert!((found - want).abs() <= 1e-9 * want.max(1e-3), "{m} {a} {b} {k}: {found} and not {want}");
        }
    }

    const SCIPY: [(usize, f64, f64, usize, f64); 6] = [
        (10, 1.0, 19.0, 1, 0.34482758620689646),
        (100, 5.0, 95.0, 12, 0.03412301948624241),
        (100, 5.0, 95.0, 60, 0.0),
        (1000, 6.0, 94.0, 150, 0.002523248368286435),
        (7, 2.0, 3.0, 7, 0.024242424242423732),
        (500, 51.0, 950.0, 40, 0.015501450330282829),
    ];

    #[test]
    fn normal_streams_are_no_alarm_and_others_are() {
        let held_out = quantiles(99);
        let threshold = held_out.threshold(0.05).unwrap().value;
        let of = |flagged, of| Drift::of(&held_out, threshold, flagged, of).unwrap();
        let usual = of(5, 100);
        assert_eq!((usual.promised, usual.alarm, usual.warning()), (0.05, false, None));
        assert!(usual.p_value > 0.4 && usual.p_value < 0.6, "{usual:?}");
        assert_eq!(of(0, 100).p_value, 1.0);
        let strange = of(60, 100);
        assert!(strange.alarm && strange.p_value < 1e-12, "{strange:?}");
        let words = strange.warning().unwrap();
        assert!(words.starts_with("60 of 100 samples are flagged (60.0 %), of normal ones 5.0 %"), "{words}");
        // Nineteen held-out samples know their share of false alarms badly; a binomial of 5 % would cry.
        let few = quantiles(19);
        let drift = Drift::of(&few, few.threshold(0.05).unwrap().value, 18, 100).unwrap();
        assert!(!drift.alarm && drift.p_value > 0.01, "{drift:?}");
    }

    #[test]
    fn what_promises_nothing_has_no_test() {
        let held_out = quantiles(20);
        assert_eq!(Drift::of(&held_out, 5.0, 0, 0), None);
        assert_eq!(Drift::of(&held_out, -1.0, 3, 10), None);
        assert_eq!(Drift::of(&held_out, 5.0, 11, 10), None);
    }

    /// Of many calibrations and normal streams as few are alarms as the p-value says.
    #[test]
    fn alarms_of_normal_streams_are_as_rare_as_they_say() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut low = 0;
        for _ in 0..4000 {
            let held_out = Quantiles::new(&(0..30).map(|_| random()).collect::<Vec<_>>()).unwrap();
            let threshold = held_out.threshold(0.1).unwrap();
            let flagged = (0..50).filter(|_| threshold.is_anomalous(random())).count();
            low += usize::from(Drift::of(&held_out, threshold.value, flagged, 50).unwrap().p_value <= 0.05);
        }
        // 200 expected of an exact test, fewer since counts are whole: 5 % is not exceeded by chance.
        assert!((100..=245).contains(&low), "{low}");
    }
}
