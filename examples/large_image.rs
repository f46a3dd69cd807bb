//! One small defect in a large image: learn tiles of good images, then find it at the image's own resolution.
//! `cargo run --release --example large_image [WIDTH HEIGHT]`; 1,600×400 where nothing is said.

use std::time::Instant;

use ganomede::detect::Detector;
use ganomede::device::Device;
use ganomede::models::file::TileInfo;
use ganomede::models::pca;
use ganomede::models::scorer::Tiling;
use image::{DynamicImage, GrayImage, Luma};

/// Side of the defect, in pixels.
const DEFECT: u32 = 24;

/// A woven web with grain, another for each seed; `defect` is where threads are missing.
fn web(width: u32, height: u32, seed: u32, defect: Option<[u32; 2]>) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let mixed =
            (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b) ^ seed.wrapping_mul(0xc2b2_ae35))
                .wrapping_mul(0x27d4_eb2f);
        let grain = (mixed >> 24) as f32 / 16.0 - 8.0;
        let thread = if (x / 4 + y / 4) % 2 == 0 { 150.0 } else { 110.0 };
        let is_bare = defect.is_some_and(|[left, top]| {
            (left..left + DEFECT).contains(&x) && (top..top + DEFECT).contains(&y)
        });
        Luma([(if is_bare { 95.0 } else { thread } + grain) as u8])
    })
}

/// The most memory that the process has taken, in MB, where the system says it.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1e3)
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sides: Vec<u32> = std::env::args().skip(1).filter_map(|side| side.parse().ok()).collect();
    let [width, height] = <[u32; 2]>::try_from(sides).unwrap_or([1600, 400]);
    let folder = tempfile::tempdir()?;
    for seed in 0..10 {
        web(512, 256, seed, None).save(folder.path().join(format!("{seed}.png")))?;
    }
    let tiles = TileInfo { per_image: TileInfo::PER_IMAGE, tiling: Tiling::default() };
    // Little smoothing keeps the box of a small, sharp defect tight.
    let detector = Detector::train(&pca::INFO)
        .images(folder.path())
        .size(64)
        .tiles(tiles)
        .map_smooth(1.0)
        .hold_out(0.3)
        .run(&Device::Cpu)?;

    let at = [width * 5 / 8, height / 3];
    let file = folder.path().join("large.png");
    web(width, height, 99, Some(at)).save(&file)?;
    let started = Instant::now();
    let located = detector.locate(&file)?;
    let seconds = started.elapsed().as_secs_f64();
    let found = located.regions.first().ok_or("the defect was not found")?;
    let memory = peak().map_or(String::new(), |mb| format!(", at most {mb:.0} MB in all"));
    println!(
        "{width}×{height}: anomalous {:?}, box {:?} around the defect at {at:?}, {seconds:.1} s{memory}",
        located.verdict.anomalous, found.bounds
    );
    assert_eq!(located.verdict.anomalous, Some(true));
    let [x, y, w, h] = found.bounds;
    for (got, want) in [(x, at[0]), (y, at[1]), (x + w, at[0] + DEFECT), (y + h, at[1] + DEFECT)] {
        assert!(got.abs_diff(want as usize) <= 8, "{:?}", found.bounds);
    }
    let good = detector.score(DynamicImage::ImageLuma8(web(width, height, 98, None)))?;
    assert!(good.score < located.verdict.score);
    Ok(())
}
