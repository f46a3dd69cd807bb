//! The commands that look and measure: their documents hold what they promise, bad usage ends with 2, and
//! nothing panics.

use std::process::{Command, Output};

use serde_json::Value;

fn ganomede(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganomede"));
    command.args(arguments).env_remove("GANOMEDE_DEVICE").env_remove("GANOMEDE_ADAPTER");
    let output = command.output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{arguments:?} panicked: {stderr}");
    output
}

/// Stdout of a command that must succeed.
fn text(arguments: &[&str]) -> String {
    let output = ganomede(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&text(&all)).expect("one JSON document on stdout")
}

/// Stderr of a command that must end with 2.
fn refused(arguments: &[&str]) -> String {
    let output = ganomede(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
    stderr
}

fn number(document: &Value, field: &str) -> f64 {
    document[field].as_f64().unwrap_or_else(|| panic!("{field} is {} in {document}", document[field]))
}

const SMALL: [&str; 6] = ["--size", "16", "--width", "4", "--batch", "2"];

fn small<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, &SMALL, more].concat()
}

/// What the product promises of `bench`.
fn check_timing(document: &Value, device: &str) {
    assert_eq!(document["device"], device, "{document}");
    assert!(document["adapter"].as_str().is_some_and(|name| !name.is_empty()), "{document}");
    let (least, median) = (number(document, "ms_min"), number(document, "ms_median"));
    assert!(least > 0.0 && least <= median, "{document}");
    assert!(number(document, "first_step_ms") > 0.0, "{document}");
    assert!(number(document, "images_per_second") > 0.0, "{document}");
    assert!(number(document, "gflops") >= 0.0, "{document}");
    for field in ["launches", "bytes_moved", "peak_bytes"] {
        assert!(document[field].as_u64().is_some_and(|count| count > 0), "{field} in {document}");
    }
}

#[test]
fn bench_times_steps_searches_and_operations_on_both_devices() {
    for device in ["cpu", "gpu"] {
        let on = ["--runs", "2", "--device", device];
        let step = json(&small(&["bench", "step", "--system", "dcgan"], &on));
        check_timing(&step, device);
        assert_eq!((&step["size"], &step["width"], &step["batch"]), (&16.into(), &4.into(), &2.into()));
        check_timing(&json(&small(&["bench", "search"], &on)), device);
        let conv = ["bench", "op", "conv", "--shape", "2x3x8x8", "--out-channels", "5"];
        let conv = json(&[&conv[..], &on].concat());
        check_timing(&conv, device);
        assert_eq!(conv["flop"], 2 * 2 * 5 * 4 * 4 * 3 * 4 * 4);
    }
}

#[test]
fn bench_runs_every_operation() {
    let operations = [
        "conv",
        "conv_transpose",
        "conv_weight",
        "gemm",
        "batch_norm",
        "batch_norm_grad",
        "pointwise",
        "tanh",
        "reduce",
        "moments",
        "transpose",
        "max_pool",
        "resize",
        "random",
        "adam",
    ];
    for operation in operations {
        let shape = if operation == "gemm" { "3x4x5" } else { "2x4x6x6" };
        let timing = json(&[
            "bench",
            "op",
            operation,
            "--shape",
            shape,
            "--runs",
            "1",
            "--device",
            "cpu",
            "--launches",
        ]);
        check_timing(&timing, "cpu");
        let launches = timing["by_launch"].as_array().expect("a list").len();
        assert_eq!(launches as u64, timing["launches"].as_u64().unwrap(), "{operation}");
        let shares: f64 =
            timing["by_kernel"].as_array().expect("a list").iter().map(|k| number(k, "share")).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{operation}: shares add up to {shares}");
    }
}

#[test]
fn bench_runs_whole_loops() {
    let cpu = ["--runs", "2", "--device", "cpu"];
    check_timing(&json(&small(&["bench", "train"], &cpu)), "cpu");
    let score = json(&small(&["bench", "score", "--search-steps", "3"], &cpu));
    check_timing(&score, "cpu");
    assert_eq!(score["search_steps"], 3);
}

