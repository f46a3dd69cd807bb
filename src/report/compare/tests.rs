use super::*;
use crate::eval::{EvaluationInput, PixelMap, Threshold};
use crate::report::tests::assert_well_formed;
use crate::report::{check_section, comparison_table, replace_section, write_section};

/// System `at` of a comparison on 40 images; the first separates best.
pub(super) fn system(at: usize, name: &str) -> ComparedSystem {
    let skill = 1.6 / (1.0 + at as f64);
    let images: Vec<ScoredImage> = (0..40)
        .map(|i| {
            let noise = ((i * 37 + at * 11) % 40) as f64 / 20.0;
            let score = noise + if i >= 20 { skill } else { 0.0 };
            ScoredImage {
                id: format!("test/{i}.png"),
                class: if i < 20 { "good" } else { "crack" }.into(),
                anomalous: Some(i >= 20),
                score,
                probability: None,
                percentile: None,
                verdict: Some(score >= 1.9),
            }
        })
        .collect();
    let scores: Vec<f64> = images.iter().map(|i| i.score).collect();
    let truths: Vec<bool> = images.iter().map(|i| i.anomalous == Some(true)).collect();
    let (map, mask) = ([0.1, 0.9, 0.3, 0.2], [false, true, false, false]);
    let pixels = [PixelMap { height: 2, width: 2, map: &map, mask: &mask }];
    let evaluation = Evaluation::new(&EvaluationInput {
        system: name,
        device: "cpu",
        scores: &scores,
        truths: &truths,
        pixels: if at == 1 { &[] } else { &pixels },
        threshold: Some(Threshold { value: 1.9, source: "held-out normals".into() }),
        seconds_per_image: 0.001 * (1.0 + at as f64),
        ..EvaluationInput::default()
    })
    .unwrap();
    let repeated =
        if at == 0 { Repeated::of_runs(&[evaluation.clone(), evaluation.clone()]).unwrap() } else { vec![] };
    let losses = vec![LossCurve {
        name: "generator".into(),
        steps: vec![1, 2, 3],
        steps_per_epoch: 0,
        values: vec![3.0, 2.0, 1.5],
    }];
    ComparedSystem { evaluation, training_steps: 100, training_seconds: 12.5, repeated, losses, images }
}

/// A comparison whose systems have these names, not in the order of their AUROC.
pub(super) fn report(names: &[&str]) -> CompareReport {
    let mut systems: Vec<ComparedSystem> =
        names.iter().enumerate().map(|(i, name)| system(i, name)).collect();
    systems.reverse();
    let seen = |at: usize| ComparedPanel {
        score: at as f64,
        reconstruction: at.is_multiple_of(2).then(|| vec![0.5; 4]),
        map: (at != 1).then(|| vec![0.0, 0.5, 0.2, 1.0]),
    };
    let panel = |i: usize| ComparePanel {
        id: systems[0].images[i].id.clone(),
        class: systems[0].images[i].class.clone(),
        anomalous: systems[0].images[i].anomalous,
        channels: 1,
        height: 2,
        width: 2,
        query: vec![-1.0, 0.0, 0.5, 1.0],
        mask: Some(vec![false, true, false, false]),
        systems: (0..names.len()).map(seen).collect(),
    };
    let chosen = select_compared(&systems, 2).unwrap();
    let panels = chosen.into_iter().map(panel).collect();
    CompareReport {
        title: "Comparison".into(),
        data: "builtin:concrete".into(),
        budget: "100 steps".into(),
        configuration: vec![("size".into(), "32".into())],
        systems,
        failures: vec![("vae".into(), "step 7: the loss is NaN".into())],
        panels,
        next: vec![NextStep { text: "Look <closely>".into(), command: "ganomede eval a&b".into() }],
    }
}

fn page_of(report: &CompareReport) -> String {
    html::compare::page(report, &Numbers::new(report).unwrap()).unwrap()
}

#[test]
fn the_page_ranks_the_systems_and_shows_them_side_by_side() {
    let report = report(&["ganomaly", "ae", "egbad"]);
    let page = page_of(&report);
    let text = assert_well_formed(&page);
    for part in [
        "AUROC",
        "without skill: 0.500",
        "false alarms",
        "AUPRO",
        "ROC curves",
        "seeds",
        "step 7: the loss is NaN",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(text.contains("ganomaly ranks best"));
    let at = |name: &str| page.find(&format!(">{name}</span></td>")).unwrap();
    assert!(at("ganomaly") < at("ae") && at("ae") < at("egbad"), "rows are ranked");
    // Overlaid curves, intervals, and a loss for each system.
    assert_eq!(page.matches("<svg ").count(), 2 + 3);
    // 8 panels: query and truth; reconstruction or map and overlay of systems 0 and 2, a score only of
    // system 1.
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 8 * (2 + 4));
    assert_eq!(page.matches("score only").count(), 8);
    assert!(!text.contains("NaN ") && !page.contains("inf "));
}

