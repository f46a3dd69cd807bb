use super::*;
use proptest::prelude::*;
use serde_json::Value;

const RAW: AlarmRule = AlarmRule { merge_gap: 0, min_points: 1 };

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12
}

/// The segments by looking at every pair of neighbours.
fn segments_by_edges(truths: &[bool]) -> Vec<(usize, usize)> {
    let at = |i: isize| usize::try_from(i).ok().and_then(|i| truths.get(i)).copied().unwrap_or(false);
    let edges = |from: bool| {
        (0..=truths.len() as isize).filter(move |&i| at(i - 1) == from && at(i) != from).map(|i| i as usize)
    };
    edges(false).zip(edges(true)).collect()
}

/// Flags adjusted segment by segment, as the definition says.
fn adjusted_by_definition(flags: &[bool], truths: &[bool], k: f64) -> Vec<bool> {
    let mut flags = flags.to_vec();
    for (start, end) in segments_by_edges(truths) {
        let flagged = flags[start..end].iter().filter(|&&f| f).count();
        if flagged as f64 * 100.0 > k * (end - start) as f64 {
            flags[start..end].fill(true);
        }
    }
    flags
}

fn f1_of_flags(flags: &[bool], truths: &[bool]) -> f64 {
    let count =
        |f: bool, t: bool| flags.iter().zip(truths).filter(|&(&a, &b)| (a, b) == (f, t)).count() as f64;
    let (tp, fp, missed) = (count(true, true), count(true, false), count(false, true));
    if tp == 0.0 { 0.0 } else { 2.0 * tp / (2.0 * tp + fp + missed) }
}

fn flags(scores: &[f64], threshold: f64) -> Vec<bool> {
    scores.iter().map(|&s| s >= threshold).collect()
}

fn evaluation(scores: &[f64], truths: &[bool], threshold: f64, k: f64) -> SignalEvaluation {
    let threshold = Threshold { value: threshold, source: "test".into() };
    SignalEvaluation::new(&[ScoredSeries::new(scores, truths)], Some(&threshold), RAW, k).unwrap()
}

#[test]
fn adjusted_f1_agrees_with_scikit_learn() {
    let goldens: Value = serde_json::from_str(include_str!("../../../tests/goldens/metrics.json")).unwrap();
    let golden = &goldens["signal"];
    let list = |name: &str| golden[name].as_array().unwrap().clone();
    let scores: Vec<f64> = list("scores").iter().map(|v| v.as_f64().unwrap()).collect();
    let truths: Vec<bool> = list("truths").iter().map(|v| v.as_bool().unwrap()).collect();
    assert_eq!(list("cases").len(), 6);
    for case in list("cases") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let e = evaluation(&scores, &truths, number("threshold"), number("k"));
        let (f1, oracle) = (e.threshold.unwrap().f1.unwrap(), e.oracle.unwrap());
        for (name, value) in [
            ("f1", f1.plain),
            ("f1_point_adjusted", f1.point_adjusted),
            ("f1_pa_k", f1.pa_k),
            ("f1_pa_k_oracle", oracle.pa_k),
            ("f1_oracle", oracle.plain),
        ] {
            assert!(close(value, number(name)), "{name} is {value} in {case}");
        }
    }
}

#[test]
fn toy_segments() {
    // A segment of five points and one of two.
    let truths = [0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0].map(|t| t == 1);
    let scores = [0.1, 0.9, 0.1, 0.2, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.1];
    let e = evaluation(&scores, &truths, 0.8, 20.0);
    assert_eq!((e.n_points, e.n_anomalous, e.n_segments), (12, 7, 2));
    let t = e.threshold.unwrap();
    let f1 = t.f1.unwrap();
    // Plain: 1 found, 1 false, 6 missed. Adjusted: 5 found. One of five is 20 %, which is not more than 20 %.
    assert!(close(f1.plain, 2.0 / 9.0) && close(f1.point_adjusted, 10.0 / 13.0) && close(f1.pa_k, 2.0 / 9.0));
    let below = evaluation(&scores, &truths, 0.8, 19.9).threshold.unwrap().f1.unwrap();
    assert!(close(below.pa_k, below.point_adjusted));
    assert_eq!((t.segment_recall, t.mean_delay), (Some(0.5), Some(2.0)));
    assert!(close(t.false_alarms_per_10k, 1e4 / 12.0));
    assert_eq!((t.precision, t.recall), (Some(0.5), Some(1.0 / 7.0)));
}

