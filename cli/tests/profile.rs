//! Measuring: profiles add up, traces are well formed, sweeps make tables and plots, shaders from disk are
//! used and watched, and bad input ends with 2.

use crate::binary;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::binary::{command, ganomede, text};
use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Clock, Device, Selector};
use ganomede::program::compile;
use ganomede::tape::{States, Tape};
use serde_json::Value;

const SMALL: [&str; 8] = ["--size", "16", "--width", "4", "--batch", "2", "--runs", "3"];

fn profile(more: &[&str]) -> Value {
    ganomede([&["profile", "anogan", "--json"], &SMALL[..], more].concat()).json()
}

fn number(document: &Value, field: &str) -> f64 {
    document[field].as_f64().unwrap_or_else(|| panic!("{field} is {} in {document}", document[field]))
}

fn rows<'a>(document: &'a Value, field: &str) -> &'a Vec<Value> {
    document[field].as_array().unwrap_or_else(|| panic!("no list {field}"))
}

fn sum(document: &Value, list: &str, field: &str) -> f64 {
    rows(document, list).iter().map(|row| number(row, field)).sum()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-6)
}

fn check_peaks(document: &Value) {
    for field in ["gflops", "gbytes_per_second", "launch_us"] {
        assert!(number(&document["peaks"], field) > 0.0, "{}", document["peaks"]);
    }
}

#[test]
fn launches_are_timed_by_either_clock_and_compute_the_same() {
    let tape = Tape::new();
    let x = tape.input("x", &[64, 64]);
    let product = x.matmul(x).tanh();
    tape.output("y", product.matmul(x) + product.sum_all());
    let program = compile(&tape.finish().unwrap()).unwrap();
    for selector in [Selector::Cpu, Selector::Gpu] {
        let device = Device::open(selector, GpuOptions { checked: true, ..GpuOptions::default() }).unwrap();
        let store = device.store(&States::new(), 0).unwrap();
        let mut executable = device.load(&program, &store).unwrap();
        let values: Vec<f32> = (0..64 * 64).map(|i| (i % 17) as f32 / 64.0).collect();
        executable.write("x", &values).unwrap();
        executable.run(1).unwrap();
        let expected = executable.read("y").unwrap();
        for mut clock in [device.clock().unwrap(), Clock::Wall { reason: None }] {
            let replay = executable.replay_timed(&mut clock).unwrap();
            assert_eq!(replay.launches.len(), program.launches.len());
            assert_eq!(replay.submissions.is_empty(), selector == Selector::Cpu);
            for spans in [&replay.launches, &replay.submissions] {
                assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "{spans:?}");
                assert!(spans.iter().all(|s| s.start <= s.end && s.end <= replay.wall), "{spans:?}");
            }
            assert_eq!(executable.read("y").unwrap(), expected);
        }
        let times = executable.profile(2, &mut Clock::Wall { reason: None }).unwrap();
        assert!(times.len() == program.launches.len() && times.iter().all(|time| !time.is_zero()));
    }
}

