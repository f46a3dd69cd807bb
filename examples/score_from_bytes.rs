//! A detector trained, saved, loaded from bytes and asked about one image, in a dozen lines.
//! `cargo run --release --example score_from_bytes`

use ganomede::detect::Detector;
use ganomede::device::Device;
use ganomede::models::ganomaly;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("scans-{}.safetensors", std::process::id()));
    let training = Detector::train(&ganomaly::INFO).images("builtin:retina:train=80,test=8").size(32);
    training.width(8).steps(20).run(&Device::Cpu)?.save(&file)?;
    let detector = Detector::from_bytes(&std::fs::read(&file)?, &Device::Cpu)?;
    std::fs::remove_file(&file)?;
    let image = image::DynamicImage::new_luma8(320, 240);
    let verdict = detector.score(image)?;
    println!(
        "score {:.3}, threshold {:?}, anomalous {:?}",
        verdict.score, verdict.threshold, verdict.anomalous
    );
    Ok(())
}