#[test]
fn segments_end_with_their_series() {
    let (scores, truths) = ([0.0, 1.0, 0.0, 0.0], [false, true, true, true]);
    let series = [ScoredSeries::new(&scores, &truths), ScoredSeries::new(&[0.0; 2], &[true, false])];
    let threshold = Threshold { value: 1.0, source: "test".into() };
    let e = SignalEvaluation::new(&series, Some(&threshold), RAW, 0.0).unwrap();
    assert_eq!((e.n_segments, e.n_points), (2, 6));
    let t = e.threshold.unwrap();
    // The point that opens the second series is no part of the segment that ends the first.
    assert!(close(t.f1.unwrap().point_adjusted, 6.0 / 7.0));
    assert_eq!(t.segment_recall, Some(0.5));
}

#[test]
fn segments_that_touch_are_told_apart_where_they_are_labelled_so() {
    // Two labelled intervals without a point between them, of which the second is found.
    let truths = [0, 1, 1, 1, 1, 0].map(|t| t == 1);
    let scores = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    let threshold = Threshold { value: 1.0, source: "test".into() };
    let of = |segments: Option<&[(usize, usize)]>| {
        let segments: Option<Vec<Interval>> =
            segments.map(|list| list.iter().map(|&(start, end)| Interval { start, end }).collect());
        let series = ScoredSeries { segments: segments.as_deref(), ..ScoredSeries::new(&scores, &truths) };
        SignalEvaluation::new(&[series], Some(&threshold), RAW, 0.0)
    };
    let (apart, run) = (of(Some(&[(1, 3), (3, 5)])).unwrap(), of(None).unwrap());
    assert_eq!((apart.n_segments, run.n_segments), (2, 1));
    let (apart, run) = (apart.threshold.unwrap(), run.threshold.unwrap());
    assert_eq!((apart.segment_recall, apart.mean_delay), (Some(0.5), Some(0.0)));
    assert_eq!((run.segment_recall, run.mean_delay), (Some(1.0), Some(2.0)));
    // Two of four points are credited, not four.
    assert!(close(apart.f1.unwrap().point_adjusted, 2.0 / 3.0) && close(run.f1.unwrap().point_adjusted, 1.0));
    for (wrong, at) in
        [(&[(1, 3)][..], 3), (&[(0, 5)], 0), (&[(1, 4), (3, 5)], 6), (&[(1, 5), (5, 9)], 5), (&[], 1)]
    {
        assert_eq!(of(Some(wrong)), Err(EvalError::Segments { point: at }), "{wrong:?}");
    }
}

#[test]
fn alarms_merge_before_short_ones_are_dropped() {
    let flagged = [1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1].map(|f| f == 1);
    let of = |merge_gap, min_points| -> Vec<_> {
        let rule = AlarmRule { merge_gap, min_points };
        intervals(&flagged, rule).iter().map(|i| (i.start, i.end)).collect()
    };
    assert_eq!(of(0, 1), [(0, 1), (2, 3), (6, 9), (11, 12)]);
    assert_eq!(of(1, 0), of(0, 1), "no gap is shorter than one point");
    assert_eq!(of(2, 1), [(0, 3), (6, 9), (11, 12)]);
    assert_eq!(of(2, 2), [(0, 3), (6, 9)]);
    assert_eq!(of(3, 2), [(0, 3), (6, 12)]);
    assert_eq!(of(9, 2), [(0, 12)]);
    assert!(intervals(&[false; 4], RAW).is_empty() && intervals(&[], RAW).is_empty());
}

