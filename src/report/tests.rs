use super::figures::BoxPlot;
use super::page::Numbers;
use super::*;
use crate::eval::{Evaluation, EvaluationInput, PixelMap, Threshold};
use image::{Rgb, RgbImage};

/// A small evaluation of 40 images in three classes with names from `name`.
fn input(name: impl Fn(usize, &str) -> String) -> ReportInput {
    let classes = ["good", "crack", "hole"];
    let images: Vec<ScoredImage> = (0..40)
        .map(|i| {
            let class = if i < 20 { 0 } else { 1 + i % 2 };
            let score = ((i * 7) % 20) as f64 / 10.0 + 0.4 * class as f64;
            ScoredImage {
                id: name(i, classes[class]),
                class: name(100 + class, classes[class]),
                anomalous: Some(class > 0),
                score,
                probability: Some(score / 4.0),
                percentile: Some(25.0 * score),
                verdict: Some(score >= 1.5),
            }
        })
        .collect();
    let scores: Vec<f64> = images.iter().map(|i| i.score).collect();
    let truths: Vec<bool> = images.iter().map(|i| i.anomalous == Some(true)).collect();
    let classes: Vec<String> = images.iter().map(|i| i.class.clone()).collect();
    let (map, mask) = ([0.1, 0.9, 0.3, 0.2], [false, true, false, false]);
    let evaluation = Evaluation::new(&EvaluationInput {
        system: &name(200, "anogan"),
        device: "cpu",
        scores: &scores,
        truths: &truths,
        classes: &classes,
        pixels: &[PixelMap { height: 2, width: 2, map: &map, mask: &mask }],
        threshold: Some(Threshold { value: 1.5, source: name(201, "held-out normals") }),
        seconds_per_image: 0.02,
        sub_sample: Some(name(202, "all")),
        seed: 3,
        ..EvaluationInput::default()
    })
    .unwrap();
    let panel = |i: usize| Panel {
        id: images[i].id.clone(),
        class: images[i].class.clone(),
        score: images[i].score,
        channels: 3,
        height: 2,
        width: 2,
        query: (0..12).map(|v| v as f32 / 6.0 - 1.0).collect(),
        reconstruction: i.is_multiple_of(2).then(|| vec![0.0; 12]),
        map: map.to_vec(),
        mask: Some(mask.to_vec()),
        whole: (i == 0).then(|| Whole {
            height: 2,
            width: 5,
            query: vec![0.5; 30],
            map: vec![0.25; 10],
            mask: Some(vec![true; 10]),
            tile: [1, 0, 2, 2],
        }),
    };
    ReportInput {
        title: name(203, "Test"),
        data: name(204, "synthetic"),
        configuration: vec![(name(205, "size"), name(206, "32"))],
        panels: select_panels(&images, 2).into_iter().map(panel).collect(),
        losses: vec![LossCurve {
            name: name(207, "generator"),
            steps: (0..5000).collect(),
            steps_per_epoch: 100,
            values: (0..5000).map(|s| 1.0 / (1.0 + s as f32)).collect(),
        }],
        samples: Some(image_grid(&[0.5; 16], 4, 1, [2; 2], 2).unwrap()),
        evaluation,
        images,
    }
}

fn plain(_: usize, name: &str) -> String {
    name.to_owned()
}

fn page_of(input: &ReportInput) -> String {
    let extra = Supplement::default();
    html::page(input, &extra, &Numbers::new(input, &extra).unwrap()).unwrap()
}