#[test]
fn bench_growth_tells_what_an_image_costs_in_each_set() {
    let growth = json(&small(&["bench", "growth", "--images", "40,3,20"], &["--device", "cpu"]));
    assert_eq!(growth["batch"], 2, "{growth}");
    let sets = growth["sets"].as_array().expect("a row for each set");
    let column = |field: &str| sets.iter().map(|row| number(row, field)).collect::<Vec<_>>();
    assert_eq!(column("images"), [3.0, 20.0, 40.0], "ascending");
    assert_eq!(column("passes"), [2.0, 1.0, 1.0], "until a tenth of the largest has been seen");
    assert!(column("us_per_image").iter().all(|&us| us > 0.0), "{growth}");
    #[cfg(target_os = "linux")]
    assert!(column("process_peak_bytes").is_sorted(), "{growth}");
    let table = text(&small(&["bench", "growth", "--images", "4,8"], &["--device", "cpu"]));
    assert!(table.contains("µs/image") && table.lines().count() == 4, "{table}");
}

#[test]
fn gpu_variants_are_chosen_by_name() {
    let gemm = ["bench", "op", "gemm", "--shape", "8x8x8", "--runs", "1", "--variant"];
    check_timing(&json(&[&gemm[..], &["naive", "--device", "gpu"]].concat()), "gpu");
    let stderr = refused(&[&gemm[..], &["no-such", "--device", "gpu"]].concat());
    assert!(stderr.contains("naive"), "the variants there are: {stderr}");
    refused(&[&gemm[..], &["naive", "--device", "cpu"]].concat());
}

#[test]
fn bad_usage_ends_with_2() {
    for arguments in [
        &["bench"][..],
        &["bench", "op", "no-such"],
        &["bench", "op", "conv", "--shape", "0x1x2x3"],
        &["bench", "op", "conv", "--shape", "99999999x99999999x99999999x2"],
        &["bench", "op", "conv", "--shape", "2x3x4"],
        &["bench", "op", "conv", "--shape", "1x1x2x2", "--kernel", "9"],
        &["bench", "op", "conv", "--stride", "0"],
        &["bench", "op", "gemm", "--shape", "two"],
        &["bench", "step", "--size", "15"],
        &["bench", "step", "--batch", "0"],
        &["bench", "step", "--runs", "0"],
        &["bench", "train", "--launches", "--device", "cpu"],
        &["bench", "score", "--search-steps", "0", "--device", "cpu"],
        &["bench", "growth", "--images", "63", "--device", "cpu"],
        &["bench", "growth", "--images", "0"],
        &["bench", "growth", "--sweep", "batch=1,2"],
        &["explain"],
        &["explain", "no-such"],
        &["explain", "anogan", "--width", "0"],
        &["explain", "anogan", "--batch", "99999999999999999999"],
        &["explain", "anogan", "--dot", "-", "--json"],
        &["doctor", "--size", "5"],
        &["data"],
        &["data", "info"],
        &["data", "info", "no/such/place"],
        &["data", "synth", "no-such", "--out", "never"],
        &["data", "patches", "builtin:retina", "--out", "never"],
        &["devices", "--device", "no-such"],
    ] {
        let stderr = refused(arguments);
        assert!(!stderr.trim().is_empty(), "{arguments:?} says nothing");
    }
    assert!(!std::path::Path::new("never").exists());
}

#[test]
fn every_command_shows_an_example() {
    for command in ["bench", "data", "devices", "doctor", "explain"] {
        assert!(text(&[command, "--help"]).contains("Example"), "{command}");
    }
}

