//! Runs the built `ganomede` as a user does, and judges how it ends.
#![allow(dead_code, reason = "every integration test compiles its own copy and uses a part of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use ganomede::models::file::ModelFile;
use serde_json::Value;

/// Settings of the smallest training that means anything; a test adds what it is about, or gives one of these
/// anew.
pub(crate) const TINY: [&str; 12] = [
    "--size",
    "16",
    "--width",
    "4",
    "--latent",
    "8",
    "--batch",
    "8",
    "--search-steps",
    "5",
    "--val-fraction",
    "0.2",
];
/// Data to go with them: 40 training images, of which 32 are trained on, and 12 test images.
pub(crate) const RETINA: &str = "builtin:retina:train=40,test=12";

/// The program on the CPU device, whatever the caller's environment says.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganomede"));
    command.env("GANOMEDE_DEVICE", "cpu");
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Everything on stdout.
    pub(crate) stdout: String,
    /// Everything on stderr.
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// The JSON document on stdout of a run that went well.
    pub(crate) fn json(&self) -> Value {
        self.well();
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// Asserts exit code 0 and no panic.
    pub(crate) fn well(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Asserts that the run was refused as the product promises: exit code, nothing on stdout, no panic, and
    /// one paragraph of error that holds every fragment. Returns the paragraph.
    pub(crate) fn refused(&self, code: i32, fragments: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "", "stdout of a failed run");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let start =
            self.stderr.rfind("error: ").unwrap_or_else(|| panic!("no `error: ` in: {}", self.stderr));
        let paragraph = self.stderr[start..].trim_end();
        assert!(!paragraph.contains("\n\n"), "more than one paragraph: {paragraph}");
        assert!(paragraph.len() < 1200, "{} characters are no paragraph: {paragraph}", paragraph.len());
        for fragment in fragments {
            assert!(paragraph.contains(fragment), "`{fragment}` is not in: {paragraph}");
        }
        paragraph.to_owned()
    }
}

/// Runs the program with these arguments on the CPU device.
pub(crate) fn ganomede<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    command().args(arguments).output().expect("the program starts").into()
}

/// `train anogan` with [`TINY`], the data and `more`.
pub(crate) fn train(data: &str, out: &Path, more: &[&str]) -> Ended {
    train_command(data, out, more).output().expect("the program starts").into()
}

/// As [`train`], not yet started.
pub(crate) fn train_command(data: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = command();
    let kept = TINY.chunks(2).filter(|pair| !more.iter().any(|m| m.starts_with(pair[0])));
    command.args(["train", "anogan", "--data", data, "--out", text(out)]).args(kept.flatten()).args(more);
    command
}

/// The program under a limit on the size of the files that it writes, in blocks of 512 bytes: writing beyond
/// fails as on a full disk.
pub(crate) fn with_file_limit(blocks: u32, arguments: &[&str]) -> Ended {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_ganomede")]).args(arguments).env("GANOMEDE_DEVICE", "cpu");
    shell.output().expect("sh starts").into()
}

/// Waits until a running child listens for Ctrl-C: from then on the program handles the signal.
#[cfg(target_os = "linux")]
pub(crate) fn wait_until_listening(child: &mut Child) {
    const INTERRUPT: u64 = 1 << (2 - 1);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        if caught
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|m| m & INTERRUPT != 0)
        {
            return;
        }
        if let Some(status) = child.try_wait().expect("the child is ours") {
            panic!("the program ended ({status}) before it listened");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal by its name, with the shell's own `kill`: a bare system has no program of that name.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.expect("sh starts").success());
}

