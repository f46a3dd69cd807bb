//! Large images by tiles: training on random places, calibration on whole images, and maps at their own size.

use std::path::Path;
use std::sync::Arc;

use ganomede::detect::{
    Applied, FoundByTiles, Images, Job, Look, Looked, Samples, Selection, Settings, TileScorer, Trained,
    look_at, own, own_maps,
};
use ganomede::device::Device;
use ganomede::maps::{Region, Regions};
use ganomede::models::file::{DataInfo, ModelFile, TileInfo};
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::{Found, MapConfig, ScoreConfig, TileScore, Tiling};
use ganomede::models::{Config, ae, anogan, pca};
use ganomede::train::Limits;
use ganomede_datasets::{Augment, Dataset, OpenOptions, Preprocess, Split, WholeImage};
use image::{GrayImage, Luma};

/// A web of cloth: a weave with some noise, a function of the seed; with a bright knot of `knot` pixels.
fn cloth(width: u32, height: u32, seed: u32, knot: Option<(u32, u32, u32)>) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let hash =
            (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b) ^ seed.wrapping_mul(0xc2b2_ae35))
                .wrapping_mul(0x27d4_eb2f);
        let noise = (hash >> 24) as f32 / 255.0 - 0.5;
        let weave = ((x % 8) as f32 - 3.5) * 4.0 + if y % 8 < 4 { 12.0 } else { -12.0 };
        let is_knot =
            knot.is_some_and(|(kx, ky, side)| (kx..kx + side).contains(&x) && (ky..ky + side).contains(&y));
        Luma([(110.0 + weave + 10.0 * noise + if is_knot { 70.0 } else { 0.0 }) as u8])
    })
}

fn write(folder: &Path, count: u32, width: u32, height: u32) {
    for seed in 0..count {
        cloth(width, height, seed, None).save(folder.join(format!("{seed:02}.png"))).unwrap();
    }
}

fn options(side: usize) -> OpenOptions {
    OpenOptions {
        preprocess: Preprocess::new(side),
        tiles: true,
        for_training: true,
        without_masks: true,
        ..OpenOptions::default()
    }
}

fn images(folder: &Path, side: usize, per_image: usize, tiling: Tiling) -> Images {
    let dataset = Arc::new(Dataset::open(&folder.to_string_lossy(), &options(side)).unwrap());
    let info = DataInfo { tiles: Some(TileInfo { per_image, tiling }), ..DataInfo::default() };
    Images::new(dataset, 0.3, 0, Augment::default(), info).unwrap()
}

fn job(
    system: &'static ganomede::models::Info,
    side: usize,
    score: ScoreConfig,
    steps: u64,
    data: DataInfo,
) -> Job {
    let settings = Settings {
        system,
        config: Config { size: side.into(), width: 8, latent: 8, ..Config::default() },
        recipe: Recipe::USUAL,
        options: vec![],
        score,
        limits: Limits { steps: Some(steps), ..Limits::default() },
        batch: Some(4),
        lr: None,
        textures: None,
        seed: 3,
    };
    settings.checked().unwrap().job(data)
}

fn trained(folder: &Path, system: &'static ganomede::models::Info, side: usize, steps: u64) -> Trained {
    let tiling = Tiling { step: None, score: TileScore::Max };
    let images = images(folder, side, 10, tiling);
    let maps = MapConfig { smooth: Some(0.0), relative: false };
    let score = ScoreConfig { tiles: Some(tiling), maps, ..ScoreConfig::default() };
    job(system, side, score, steps, images.info().unwrap()).run(&Device::Cpu, &images, &mut ()).unwrap()
}

/// Regions above the model's own threshold of pixels, and all values.
struct Places {
    threshold: f32,
    regions: Option<Regions>,
    values: Vec<f32>,
    found: Vec<(Found, Vec<Region>)>,
}

impl Look for Places {
    fn begin(&mut self, image: &Looked<'_>) -> Result<bool, ganomede::DetectError> {
        self.regions = Some(Regions::new(image.size[1], self.threshold));
        Ok(true)
    }

    fn row(&mut self, image: &Looked<'_>, row: &[f32]) -> Result<(), ganomede::DetectError> {
        assert_eq!(row.len(), image.size[1]);
        self.values.extend_from_slice(row);
        self.regions.as_mut().unwrap().row(row);
        Ok(())
    }

    fn end(
        &mut self,
        _: &Looked<'_>,
        found: &Found,
        _: Option<&FoundByTiles>,
    ) -> Result<(), ganomede::DetectError> {
        self.found.push((found.clone(), self.regions.take().unwrap().finish().0));
        Ok(())
    }
}