#[test]
fn explain_adds_up() {
    for program in ["step", "search"] {
        let report = json(&small(&["explain", "anogan", "--device", "cpu", "--program", program], &[]));
        let launches = report["launches"].as_array().expect("a list");
        assert_eq!(report["totals"]["launches"], launches.len());
        let flop: u64 = launches.iter().map(|l| l["flop"].as_u64().unwrap()).sum();
        assert_eq!(report["totals"]["flop"], flop);
        let moved: u64 = launches
            .iter()
            .map(|l| l["bytes_read"].as_u64().unwrap() + l["bytes_written"].as_u64().unwrap())
            .sum();
        assert_eq!(report["totals"]["bytes_moved"], moved);
        let memory = &report["memory"];
        let parts = ["state_bytes", "input_and_output_bytes", "temporary_bytes"]
            .map(|part| memory[part].as_u64().unwrap());
        assert_eq!(memory["peak_bytes"], parts.iter().sum::<u64>());
        assert!(memory["device_bytes"].as_u64().unwrap() >= memory["peak_bytes"].as_u64().unwrap());
        assert!(number(memory, "sharing_factor") >= 1.0, "{memory}");
        assert!(report["tape"]["nodes"].as_u64().unwrap() as usize >= launches.len());
        for launch in launches {
            assert!(launch["variant"].as_str().is_some_and(|v| !v.is_empty()), "{launch}");
            assert!(launch["shapes"].as_str().is_some_and(|v| v.contains('→')), "{launch}");
        }
    }
}

#[test]
fn explain_text_is_aligned() {
    let text = text(&small(&["explain", "dcgan", "--device", "cpu"], &[]));
    let heading = text.lines().position(|line| line.contains("GPU variant")).expect("a table");
    let lines: Vec<&str> = text.lines().skip(heading).take(20).collect();
    let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
    let kernels = column(lines[0], "kernel").expect("a column of kernels");
    for line in &lines[1..] {
        assert!(
            line.chars().nth(kernels - 1) == Some(' ') && line.chars().nth(kernels) != Some(' '),
            "{line}"
        );
    }
}

#[test]
fn explain_says_what_a_program_is() {
    for (program, words) in [
        ("step", "one training step"),
        ("search", "one step of the latent search"),
        ("score", "one pass from samples to scores"),
    ] {
        let system = if program == "score" { "ae" } else { "anogan" };
        let said = text(&small(&["explain", system, "--device", "cpu", "--program", program], &[]));
        assert!(said.lines().next().is_some_and(|line| line.contains(words)), "{program}: {said}");
    }
}

#[test]
fn explain_draws_what_is_read_in_place() {
    let step = small(&["explain", "anogan", "--device", "cpu"], &[]);
    let document = json(&step);
    let graph = text(&[&step[..], &["--dot", "-"]].concat());
    // Temporary values that a launch both reads and writes: the arrow comes from the launch that wrote them
    // before.
    let mut wrote = std::collections::HashMap::new();
    let mut updates = 0;
    for (index, launch) in document["launches"].as_array().expect("launches").iter().enumerate() {
        let names = |field: &str| -> Vec<String> {
            let names = launch[field].as_array().expect("names").iter();
            names.map(|name| name.as_str().expect("a name").to_owned()).collect()
        };
        let writes = names("writes");
        for name in names("reads").iter().filter(|name| writes.contains(name)) {
            if let Some(writer) = wrote.get(name) {
                let arrow = format!("  l{writer} -> l{index} [label=");
                let drawn = graph.lines().any(|line| line.starts_with(&arrow) && line.contains(", in place"));
                assert!(drawn, "launch {index} reads {name} of launch {writer} in place");
                updates += 1;
            }
        }
        writes.into_iter().for_each(|name| _ = wrote.insert(name, index));
    }
    assert!(updates > 0, "the step updates no value in place");
}

#[test]
fn explain_svg_has_a_document() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("networks.svg");
    let path = file.to_str().expect("UTF-8");
    let document = json(&["explain", "ganomaly", "--size", "32", "--svg", path]);
    assert_eq!((&document["system"], &document["svg"]), (&Value::from("ganomaly"), &Value::from(path)));
    let layers = document["layers"].as_array().expect("layers");
    assert!(layers.len() > 5, "{document}");
    assert!(
        layers.iter().all(|layer| layer["from"].as_array().is_some_and(|from| !from.is_empty())),
        "{document}"
    );
    assert!(std::fs::read_to_string(&file).expect("the picture").starts_with("<svg"));
    let both = refused(&["explain", "ganomaly", "--svg", "-", "--json"]);
    assert!(both.contains("stdout"), "{both}");
}