#[test]
fn rows_add_up_on_both_devices() {
    for device in ["cpu", "gpu"] {
        for program in ["step", "search"] {
            let document = profile(&["--device", device, "--program", program, "--by-shape"]);
            assert_eq!((&document["device"], &document["program"]), (&device.into(), &program.into()));
            assert_eq!(document["system"], "anogan");
            check_peaks(&document);
            let launches = sum(&document, "by_launch", "ms");
            for list in ["by_kernel", "by_shape", "lanes"] {
                assert!(close(sum(&document, list, "ms"), launches), "{device} {program}: {list}");
                assert!(close(sum(&document, list, "share"), 1.0), "{device} {program}: {list}");
                assert!(close(sum(&document, list, "count"), rows(&document, "by_launch").len() as f64));
                assert!(close(sum(&document, list, "flop"), number(&document, "flop")));
                assert!(close(sum(&document, list, "bytes_moved"), number(&document, "bytes_moved")));
            }
            assert!(close(launches + sum(&document, "rest", "ms"), number(&document, "total_ms")));
            assert!(number(&document, "ms_median") > 0.0 && launches > 0.0);
            let names: Vec<_> =
                rows(&document, "rest").iter().map(|row| row["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["allocation", "compilation", "upload", "submission", "idle"]);
            for row in rows(&document, "by_launch") {
                assert!(["compute", "memory", "launch"].contains(&row["bound"].as_str().unwrap()), "{row}");
                assert!(number(row, "peak_share") >= 0.0 && number(row, "gflops") >= 0.0, "{row}");
                assert!(row["shapes"].as_str().is_some_and(|s| s.contains('→')), "{row}");
                assert_eq!(row["variant"] == "native", device == "cpu", "{row}");
            }
        }
    }
}

#[test]
fn lanes_are_the_updates_that_launches_work_for() {
    let names = |document: &Value| {
        rows(document, "lanes").iter().map(|row| row["lane"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let step = profile(&[]);
    assert_eq!(names(&step), ["discriminator step", "generator step"]);
    assert_eq!(names(&profile(&["--program", "search"])), ["z-step"]);
    for row in rows(&step, "by_launch") {
        let expected = match row["scope"].as_str().unwrap() {
            "adam_d" => "discriminator step",
            "adam_g" | "∇generator.up1" | "∇generator.output" => "generator step",
            _ => continue,
        };
        assert_eq!(row["lane"], expected, "{row}");
    }
}

#[test]
fn rows_come_in_the_order_asked_for() {
    for (order, field, ascending) in [
        ("time", "ms", false),
        ("flops", "flop", false),
        ("bytes", "bytes_moved", false),
        ("share", "peak_share", true),
    ] {
        let document = profile(&["--sort", order, "--by-shape"]);
        for list in ["by_launch", "by_kernel", "by_shape"] {
            let values: Vec<f64> = rows(&document, list).iter().map(|row| number(row, field)).collect();
            let in_order = |pair: &[f64]| if ascending { pair[0] <= pair[1] } else { pair[0] >= pair[1] };
            assert!(values.windows(2).all(in_order), "{order}: {list}: {values:?}");
        }
    }
    let indices: Vec<u64> =
        rows(&profile(&[]), "by_launch").iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted() && indices.len() > 50);
}

#[test]
fn the_table_has_a_row_for_each_kernel_and_for_what_is_none() {
    let ended = ganomede([&["profile", "dcgan", "--device", "gpu"], &SMALL[..]].concat());
    let lines: Vec<&str> = ended.well().stdout.lines().collect();
    for start in [
        "conv_transpose ",
        "gemm ",
        "moments ",
        "allocation ",
        "upload ",
        "submission ",
        "idle ",
        "generator step ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "no row '{start}' in\n{}", ended.stdout);
    }
    let clock =
        lines.iter().find(|line| line.trim_start().starts_with("clock")).expect("a line on the clock");
    assert!(clock.contains("timestamps") || clock.contains("WALL CLOCK"), "{clock}");
}

/// Events of a trace by thread, with the threads' names.
fn events(path: &Path) -> BTreeMap<String, Vec<Value>> {
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let events = rows(&document, "traceEvents");
    let mut names = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] == "M" && e["name"] == "thread_name") {
        names.insert(event["tid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap().to_owned());
    }
    let mut lanes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] == "X") {
        assert_eq!(event["pid"], 1);
        lanes.entry(names[&event["tid"].as_u64().unwrap()].clone()).or_default().push(event.clone());
    }
    lanes
}

#[test]
fn traces_have_a_lane_for_each_step_and_no_overlap() {
    let folder = tempfile::tempdir().unwrap();
    for device in ["cpu", "gpu"] {
        let path = folder.path().join(format!("{device}.json"));
        let document = profile(&["--device", device, "--trace", text(&path)]);
        let lanes = events(&path);
        let names: Vec<&str> = lanes.keys().map(String::as_str).collect();
        assert_eq!(names, ["discriminator step", "generator step", "host"]);
        let mut launches = vec![];
        for (lane, events) in &lanes {
            let mut free = 0.0;
            for event in events {
                let (start, length) = (number(event, "ts"), number(event, "dur"));
                // Times are whole nanoseconds in floats of microseconds.
                assert!(start >= free - 1e-6 && length >= 0.0, "{lane}: {event} begins before {free}");
                free = start + length;
                launches.extend(event["args"]["index"].as_u64());
            }
        }
        launches.sort_unstable();
        assert_eq!(launches, (0..rows(&document, "by_launch").len() as u64).collect::<Vec<_>>());
        let host: Vec<&str> = lanes["host"].iter().map(|event| event["name"].as_str().unwrap()).collect();
        assert!(host.contains(&"record") && host.contains(&"allocation") && host.contains(&"upload"));
        assert_eq!(host.contains(&"submission"), device == "gpu", "{host:?}");
    }
}

#[test]
fn bench_tells_the_share_of_the_peaks() {
    for device in ["cpu", "gpu"] {
        let timing = ganomede([&["bench", "step", "--json", "--device", device], &SMALL[..]].concat()).json();
        check_peaks(&timing);
        for field in ["compute_share", "memory_share", "peak_share"] {
            assert!(number(&timing, field) > 0.0, "{field}");
        }
        let peak = number(&timing["peaks"], "gflops");
        assert!(close(number(&timing, "compute_share"), number(&timing, "gflops") / peak));
    }
}

#[test]
fn sweeps_make_tables_and_plots() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, plot) = (folder.path().join("sweep.csv"), folder.path().join("sweep.svg"));
    let sweep = ["bench", "search", "--sweep", "batch=1,2,4", "--sweep", "width=4,8"];
    let more = ["--size", "16", "--runs", "2", "--csv", text(&csv), "--plot", text(&plot), "--json"];
    let timings = ganomede([&sweep[..], &more].concat()).json();
    let timings = timings.as_array().expect("a list");
    let points: Vec<_> =
        timings.iter().map(|t| (t["batch"].as_u64().unwrap(), t["width"].as_u64().unwrap())).collect();
    assert_eq!(points, [(1, 4), (1, 8), (2, 4), (2, 8), (4, 4), (4, 8)]);
    let table = std::fs::read_to_string(&csv).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 7);
    let column = lines[0].split(',').position(|name| name == "ms_median").expect("a column of medians");
    for (line, timing) in lines[1..].iter().zip(timings) {
        // Only the adapter's name is quoted; it stands before.
        let (_, rest) = line.rsplit_once("\",").expect("a quoted name");
        let from_end = lines[0].split(',').count() - column;
        let value = rest.split(',').rev().nth(from_end - 1).unwrap();
        assert_eq!(value.parse::<f64>().unwrap(), number(timing, "ms_median"));
    }
    let plot = std::fs::read_to_string(&plot).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("width 4") && plot.contains("width 8"), "{plot}");
    let printed =
        ganomede(["bench", "step", "--size", "16", "--width", "4", "--runs", "1", "--sweep", "batch=1,2"]);
    assert_eq!(printed.well().stdout.lines().count(), 3, "CSV goes to stdout: {}", printed.stdout);
}