fn places(model: &ModelFile, path: &Path, batch: usize) -> Places {
    let score = model.header.score_config();
    let threshold = own_maps(model, &score).unwrap().threshold;
    let data = Dataset::open(
        &path.to_string_lossy(),
        &OpenOptions { for_training: false, ..options(model.header.config.extent()[0]) },
    );
    let data = Arc::new(data.unwrap());
    let selection = Selection { indices: data.all(Split::Test), data, split: Split::Test };
    let mut places = Places { threshold, regions: None, values: vec![], found: vec![] };
    let mut applied =
        Applied { device: &Device::Cpu, model, path: Path::new("m"), score: &score, observer: &mut () };
    let (count, _) = look_at(&mut applied, &selection, batch, "scoring", &mut places).unwrap();
    assert_eq!(count, selection.indices.len());
    places
}

#[test]
fn a_small_defect_of_a_large_image_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 10, 160, 128);
    let Trained { model, .. } = trained(folder.path(), &pca::INFO, 64, 30);
    let calibration = own(&model, &model.header.score_config()).expect("whole images were held out");
    assert_eq!((calibration.quantiles.count(), calibration.tiles), (3, Some([4 * 3, 4 * 3])));
    assert_eq!(model.header.data.training_images, 70);
    // The file says it all again.
    let bytes = model.to_bytes(Path::new("m")).unwrap();
    assert_eq!(ModelFile::from_bytes(Path::new("m"), &bytes).unwrap().header, model.header);

    let file = folder.path().join("new.png");
    cloth(700, 300, 99, Some((521, 187, 24))).save(&file).unwrap();
    let seen = places(&model, &file, 64);
    assert_eq!(seen.values.len(), 700 * 300);
    let (found, regions) = &seen.found[0];
    assert!(found.score > calibration.threshold, "{} of {}", found.score, calibration.threshold);
    let [x, y, width, height] = regions[0].bounds.map(|side| side as i64);
    for (got, want) in [(x, 521), (y, 187), (x + width, 545), (y + height, 211)] {
        assert!((got - want).abs() <= 8, "{:?}", regions[0]);
    }
    // The same bits in batches of any size.
    let again = places(&model, &file, 7);
    assert_eq!((&again.values, &again.found), (&seen.values, &seen.found));

    let good = folder.path().join("good.png");
    cloth(700, 300, 98, None).save(&good).unwrap();
    let (best, _) = &places(&model, &good, 64).found[0];
    assert!(best.score < found.score / 2.0, "{} and {}", best.score, found.score);
}

#[test]
fn on_a_constant_image_equal_places_of_a_step_have_equal_values() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 6, 64, 64);
    for system in [&pca::INFO, &ae::INFO] {
        let Trained { model, .. } = trained(folder.path(), system, 32, 4);
        let file = folder.path().join("flat.png");
        GrayImage::from_pixel(160, 112, Luma([120])).save(&file).unwrap();
        let values = places(&model, &file, 64).values;
        std::fs::remove_file(&file).unwrap();
        for y in 16..112 - 32 {
            for x in 16..160 - 32 {
                let value = values[y * 160 + x].to_bits();
                assert_eq!(value, values[y * 160 + x + 16].to_bits(), "{} {x} {y}", system.name);
                assert_eq!(value, values[(y + 16) * 160 + x].to_bits(), "{} {x} {y}", system.name);
            }
        }
    }
}

