use std::cmp::Ordering;

use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// AUROC by its definition, over all pairs.
fn auroc_by_pairs(scores: &[f64], truths: &[bool]) -> Option<f64> {
    let of = |class| scores.iter().zip(truths).filter(move |&(_, &t)| t == class).map(|(&s, _)| s);
    let wins: f64 = of(true)
        .flat_map(|a| {
            of(false).map(move |n| {
                if a > n {
                    1.0
                } else if a == n {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    let pairs = of(true).count() * of(false).count();
    (pairs > 0).then(|| wins / pairs as f64)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn booleans(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect()
}

fn goldens() -> Value {
    serde_json::from_str(include_str!("../../tests/goldens/metrics.json")).unwrap()
}

#[test]
fn ranking_metrics_agree_with_scikit_learn() {
    for case in goldens()["ranking"].as_array().unwrap() {
        let (scores, truths) = (numbers(&case["scores"]), booleans(&case["truths"]));
        let agrees = |name: &str, value: f64, golden: &Value| {
            assert!(
                close(value, golden.as_f64().unwrap()),
                "{}: {name} is {value}, not {golden}",
                case["name"]
            );
        };
        agrees("auroc", auroc(&scores, &truths).unwrap().unwrap(), &case["auroc"]);
        agrees("ap", average_precision(&scores, &truths).unwrap().unwrap(), &case["average_precision"]);
        agrees("auprc_trapz", auprc_trapz(&scores, &truths).unwrap().unwrap(), &case["auprc_trapz"]);
        agrees("eer", equal_error_rate(&scores, &truths).unwrap().unwrap(), &case["eer"]);
        let best = youden(&scores, &truths).unwrap().unwrap();
        agrees("youden", best.tpr - best.fpr, &case["youden_j"]);
        agrees("f1_max", f1_max(&scores, &truths).unwrap().unwrap().0, &case["f1_max"]);
        let at = confusion(&scores, &truths, case["threshold"].as_f64().unwrap()).unwrap();
        agrees("precision", at.precision().unwrap(), &case["at_threshold"]["precision"]);
        agrees("recall", at.recall().unwrap(), &case["at_threshold"]["recall"]);
        agrees("f1", at.f1().unwrap(), &case["at_threshold"]["f1"]);

        let roc = roc_curve(&scores, &truths).unwrap().unwrap();
        assert_eq!(roc.iter().map(|p| p.fpr).collect::<Vec<_>>(), numbers(&case["fpr"]));
        assert_eq!(roc.iter().map(|p| p.tpr).collect::<Vec<_>>(), numbers(&case["tpr"]));
        let pr = pr_curve(&scores, &truths).unwrap().unwrap();
        let (precision, recall) = (numbers(&case["precision"]), numbers(&case["recall"]));
        assert_eq!(pr.len(), precision.len());
        for (point, (p, r)) in pr.iter().zip(precision.into_iter().zip(recall)) {
            assert!(close(point.precision, p) && close(point.recall, r));
        }
    }
}

#[test]
fn pixel_metrics_agree_with_scikit_learn_and_the_definition() {
    let golden = &goldens()["pixels"];
    let (height, width) =
        (golden["height"].as_u64().unwrap() as usize, golden["width"].as_u64().unwrap() as usize);
    let rows = |name: &str| golden[name].as_array().unwrap().clone();
    let maps: Vec<Vec<f32>> =
        rows("maps").iter().map(|m| numbers(m).into_iter().map(|v| v as f32).collect()).collect();
    let masks: Vec<Vec<bool>> = rows("masks").iter().map(booleans).collect();
    let images: Vec<PixelMap> =
        maps.iter().zip(&masks).map(|(map, mask)| PixelMap { height, width, map, mask }).collect();
    let metrics = pixel_metrics(&images).unwrap().unwrap();
    assert!(close(metrics.auroc, golden["pixel_auroc"].as_f64().unwrap()));
    assert!((metrics.aupro - golden["aupro"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn metrics_of_a_hand_example() {
    // Descending: 4 (anomalous), 3 (normal), 2 (one of each), 1 (normal).
    let scores = [1.0, 2.0, 2.0, 3.0, 4.0];
    let truths = [false, false, true, false, true];
    // Pairs: 4 beats 3 normals; 2 beats 1, ties 1, loses to 3 → (3 + 1.5) / 6.
    assert_eq!(auroc(&scores, &truths).unwrap(), Some(0.75));
    // Cuts: (P 1, R ½), (½, ½), (½, 1), (2/5, 1) → ½·1 + ½·½.
    assert_eq!(average_precision(&scores, &truths).unwrap(), Some(0.75));
    // Trapezoids from (P 1, R 0): ½·1 to R ½, then ½·½ from (½, ½) to R 1.
    assert_eq!(auprc_trapz(&scores, &truths).unwrap(), Some(0.75));
    assert_eq!(no_skill_aupr(&truths), Some(0.4));
    // At 4: 2·1/(2+1) = 2/3; at 2: 2·2/(2+4) = 2/3; the higher threshold is reported.
    assert_eq!(f1_max(&scores, &truths).unwrap(), Some((2.0 / 3.0, 4.0)));
    // ROC: (0,0) (0,½) (⅓,½) (⅔,1) (1,1); FPR = 1 − TPR on the segment to (⅔,1), at FPR ⅓ + ⅓·(1/6)/(5/6).
    assert!(close(equal_error_rate(&scores, &truths).unwrap().unwrap(), 0.4));
    assert_eq!(youden(&scores, &truths).unwrap().unwrap().threshold, 4.0);
    let at_two = confusion(&scores, &truths, 2.0).unwrap();
    assert_eq!((at_two.precision(), at_two.recall(), at_two.f1()), (Some(0.5), Some(1.0), Some(2.0 / 3.0)));
    assert_eq!(at_two.false_alarm_rate(), Some(2.0 / 3.0));
    let nothing = confusion(&scores, &truths, 9.0).unwrap();
    assert_eq!((nothing.precision(), nothing.recall(), nothing.f1()), (Some(0.0), Some(0.0), Some(0.0)));
}

#[test]
fn a_missing_class_gives_none_and_never_nan() {
    for truths in [vec![], vec![true; 3], vec![false; 3]] {
        let scores = vec![1.0; truths.len()];
        assert_eq!(auroc(&scores, &truths).unwrap(), None);
        assert_eq!(auroc_ci95(&scores, &truths, 1).unwrap(), None);
        assert_eq!(roc_curve(&scores, &truths).unwrap(), None);
        assert_eq!(pr_curve(&scores, &truths).unwrap(), None);
        assert_eq!(average_precision(&scores, &truths).unwrap(), None);
        assert_eq!(auprc_trapz(&scores, &truths).unwrap(), None);
        assert_eq!(no_skill_aupr(&truths), None);
        assert_eq!(f1_max(&scores, &truths).unwrap(), None);
        assert_eq!(equal_error_rate(&scores, &truths).unwrap(), None);
        assert_eq!(youden(&scores, &truths).unwrap(), None);
    }
    let normals = confusion(&[1.0, 2.0], &[false, false], 2.0).unwrap();
    assert_eq!((normals.precision(), normals.recall(), normals.f1()), (None, None, None));
    assert_eq!(normals.false_alarm_rate(), Some(0.5));
    assert_eq!(confusion(&[1.0], &[true], 0.0).unwrap().false_alarm_rate(), None);
}

#[test]
fn bad_scores_are_refused_with_their_place() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = auroc(&[0.0, bad], &[true, false]).unwrap_err();
        assert!(matches!(error, EvalError::NotFinite { index: 1, .. }), "{error}");
        assert!(Quantiles::new(&[bad]).is_err());
        let (map, mask) = ([0.0, bad as f32], [true, false]);
        let error = pixel_auroc(&[PixelMap { height: 1, width: 2, map: &map, mask: &mask }]).unwrap_err();
        assert!(matches!(error, EvalError::NotFinite { index: 1, .. }), "{error}");
    }
    assert!(matches!(auroc(&[0.0], &[]).unwrap_err(), EvalError::Length { got: 0, expected: 1, .. }));
    let short = PixelMap { height: 2, width: 2, map: &[0.0; 4], mask: &[true; 3] };
    assert!(matches!(aupro(&[short]).unwrap_err(), EvalError::Length { got: 3, expected: 4, .. }));
}

#[test]
fn the_bootstrap_interval_is_seeded_and_covers_the_estimate() {
    let truths: Vec<bool> = (0..80).map(|i| i % 3 == 0).collect();
    let scores: Vec<f64> =
        (0..80).map(|i| f64::from(i * 37 % 80) + if i % 3 == 0 { 20.0 } else { 0.0 }).collect();
    let estimate = auroc(&scores, &truths).unwrap().unwrap();
    let [lo, hi] = auroc_ci95(&scores, &truths, 7).unwrap().unwrap();
    assert_eq!(auroc_ci95(&scores, &truths, 7).unwrap(), Some([lo, hi]));
    assert_ne!(auroc_ci95(&scores, &truths, 8).unwrap(), Some([lo, hi]));
    assert!(lo < estimate && estimate < hi);
    // Hanley and McNeil (Radiology 1982): the half width is near 1.96 standard errors.
    let (a, n1, n0) = (estimate, 27.0, 53.0);
    let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
    let se = ((a * (1.0 - a) + (n1 - 1.0) * (q1 - a * a) + (n0 - 1.0) * (q2 - a * a)) / (n1 * n0)).sqrt();
    let half_width = (hi - lo) / 2.0;
    assert!((half_width / (1.96 * se) - 1.0).abs() < 0.2, "half width {half_width}, 1.96 SE {}", 1.96 * se);
    // Perfect separation stays perfect in every resample; all ties stay at chance.
    let perfect: Vec<f64> = truths.iter().map(|&t| f64::from(u8::from(t))).collect();
    assert_eq!(auroc_ci95(&perfect, &truths, 1).unwrap(), Some([1.0, 1.0]));
    assert_eq!(auroc_ci95(&vec![3.0; 80], &truths, 1).unwrap(), Some([0.5, 0.5]));
}

#[test]
fn pro_weighs_regions_equally_and_joins_diagonals() {
    // Two regions of 1 and 3 pixels (the latter joined by a diagonal), one of which is found at once.
    #[rustfmt::skip]
    let mask = [
        true,  false, false, false,
        false, false, true,  true,
        false, true,  false, false,
    ];
    let mut map = [0.0f32; 12];
    map[0] = 1.0;
    let image = PixelMap { height: 3, width: 4, map: &map, mask: &mask };
    // Overlap ½ at FPR 0, then a straight line to (1, 1): ½ + ½·0.3/2 on average up to 0.3.
    assert!(close(aupro(&[image]).unwrap().unwrap(), 0.575));
    // Pixel AUROC: 1 of 4 anomalous pixels beats all, 3 tie: ¼ + ¾·½.
    assert!(close(pixel_auroc(&[image]).unwrap().unwrap(), 0.625));

    let perfect: Vec<f32> = mask.iter().map(|&m| f32::from(u8::from(m))).collect();
    let image = PixelMap { map: &perfect, ..image };
    let metrics = pixel_metrics(&[image]).unwrap().unwrap();
    assert!(close(metrics.auroc, 1.0) && close(metrics.aupro, 1.0));

    let normal = PixelMap { height: 3, width: 4, map: &map, mask: &[false; 12] };
    assert_eq!(pixel_metrics(&[normal]).unwrap(), None);
    assert_eq!(pixel_metrics(&[]).unwrap(), None);
}

#[test]
fn the_threshold_is_the_conservative_order_statistic() {
    // n = 19, α = 0.05: k = ⌈20 · 0.95⌉ = 19, the maximum; just above it.
    let scores: Vec<f64> = (1..=19).rev().map(f64::from).collect();
    let q = Quantiles::new(&scores).unwrap();
    let threshold = q.threshold(0.05).unwrap();
    assert_eq!(threshold.value, 19f64.next_up());
    assert!(!threshold.is_anomalous(19.0) && threshold.is_anomalous(19.001));
    assert!(threshold.source.contains("19 held-out") && !threshold.source.contains("too few"));
    assert_eq!(q.threshold(0.5).unwrap().value, 10f64.next_up());
    // Fewer than 19 normals cannot promise 5 %; the source says so.
    let few = Quantiles::new(&scores[..9]).unwrap().threshold(0.05).unwrap();
    assert_eq!(few.value, 19f64.next_up());
    assert!(few.source.contains("too few") && few.source.contains("0.100"));
    for rate in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(matches!(q.threshold(rate), Err(EvalError::FalseAlarmRate(_))));
    }
    assert_eq!(Quantiles::new(&[]), Err(EvalError::NoCalibration));
}

#[test]
fn probability_and_scaling_read_the_held_out_scores() {
    let q = Quantiles::new(&[4.0, 1.0, 2.0]).unwrap();
    assert_eq!([1.0, 2.0, 3.0, 4.0].map(|s| q.probability(s)), [0.25, 0.5, 0.625, 0.75]);
    assert_eq!((q.probability(-1e300), q.probability(1e300)), (0.25, 0.75));
    assert_eq!([1.0, 2.5, 4.0, 7.0].map(|s| q.scale(s)), [0.0, 0.5, 1.0, 2.0]);
    assert_eq!((q.min(), q.max(), q.count(), q.quantile(0.5)), (1.0, 4.0, 3, 2.0));
    // 0.5 % of the way from 1 to 4 is 1.02 (two ranks apart), 99 % is 3.96; the scale ends twice as far.
    let (low, high) = (q.quantile(0.005), q.quantile(0.99));
    assert!(close(q.scale_clamped(high), 0.5) && close(q.scale_clamped(low + 1.5 * (high - low)), 0.75));
    assert_eq!([-9.0, low, 1e300].map(|s| q.scale_clamped(s)), [0.0, 0.0, 1.0]);
    let flat = Quantiles::new(&[5.0; 4]).unwrap();
    assert_eq!([4.0, 5.0, 5.1].map(|s| flat.scale_clamped(s)), [0.0, 0.0, 1.0]);
    let constant = Quantiles::new(&[5.0; 4]).unwrap();
    assert_eq!((constant.probability(5.0), constant.probability(5.1), constant.scale(5.0)), (0.2, 0.8, 0.0));
    assert!(!constant.threshold(0.25).unwrap().is_anomalous(5.0));
}

#[test]
fn calibration_survives_the_model_file_and_altered_files_are_refused() {
    let scores: Vec<f64> = (0..10_000).map(|i| f64::from(i).sqrt() / 3.0).collect();
    let q = Quantiles::new(&scores).unwrap();
    let json = serde_json::to_string(&q).unwrap();
    let back: Quantiles = serde_json::from_str(&json).unwrap();
    assert_eq!(back, q);
    assert_eq!((q.min(), q.max(), q.count()), (scores[0], scores[9999], 10_000));
    // Thinned to 4096 ranks the threshold may only move up, by less than the gap between kept ranks.
    let value = q.threshold(0.05).unwrap().value;
    assert!(value > scores[9500] && value < scores[9505]);
    for altered in [
        r#"{"count":0,"knots":[]}"#,
        r#"{"count":3,"knots":[1.0,2.0]}"#,
        r#"{"count":2,"knots":[2.0,1.0]}"#,
        r#"{"count":2,"knots":[1.0,null]}"#,
        r#"{"count":2}"#,
    ] {
        assert!(serde_json::from_str::<Quantiles>(altered).is_err(), "{altered}");
    }
}

#[test]
fn an_evaluation_has_the_fields_of_the_contract() {
    let scores = [0.1, 0.2, 0.3, 0.9, 0.25];
    let truths = [false, false, false, true, true];
    let classes = ["good", "good", "good", "crack", "hole"].map(String::from);
    let (map, mask) = ([0.0, 1.0], [false, true]);
    let input = EvaluationInput {
        system: "anogan",
        device: "cpu",
        scores: &scores,
        truths: &truths,
        classes: &classes,
        pixels: &[PixelMap { height: 1, width: 2, map: &map, mask: &mask }],
        threshold: Some(Threshold { value: 0.3, source: "held-out normals".into() }),
        seconds_per_image: 0.5,
        sub_sample: None,
        seed: 1,
        ..EvaluationInput::default()
    };
    let evaluation = Evaluation::new(&input).unwrap();
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!((&json["system"], &json["device"]), (&"anogan".into(), &"cpu".into()));
    assert_eq!((&json["n_normal"], &json["n_anomalous"]), (&3.into(), &2.into()));
    assert!(close(json["auroc"].as_f64().unwrap(), 5.0 / 6.0));
    assert_eq!(json["auroc_ci95"].as_array().unwrap().len(), 2);
    assert_eq!(json["aupr_baseline"], 0.4);
    for field in ["aupr", "f1_max", "eer", "seconds_per_image"] {
        assert!(json[field].is_f64(), "{field}");
    }
    assert_eq!(json["threshold"]["precision"], 0.5);
    assert_eq!(json["threshold"]["recall"], 0.5);
    assert_eq!(json["threshold"]["f1"], 0.5);
    assert_eq!(json["threshold"]["source"], "held-out normals");
    assert_eq!(json["pixel"], serde_json::json!({"auroc": 1.0, "aupro": 1.0}));
    assert_eq!(json["classes"][0], serde_json::json!({"class": "crack", "n": 1, "auroc": 1.0}));

    let normals_only = EvaluationInput { truths: &[false; 5], pixels: &[], ..input.clone() };
    let json = serde_json::to_value(Evaluation::new(&normals_only).unwrap()).unwrap();
    assert!(json["auroc"].is_null() && json.get("pixel").is_none());
    assert!(Evaluation::new(&EvaluationInput { classes: &classes[1..], ..input }).is_err());
}

#[test]
fn repeated_runs_have_a_mean_and_a_spread() {
    let r = Repeated::new(vec![0.9, 0.92, 0.97]).unwrap();
    // Deviations −0.03, −0.01, 0.04 about 0.93: √(0.0026 / 2).
    assert!(close(r.mean, 0.93) && close(r.sd.unwrap(), 0.0013f64.sqrt()));
    assert_eq!((r.to_string(), format!("{r:.1}")), ("0.930 ± 0.036".into(), "0.9 ± 0.0".into()));
    let one = Repeated::new(vec![0.5]).unwrap();
    assert_eq!((one.sd, one.to_string()), (None, "0.500".into()));
    assert_eq!(Repeated::new(vec![]), Err(EvalError::NoRun));
    assert_eq!(Repeated::of_runs(&[]), Err(EvalError::NoRun));
    assert!(matches!(Repeated::new(vec![1.0, f64::NAN]), Err(EvalError::NotFinite { index: 1, .. })));

    let run = |scores: &[f64]| {
        let truths = [false, false, true, true];
        Evaluation::new(&EvaluationInput { scores, truths: &truths, ..EvaluationInput::default() }).unwrap()
    };
    let runs = [run(&[0.0, 1.0, 2.0, 3.0]), run(&[0.0, 2.0, 1.0, 3.0])];
    let table = Repeated::of_runs(&runs).unwrap();
    let auroc = &table.iter().find(|m| m.0 == "auroc").unwrap().1;
    assert_eq!((auroc.mean, auroc.values.as_slice()), (0.875, &[1.0, 0.75][..]));
    assert!(!table.iter().any(|m| m.0.starts_with("pixel") || m.0.starts_with("threshold")), "{table:?}");
}

/// Scores with many ties, and a truth each.
fn labelled() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
    prop::collection::vec((-6i32..6, any::<bool>()), 1..60)
        .prop_map(|pairs| pairs.into_iter().map(|(s, t)| (f64::from(s) / 3.0, t)).unzip())
}

proptest! {
    #[test]
    fn auroc_is_the_share_of_won_pairs((scores, truths) in labelled()) {
        let (got, want) = (auroc(&scores, &truths).unwrap(), auroc_by_pairs(&scores, &truths));
        prop_assert_eq!(got.is_some(), want.is_some());
        prop_assert!(got.zip(want).is_none_or(|(g, w)| close(g, w)));
    }

    #[test]
    fn auroc_depends_on_order_only_and_mirrors((scores, truths) in labelled()) {
        let value = auroc(&scores, &truths).unwrap();
        let stretched: Vec<f64> = scores.iter().map(|s| s.exp() * 3.0 - 7.0).collect();
        prop_assert_eq!(auroc(&stretched, &truths).unwrap(), value);
        let mirrored: Vec<f64> = scores.iter().map(|s| -s).collect();
        let mirrored = auroc(&mirrored, &truths).unwrap();
        prop_assert!(value.zip(mirrored).is_none_or(|(a, b)| close(a + b, 1.0)));
    }

    #[test]
    fn f1_at_prevalence_flags_as_many_as_are_anomalous((scores, truths) in labelled()) {
        let anomalous = truths.iter().filter(|&&t| t).count();
        let mut ordered = scores.clone();
        ordered.sort_by(|a, b| b.total_cmp(a));
        let want = (anomalous > 0 && anomalous < truths.len())
            .then(|| confusion(&scores, &truths, ordered[anomalous - 1]).unwrap().f1().unwrap());
        prop_assert_eq!(f1_at_prevalence(&scores, &truths).unwrap(), want);
    }

    #[test]
    fn f1_max_bounds_every_threshold((scores, truths) in labelled(), threshold in -3.0..3.0) {
        if let Some((best, at)) = f1_max(&scores, &truths).unwrap() {
            prop_assert!(confusion(&scores, &truths, threshold).unwrap().f1().unwrap() <= best + 1e-12);
            prop_assert!(close(confusion(&scores, &truths, at).unwrap().f1().unwrap(), best));
        }
    }

    #[test]
    fn threshold_metrics_and_trapezoids_are_their_definitions(
        (scores, truths) in labelled(),
        threshold in (-6i32..6).prop_map(|t| f64::from(t) / 3.0),
    ) {
        let count = |flagged: bool, truth: bool, at: f64| {
            scores.iter().zip(&truths).filter(|&(&s, &t)| (s >= at) == flagged && t == truth).count() as f64
        };
        let anomalous = truths.iter().filter(|&&t| t).count() as f64;
        let at = |t: f64| (count(true, true, t), count(true, false, t));
        let got = confusion(&scores, &truths, threshold).unwrap();
        if anomalous > 0.0 {
            let (tp, fp) = at(threshold);
            let precision = if tp + fp > 0.0 { tp / (tp + fp) } else { 0.0 };
            prop_assert!(close(got.precision().unwrap(), precision) && close(got.recall().unwrap(), tp / anomalous));
            let sum = precision + tp / anomalous;
            let f1 = if sum > 0.0 { 2.0 * precision * (tp / anomalous) / sum } else { 0.0 };
            prop_assert!(close(got.f1().unwrap(), f1));
        }
        // Every cut by counting afresh, from the highest down, joined by straight lines from (0, 1).
        let mut cuts = scores.clone();
        cuts.sort_by(|a, b| b.total_cmp(a));
        cuts.dedup();
        let points: Vec<(f64, f64)> = std::iter::once((0.0, 1.0))
            .chain(cuts.into_iter().map(|t| (at(t).0 / anomalous, at(t).0 / (at(t).0 + at(t).1))))
            .collect();
        let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
        let both = truths.contains(&true) && truths.contains(&false);
        let got = auprc_trapz(&scores, &truths).unwrap();
        prop_assert_eq!(got.is_some(), both);
        prop_assert!(got.is_none_or(|g| close(g, area)));
    }

    #[test]
    fn pixel_auroc_is_auroc_of_the_pooled_pixels((scores, truths) in labelled()) {
        let map: Vec<f32> = scores.iter().map(|&s| s as f32).collect();
        let image = PixelMap { height: 1, width: map.len(), map: &map, mask: &truths };
        let (got, want) = (pixel_auroc(&[image]).unwrap(), auroc(&scores, &truths).unwrap());
        prop_assert_eq!(got.is_some(), want.is_some());
        prop_assert!(got.zip(want).is_none_or(|(g, w)| close(g, w)));
    }

    #[test]
    fn calibration_is_monotone_and_keeps_its_promise(
        scores in prop::collection::vec(-20i32..20, 1..80),
        rate in 0.01..0.99f64,
    ) {
        let held_out: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
        let q = Quantiles::new(&held_out).unwrap();
        let probabilities: Vec<f64> = (-90..90).map(|i| q.probability(f64::from(i) / 4.0)).collect();
        prop_assert!(probabilities.is_sorted());
        prop_assert!(probabilities.iter().all(|p| *p > 0.0 && *p < 1.0));
        // Of n + 1 exchangeable scores, at most α (n + 1) may be alarms when each is left out in turn.
        let n = held_out.len();
        let threshold = q.threshold(rate).unwrap();
        let alarms = held_out.iter().filter(|&&s| threshold.is_anomalous(s)).count();
        prop_assert!(alarms as f64 <= rate * (n as f64 + 1.0));
        if rate * (n as f64 + 1.0) >= 1.0 {
            prop_assert!(q.probability(threshold.value) >= 1.0 - rate - 1e-9);
        }
    }
}

/// Whole groups are redrawn in the order that the header of the function says; the AUROC of each resample is
/// counted pair by pair.
#[test]
fn the_interval_of_groups_is_that_of_its_definition() {
    use super::bootstrap::SplitMix64;
    // Groups of one to five samples: normal, anomalous, and of both.
    let mut groups = vec![];
    for group in 0..14_u32 {
        groups.extend(std::iter::repeat_n(5 * group % 14, 1 + group as usize % 5));
    }
    let truths: Vec<bool> =
        groups.iter().enumerate().map(|(i, g)| g % 3 == 1 || g % 3 == 2 && i % 2 == 0).collect();
    let score = |i: usize| {
        f64::from((groups[i] * 11) % 14) / 2.0 + (i % 3) as f64 + 3.0 * f64::from(u8::from(truths[i]))
    };
    let scores: Vec<f64> = (0..groups.len()).map(score).collect();
    let members = |group: u32| (0..groups.len()).filter(|&i| groups[i] == group).collect::<Vec<_>>();
    let mut met: Vec<u32> = vec![];
    groups.iter().for_each(|g| {
        if !met.contains(g) {
            met.push(*g)
        }
    });
    let kind = |group: &u32| {
        let of: Vec<bool> = members(*group).iter().map(|&i| truths[i]).collect();
        if !of.contains(&true) {
            0
        } else if !of.contains(&false) {
            1
        } else {
            2
        }
    };
    let kinds: Vec<Vec<u32>> =
        (0..3).map(|k| met.iter().copied().filter(|g| kind(g) == k).collect()).collect();
    assert!(kinds.iter().all(|of_kind| of_kind.len() > 1), "{kinds:?}");
    let mut resampled: Vec<f64> = (0..1000_u64)
        .map(|i| {
            let mut random = SplitMix64(5 ^ i.wrapping_mul(0xD6E8_FEB8_6659_FD93));
            let mut drawn = vec![];
            for of_kind in &kinds {
                (0..of_kind.len()).for_each(|_| drawn.extend(members(of_kind[random.below(of_kind.len())])));
            }
            let (mut wins, mut pairs) = (0.0, 0.0);
            for &a in drawn.iter().filter(|&&i| truths[i]) {
                for &n in drawn.iter().filter(|&&i| !truths[i]) {
                    wins += match scores[a].total_cmp(&scores[n]) {
                        Ordering::Greater => 1.0,
                        Ordering::Equal => 0.5,
                        Ordering::Less => 0.0,
                    };
                    pairs += 1.0;
                }
            }
            wins / pairs
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let (low, part) = ((q * 999.0).floor() as usize, (q * 999.0).fract());
        resampled[low] * (1.0 - part) + resampled[low + 1] * part
    };
    let [low, high] = auroc_ci95_of_groups(&scores, &truths, &groups, 5).unwrap().unwrap();
    assert!(
        close(low, at(0.025)) && close(high, at(0.975)),
        "{low} to {high}, not {} to {}",
        at(0.025),
        at(0.975)
    );
    // Samples of a group are alike: the interval is wider than that of single ones.
    let [alone_low, alone_high] = auroc_ci95(&scores, &truths, 5).unwrap().unwrap();
    assert!(high - low > alone_high - alone_low, "{low} to {high} beside {alone_low} to {alone_high}");
    // Of groups of one sample each it is that of single ones, with the same bits.
    let single: Vec<u32> = (0..scores.len() as u32).rev().collect();
    assert_eq!(auroc_ci95_of_groups(&scores, &truths, &single, 5).unwrap(), Some([alone_low, alone_high]));
    assert_eq!(auroc_ci95_of_groups(&scores, &vec![true; scores.len()], &groups, 5).unwrap(), None);
    assert!(matches!(
        auroc_ci95_of_groups(&scores, &truths, &groups[1..], 5).unwrap_err(),
        EvalError::Length { what: "groups", .. }
    ));
}

/// The smallest score at or below which the weighted groups have enough, by sorting and adding.
fn hierarchical_threshold(scores: &[f64], groups: &[u32], rate: f64) -> f64 {
    let mut known: Vec<u32> = groups.to_vec();
    known.sort_unstable();
    known.dedup();
    let weight = |group: u32| {
        let size = groups.iter().filter(|&&g| g == group).count();
        1.0 / ((known.len() as f64 + 1.0) * size as f64)
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut sum = 0.0;
    for i in order {
        sum += weight(groups[i]);
        if sum >= 1.0 - rate - 1e-9 {
            return scores[i];
        }
    }
    f64::INFINITY
}

#[test]
fn thresholds_of_groups_follow_from_the_weighted_quantile() {
    let mut random = super::bootstrap::SplitMix64(3);
    for groups in [[5, 1, 9], [30, 4, 4], [39, 2, 7]] {
        let mut of = vec![];
        (0..groups[0]).for_each(|g| of.extend(std::iter::repeat_n(g, 1 + random.below(groups[2] as usize))));
        let scores: Vec<f64> = of.iter().map(|&g| f64::from(g % 7) + random.uniform()).collect();
        let of: Vec<u32> = of.iter().map(|&g| g as u32).collect();
        let quantiles = Quantiles::of_groups(&scores, &of).unwrap();
        assert_eq!(quantiles.count(), groups[0] as usize);
        // Where (K + 1)·(1 − α) is a whole number the two are the same; elsewhere it is the next rank.
        for k in 1..=groups[0] {
            let rate = 1.0 - f64::from(k) / f64::from(groups[0] + 1);
            let threshold = quantiles.threshold(rate).unwrap();
            assert_eq!(
                threshold.value,
                hierarchical_threshold(&scores, &of, rate).next_up(),
                "{k} of {groups:?}"
            );
            let lower = quantiles.threshold(rate + 0.4 / f64::from(groups[0] + 1)).unwrap().value;
            assert!(
                lower
                    >= hierarchical_threshold(&scores, &of, rate + 0.4 / f64::from(groups[0] + 1)).next_up()
            );
            assert!(threshold.source.contains("groups of"), "{}", threshold.source);
        }
    }
    let scores = [3.0, 1.0, 2.0, 5.0];
    let single = Quantiles::of_groups(&scores, &[4, 1, 0, 9]).unwrap();
    let plain = Quantiles::new(&scores).unwrap();
    assert_eq!(single.threshold(0.3).unwrap().value, plain.threshold(0.3).unwrap().value);
    assert_eq!(single.p_value(2.5), plain.p_value(2.5));
    let text = serde_json::to_string(&single).unwrap();
    assert_eq!(serde_json::from_str::<Quantiles>(&text).unwrap(), single);
    assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"count":4,"knots":[1.0,2.0,3.0,5.0]}"#);
    assert!(
        serde_json::from_str::<Quantiles>(r#"{"count":4,"knots":[1.0,2.0,3.0,5.0],"samples":3}"#).is_err()
    );
    assert!(Quantiles::of_groups(&scores, &[0, 0]).is_err() && Quantiles::of_groups(&[], &[]).is_err());
}

/// Of samples that resemble each other within a group, thresholds of groups keep their promise for new groups
/// and those of single samples break it.
#[test]
fn thresholds_of_groups_keep_their_promise_where_single_ones_break_it() {
    const RATE: f64 = 0.1;
    let mut random = super::bootstrap::SplitMix64(11);
    let (mut alarms, mut single_alarms, tries) = (0.0, 0.0, 4000);
    for _ in 0..tries {
        // Groups of many alike and of one: large groups score lower.
        let mut draw = || {
            let large = random.uniform() < 0.5;
            let level = random.uniform() - if large { 1.0 } else { 0.0 };
            (level, if large { 20 } else { 1 })
        };
        let (mut scores, mut groups) = (vec![], vec![]);
        for group in 0..19 {
            let (level, size) = draw();
            scores.extend((0..size).map(|i| level + 0.001 * f64::from(i)));
            groups.extend((0..size).map(|_| group));
        }
        let new = draw().0;
        let is_alarm =
            |quantiles: Quantiles| f64::from(u8::from(new >= quantiles.threshold(RATE).unwrap().value));
        alarms += is_alarm(Quantiles::of_groups(&scores, &groups).unwrap());
        single_alarms += is_alarm(Quantiles::new(&scores).unwrap());
    }
    let [share, single] = [alarms, single_alarms].map(|count| count / f64::from(tries));
    assert!(share <= RATE + 0.015, "{share} of new groups are flagged");
    assert!(share > 0.05 && single > 2.0 * RATE, "{share} by groups, {single} by single samples");
}