/// A folder with a copy of one shader, edited.
fn edited(folder: &Path, name: &str, edit: impl Fn(&str) -> String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shaders").join(name);
    let before = std::fs::read_to_string(source).unwrap();
    let after = edit(&before);
    std::fs::write(folder.join(name), after).unwrap();
}

const BENCH_POINTWISE: [&str; 10] =
    ["bench", "op", "pointwise", "--shape", "2x3x8x8", "--runs", "1", "--device", "gpu", "--json"];

/// The leaky ReLU, three times as large as it should be.
fn wrong(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("fn op_leaky_relu")).expect("a leaky ReLU");
    text.replace(
        line,
        "fn op_leaky_relu(x: f32, slope: f32) -> f32 { return 3.0 * select(slope * x, x, x > 0.0); }",
    )
}

#[test]
fn shaders_from_disk_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let with = || {
        let shaders = ["--shaders", text(folder.path())];
        ganomede([&BENCH_POINTWISE[..], &shaders].concat())
    };
    edited(folder.path(), "expr.wgsl", str::to_owned);
    let same = with().json();
    assert_eq!(
        (&same["shaders"]["changed"], &same["shaders"]["difference"]),
        (&Value::Array(vec![]), &0.0.into())
    );
    edited(folder.path(), "expr.wgsl", wrong);
    let other = with().json();
    assert_eq!(other["shaders"]["changed"][0], "expr.wgsl");
    assert!((number(&other["shaders"], "difference") - 2.0).abs() < 1e-3, "{}", other["shaders"]);
    // The environment says the same.
    let named = command().args(BENCH_POINTWISE).env("GANOMEDE_SHADERS", folder.path()).output().unwrap();
    assert_eq!(binary::Ended::from(named).json()["shaders"]["changed"][0], "expr.wgsl");
    let profiled = profile(&["--device", "gpu", "--shaders", text(folder.path())]);
    assert_eq!(profiled["shaders"]["changed"][0], "expr.wgsl");
    // A shader that does not compile is named, with what is wrong about it.
    edited(folder.path(), "pointwise_quads.wgsl", |text| text.replace("fn main", "fn main main"));
    let ended = with();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
    for words in ["pointwise_quads.wgsl", "fn main main"] {
        assert!(ended.stderr.contains(words), "'{words}' is not in: {}", ended.stderr);
    }
}

