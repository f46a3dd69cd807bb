//! Large images by tiles, and maps as files, from the command line.

use crate::binary;
use std::path::Path;

use crate::binary::{folder, ganomede, text};
use ganomede::models::file::ModelFile;

const DATA: &str = "builtin:concrete:train=10,test=4,side=96";

fn train(out: &Path, more: &[&str]) -> binary::Ended {
    let fixed = ["train", "pca", "--data", DATA, "--out", text(out), "--steps", "8", "--batch", "4"];
    ganomede(
        fixed.iter().copied().chain(["--val-fraction", "0.3", "--latent", "8"]).chain(more.iter().copied()),
    )
}

#[test]
fn a_model_of_tiles_scores_and_draws_images_at_their_own_size() {
    let at = folder("tiles");
    let (model, maps) = (at.join("m.safetensors"), at.join("maps"));
    train(&model, &["--tile", "32", "--tile-score", "top:2", "--tiles-per-image", "6"]).well();
    let header = ModelFile::load(&model).unwrap().header;
    let tiles = header.data.tiles.unwrap();
    assert_eq!((header.config.extent(), header.data.training_images, tiles.per_image), ([32, 32], 42, 6));
    let calibration = header.calibration.unwrap();
    assert_eq!((calibration.quantiles.count(), calibration.maps.unwrap().levels.maps()), (3, 3));

    let drawn = ["--maps", text(&maps), "--maps-raw", "--maps-mask", "--json"];
    let document = ganomede(["score", text(&model), DATA].iter().chain(&drawn)).json();
    let (range, threshold) = (&document["map_range"], document["map_threshold"].as_f64().unwrap());
    assert!(range[0].as_f64().unwrap() < range[1].as_f64().unwrap(), "{range}");
    let rows = document["images"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let place = |name: &str| row[name].as_str().unwrap().to_owned();
        let picture = image::open(place("map")).unwrap().to_rgb8();
        let mask = image::open(place("map_mask")).unwrap().to_luma8();
        assert_eq!((picture.dimensions(), mask.dimensions()), ((96, 96), (96, 96)));
        let raw = std::fs::read(place("map_raw")).unwrap();
        let values: Vec<f32> = raw[raw.len() - 4 * 96 * 96..]
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let above = values.iter().filter(|&&v| f64::from(v) >= threshold).count();
        assert_eq!(mask.pixels().filter(|p| p.0 == [255]).count(), above);
        let regions = row["regions"].as_array().unwrap();
        assert_eq!(regions.iter().map(|r| r["area"].as_u64().unwrap() as usize).sum::<usize>(), above);
        for region in regions {
            let number = |i: usize| region["box"][i].as_u64().unwrap() as usize;
            let [x, y] = [0, 1].map(|i| region["at"][i].as_u64().unwrap() as usize);
            assert!(
                (number(0)..number(0) + number(2)).contains(&x)
                    && (number(1)..number(1) + number(3)).contains(&y)
            );
            assert!((f64::from(values[y * 96 + x]) - region["peak"].as_f64().unwrap()).abs() < 1e-6);
        }
    }
    // Another share of false alarms is another threshold; the images' scores stay.
    let strict = ["--json", "--map-false-alarm-rate", "0.05"];
    let other = ganomede(["score", text(&model), DATA].iter().chain(&strict)).json();
    assert!(other["map_threshold"].as_f64().unwrap() < threshold);
    assert_eq!(other["images"][1]["score"], rows[1]["score"]);

    // As whole images: 4 of them, with pixel metrics at their own size, in a report.
    let report = at.join("report");
    let eval = ganomede(["eval", text(&model), "--data", DATA, "--report", text(&report), "--json"]).json();
    assert_eq!((&eval["n_normal"], &eval["n_anomalous"]), (&2.into(), &2.into()));
    assert!(eval["pixel"]["aupro"].is_f64() && report.join("report.html").is_file());
    let plain = ganomede(["eval", text(&model), "--data", DATA, "--map-smooth", "0", "--json"]).json();
    assert!(plain["auroc"] == eval["auroc"] && plain["pixel"] != eval["pixel"], "{plain}");
    // Steps of a whole tile are another calibration: the held-out images are here.
    let wide = ganomede(["eval", text(&model), "--data", DATA, "--tile-step", "32", "--json"]).json();
    assert!(wide["threshold"]["value"].is_f64());
}

