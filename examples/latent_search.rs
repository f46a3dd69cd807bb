//! AnoGAN's search step by step (Schlegl et al. 2017, §2.2): which scan of the generator is most like the
//! query? `cargo run --release --example latent_search`

use std::path::Path;

use ganomede::detect::Detector;
use ganomede::device::Device;
use ganomede::models::anogan;
use ganomede::models::scorer::{ScoreConfig, Scorer, Watch};
use ganomede::models::search::SearchConfig;
use ganomede_datasets::{Dataset, OpenOptions, Preprocess, Split};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = "builtin:retina:train=200,test=8";
    let search = SearchConfig { steps: 100, ..SearchConfig::default() };
    let score = ScoreConfig { search, ..ScoreConfig::default() };
    let training = Detector::train(&anogan::INFO).images(data).size(16).width(8).batch(16).hold_out(0.0);
    let detector = training.steps(100).score(score.clone()).run(&Device::Cpu)?;

    let preprocess = Preprocess::new(16);
    let set = Dataset::open(data, &OpenOptions { preprocess, ..OpenOptions::default() })?;
    let query = set.load(Split::Test, 0)?.image.pixels;
    let mut scorer = Scorer::new(&Device::Cpu, detector.model(), Path::new("model"), &score, 1)?;
    let mut losses = vec![];
    let mut see = |step: usize, found: &[ganomede::models::scorer::Found]| {
        let found = &found[0];
        let part = |name| found.part(name).unwrap_or(f32::NAN);
        println!(
            "step {step:>3}: loss {:.3} = residual {:.3}, discrimination {:.3}; |z| {:.2}",
            found.score,
            part("residual"),
            part("discrimination"),
            found.z.iter().map(|z| z * z).sum::<f32>().sqrt()
        );
        losses.push(found.score);
    };
    scorer.score(&query, Some(Watch { stages: &[0, 1, 10, 50], see: &mut see }))?;
    assert!(losses.len() == 5 && losses[4] < losses[0], "the search goes down: {losses:?}");
    Ok(())
}