/// Waits until a running child has written a file.
pub(crate) fn wait_for(child: &mut Child, path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            panic!("the program ended ({status}) before it wrote {}", path.display());
        }
        assert!(started.elapsed().as_secs() < 300, "{} is not written", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// An empty folder of this test, under the target folder and the name of the test's file; what an earlier run
/// left there is gone.
#[track_caller]
pub(crate) fn folder(name: &str) -> PathBuf {
    let file = Path::new(std::panic::Location::caller().file()).file_stem().expect("a file has a name");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old test folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("a test folder can be made");
    folder
}

/// Names of all files below a folder, sorted, relative to it.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut pending = vec![folder.to_path_buf()];
    while let Some(at) = pending.pop() {
        for item in
            std::fs::read_dir(&at).expect("a folder of this test").map(|i| i.expect("an entry").path())
        {
            match item.is_dir() {
                true => pending.push(item),
                false => found.push(text(item.strip_prefix(folder).expect("below the folder")).to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// A gray 8-bit PNG with a pattern that depends on `seed`.
pub(crate) fn write_gray(path: &Path, width: u32, height: u32, seed: u32) {
    let pixel = |x: u32, y: u32| image::Luma([((x * 7 + y * (3 + seed % 5) + seed * 31) % 256) as u8]);
    image::GrayImage::from_fn(width, height, pixel).save(path).expect("a PNG can be written");
}

/// A folder of `count` gray PNGs of 20×20 pixels, `00.png` and so on.
pub(crate) fn write_grays(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).expect("a folder can be made");
    (0..count).for_each(|i| write_gray(&folder.join(format!("{i:02}.png")), 20, 20, i));
}

/// Asserts that two model files hold the same tensors, bit for bit.
pub(crate) fn assert_same_tensors(a: &Path, b: &Path) {
    let load = |path: &Path| ModelFile::load(path).unwrap_or_else(|e| panic!("{e}"));
    let (a, b) = (load(a).tensors, load(b).tensors);
    let names = |tensors: &[ganomede::models::file::NamedTensor]| {
        let mut names: Vec<_> = tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        names.sort();
        names
    };
    assert_eq!(names(&a), names(&b));
    assert!(!a.is_empty());
    for x in &a {
        let y = b.iter().find(|t| t.name == x.name).expect("names were compared");
        let differing = x.values.iter().zip(&y.values).filter(|(p, q)| p.to_bits() != q.to_bits()).count();
        assert_eq!(differing, 0, "'{}' differs in {differing} of {} values", x.name, x.values.len());
    }
}

/// Asserts a field of a JSON document by its type, with a path such as `threshold.value` or `images.0.path`.
pub(crate) fn field<'a>(document: &'a Value, path: &str, is: fn(&Value) -> bool) -> &'a Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    let value = document.pointer(&pointer).unwrap_or_else(|| panic!("field {path} is missing in {document}"));
    assert!(is(value), "field {path} has the wrong type: {value}");
    value
}

/// A number of a document.
pub(crate) fn number(document: &Value, field: &str) -> f64 {
    document[field].as_f64().unwrap_or_else(|| panic!("{field} is {} in {document}", document[field]))
}

/// AUROC by its definition: the share of pairs in which the anomalous score is above the normal one, ties
/// counting half.
pub(crate) fn auroc(scored: &[(f64, bool)]) -> f64 {
    let of = |truth: bool| scored.iter().filter(move |s| s.1 == truth).map(|s| s.0);
    let pair = |a: f64, n: f64| if a > n { 1.0 } else { 0.5 * f64::from(a == n) };
    let pairs: Vec<f64> = of(true).flat_map(|a| of(false).map(move |n| pair(a, n))).collect();
    assert!(!pairs.is_empty(), "both truths are there");
    pairs.iter().sum::<f64>() / pairs.len() as f64
}

/// Asserts that the AUROC of a document is that of the scores which it lists.
pub(crate) fn assert_auroc_of_samples(document: &Value) -> f64 {
    let samples = document["images"].as_array().unwrap();
    let scored: Vec<_> =
        samples.iter().map(|s| (number(s, "score"), s["anomalous"].as_bool().unwrap())).collect();
    let count = |field: &str| document[field].as_u64().unwrap() as usize;
    assert_eq!(scored.len(), count("n_normal") + count("n_anomalous"));
    let (found, want) = (number(document, "auroc"), auroc(&scored));
    assert!((found - want).abs() < 1e-12, "AUROC {found}, and {want} of the scores");
    found
}