#[test]
fn maps_relative_to_held_out_normals_are_of_models_that_know_them() {
    let at = folder("relative");
    let (plain, relative) = (at.join("plain.safetensors"), at.join("relative.safetensors"));
    train(&plain, &["--size", "32"]).well();
    train(&relative, &["--size", "32", "--map-relative"]).well();
    assert!(ModelFile::load(&relative).unwrap().header.calibration.unwrap().maps.unwrap().place.is_some());
    let score = |model: &Path, more: &[&str]| {
        ganomede(["score", text(model), DATA, "--json"].iter().chain(more)).code
    };
    assert_eq!([score(&relative, &[]), score(&plain, &[])], [Some(0); 2]);
    assert_eq!(score(&plain, &["--map-relative"]), Some(2));
    // Where the held-out images are, they are looked at again.
    let eval = ganomede(["eval", text(&plain), "--data", DATA, "--map-relative", "--json"]).json();
    assert!(eval["pixel"]["auroc"].is_f64());
    let maps = at.join("maps");
    let drawn = ganomede(["score", text(&relative), DATA, "--maps", text(&maps), "--json"]).json();
    let picture = image::open(drawn["images"][0]["map"].as_str().unwrap()).unwrap();
    assert_eq!((picture.width(), picture.height()), (96, 96));
}

#[test]
fn tiles_that_cannot_be_are_refused_in_a_paragraph() {
    let at = folder("no-tiles");
    let out = at.join("m.safetensors");
    for (flags, words) in [
        (&["--tile", "8"][..], &["8"][..]),
        (&["--tile", "128"], &["96×96", "128×128"]),
        (&["--tile", "32", "--tile-step", "0"], &["--tile-step is 0", "1 to 32"]),
        (&["--tile", "32", "--tile-step", "33"], &["--tile-step is 33"]),
        (&["--tile", "32", "--tile-score", "best"], &["tile-score"]),
        (&["--tile", "32", "--tiles-per-image", "0"], &["tiles of an image"]),
        (&["--tile", "32", "--map-relative"], &["--map-relative"]),
        (&["--tile", "32", "--size", "32"], &["--tile"]),
        (&["--tile-step", "16"], &["--tile-step", "--tile"]),
        (&["--size", "32", "--map-smooth=-1"], &["--map-smooth is -1"]),
        (&["--size", "32", "--map-smooth", "65"], &["--map-smooth is 65"]),
    ] {
        let ended = train(&out, flags);
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{flags:?}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked") && !out.exists(), "{flags:?}: {}", ended.stderr);
    }
    train(&out, &["--tile", "64"]).well();
    let small = at.join("small");
    ganomede([
        "data",
        "synth",
        "concrete",
        "--out",
        text(&small),
        "--train",
        "1",
        "--test",
        "2",
        "--size",
        "48",
    ])
    .well();
    let maps = at.join("maps");
    let ended = ganomede(["score", text(&out), text(&small), "--maps", text(&maps)]);
    assert!(
        ended.code == Some(2) && ended.stderr.contains("48×48") && ended.stderr.contains("64×64"),
        "{}",
        ended.stderr
    );
    assert_eq!(std::fs::read_dir(&maps).unwrap().count(), 0);
    let whole = at.join("whole.safetensors");
    train(&whole, &["--size", "32"]).well();
    let ended = ganomede(["score", text(&whole), DATA, "--tile-step", "16"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("models of tiles"), "{}", ended.stderr);
}

#[test]
fn searched_tiles_are_searched_side_by_side_and_one_is_shown() {
    let at = folder("searched");
    let (model, film) = (at.join("m.safetensors"), at.join("film.png"));
    let data = "builtin:concrete:train=8,test=2,side=32";
    let fixed = ["train", "anogan", "--data", data, "--out", text(&model), "--tile", "16", "--width", "4"];
    ganomede(fixed.iter().chain(&["--steps", "2", "--batch", "8", "--search-steps", "3"])).well();
    let scored = ganomede(["score", text(&model), data, "--json"]);
    assert!(
        scored.stderr.contains("each tile is searched") && scored.stderr.contains("9 tiles"),
        "{}",
        scored.stderr
    );
    let images = at.join("images");
    ganomede([
        "data",
        "synth",
        "concrete",
        "--out",
        text(&images),
        "--train",
        "1",
        "--test",
        "2",
        "--size",
        "32",
    ])
    .well();
    let image = images.join("train/good/000000.png");
    let found = ganomede(["search", text(&model), text(&image), "--film", text(&film), "--json"]).json();
    assert!(found["tile"].is_array() && film.is_file(), "{found}");
}