#[test]
fn every_number_of_the_page_is_in_metrics_json() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(&["ganomaly", "ae"]);
    let [page, json] = write_comparison(&folder.path().join("new"), &report).unwrap();
    assert!(std::fs::read_to_string(page).unwrap().ends_with("</html>\n"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let systems = json["systems"].as_array().unwrap();
    assert_eq!((systems.len(), &systems[1]["system"]), (2, &"ganomaly".into()));
    for (written, system) in systems.iter().zip(&report.systems) {
        let evaluation = serde_json::to_value(&system.evaluation).unwrap();
        for (field, value) in evaluation.as_object().unwrap() {
            assert_eq!(&written[field], value, "{field}");
        }
        assert_eq!(written["training_seconds"], 12.5);
        assert_eq!(written["images"].as_array().unwrap().len(), 40);
        assert_eq!(written["roc"].as_array().unwrap().last().unwrap()["tpr"], 1.0);
        assert!(written["precision_recall"].is_array() && written["losses"][0]["values"].is_array());
    }
    assert_eq!(systems[1]["repeated"]["auroc"]["sd"], 0.0);
    assert_eq!(systems[1]["repeated"]["auroc"]["values"].as_array().unwrap().len(), 2);
    assert_eq!(json["failures"][0]["reason"], "step 7: the loss is NaN");
}

#[test]
fn hostile_names_stay_text_in_page_and_table() {
    let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>|`\n# *x*";
    let mut report = report(&[hostile, "ae"]);
    report.title = hostile.into();
    report.data = hostile.into();
    report.failures = vec![(hostile.into(), hostile.into())];
    report.panels[0].id = hostile.into();
    report.panels[0].class = hostile.into();
    let page = page_of(&report);
    assert_well_formed(&page);
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img src=x"));
    let table = comparison_table(&report);
    for line in table.lines().filter(|l| l.starts_with('|')) {
        let cells = line.replace("\\|", "").matches('|').count();
        assert_eq!(cells, 11, "{line}");
    }
    assert!(!table.contains("\n#") && !table.contains("Data: <script"));
}

#[test]
fn comparisons_of_little_or_many_hold_together() {
    let mut nothing = report(&[]);
    assert!(nothing.panels.is_empty());
    nothing.failures.clear();
    assert!(assert_well_formed(&page_of(&nothing)).contains("No system has an AUROC"));
    assert!(comparison_table(&nothing).starts_with("Data: builtin:concrete."));
    let mut one_class = report(&["ae"]);
    let s = &mut one_class.systems[0];
    s.images.iter_mut().for_each(|i| i.anomalous = Some(false));
    let scores: Vec<f64> = s.images.iter().map(|i| i.score).collect();
    s.evaluation = Evaluation::new(&EvaluationInput {
        scores: &scores,
        truths: &[false; 40],
        ..EvaluationInput::default()
    })
    .unwrap();
    assert!(page_of(&one_class).contains("Curves need both"));

    let names: Vec<String> = (0..23).map(|i| format!("system {i}")).collect();
    let many = report(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let page = page_of(&many);
    assert_well_formed(&page);
    // Twenty systems have a look of their own.
    let looks: std::collections::HashSet<String> = (0..20)
        .map(|i| {
            format!("{:?}", (super::super::figures::style(i).colour, super::super::figures::style(i).stroke))
        })
        .collect();
    assert_eq!(looks.len(), 20);
}

#[test]
fn systems_must_have_scored_the_same_images() {
    let mut other = report(&["a", "b"]);
    other.systems[1].images.swap(3, 4);
    let error = write_comparison(Path::new("unused"), &other).unwrap_err();
    assert!(matches!(&error, ReportError::Parallel { system, .. } if system == "a"), "{error}");
    assert!(select_compared(&other.systems, 2).is_err());
    let mut other = report(&["a", "b"]);
    other.systems[1].images.pop();
    assert!(Numbers::new(&other).is_err());
    let mut other = report(&["a", "b"]);
    other.panels[0].systems.pop();
    assert!(matches!(Numbers::new(&other), Err(ReportError::Parallel { .. })));
    let mut other = report(&["a", "b"]);
    other.systems[0].training_seconds = f64::NAN;
    assert!(matches!(Numbers::new(&other), Err(ReportError::NotFinite { what: "training time", .. })));
    let mut other = report(&["a", "b"]);
    other.panels[0].systems[1].score = f64::INFINITY;
    assert!(matches!(Numbers::new(&other), Err(ReportError::NotFinite { .. })));
}

#[test]
fn images_are_chosen_by_their_mean_rank() {
    let mut systems = vec![system(0, "a"), system(0, "b")];
    // A system whose scores are a thousand times as large has no more say.
    systems[1].images.iter_mut().for_each(|i| i.score = 1000.0 * i.score + 5.0);
    let alone = select_panels(&systems[0].images, 3);
    assert_eq!(select_compared(&systems, 3).unwrap(), alone);
    // Opposite systems cancel: all images rank alike, and the order of the list decides.
    systems[1].images.iter_mut().for_each(|i| i.score = -i.score);
    let tied = select_compared(&systems, 1).unwrap();
    assert_eq!(tied, [0, 19, 20, 39]);
    assert!(select_compared(&[], 3).unwrap().is_empty());
}

#[test]
fn a_table_is_ranked_and_replaces_its_own_section_only() {
    let report = report(&["ganomaly", "ae"]);
    let table = comparison_table(&report);
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| `")).collect();
    assert!(rows[0].starts_with("| `ganomaly` | ") && rows[1].starts_with("| `ae` | "), "{table}");
    assert!(rows[0].contains(" ± 0.000 ") && rows[1].contains(" | – | – | "), "{table}");
    assert!(table.contains("no-skill AUPR 0.500") && table.contains("`vae` failed: step 7"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.md");
    write_section(&path, "concrete", &table).unwrap();
    std::fs::write(&path, format!("# Results\n\n{}\nBy hand.\n", std::fs::read_to_string(&path).unwrap()))
        .unwrap();
    write_section(&path, "other", "second").unwrap();
    write_section(&path, "concrete", "| new |").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "# Results\n\n<!-- concrete -->\n\n| new |\n\n<!-- /concrete -->\n\nBy hand.\n\n\
         <!-- other -->\n\nsecond\n\n<!-- /other -->\n"
    );
    assert_eq!(replace_section(&text, "other", "second").unwrap(), text, "the same body changes nothing");
}

#[test]
fn damaged_markers_are_refused_and_the_file_stays() {
    let fails = |text: &str, name: &str, body: &str| {
        let error = replace_section(text, name, body).unwrap_err();
        assert!(matches!(error, ReportError::Section { .. }), "{error}");
    };
    fails("<!-- a -->", "a", "x");
    fails("<!-- /a --> <!-- a -->", "a", "x");
    fails("<!-- a --><!-- a --><!-- /a -->", "a", "x");
    fails("", "a", "<!-- /a -->");
    for name in ["", "a b", "a--b", "-->", "ä"] {
        fails("", name, "x");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.md");
    std::fs::write(&path, "<!-- a -->").unwrap();
    assert!(write_section(&path, "a", "x").is_err());
    assert!(check_section(&path, "a").is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "<!-- a -->");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(write_section(&path, "a", "x"), Err(ReportError::Read { .. })));
    assert!(matches!(
        write_section(&folder.path().join("no/results.md"), "a", "x"),
        Err(ReportError::Write { .. })
    ));
}

#[test]
fn what_is_not_better_than_chance_is_never_best_and_controls_are_rows() {
    let mut report = report(&["ganomaly", "ae"]);
    for system in &mut report.systems {
        let controls = vec![
            Control { name: Control::TWO_NUMBERS, auroc: Some(0.999), auroc_ci95: Some([0.99, 1.0]) },
            Control { name: Control::UNTRAINED, auroc: Some(0.7), auroc_ci95: Some([0.6, 0.8]) },
            Control { name: Control::CONSTANT, auroc: Some(0.5), auroc_ci95: Some([0.5, 0.5]) },
        ];
        system.evaluation = system.evaluation.clone().with_controls(controls);
    }
    let table = comparison_table(&report);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| *")).collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(rows[0].starts_with("| *two numbers (control)* | 0.999 |"), "{table}");
    assert!(table.contains("| *ganomaly, untrained* |") && table.contains("| *ae, untrained* |"), "{table}");
    assert!(table.contains("**Warning:** two numbers, the mean and contrast of an image, reach"), "{table}");
    let columns = |line: &str| line.matches(" |").count();
    assert_eq!(columns(rows[0]), columns(table.lines().find(|line| line.starts_with("| `")).unwrap()));
    let text = assert_well_formed(&page_of(&report));
    assert!(text.contains("ganomaly ranks best") && text.contains("two numbers (control)"), "{text}");

    for system in &mut report.systems {
        system.evaluation.auroc_ci95 = Some([0.4, 0.9]);
    }
    let page = page_of(&report);
    assert!(assert_well_formed(&page).contains("No system is shown to be better than chance."));
    assert!(!page.contains("ranks best"));
    let auroc = report.systems[1].evaluation.auroc.unwrap();
    assert!(!page.contains(&format!("<strong>{auroc:.3}</strong>")), "no AUROC is bold");
}