#[test]
fn explain_draws_a_graph_that_dot_reads() {
    let graph = text(&small(&["explain", "anogan", "--device", "cpu", "--dot", "-"], &[]));
    assert!(graph.starts_with("digraph \"") && graph.trim_end().ends_with('}'));
    assert!(graph.contains("newrank=true"), "without it Graphviz finds no layout: trouble in init_rank");
    let opened = graph.matches('{').count();
    assert_eq!(opened, graph.matches('}').count(), "braces balance");
    assert!(opened > 5, "layers are framed");
    let mut edges = 0;
    for line in graph.lines().map(str::trim) {
        let quotes = line.matches('"').count();
        assert!(quotes.is_multiple_of(2), "a quote is open in {line}");
        let Some((from, rest)) = line.split_once(" -> ") else { continue };
        let to = rest.trim_end_matches(';').split(' ').next().expect("a node");
        for node in [from, to] {
            assert!(graph.contains(&format!("{node} [label=")), "{node} is declared");
        }
        edges += 1;
    }
    assert!(edges > 20, "{edges} edges");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("graph.dot");
    text(&small(&["explain", "anogan", "--device", "cpu", "--dot", file.to_str().expect("UTF-8")], &[]));
    assert_eq!(std::fs::read_to_string(file).expect("written").trim_end(), graph.trim_end());
}

#[test]
fn devices_lists_adapters_and_the_cpu() {
    let report = json(&["devices"]);
    assert!(report["cpu"]["threads"].as_u64().is_some_and(|n| n > 0), "{report}");
    let adapters = report["adapters"].as_array().expect("a list");
    assert!(!adapters.is_empty(), "these tests need an adapter; apt-get install mesa-vulkan-drivers");
    for (index, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter["device"], format!("gpu:{index}"));
        assert!(number(&adapter["limits"], "max_storage_buffer_binding_size") > 0.0);
        assert!(adapter["software"].is_boolean() && adapter["features"].is_array());
    }
    let text = text(&["devices"]);
    assert!(text.contains("gpu:0") && text.contains("cpu"), "{text}");
}

#[test]
fn doctor_finds_this_machine_healthy_and_a_missing_adapter_broken() {
    let report = json(&["doctor", "--size", "16", "--width", "4"]);
    assert_eq!(report["healthy"], true, "{report}");
    let devices = report["devices"].as_array().expect("a list");
    assert!(devices.len() >= 2, "the CPU and an adapter: {report}");
    for device in devices {
        for test in device["self_test"].as_array().expect("a list") {
            assert_eq!(test["passed"], true, "{test}");
        }
        for fit in device["largest_batch"].as_array().expect("a list") {
            assert!(number(fit, "largest_batch") >= 1.0, "{fit}");
        }
    }
    let missing = ganomede(&["doctor", "--size", "16", "--width", "4", "--device", "gpu:99"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("BROKEN"));
}

#[test]
fn data_goes_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let scans = place("scans");
    let synth = ["data", "synth", "retina", "--out", &scans, "--train", "6", "--test", "4", "--size", "32"];
    let made = json(&synth);
    assert_eq!((&made["train"], &made["test"], &made["masks"]), (&6.into(), &4.into(), &2.into()));
    let again = refused(&synth);
    assert!(again.contains("scans"), "an existing folder is not overwritten: {again}");

    let info = json(&["data", "info", &scans, "--all"]);
    assert_eq!(info["layout"], "mvtec");
    assert_eq!((&info["splits"][0]["count"], &info["splits"][1]["count"]), (&6.into(), &4.into()));
    assert!(text(&["data", "info", "--data", &scans]).contains("32×32"));

    let patches = place("patches");
    let cut = json(&["data", "patches", &scans, "--out", &patches, "--count", "9", "--patch", "16"]);
    assert_eq!(cut["train"], 9);
    assert_eq!(std::fs::read_dir(&patches).expect("a folder").count(), 9);

    let copy = place("copy");
    let converted = json(&["data", "convert", &scans, "--out", &copy, "--train", "3"]);
    assert_eq!((&converted["train"], &converted["test"]), (&3.into(), &4.into()));
}