#[test]
fn the_formula_gives_the_published_random_scores() {
    for (prevalence, len, published) in [(0.131, 814.0, 0.977), (0.107, 220.0, 0.923), (0.042, 90.0, 0.730)] {
        let best = random_point_adjusted_f1(prevalence, len).unwrap();
        // The constants are quoted with two or three digits.
        assert!((best - published).abs() < 0.002, "{best}, not {published}");
    }
    // Segments of one point leave nothing to adjust: flagging everything is best.
    let plain = random_point_adjusted_f1(0.2, 1.0).unwrap();
    assert!((plain - 2.0 * 0.2 / 1.2).abs() < 1e-9);
    for (prevalence, len) in [(0.0, 9.0), (1.0, 9.0), (f64::NAN, 9.0), (0.1, 0.5), (0.1, f64::INFINITY)] {
        assert!(matches!(random_point_adjusted_f1(prevalence, len), Err(EvalError::Parameter { .. })));
    }
}

/// Expected PA%K F1 of flagging points with probability p: how many points of a segment are flagged is
/// binomial.
fn expected_pa_k(p: f64, gamma: f64, len: i32, k: f64) -> f64 {
    let (mut log_choose, mut recall) = (0.0, 0.0);
    for m in 0..=len {
        let probability = (log_choose + f64::from(m) * p.ln() + f64::from(len - m) * (1.0 - p).ln()).exp();
        let credited = if f64::from(m) * 100.0 > k * f64::from(len) { len } else { m };
        recall += probability * f64::from(credited) / f64::from(len);
        log_choose += (f64::from(len - m) / f64::from(m + 1)).ln();
    }
    let precision = gamma * recall / (gamma * recall + (1.0 - gamma) * p);
    2.0 * precision * recall / (precision + recall)
}

#[test]
fn random_scores_reach_the_closed_formula() {
    // Prevalence and mean segment of SMAP, MSL and SMD; points enough that the best threshold is not a lucky
    // one.
    let points = 600_000;
    for (prevalence, len) in [(0.131, 814), (0.107, 220), (0.042, 90)] {
        let segments = (points as f64 * prevalence / f64::from(len)).round() as usize;
        let period = points / segments;
        let truths: Vec<bool> = (0..points).map(|i| i % period < len as usize).collect();
        let row = random_reference(&[ScoredSeries::new(&[], &truths)], 0.01, RAW, 20.0, 3, 7).unwrap();
        let mean = |name: &str| row.iter().find(|m| m.0 == name).unwrap().1.mean;
        let anomalous = truths.iter().filter(|&&t| t).count();
        let gamma = anomalous as f64 / points as f64;
        let expected = random_point_adjusted_f1(gamma, f64::from(len)).unwrap();
        let adjusted = mean("oracle.point_adjusted");
        assert!((adjusted - expected).abs() < 0.01, "{adjusted}, not {expected}");
        // Plain F1 of random scores is best where everything is flagged.
        let plain = 2.0 * gamma / (1.0 + gamma);
        assert!((mean("oracle.plain") - plain).abs() < 0.01);
        let expected =
            (1..100).map(|p| expected_pa_k(f64::from(p) / 100.0, gamma, len, 20.0)).fold(0.0, f64::max);
        let found = mean("oracle.pa_k");
        assert!((found - expected).abs() < 0.01, "PA%20: {found}, not {expected}");
        assert!((mean("auroc") - 0.5).abs() < 0.01);
        // At the threshold each point is flagged with probability 0.01.
        let recall = 1.0 - 0.99f64.powi(len);
        let precision = gamma * recall / (gamma * recall + (1.0 - gamma) * 0.01);
        let at_threshold = 2.0 * precision * recall / (precision + recall);
        let found = mean("threshold.f1.point_adjusted");
        assert!((found - at_threshold).abs() < 0.03, "{found}, not {at_threshold}");
        assert_eq!(row, random_reference(&[ScoredSeries::new(&[], &truths)], 0.01, RAW, 20.0, 3, 7).unwrap());
    }
    assert!(matches!(
        random_reference(&[ScoredSeries::new(&[], &[true])], 0.0, RAW, 20.0, 3, 7),
        Err(EvalError::FalseAlarmRate(_))
    ));
    assert_eq!(
        random_reference(&[ScoredSeries::new(&[], &[true, false])], 0.1, RAW, 20.0, 0, 7),
        Err(EvalError::NoRun)
    );
}

