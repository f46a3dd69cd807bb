//! Memory does not grow with the number of images.

#[path = "common/binary.rs"]
mod binary;

use binary::{folder, train_command};

/// Peak resident memory in kB of a short training on `images` built-in scans. Linux keeps the peak, so the last look
/// before the process ends is near enough.
#[cfg(target_os = "linux")]
fn peak_kb(images: usize) -> u64 {
    let out = folder(&format!("images-{images}")).join("m.safetensors");
    let data = format!("builtin:retina:{images}");
    let more = ["--size", "32", "--steps", "30", "--search-steps", "1", "--checkpoint-every", "0"];
    let mut command = train_command(&data, &out, &more);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let end = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kb.unwrap_or(0));
        if let Some(end) = child.try_wait().unwrap() {
            break end;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(end.success());
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn training_on_a_hundred_times_the_images_takes_the_same_memory() {
    let (few, many) = (peak_kb(1000), peak_kb(100_000));
    assert!(few > 1000, "{few} kB is no reading");
    assert!(many as f64 <= 1.1 * few as f64, "{few} kB for 1000 images, {many} kB for 100000");
}