#[test]
fn training_on_tiles_is_a_function_of_seed_and_epoch_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 10, 50, 40);
    let images = images(folder.path(), 16, 9, Tiling::default());
    assert_eq!(images.len(), 63);
    let epoch = |seed, epoch, start| -> Vec<Vec<f32>> {
        images.epoch(8, seed, epoch, start).unwrap().map(Result::unwrap).collect()
    };
    let all = epoch(1, 0, 0);
    assert_eq!((all.len(), all[0].len()), (7, 8 * 256));
    assert_eq!(epoch(1, 0, 0), all);
    assert_eq!(epoch(1, 0, 3), all[3..]);
    assert_ne!(epoch(1, 1, 0), all);
    assert_ne!(epoch(2, 0, 0), all);
    // The samples of the epoch are those that `get` gives, in some order.
    let key = |tile: &[f32]| tile.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let samples: std::collections::BTreeSet<_> =
        (0..images.len()).map(|i| key(&images.get(i, [1, 0]).unwrap())).collect();
    assert!(all.iter().flat_map(|batch| batch.chunks(256)).all(|tile| samples.contains(&key(tile))));
    assert!(images.get(63, [1, 0]).is_err());
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    cloth(40, 20, 0, None).save(folder.path().join("small.png")).unwrap();
    let error = Dataset::open(&folder.path().to_string_lossy(), &options(32)).err().unwrap().to_string();
    assert!(error.contains("small.png") && error.contains("40×20") && error.contains("32×32"), "{error}");
    cloth(40, 33, 0, None).save(folder.path().join("large.png")).unwrap();
    let data = Dataset::open(&folder.path().to_string_lossy(), &options(32)).unwrap();
    assert_eq!((data.len(Split::Train), data.rejected().len()), (1, 1));

    let small = image::DynamicImage::ImageLuma8(cloth(40, 20, 0, None));
    let whole = WholeImage::of_pixels("camera 1", small, &options(32)).unwrap();
    let error = whole.check_tile().unwrap_err().to_string();
    assert!(error.contains("camera 1") && error.contains("40×20"), "{error}");

    for (tiles, maps, word) in [
        (Some(Tiling { step: Some([0, 8]), ..Tiling::default() }), MapConfig::default(), "tile-step"),
        (Some(Tiling { step: Some([33, 8]), ..Tiling::default() }), MapConfig::default(), "tile-step"),
        (None, MapConfig { smooth: Some(f64::NAN), relative: false }, "map-smooth"),
        (None, MapConfig { smooth: Some(-1.0), relative: false }, "map-smooth"),
        (Some(Tiling::default()), MapConfig { smooth: None, relative: true }, "map-relative"),
    ] {
        let settings = Settings {
            system: &pca::INFO,
            config: Config { size: ganomede_datasets::Size::square(32), ..Config::default() },
            recipe: Recipe::USUAL,
            options: vec![],
            score: ScoreConfig { tiles, maps, ..ScoreConfig::default() },
            limits: Limits::default(),
            batch: None,
            lr: None,
            textures: None,
            seed: 0,
        };
        let error = settings.checked().and_then(|s| s.with_score()).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn searched_tiles_say_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 4, 32, 32);
    let images = images(folder.path(), 16, 4, Tiling::default());
    let mut score = ScoreConfig { tiles: Some(Tiling::default()), ..ScoreConfig::default() };
    (score.search.steps, score.search.restarts) = (3, 2);
    let job = job(&anogan::INFO, 16, score.clone(), 1, images.info().unwrap());
    let Trained { model, .. } = job.run(&Device::Cpu, &images, &mut ()).unwrap();
    let applied = Applied {
        device: &Device::Cpu,
        model: &model,
        path: Path::new("m"),
        score: &score,
        observer: &mut (),
    };
    let scorer = TileScorer::new(&applied, 4).unwrap();
    assert_eq!(scorer.tiles([32, 40]), Some(3 * 4));
    assert_eq!(scorer.tiles([15, 40]), None);
    let cost = scorer.cost(5, [32, 40]).unwrap();
    assert!(cost.contains("12 tiles") && cost.contains(&(12 * 5 * 3 * 2).to_string()), "{cost}");
}

#[test]
fn maps_of_whole_images_have_their_scale_too() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 12, 48, 40);
    let open = OpenOptions { tiles: false, ..options(16) };
    for relative in [false, true] {
        let dataset = Arc::new(Dataset::open(&folder.path().to_string_lossy(), &open).unwrap());
        let images = Images::new(dataset, 0.4, 0, Augment::default(), DataInfo::default()).unwrap();
        let maps = MapConfig { smooth: Some(1.0), relative };
        let score = ScoreConfig { maps, ..ScoreConfig::default() };
        let job = job(&pca::INFO, 16, score.clone(), 4, images.info().unwrap());
        let Trained { model, .. } = job.run(&Device::Cpu, &images, &mut ()).unwrap();
        let bytes = model.to_bytes(Path::new("m")).unwrap();
        let model = ModelFile::from_bytes(Path::new("m"), &bytes).unwrap();
        let calibration = own_maps(&model, &model.header.score_config()).unwrap();
        assert_eq!((calibration.place.is_some(), calibration.levels.maps()), (relative, 5));
        // Of other maps it is not the scale, of the same scores it is.
        let other = ScoreConfig { maps: MapConfig::default(), ..model.header.score_config() };
        assert!(own_maps(&model, &other).is_none() && own(&model, &other).is_some());
        let file = folder.path().join("00.png");
        let data = Arc::new(
            Dataset::open(&file.to_string_lossy(), &OpenOptions { for_training: false, ..open.clone() })
                .unwrap(),
        );
        let selection = Selection { indices: data.all(Split::Test), data, split: Split::Test };
        let score = model.header.score_config();
        let mut seen =
            Places { threshold: calibration.threshold, regions: None, values: vec![], found: vec![] };
        let mut applied = Applied {
            device: &Device::Cpu,
            model: &model,
            path: Path::new("m"),
            score: &score,
            observer: &mut (),
        };
        look_at(&mut applied, &selection, 4, "scoring", &mut seen).unwrap();
        assert_eq!(seen.values.len(), 48 * 40);
        assert!(seen.values.iter().all(|v| v.is_finite()));
    }
}
