//! Time to score images that lie in memory: the rows of `scoring.py`.
//!
//! `cargo bench --bench scoring -- MODEL [batch] [runs]`, a batch of 64 and 20 runs unless said; prints a
//! JSON document.

use ganomede::detect::Detector;
use ganomede::device::Device;
use image::{DynamicImage, GrayImage, Luma};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let Some(model) = arguments.first() else {
        return Ok(()); // `cargo bench` without a model has nothing to time.
    };
    let number = |at: usize, otherwise: usize| match arguments.get(at).map(|word| word.parse::<usize>()) {
        None => Ok(otherwise),
        Some(Ok(number)) if number > 0 => Ok(number),
        Some(_) => Err(format!("{} is no number of images or runs", arguments[at])),
    };
    let (batch, runs) = (number(1, 64)?, number(2, 20)?);
    let detector = Detector::load(model, &Device::Cpu)?;
    let size = detector.model().header.config.size;
    let images: Vec<DynamicImage> = (0..batch)
        .map(|i| {
            let gray = |x, y| Luma([((x * 7 + y * 13 + i as u32 * 31) % 251) as u8]);
            GrayImage::from_fn(size.width as u32, size.height as u32, gray).into()
        })
        .collect();
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs + 2 {
        let start = Instant::now();
        let verdicts = detector.score_many(&images)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if verdicts.len() != batch {
            return Err(format!("{} verdicts of {batch} images", verdicts.len()).into());
        }
        if run >= 2 {
            times.push(ms);
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{{\"ms_min\": {:.4}, \"ms_median\": {:.4}}}", times[0], times[runs / 2]);
    Ok(())
}
