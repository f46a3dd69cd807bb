//! `nsa` and `draem` through every door that images have: trained on defects that are made on the way, with
//! textures of a folder, as tiles and rectangles; what they cannot do is refused with a sentence.

use crate::binary::{folder, ganomede, number, text, write_gray};

const DATA: &str = "builtin:casting:train=40,test=12";
/// Images of more than one tile.
const LARGE: &str = "builtin:concrete:train=10,test=4,side=96";
const SMALL: [&str; 8] = ["--width", "1", "--batch", "4", "--steps", "3", "--val-fraction", "0.3"];

#[test]
fn segmentations_train_score_and_are_evaluated_as_images_of_any_size_and_as_tiles() {
    let at = folder("synthetic");
    for system in ["nsa", "draem"] {
        for (name, data, more) in [
            ("whole", DATA, ["--size", "33x50"].as_slice()),
            ("tiles", LARGE, ["--tile", "32", "--tiles-per-image", "2"].as_slice()),
        ] {
            let model = at.join(format!("{system}-{name}.safetensors"));
            let arguments = ["train", system, "--data", data, "--out", text(&model)];
            ganomede(arguments.iter().chain(&SMALL).chain(more)).well();
            let scored = ganomede(["score", text(&model), data, "--json"]).json();
            let rows = scored["images"].as_array().unwrap();
            assert!(rows.len() >= 4 && scored["map_threshold"].is_f64(), "{system}, {name}: {scored}");
            assert!(rows.iter().all(|row| number(row, "score").is_finite()), "{system}, {name}");
            let figures = ganomede(["eval", text(&model), "--data", data, "--json"]).json();
            assert!((0.0..=1.0).contains(&number(&figures, "auroc")), "{figures}");
            assert!(figures["pixel"]["aupro"].is_f64(), "{system}, {name}: {figures}");
        }
        let model = at.join(format!("{system}-whole.safetensors"));
        let image = at.join("image.png");
        write_gray(&image, 40, 40, 1);
        ganomede(["search", text(&model), text(&image)]).refused(2, &["no search"]);
        let page = at.join(format!("{system}-page"));
        ganomede(["export", "--web", text(&page), text(&model)]).well();
        assert!(page.join("program.json").is_file(), "{system}");
        let training = ["--train", system, "--data", DATA, "--size", "32", "--width", "1"];
        ganomede(["export", "--web", text(&page)].iter().chain(&training)).refused(2, &[system, "host"]);
    }
}

#[test]
fn segmentations_are_of_images_alone() {
    let at = folder("forms");
    let [series, table, model] = ["series.csv", "table.csv", "m.safetensors"].map(|name| at.join(name));
    let rows = |line: fn(u32) -> String| (0..400).map(line).collect::<String>();
    std::fs::write(&series, "level\n".to_owned() + &rows(|i| format!("{}\n", i % 17))).unwrap();
    let row = |i| format!("{}.5,{}.25,normal\n", i % 7, i % 5);
    std::fs::write(&table, "a,b,label\n".to_owned() + &rows(row)).unwrap();
    for system in ["nsa", "draem"] {
        let forms =
            [(&series, ["--signal", "--train-part", "0.5"].as_slice()), (&table, ["--table"].as_slice())];
        for (data, form) in forms {
            let arguments = ["train", system, "--data", text(data), "--out", text(&model)];
            let ended = ganomede(arguments.iter().chain(form));
            ended.refused(2, &["form", "image for this system"]);
            assert!(ended.stderr.starts_with("error: "), "before data are read: {}", ended.stderr);
            assert!(!model.exists());
        }
    }
}

#[test]
fn systems_with_defects_of_their_own_are_compared_and_recommended() {
    let arguments = ["--data", DATA, "--size", "32", "--width", "1"];
    let report = folder("synthetic-compared");
    let settings = ["compare", "--systems", "nsa,draem", "--steps", "2", "--json", "--report", text(&report)];
    let compared = ganomede(settings.iter().chain(&arguments));
    let said = &compared.well().stdout;
    assert!(said.contains("\"nsa\"") && said.contains("\"draem\""), "{said}");
    let tried = ganomede(
        ["recommend", "--systems", "nsa,draem", "--minutes", "0.1", "--json"].iter().chain(&arguments),
    )
    .json();
    let systems = tried["systems"].as_array().unwrap();
    for name in ["nsa", "draem"] {
        let of = systems.iter().filter(|tried| tried["system"] == name);
        assert!(of.clone().any(|tried| tried["synthetic_auroc"].is_number()), "{name}: {tried}");
    }
}

#[test]
fn textures_of_a_folder_are_read_said_and_held_to() {
    let at = folder("textures");
    let (textures, model) = (at.join("textures"), at.join("m.safetensors"));
    std::fs::create_dir(&textures).unwrap();
    for i in 0..3u8 {
        image::GrayImage::from_fn(20, 20, |x, y| image::Luma([(x * y / 8) as u8 * (i + 1)]))
            .save(textures.join(format!("{i}.png")))
            .unwrap();
    }
    std::fs::write(textures.join("broken.png"), "no image").unwrap();
    let arguments = ["train", "draem", "--data", DATA, "--size", "16", "--out", text(&model)];
    let with = ["--textures", text(&textures)];
    let trained = ganomede(arguments.iter().chain(&SMALL).chain(&with));
    trained.well();
    assert!(trained.stderr.contains("3 textures of"), "{}", trained.stderr);
    assert!(trained.stderr.contains("broken.png"), "what cannot be used is said: {}", trained.stderr);
    let info = ganomede(["info", text(&model)]);
    assert!(info.well().stdout.contains("textures: 3 of"), "{}", info.stdout);

    // Another folder, or none, is not what the checkpoint was trained with.
    let refused = ganomede(arguments.iter().chain(&SMALL).chain(&["--resume"]));
    refused.refused(2, &["--textures"]);
    ganomede(arguments.iter().chain(&SMALL).chain(&with).chain(&["--resume"])).well();

    let of = |system: &str, more: &[&str]| {
        ganomede(
            ["train", system, "--data", DATA, "--size", "16", "--out", "n.safetensors"]
                .iter()
                .chain(&SMALL)
                .chain(more),
        )
    };
    of("nsa", &with).refused(2, &["textures", "nsa"]);
    of("draem", &["--textures", "nowhere"]).refused(2, &["textures", "folder"]);
    let series = ["train", "ae", "--signal", "--data", "nowhere.csv", "--out", "n.safetensors"];
    ganomede(series.iter().chain(&with)).refused(2, &["--textures", "series"]);
}