/// Ends the child when a test ends, however it does.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watched_folder_is_measured_again_when_a_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    edited(folder.path(), "expr.wgsl", str::to_owned);
    let mut watch = command();
    watch.args(BENCH_POINTWISE).args(["--watch", "--shaders", text(folder.path())]);
    let mut child = Watching(watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let documents = serde_json::Deserializer::from_reader(BufReader::new(child.0.stdout.take().unwrap()));
    let documents = background(documents.into_iter::<Value>().map(Result::unwrap));
    let logs = background(BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap));
    let wait = |words: &str| while !logs.recv_timeout(PATIENCE).expect(words).contains(words) {};
    let first = documents.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first["shaders"]["difference"], 0.0);
    wait("waiting for a change");
    edited(folder.path(), "expr.wgsl", |text| text.replace("fn op_leaky_relu", "fn op_leaky_relu op_"));
    // The library stands before the text of the kernel that needs it.
    wait("pointwise_quads.wgsl");
    wait("the version before stands");
    edited(folder.path(), "expr.wgsl", wrong);
    let second = documents.recv_timeout(PATIENCE).unwrap();
    assert!(number(&second["shaders"], "difference") > 1.0, "{}", second["shaders"]);
}

/// A program that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads on another thread, so that waiting for what never comes ends.
fn background<T: Send + 'static>(items: impl Iterator<Item = T> + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || items.for_each(|item| drop(sender.send(item))));
    receiver
}

#[test]
fn bad_input_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    for name in ["empty", "unknown", "binary"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("unknown/convolution.wgsl"), "").unwrap();
    std::fs::write(at("binary/conv.wgsl"), [0xff, 0xfe, 0x00]).unwrap();
    let (empty, unknown, binary, missing) = (at("empty"), at("unknown"), at("binary"), at("missing"));
    let step = ["bench", "step", "--size", "16", "--width", "4", "--batch", "1", "--runs", "1"];
    let gpu = |folder: &Path| {
        let more = ["--device", "gpu", "--shaders"].map(str::to_owned);
        [step.map(str::to_owned).to_vec(), more.to_vec(), vec![text(folder).to_owned()]].concat()
    };
    let on_step =
        |more: &[&str]| [&step[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let plain = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let cases: Vec<(Vec<String>, &str)> = vec![
        (plain(&["profile"]), "SYSTEM"),
        (plain(&["profile", "no-such"]), "no-such"),
        (plain(&["profile", "anogan", "--size", "15"]), "15"),
        (plain(&["profile", "anogan", "--runs", "0"]), "0"),
        (plain(&["profile", "anogan", "--sort", "name"]), "name"),
        (plain(&["profile", "anogan", "--program", "train"]), "train"),
        (plain(&["profile", "anogan", "--watch"]), "--shaders"),
        (plain(&["profile", "anogan", "--shaders", text(&empty)]), "--device gpu"),
        (on_step(&["--shaders", text(&empty)]), "--device gpu"),
        (gpu(&empty), "conv.wgsl"),
        (gpu(&unknown), "convolution.wgsl"),
        (gpu(&binary), "conv.wgsl"),
        (gpu(&missing), "missing"),
        (on_step(&["--sweep", "batch"]), "batch=1,8"),
        (on_step(&["--sweep", "depth=1,2"]), "depth"),
        (on_step(&["--sweep", "batch=1,1"]), "twice"),
        (on_step(&["--sweep", "batch=1", "--sweep", "batch=2"]), "twice"),
        (on_step(&["--sweep", "size=16,15"]), "15"),
        (on_step(&["--plot", text(&at("plot.svg"))]), "--sweep"),
        (plain(&["bench", "op", "gemm", "--sweep", "batch=1"]), "bench step"),
    ];
    for (arguments, fragment) in cases {
        let ended = ganomede(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(fragment), "'{fragment}' is not in: {}", ended.stderr);
        assert!(
            ended.stdout.is_empty() && !ended.stderr.contains("panicked"),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
    let nowhere = at("binary/conv.wgsl/trace.json");
    ganomede([&["profile", "anogan", "--trace", text(&nowhere)], &SMALL[..]].concat())
        .refused(1, &["conv.wgsl"]);
}