#[test]
fn bad_input_is_refused_and_little_input_is_fine() {
    let error = adjusted_scores(&[1.0], &[true, false], 0.0).unwrap_err();
    assert!(matches!(error, EvalError::Length { got: 2, expected: 1, .. }));
    for k in [-1.0, 100.1, f64::NAN] {
        assert!(matches!(adjusted_scores(&[1.0], &[true], k), Err(EvalError::Parameter { .. })));
    }
    assert!(matches!(adjusted_scores(&[f64::NAN], &[true], 0.0), Err(EvalError::NotFinite { .. })));
    for alpha in [0.0, 1.5, f64::NAN] {
        assert!(matches!(ewma(&[1.0], alpha), Err(EvalError::Parameter { .. })));
    }
    let mut points = PointScores::new(4);
    points.add(0, &[1.0, 1.0]).unwrap();
    assert!(matches!(points.add(3, &[1.0, 1.0]), Err(EvalError::Length { got: 4, expected: 5, .. })));
    assert!(matches!(points.add(usize::MAX, &[1.0]), Err(EvalError::Length { .. })));
    assert!(matches!(points.add(0, &[f64::INFINITY]), Err(EvalError::NotFinite { .. })));
    assert_eq!(points.finish(), Err(EvalError::Uncovered { point: 2, len: 4 }));
    assert!(matches!(point_scores(4, &[0], 4, &[]), Err(EvalError::Length { .. })));

    let nothing = SignalEvaluation::new(&[], None, RAW, 20.0).unwrap();
    assert_eq!((nothing.n_points, nothing.auroc, nothing.oracle), (0, None, None));
    // Without a segment there is no recall, but alarms still count.
    let quiet = evaluation(&[0.0, 1.0], &[false, false], 0.5, 20.0).threshold.unwrap();
    assert_eq!((quiet.f1, quiet.segment_recall, quiet.mean_delay), (None, None, None));
    assert_eq!(quiet.false_alarms_per_10k, 5000.0);
}

#[test]
fn a_moving_average_looks_back_only() {
    assert_eq!(ewma(&[1.0, 3.0, 3.0], 0.5).unwrap(), [1.0, 2.0, 2.5]);
    assert_eq!(ewma(&[1.0, -3.0], 1.0).unwrap(), [1.0, -3.0]);
    assert!(ewma(&[], 0.2).unwrap().is_empty());
}

/// Scores with ties and truths in runs.
fn series() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
    let runs = prop::collection::vec((any::<bool>(), prop::collection::vec(0i32..8, 1..9)), 1..9);
    runs.prop_map(|runs| {
        runs.into_iter().flat_map(|(t, s)| s.into_iter().map(move |s| (f64::from(s), t))).unzip()
    })
}