/// Walks the tags of a page: every one closes, in order, and nothing is fetched; returns the text between
/// them.
pub(super) fn assert_well_formed(page: &str) -> String {
    let (mut open, mut text, mut rest) = (Vec::new(), String::new(), page);
    while let Some(start) = rest.find('<') {
        text += &rest[..start];
        // A quoted `>` belongs to its attribute.
        let mut is_quoted = false;
        let end = rest[start..].find(|c| {
            is_quoted ^= c == '"';
            c == '>' && !is_quoted
        });
        let tag = &rest[start + 1..start + end.expect("tag ends")];
        rest = &rest[start + tag.len() + 2..];
        let name = tag.split([' ', '\n', '/']).find(|n| !n.is_empty()).unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || ["meta", "img", "link", "br", "wbr"].contains(&name)
        {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing tag of {name}");
        } else {
            open.push(name);
            if name == "style" || name == "script" {
                let end = rest.find(&format!("</{name}>")).expect("raw text ends");
                rest = &rest[end..];
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for external in ["http:", "https:", "src=\"/", "url(", "@import", "<link", "<iframe"] {
        assert!(!outside.contains(external), "{external}");
    }
    text
}

#[test]
fn the_page_is_complete_and_self_contained() {
    let input = input(plain);
    let page = page_of(&input);
    let text = assert_well_formed(&page);
    for part in
        ["AUROC", "AUPR", "no skill", "oracle", "precision", "AUPRO", "ROC curve", "generator", "false alarm"]
    {
        assert!(page.contains(part), "{part}");
    }
    for bad in ["NaN", "inf ", "infinity"] {
        assert!(!text.contains(bad), "{bad}");
    }
    // 2 curves, histogram, box plot, loss; 12 panels of query, map, overlay and truth, half with a
    // reconstruction; one is a tile, with the whole image and its truth.
    assert_eq!(page.matches("<svg ").count(), 5);
    let reconstructions = input.panels.iter().filter(|p| p.reconstruction.is_some()).count();
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 4 * 12 + reconstructions + 2 + 1);
    assert!(page.contains("<figcaption>in the whole</figcaption>") && page.contains("tile with the highest"));
    assert_eq!(page.matches("<img ").count(), page.matches("<img alt=\"").count());
    assert_eq!(page.matches("<td class=id>").count(), 40 + 3);
}

#[test]
fn a_supplement_adds_samples_over_time_and_the_features() {
    let folder = tempfile::tempdir().unwrap();
    for step in [0, 10, 200, 3000, 40_000] {
        let grid = image_grid(&[step as f32 / 4e4; 4], 1, 1, [2; 2], 1).unwrap();
        save_png_atomic(&folder.path().join(format!("step-{step:07}.png")), &grid).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    let captions = |at_most| -> Vec<String> {
        sample_timeline(folder.path(), at_most).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(captions(3), ["step 0", "step 200", "step 40000"]);
    assert_eq!((captions(9).len(), captions(1), captions(0).len()), (5, vec!["step 40000".to_owned()], 0));

    // Three kinds of features, far apart.
    let kinds: Vec<PointKind> = (0..30).map(|i| PointKind::ALL[i % 3]).collect();
    let features: Vec<f32> = (0..60).map(|i| (i / 2 % 3 * 10) as f32 + (i * 7 % 5) as f32 / 10.0).collect();
    let embedding = Embedding::of_features("t-SNE of <features>", &features, 2, &kinds).unwrap();
    let extra = Supplement {
        timeline: sample_timeline(folder.path(), 8).unwrap(),
        embedding: Some(embedding),
        ..Supplement::default()
    };
    let input = input(plain);
    let page = html::page(&input, &extra, &Numbers::new(&input, &extra).unwrap()).unwrap();
    let text = assert_well_formed(&page);
    for part in
        ["step 200", "end of training", "t-SNE of &lt;features&gt;", "generated (10)", "anomalous (10)"]
    {
        assert!(text.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg ").count(), 6);
    let [_, json] = write_report_with(&folder.path().join("report"), &input, &extra).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["embedding"]["points"].as_array().unwrap().len(), 30);
    assert_eq!(json["embedding"]["points"][1]["kind"], "anomalous");

    assert!(matches!(Embedding::of_features("", &features, 3, &kinds), Err(ReportError::Shape { .. })));
    let point = EmbeddedPoint { kind: PointKind::Normal, x: f64::NAN, y: 0.0 };
    let odd = Embedding { title: String::new(), points: vec![point] };
    let extra = Supplement { embedding: Some(odd), ..extra };
    assert!(matches!(Numbers::new(&input, &extra), Err(ReportError::NotFinite { what: "embedding", .. })));
    // One point, and points that coincide, have no range to scale by.
    for n in [1, 3] {
        let points = vec![EmbeddedPoint { kind: PointKind::Generated, x: 1.0, y: 1.0 }; n];
        let extra =
            Supplement { embedding: Some(Embedding { title: "x".into(), points }), ..Supplement::default() };
        let page = html::page(&input, &extra, &Numbers::new(&input, &extra).unwrap()).unwrap();
        assert!(!assert_well_formed(&page).contains("NaN"));
    }
    std::fs::write(folder.path().join("step-9.png"), "broken").unwrap();
    let error = sample_timeline(folder.path(), 9).unwrap_err();
    assert!(matches!(&error, ReportError::Read { path, .. } if path.ends_with("step-9.png")), "{error}");
    assert!(matches!(sample_timeline(&folder.path().join("none"), 9), Err(ReportError::Read { .. })));
}

#[test]
fn hostile_names_stay_text() {
    let hostile = |i: usize, name: &str| {
        format!("<script>alert({i})</script>\"'><img src=x onerror=alert(1)>&amp;\u{202E}\u{7}]]>{name}")
    };
    let page = page_of(&input(hostile));
    assert_well_formed(&page);
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img src=x") && page.contains("&lt;script&gt;alert(3)"));
    assert!(!page.contains('\u{202E}') && !page.contains('\u{7}'));
}

#[test]
fn reports_of_little_or_odd_data_hold_together() {
    let nothing = Evaluation::new(&EvaluationInput::default()).unwrap();
    let empty = ReportInput {
        title: String::new(),
        data: String::new(),
        configuration: Vec::new(),
        evaluation: nothing,
        images: Vec::new(),
        panels: Vec::new(),
        losses: Vec::new(),
        samples: None,
    };
    assert!(!assert_well_formed(&page_of(&empty)).contains("NaN"));

    let unlabelled = |score: f64| ScoredImage {
        id: "a".into(),
        class: String::new(),
        anomalous: None,
        score,
        probability: None,
        percentile: None,
        verdict: None,
    };
    for scores in [vec![0.0], vec![5.0; 3], vec![-1e308, 1e308], vec![1e-320, 0.0], vec![1e16, 1e16 + 2.0]] {
        let images = scores.into_iter().map(unlabelled).collect();
        let text = assert_well_formed(&page_of(&ReportInput { images, ..empty.clone() }));
        assert!(!text.contains("NaN"), "{text}");
    }
    // A diverged loss is drawn as far as it goes.
    let losses = [vec![1.0, f32::NAN, f32::INFINITY], vec![f32::NAN; 3]].map(|values| LossCurve {
        name: "critic".into(),
        steps: vec![0, 1, 2],
        steps_per_epoch: 0,
        values,
    });
    let diverged = ReportInput { losses: losses.to_vec(), ..empty };
    assert!(!assert_well_formed(&page_of(&diverged)).contains("NaN"));
}

#[test]
fn numbers_that_cannot_be_shown_are_refused_by_name() {
    let mut bad = input(plain);
    bad.images[3].score = f64::NAN;
    let folder = tempfile::tempdir().unwrap();
    let error = write_report(folder.path(), &bad).unwrap_err();
    assert!(matches!(&error, ReportError::NotFinite { what: "score", id, .. } if id == "good"), "{error}");
    let mut bad = input(plain);
    bad.panels[0].map.pop();
    let error = write_report(folder.path(), &bad).unwrap_err();
    assert!(matches!(&error, ReportError::Shape { got: 3, shape, .. } if shape == &[2, 2]), "{error}");
    let mut bad = input(plain);
    bad.losses[0].steps.pop();
    let error = write_report(folder.path(), &bad).unwrap_err();
    assert!(matches!(error, ReportError::Loss { steps: 4999, values: 5000, .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing half-written");
}

#[test]
fn metrics_json_extends_the_document_of_eval() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(plain);
    let [html, json] = write_report(&folder.path().join("new/report"), &input).unwrap();
    assert!(std::fs::read_to_string(html).unwrap().ends_with("</html>\n"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let evaluation = serde_json::to_value(&input.evaluation).unwrap();
    for (field, value) in evaluation.as_object().unwrap() {
        assert_eq!(&json[field], value, "{field}");
    }
    assert_eq!(json["images"].as_array().unwrap().len(), 40);
    assert_eq!(json["losses"][0]["values"].as_array().unwrap().len(), 5000);
    assert_eq!(json["box_plots"][0]["n"], 20);
    let counts =
        |class: &str| json["histogram"][class].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).sum();
    assert_eq!((counts("normal"), counts("anomalous")), (20u64, 20u64));
    let last = json["roc"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["fpr"], &last["tpr"]), (&1.0.into(), &1.0.into()));
}

#[test]
fn a_failed_write_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    write_atomic(&file, b"old").unwrap();
    write_atomic(&file, b"new").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    // A file is no folder, for any user; nor is a folder a file that can be replaced.
    let inside = file.join("report.html");
    let error = write_atomic(&inside, b"x").unwrap_err();
    assert!(matches!(&error, ReportError::Write { path, .. } if *path == inside), "{error}");
    assert!(matches!(write_report(&file, &input(plain)), Err(ReportError::Write { .. })));
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    assert!(matches!(write_atomic(&occupied, b"x"), Err(ReportError::Write { .. })));
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "occupied"], "no temporary file stays behind");
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
}

#[test]
fn panels_are_the_extremes_of_each_class() {
    let image = |class: &str, anomalous, score| ScoredImage {
        id: String::new(),
        class: class.into(),
        anomalous: Some(anomalous),
        score,
        probability: None,
        percentile: None,
        verdict: None,
    };
    let mut images: Vec<ScoredImage> = (0..5).map(|i| image("crack", true, f64::from(i))).collect();
    images.extend([image("good", false, 9.0), image("good", false, 1.0), image("hole", true, 2.0)]);
    assert_eq!(select_panels(&images, 1), [5, 6, 4, 0, 7]);
    assert_eq!(select_panels(&images, 2), [5, 6, 4, 3, 1, 0, 7]);
    assert_eq!(select_panels(&images, 3), [5, 6, 4, 3, 2, 1, 0, 7]);
    assert!(select_panels(&images, 0).is_empty() && select_panels(&[], 3).is_empty());
}

#[test]
fn box_plots_are_tukeys() {
    let scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0];
    let images: Vec<ScoredImage> = scores
        .iter()
        .map(|&score| ScoredImage {
            id: String::new(),
            class: "good".into(),
            anomalous: Some(false),
            score,
            probability: None,
            percentile: None,
            verdict: None,
        })
        .collect();
    let b = &BoxPlot::of_classes(&images)[0];
    assert_eq!((b.q1, b.median, b.q3), (3.0, 5.0, 7.0));
    assert_eq!((b.whisker_low, b.whisker_high, b.outliers.as_slice()), (1.0, 8.0, &[100.0][..]));
}

#[test]
fn pictures_map_values_to_colours() {
    let gray = picture(&[-1.0, 0.0, 1.0, 9.0, f32::NAN, -9.0], 1, 2, 3).unwrap();
    assert_eq!(gray.pixels().map(|p| p.0[0]).collect::<Vec<_>>(), [0, 128, 255, 255, 0, 0]);
    let rgb = picture(&[-1.0, 0.0, 1.0], 3, 1, 1).unwrap();
    assert_eq!(rgb.get_pixel(0, 0), &Rgb([0, 128, 255]));
    // A signal of two channels becomes two strips.
    assert_eq!(picture(&[0.0; 10], 2, 1, 5).unwrap().dimensions(), (5, 2));

    let grid = image_grid(&[1.0, -1.0, 0.0], 3, 1, [1; 2], 2).unwrap();
    assert_eq!(grid.dimensions(), (4, 4));
    assert_eq!([(0, 0), (3, 0), (0, 3)].map(|(x, y)| grid.get_pixel(x, y).0[0]), [255, 0, 128]);

    let heat = heat_map(&[0.0, 0.5, 1.0, 2.0, f32::NAN], 1, 5, 1.0).unwrap();
    let luminance: Vec<u32> = heat.pixels().map(|p| p.0.iter().map(|&c| u32::from(c)).sum()).collect();
    assert!(luminance[0] < luminance[1] && luminance[1] < luminance[2]);
    assert_eq!((luminance[2], luminance[0]), (luminance[3], luminance[4]));
    let drawn = overlay(&[0.0, 0.0], 1, &[0.0, 1.0], 1, 2, 1.0).unwrap();
    assert_eq!(drawn.get_pixel(0, 0), &Rgb([128; 3]));
    assert_ne!(drawn.get_pixel(1, 0), &Rgb([128; 3]));
    let truth = truth_overlay(&[0.0, 0.0], 1, &[true, false], 1, 2).unwrap();
    assert_ne!(truth.get_pixel(0, 0), truth.get_pixel(1, 0));
}

#[test]
fn a_frame_lies_within_pictures_of_any_size() {
    let white = |image: &RgbImage| image.pixels().filter(|p| **p == Rgb([255; 3])).count();
    let black = |image: &RgbImage| image.pixels().filter(|p| **p == Rgb([0; 3])).count();
    // 8,000×16 pixels are 250×1 made small; a tile may reach over the edge by rounding up.
    for (w, h, tile, outer, inner) in [
        (250, 1, [4, 0, 2, 1], 2, 0),
        (1, 1, [0, 0, 9, 9], 1, 0),
        (9, 8, [1, 1, 5, 6], 18, 10),
        (6, 6, [2, 2, 9, 9], 12, 4),
    ] {
        let mut image = RgbImage::from_pixel(w, h, Rgb([7; 3]));
        picture::frame(&mut image, tile);
        assert_eq!((white(&image), black(&image)), (outer, inner), "{w}×{h}, {tile:?}");
    }
}

#[test]
fn pictures_refuse_lengths_that_do_not_fit() {
    let refused =
        |result: Result<RgbImage, ReportError>| assert!(matches!(result, Err(ReportError::Shape { .. })));
    refused(picture(&[0.0; 3], 1, 2, 2));
    refused(picture(&[], 0, 2, 2));
    refused(picture(&[], usize::MAX, usize::MAX, 2));
    refused(image_grid(&[0.0; 4], 1, 1, [2; 2], 0));
    refused(image_grid(&[], 0, 1, [2; 2], 4));
    refused(heat_map(&[0.0; 4], 2, 3, 1.0));
    refused(overlay(&[0.0; 4], 1, &[0.0; 3], 2, 2, 1.0));
    refused(truth_overlay(&[0.0; 4], 1, &[true; 5], 2, 2));
}

#[test]
fn saved_pngs_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.png");
    let grid = image_grid(&[0.25; 12], 3, 1, [2; 2], 3).unwrap();
    save_png_atomic(&path, &grid).unwrap();
    assert_eq!(image::open(&path).unwrap().into_rgb8(), grid);
}

#[test]
fn line_plots_stand_alone() {
    let series = ["a <b>", "c"].map(|name| PlotLine {
        name: name.into(),
        points: (0..9000).map(|i| (f64::from(i), f64::from(i % 7))).chain([(f64::NAN, 1.0)]).collect(),
    });
    let svg = line_plot_svg("loss & \"more\"", "step", "loss", &series).unwrap();
    assert_well_formed(&svg);
    assert!(svg.contains("a &lt;b&gt;") && svg.contains("aria-label=\"loss &amp; &quot;more&quot;\""));
    assert!(!svg.contains("NaN") && svg.len() < 60_000, "{} bytes", svg.len());
    assert_well_formed(&line_plot_svg("", "", "", &[]).unwrap());
    // At 1, 4, 16 and 64 the axis is logarithmic: points are equally far apart, each is marked, and the
    // legend lies above the plot.
    let marks = |places: &[f64]| -> Vec<f64> {
        let line =
            |name: &str| PlotLine { name: name.into(), points: places.iter().map(|&x| (x, 2.0)).collect() };
        let svg = line_plot_svg("title", "batch", "ms", &[line("one"), line("two")]).unwrap();
        let circles = svg.split("<circle ").skip(1).map(|c| {
            let number = |name: &str| -> f64 {
                let from = c.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
                c[from..].split('"').next().unwrap().parse().unwrap()
            };
            (number("cx"), number("cy"))
        });
        let circles: Vec<(f64, f64)> = circles.collect();
        assert_eq!(circles.len(), 2 + 2 * places.len());
        assert!(circles[..2].iter().all(|legend| circles[2..].iter().all(|mark| legend.1 + 30.0 < mark.1)));
        circles[2..2 + places.len()].iter().map(|c| c.0).collect()
    };
    let gaps = |marks: Vec<f64>| -> Vec<f64> { marks.windows(2).map(|w| w[1] - w[0]).collect() };
    for even in [[1.0, 4.0, 16.0, 64.0], [16.0, 32.0, 48.0, 64.0]] {
        let gaps = gaps(marks(&even));
        assert!(gaps.iter().all(|g| (g - gaps[0]).abs() <= 2.0), "{gaps:?}");
    }
}

#[test]
fn numbers_read_well() {
    let cases = [0.0, 0.5, 1.0 / 3.0, 12.0, 123.456, -2.25, 99999.6, 1e6, 1.5e-7, f64::NAN];
    let expected = ["0", "0.5", "0.3333", "12", "123.5", "-2.25", "100000", "1.00e6", "1.50e-7", "–"];
    assert_eq!(cases.map(plot::number), expected);
}

#[test]
fn verdicts_of_a_model_without_skill_are_not_praised() {
    // Scores that say nothing, and scores that say the contrary.
    for (truth_of, warning) in [
        ((|i| i % 2 == 0) as fn(usize) -> bool, "no better than chance"),
        ((|i| i < 20) as fn(usize) -> bool, "worse than chance"),
    ] {
        let mut input = input(plain);
        for (i, image) in input.images.iter_mut().enumerate() {
            (image.score, image.verdict) = (i as f64, Some(i >= 10));
            image.anomalous = Some(truth_of(i));
        }
        let scores: Vec<f64> = input.images.iter().map(|i| i.score).collect();
        let truths: Vec<bool> = input.images.iter().map(|i| i.anomalous == Some(true)).collect();
        let given = EvaluationInput { scores: &scores, truths: &truths, ..EvaluationInput::default() };
        input.evaluation = Evaluation::new(&given).unwrap();
        let page = page_of(&input);
        assert!(page.contains(warning), "{warning}");
        assert!(!page.contains("verdict right") && page.contains(">flagged<"), "{warning}");
    }
    assert!(page_of(&input(plain)).contains("verdict right"));
}

#[test]
fn what_to_do_next_is_on_the_page_and_in_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let next =
        vec![NextStep { text: "Score <new> images.".into(), command: "ganomede score m.st new/".into() }];
    let extra = Supplement { next, ..Supplement::default() };
    let [page, json] = write_report_with(folder.path(), &input(plain), &extra).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    assert_well_formed(&page);
    assert!(page.contains("Score &lt;new&gt; images.") && page.contains("ganomede score m.st new/"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["next"][0]["command"], "ganomede score m.st new/");
}

#[test]
fn paths_break_behind_their_separators_and_names_of_classes_are_whole() {
    assert_eq!(html::breakable("/a/b_c:d=<e>"), "/<wbr>a/<wbr>b_<wbr>c:<wbr>d=&lt;e&gt;");
    assert_eq!(html::breakable("a://b\\"), "a://<wbr>b\\");
    let input = input(|_, name| match name {
        "crack" => "hyperreflective-foci-of-unknown-origin".to_owned(),
        "hole" => "hyperreflective-foci".to_owned(),
        name => name.to_owned(),
    });
    let page = page_of(&input);
    let text = assert_well_formed(&page);
    for whole in ["hyperreflective-foci\n", "hyperreflective-foci-of", "unknown-origin"] {
        assert!(text.contains(whole.trim_end()), "{whole}");
    }
    assert!(!text.contains('…'));
}

#[test]
fn sheets_are_cut_and_scaled_by_whole_numbers() {
    use super::picture::{enlarged, first_rows, reduced};
    let sheet = image_grid(&[1.0; 5 * 9], 5, 1, [3; 2], 2).unwrap(); // three rows of two
    assert_eq!(sheet.dimensions(), (8, 13));
    assert_eq!([1, 3, 8, 9, 99].map(|height| first_rows(&sheet, height).height()), [3, 3, 8, 8, 13]);
    let plain = RgbImage::from_pixel(4, 6, Rgb([7; 3]));
    assert_eq!(first_rows(&plain, 2), plain);
    let steps = RgbImage::from_fn(4, 2, |x, _| Rgb([10 * x as u8; 3]));
    assert_eq!(enlarged(&steps, 3).get_pixel(5, 5), &Rgb([10; 3]));
    assert_eq!(reduced(&steps, 2).pixels().map(|p| p.0[0]).collect::<Vec<_>>(), [5, 25]);
}

#[test]
fn times_have_three_digits() {
    let cases = [0.0, 0.0013, 0.005, 30.07, 999.4, 2e-6, 1.0];
    let expected = ["0.00 s", "1.30 ms", "5.00 ms", "30.1 s", "999 s", "2.00 µs", "1.00 s"];
    assert_eq!(cases.map(plot::duration), expected);
}