proptest! {
    #[test]
    fn adjusted_scores_are_the_definition_at_every_threshold(
        (scores, truths) in series(),
        k in prop_oneof![Just(0.0), Just(20.0), Just(50.0), Just(100.0), 0.0..100.0f64],
    ) {
        let adjusted = adjusted_scores(&scores, &truths, k).unwrap();
        let mut best = 0.0f64;
        for threshold in 0..8 {
            let threshold = f64::from(threshold);
            let want = adjusted_by_definition(&flags(&scores, threshold), &truths, k);
            prop_assert_eq!(&flags(&adjusted, threshold), &want);
            best = best.max(f1_of_flags(&want, &truths));
        }
        let both = truths.contains(&true) && truths.contains(&false);
        let oracle = evaluation(&scores, &truths, 4.0, k).oracle;
        prop_assert_eq!(oracle.is_some(), both);
        prop_assert!(oracle.is_none_or(|f| close(f.pa_k, best)));
        if k == 100.0 {
            prop_assert_eq!(adjusted, scores);
        }
    }

    #[test]
    fn the_forms_are_ordered((scores, truths) in series(), k in 0.0..100.0f64) {
        if let Some(f1) = evaluation(&scores, &truths, 4.0, k).threshold.unwrap().f1 {
            prop_assert!(f1.plain <= f1.pa_k && f1.pa_k <= f1.point_adjusted);
            prop_assert!(close(f1.plain, f1_of_flags(&flags(&scores, 4.0), &truths)));
        }
    }

    #[test]
    fn segment_metrics_are_those_of_the_alarms((scores, truths) in series(), merge_gap in 0usize..4, min_points in 0usize..4) {
        let rule = AlarmRule { merge_gap, min_points };
        let threshold = Threshold { value: 5.0, source: "test".into() };
        let e = SignalEvaluation::new(&[ScoredSeries::new(&scores, &truths)], Some(&threshold), rule, 0.0);
        let t = e.unwrap().threshold.unwrap();
        // Mark the points of every alarm, then look segment by segment and alarm by alarm.
        let alarms = intervals(&flags(&scores, 5.0), rule);
        let mut marked = vec![false; truths.len()];
        alarms.iter().for_each(|a| marked[a.start..a.end].fill(true));
        let segments = segments_by_edges(&truths);
        let firsts: Vec<usize> =
            segments.iter().filter_map(|&(a, b)| marked[a..b].iter().position(|&m| m)).collect();
        let n = segments.len();
        prop_assert_eq!(t.segment_recall, (n > 0).then(|| firsts.len() as f64 / n as f64));
        let mean = firsts.iter().sum::<usize>() as f64 / firsts.len() as f64;
        prop_assert_eq!(t.mean_delay, (!firsts.is_empty()).then_some(mean));
        let false_alarms = alarms.iter().filter(|a| !truths[a.start..a.end].contains(&true)).count();
        prop_assert!(close(t.false_alarms_per_10k, 1e4 * false_alarms as f64 / truths.len() as f64));
    }

    #[test]
    fn intervals_are_apart_long_enough_and_cover_long_alarms(
        flagged in prop::collection::vec(any::<bool>(), 0..60),
        merge_gap in 0usize..6,
        min_points in 0usize..6,
    ) {
        let rule = AlarmRule { merge_gap, min_points };
        let found = intervals(&flagged, rule);
        for i in &found {
            prop_assert!(flagged[i.start] && flagged[i.end - 1] && i.end - i.start >= min_points.max(1));
            // Inside, no quiet stretch is as long as the gap.
            let longest = flagged[i.start..i.end].split(|&f| f).map(<[bool]>::len).max().unwrap_or(0);
            prop_assert!(longest < merge_gap.max(1));
        }
        prop_assert!(found.windows(2).all(|w| w[1].start - w[0].end >= merge_gap.max(1)));
        if min_points <= 1 {
            let covered = |p: usize| found.iter().any(|i| (i.start..i.end).contains(&p));
            prop_assert!((0..flagged.len()).all(|p| !flagged[p] || covered(p)));
        }
    }

    #[test]
    fn point_scores_are_means_over_covering_windows(
        len in 1usize..40,
        width in 1usize..10,
        stride in 1usize..5,
        seed in any::<u32>(),
    ) {
        let width = width.min(len);
        let stride = stride.min(width);
        let mut starts: Vec<usize> = (0..=len - width).step_by(stride).collect();
        starts.push(len - width);
        let scores: Vec<f64> =
            starts.iter().map(|&s| f64::from((s as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20)).collect();
        let points = point_scores(len, &starts, width, &scores).unwrap();
        for (point, got) in points.iter().enumerate() {
            let covering: Vec<f64> = starts
                .iter()
                .zip(&scores)
                .filter(|(s, _)| (**s..**s + width).contains(&point))
                .map(|(_, &score)| score)
                .collect();
            prop_assert!((got - covering.iter().sum::<f64>() / covering.len() as f64).abs() < 1e-9);
        }
    }

    #[test]
    fn a_moving_average_is_its_weighted_sum(
        values in prop::collection::vec(-9.0..9.0f64, 1..30),
        alpha in 0.01..1.0f64,
    ) {
        let smooth = ewma(&values, alpha).unwrap();
        for (t, got) in smooth.iter().enumerate() {
            let decay = 1.0 - alpha;
            let tail: f64 = (1..=t).map(|i| alpha * decay.powi((t - i) as i32) * values[i]).sum();
            prop_assert!((got - (tail + decay.powi(t as i32) * values[0])).abs() < 1e-9);
        }
    }
}
