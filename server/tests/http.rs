//! The server as its clients meet it, over real connections.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ganomede::detect::{DetectError, Detector};
use ganomede::device::{Backend, Device, DeviceError, Loaded, Pending, Store, Stored};
use ganomede::models::file::{DataInfo, ModelFile, TileInfo};
use ganomede::models::scorer::Tiling;
use ganomede::models::{ae, anogan, pca};
use ganomede::program::{Launch, Program, StateId};
use ganomede_server::{Options, ServeError, Server, Source};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma};
use serde_json::{Value, json};

/// A server on a free port, stopped and waited for when it is dropped.
struct Served {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
    events: Arc<Mutex<Vec<Value>>>,
    folder: tempfile::TempDir,
}

/// Trains a model of scans, once for each seed.
fn trained(path: &Path, seed: u64) {
    let training = Detector::train(&pca::INFO).images("builtin:retina:train=60,test=4").size(16).latent(4);
    training.hold_out(0.4).seed(seed).run(&Device::Cpu).unwrap().save(path).unwrap();
}

fn cpu(path: &Path) -> Result<Detector, DetectError> {
    Detector::load(path, &Device::Cpu)
}

fn options() -> Options {
    Options { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), ..Options::default() }
}

fn serve_by(
    options: Options,
    load: impl Fn(&Path) -> Result<Detector, DetectError> + Send + Sync + 'static,
    make: impl Fn(&Path),
) -> Served {
    serve_seen(options, load, make, |_| {})
}

/// `see` is told what is logged, on the thread that logs it.
fn serve_seen(
    options: Options,
    load: impl Fn(&Path) -> Result<Detector, DetectError> + Send + Sync + 'static,
    make: impl Fn(&Path),
    see: impl Fn(&Value) + Send + Sync + 'static,
) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.safetensors");
    make(&path);
    let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
    let log = {
        let events = Arc::clone(&events);
        move |event: &Value| {
            events.lock().unwrap().push(event.clone());
            see(event);
        }
    };
    let sources = vec![Source { name: "parts".to_owned(), path }];
    let server = Server::bind(sources, load, options, log).unwrap();
    let address = server.address();
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || server.run(move || stop.load(Ordering::SeqCst)))
    };
    Served { address, stop, thread: Some(thread), events, folder }
}

fn serve(options: Options) -> Served {
    serve_by(options, cpu, |path| trained(path, 1))
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn detector(&self) -> Detector {
        cpu(&self.folder.path().join("parts.safetensors")).unwrap()
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn get(url: &str) -> (u16, String) {
    let mut response = agent().get(url).call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

fn post(url: &str, kind: &str, body: &[u8]) -> (u16, Value) {
    let mut response = agent().post(url).header("Content-Type", kind).send(body).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap())
}

/// A scan-like picture.
fn picture(seed: u32) -> DynamicImage {
    let pixel = |x: u32, y: u32| Luma([(30 + (x * 7 + y * y + seed * 13) % 200) as u8]);
    DynamicImage::ImageLuma8(GrayImage::from_fn(24, 20, pixel))
}

fn png(seed: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![]);
    picture(seed).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A value as it is read from JSON: single precision in its shortest digits.
fn sent(value: impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap()
}

#[test]
fn image_files_get_the_scores_that_the_library_gives() {
    let served = serve(options());
    let detector = served.detector();
    for seed in 0..3 {
        let (status, answer) = post(&served.url("/score?map=values&regions=true"), "image/png", &png(seed));
        assert_eq!(status, 200, "{answer}");
        let row = &answer["images"][0];
        let expected = detector.locate(picture(seed)).unwrap();
        assert_eq!(row["score"].as_f64().unwrap(), expected.verdict.score);
        assert_eq!(row["percentile"].as_f64(), expected.verdict.percentile);
        assert_eq!(row["anomalous"].as_bool(), expected.verdict.anomalous);
        assert_eq!(row["size"], json!([20, 24]));
        let map: Vec<f32> = serde_json::from_value(row["map"].clone()).unwrap();
        assert_eq!(map, expected.map.unwrap());
        assert_eq!(row["regions"], sent(expected.regions));
        assert_eq!(row["map_threshold"], sent(expected.threshold.expect("maps were calibrated")));
    }
    // A bright square, which is a region.
    let mut marked = picture(1).to_luma8();
    (0..36).for_each(|i| marked.put_pixel(8 + i % 6, 6 + i / 6, Luma([255 * u8::from(i % 2 == 0)])));
    let mut bytes = std::io::Cursor::new(vec![]);
    let marked = DynamicImage::ImageLuma8(marked);
    marked.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let (_, answer) = post(&served.url("/score?regions=true"), "image/png", &bytes.into_inner());
    let expected = detector.locate(&marked).unwrap().regions;
    assert!(!expected.is_empty());
    assert_eq!(answer["images"][0]["regions"], sent(expected));
    let (_, answer) = post(&served.url("/score?map=png"), "application/octet-stream", &png(1));
    let map = answer["images"][0]["map"].as_str().unwrap();
    assert!(map.starts_with("data:image/png;base64,iVBOR"), "{map:.60}");
    served.stop();
}

/// A form of files.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = vec![];
    for (name, bytes) in files {
        let head =
            format!("--part\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\r\n");
        body.extend(head.bytes().chain(bytes.iter().copied()).chain(*b"\r\n"));
    }
    body.extend(b"--part--\r\n");
    body
}

#[test]
fn one_bad_file_of_a_form_is_not_the_others_fault() {
    let served = serve(options());
    let kind = "multipart/form-data; boundary=part";
    let body = form(&[("a.png", &png(1)), ("b.png", b"no image"), ("c.png", &png(2))]);
    let (status, answer) = post(&served.url("/score"), kind, &body);
    assert_eq!(status, 200);
    let images = answer["images"].as_array().unwrap();
    let names: Vec<_> = images.iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.png", "c.png"]);
    assert!(images[1]["error"].as_str().unwrap().contains("image"), "{}", images[1]);
    let detector = served.detector();
    for (row, seed) in [(&images[0], 1), (&images[2], 2)] {
        assert_eq!(row["score"].as_f64().unwrap(), detector.score(picture(seed)).unwrap().score);
    }
    let (status, answer) = post(&served.url("/score"), kind, &form(&[("b.png", b"no"), ("c.png", b"none")]));
    assert!(status == 422 && answer["error"].as_str().unwrap().contains("none of 2"), "{answer}");
}

#[test]
fn what_is_sent_wrong_gets_a_sentence_and_the_server_goes_on() {
    let served = serve(Options { max_body: 100_000, ..options() });
    let cases: [(&str, &str, &[u8], u16, &str); 12] = [
        ("/score", "image/png", b"", 400, "empty"),
        ("/score", "image/png", b"not an image", 422, "image"),
        ("/score?map=everything", "image/png", b"x", 400, "everything"),
        ("/score?model=other", "image/png", b"x", 404, "other"),
        ("/score?colour=red", "image/png", b"x", 400, "colour"),
        ("/score", "multipart/form-data", b"x", 400, "boundary"),
        ("/nothing", "image/png", b"x", 404, "openapi"),
        ("/models", "image/png", b"x", 405, "method"),
        ("/v2/models/parts/infer", "application/json", b"{", 400, "inference request"),
        ("/v2/models/none/infer", "application/json", b"{}", 404, "none"),
        ("/v2/models/parts/versions/7/infer", "application/json", b"{}", 404, "version"),
        ("/score", "image/png", &[7; 100_001], 413, "longer than 100000"),
    ];
    for (path, kind, body, expected, says) in cases {
        let (status, answer) = post(&served.url(path), kind, body);
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
        assert_eq!(status, expected, "{path}: {error}");
        assert!(error.contains(says), "{path}: {error}");
    }
    let (status, _) = post(&served.url("/score"), "image/png", &png(1));
    assert_eq!(status, 200);
}

fn infer(served: &Served, request: &Value) -> (u16, Value) {
    post(&served.url("/v2/models/parts/infer"), "application/json", request.to_string().as_bytes())
}

#[test]
fn tensors_get_the_scores_that_the_library_gives() {
    let served = serve(options());
    let detector = served.detector();
    let pictures: Vec<_> = (0..5).map(picture).collect();
    let pixels: Vec<u8> = pictures.iter().flat_map(|p| p.to_luma8().into_raw()).collect();
    let expected: Vec<f64> = pictures.iter().map(|p| detector.score(p).unwrap().score).collect();
    let input = json!({"name": "image", "shape": [5, 20, 24, 1], "datatype": "UINT8", "data": pixels});
    let outputs = json!([{"name": "score"}, {"name": "anomalous"}, {"name": "map"}]);
    let (status, answer) = infer(&served, &json!({"id": "seven", "inputs": [input], "outputs": outputs}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["model_name"], &answer["id"]), (&json!("parts"), &json!("seven")));
    let [score, anomalous, map] = &answer["outputs"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!(score["data"], json!(expected));
    assert_eq!((&score["datatype"], &score["shape"]), (&json!("FP64"), &json!([5])));
    assert_eq!(anomalous["data"].as_array().unwrap().len(), 5);
    assert_eq!(map["shape"], json!([5, 16, 16]));

    // The same in 16 bits, as numbers in [0, 1], and by the binary extension.
    let sixteen: Vec<u16> = pixels.iter().map(|&v| u16::from(v) * 257).collect();
    let reals: Vec<f64> = pixels.iter().map(|&v| f64::from(v) / 255.0).collect();
    for (kind, data) in [("UINT16", json!(sixteen)), ("FP32", json!(reals))] {
        let input = json!({"name": "image", "shape": [5, 20, 24], "datatype": kind, "data": data});
        let (_, answer) = infer(&served, &json!({"inputs": [input], "outputs": [{"name": "score"}]}));
        let scores: Vec<f64> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        for (score, expected) in scores.iter().zip(&expected) {
            assert!((score - expected).abs() <= 1e-4 * expected, "{kind}: {score} is not {expected}");
        }
    }
    let head = json!({
        "inputs": [{"name": "image", "shape": [5, 20, 24, 1], "datatype": "UINT8",
            "parameters": {"binary_data_size": pixels.len()}}],
        "outputs": [{"name": "score", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let body = [head.as_bytes(), &pixels].concat();
    let url = served.url("/v2/models/parts/infer");
    let length = head.len().to_string();
    let mut response =
        agent().post(url).header("Inference-Header-Content-Length", &length).send(&body[..]).unwrap();
    let length: usize =
        response.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let bytes = response.body_mut().read_to_vec().unwrap();
    let scores: Vec<f64> = bytes[length..].as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect();
    assert_eq!(scores, expected);
}

/// Trains a model and changes what its file says of the images.
fn trained_as(path: &Path, change: impl Fn(&mut DataInfo)) {
    trained(path, 1);
    let mut model = ModelFile::load(path).unwrap();
    change(&mut model.header.data);
    model.save(path).unwrap();
}

/// Scores of a tensor of images.
fn scores(served: &Served, shape: Value, kind: &str, data: Value) -> Vec<f64> {
    let input = json!({"name": "image", "shape": shape, "datatype": kind, "data": data});
    let (status, answer) = infer(served, &json!({"inputs": [input], "outputs": [{"name": "score"}]}));
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap()
}

#[test]
fn reals_are_parts_of_the_highest_value_of_the_models_bits() {
    let served = serve_by(options(), cpu, |path| trained_as(path, |data| data.bits = Some(12)));
    let detector = served.detector();
    let shape = || json!([1, 20, 24, 1]);
    // A dark image, one over the whole range, and one of 8 bits.
    for most in [300, 4095] {
        let samples: Vec<u16> = (0..480_u32).map(|i| (i * i * 7 % (most + 1)) as u16).collect();
        let image = ImageBuffer::from_raw(24, 20, samples.clone()).map(DynamicImage::ImageLuma16).unwrap();
        let mut png = std::io::Cursor::new(vec![]);
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        let expected = vec![detector.score(&png.into_inner()).unwrap().score];
        let reals: Vec<f64> = samples.iter().map(|&v| f64::from(v) / 4095.0).collect();
        assert_eq!(scores(&served, shape(), "FP32", json!(reals)), expected);
        assert_eq!(scores(&served, shape(), "UINT16", json!(samples)), expected);
    }
    let eight = picture(1).to_luma8().into_raw();
    let expected = detector.score(&png(1)).unwrap().score;
    assert_eq!(scores(&served, shape(), "UINT8", json!(eight)), [expected]);
    let reals: Vec<f64> = eight.iter().map(|&v| f64::from(v) / 255.0).collect();
    let score = scores(&served, shape(), "FP32", json!(reals))[0];
    assert!((score - expected).abs() <= 1e-3 * expected, "{score} is not {expected}");
}

#[test]
fn models_of_tiles_give_maps_of_images_only() {
    let tiles = TileInfo { per_image: TileInfo::PER_IMAGE, tiling: Tiling::default() };
    let served = serve_by(options(), cpu, |path| trained_as(path, |data| data.tiles = Some(tiles)));
    let pixels = picture(1).to_luma8().into_raw();
    let expected = served.detector().score(picture(1)).unwrap().score;
    assert_eq!(scores(&served, json!([1, 20, 24, 1]), "UINT8", json!(pixels)), [expected]);
    let input = json!({"name": "image", "shape": [1, 20, 24, 1], "datatype": "UINT8", "data": pixels});
    let outputs = json!([{"name": "score"}, {"name": "map"}]);
    let (status, answer) = infer(&served, &json!({"inputs": [input], "outputs": outputs}));
    assert!(status == 422 && answer["error"].as_str().unwrap().contains("/score?map=values"), "{answer}");
    let (_, described) = get(&served.url("/v2/models/parts"));
    assert!(!described.contains("\"map\""), "{described}");
    let (_, answer) = post(&served.url("/score?map=values"), "image/png", &png(1));
    assert_eq!(answer["images"][0]["map"].as_array().unwrap().len(), 480);
}

#[test]
fn hostile_tensors_are_refused() {
    let served = serve(options());
    let input = |shape: Value, kind: &str, data: Value| json!({"inputs": [{"name": "image", "shape": shape, "datatype": kind, "data": data}]});
    let huge = 1_u64 << 40;
    let cases = [
        (input(json!([1, huge, huge]), "UINT8", json!([1])), "shape"),
        (input(json!([1, 4, 4, 1]), "UINT8", json!([1, 2])), "2 elements"),
        (input(json!([1, 1, 2, 1]), "UINT8", json!([256, 0])), "256"),
        (input(json!([1, 1, 2, 1]), "UINT8", json!([-1, 0])), "-1"),
        (input(json!([1, 1, 1, 2]), "UINT8", json!([1, 0])), "channels"),
        (input(json!([1, 4, 4, 0]), "UINT8", json!([])), "channels"),
        (input(json!([1, 4, 4, 0]), "UINT16", json!([])), "channels"),
        (input(json!([1, 4, 4, 0]), "FP32", json!([])), "channels"),
        (input(json!([1, 0, 4, 1]), "UINT8", json!([])), "no pixel"),
        (input(json!([1, 4, 0]), "FP32", json!([])), "no pixel"),
        (input(json!([]), "UINT8", json!([1])), "samples"),
        (input(json!([0, 4, 4, 1]), "UINT8", json!([])), "samples"),
        (input(json!([1, 2, 1, 1]), "FP32", json!([1.5, 0.0])), "[0, 1]"),
        (input(json!([1, 2, 1, 1]), "FP64", json!([0.5, 0.0])), "UINT8"),
        (input(json!([1]), "BYTES", json!([1])), "BYTES"),
        (input(json!([1, 1, 1, 1]), "UINT8", json!(["x"])), "inference request"),
        (input(json!([1, 1, 1, 1]), "UINT8", json!([[[[[[[[[[1]]]]]]]]]])), "too deep"),
        (input(json!([1, 1, 1, 1]), "UINT8", json!([0.5])), "whole number"),
        (json!({"inputs": []}), "one input"),
        (json!({"inputs": [{"name": "image", "shape": [1], "datatype": "UINT8"}]}), "data"),
    ];
    for (request, says) in cases {
        let (status, answer) = infer(&served, &request);
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{request}: {answer}"));
        assert!(status == 400 && error.contains(says), "{status} {error}");
    }
    // Bytes that are announced and do not come, and such as nothing speaks of.
    for (size, body) in [(1_u64 << 40, 4), (4, 9)] {
        let head = json!({"inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "UINT8",
            "parameters": {"binary_data_size": size}}]})
        .to_string();
        let bytes = [head.as_bytes(), &vec![0; body]].concat();
        let url = served.url("/v2/models/parts/infer");
        let length = head.len().to_string();
        let response = agent().post(url).header("Inference-Header-Content-Length", &length).send(&bytes[..]);
        assert_eq!(response.unwrap().status().as_u16(), 400);
    }
    assert_eq!(get(&served.url("/v2/health/ready")).0, 200);
}

#[test]
fn requests_side_by_side_share_batches_and_keep_their_scores() {
    let served = serve(Options { max_wait: Duration::from_millis(200), ..options() });
    let detector = served.detector();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |seed| {
            let url = served.url("/score");
            scope.spawn(move || (seed, post(&url, "image/png", &png(seed))))
        };
        let asked: Vec<_> = (0..24).map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut largest = 0;
    for (seed, (status, answer)) in answers {
        assert_eq!(status, 200, "{answer}");
        let row = &answer["images"][0];
        assert_eq!(row["score"].as_f64().unwrap(), detector.score(picture(seed)).unwrap().score);
        largest = largest.max(row["batch"].as_u64().unwrap());
    }
    assert!(largest > 1, "no batch had two images");
    let (_, text) = get(&served.url("/metrics"));
    assert!(text.contains("ganomede_images_total{model=\"parts\"} 24"), "{text}");
}

/// A detector that takes a while: a latent search.
fn slow(path: &Path) {
    let training = Detector::train(&anogan::INFO).images("builtin:retina:train=20,test=4").size(32).width(16);
    training.latent(8).batch(8).steps(1).run(&Device::Cpu).unwrap().save(path).unwrap();
}

#[test]
fn a_full_queue_is_told_and_a_stop_finishes_what_was_taken() {
    let served = serve_by(Options { queue: 2, max_batch: 1, ..options() }, cpu, slow);
    let statuses = std::thread::scope(|scope| {
        let ask = |seed| {
            let url = served.url("/score");
            scope.spawn(move || post(&url, "image/png", &png(seed)).0)
        };
        let asked: Vec<_> = (0..8).map(ask).collect();
        // While these are at work, the server is told to stop: all get an answer.
        std::thread::sleep(Duration::from_millis(300));
        served.stop.store(true, Ordering::SeqCst);
        asked.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let count = |status| statuses.iter().filter(|&&s| s == status).count();
    assert!(count(200) >= 2 && count(429) >= 1 && count(200) + count(429) == 8, "{statuses:?}");
    let events = Arc::clone(&served.events);
    served.stop();
    let stopped = events.lock().unwrap().iter().find(|e| e["event"] == "stopped").cloned().unwrap();
    assert_eq!(stopped["all_answered"], true);
}

#[test]
fn a_file_that_changes_is_loaded_anew_and_a_broken_one_is_not() {
    let served = serve(options());
    let path = served.folder.path().join("parts.safetensors");
    let score = || {
        let (status, answer) = post(&served.url("/score"), "image/png", &png(1));
        assert_eq!(status, 200, "{answer}");
        answer["images"][0]["score"].as_f64().unwrap()
    };
    let before = score();
    std::fs::write(&path, b"broken").unwrap();
    let seen = |event: &str| served.events.lock().unwrap().iter().any(|e| e["event"] == event);
    let wait = |event: &str| {
        for _ in 0..600 {
            if seen(event) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no {event}");
    };
    wait("reload failed");
    assert_eq!(score(), before, "the old model stays");
    trained(&path, 2);
    wait("reloaded");
    let after = score();
    assert_eq!(after, cpu(&path).unwrap().score(picture(1)).unwrap().score);
    assert_ne!(after, before, "another seed holds out other images");
}

#[test]
fn a_file_that_is_replaced_while_it_is_loaded_is_loaded_anew() {
    let loads = Arc::new(AtomicUsize::new(0));
    let load = {
        let loads = Arc::clone(&loads);
        move |path: &Path| {
            let detector = cpu(path);
            if loads.fetch_add(1, Ordering::SeqCst) == 0 {
                trained(path, 2);
            }
            detector
        }
    };
    let served = serve_by(options(), load, |path| {
        trained(path, 1);
        // Longer ago than the clock of any file system ticks.
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    });
    let expected = served.detector().score(picture(1)).unwrap().score;
    let score =
        || post(&served.url("/score"), "image/png", &png(1)).1["images"][0]["score"].as_f64().unwrap();
    let is_new = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        score() == expected
    });
    assert!(is_new, "the file that came meanwhile is not served");
}

#[test]
fn a_connection_that_ends_in_a_panic_is_counted_no_more() {
    let see = |event: &Value| assert_ne!(event["route"], "/models", "what no request should do");
    let served = serve_seen(options(), cpu, |path| trained(path, 1), see);
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert_eq!(answer, "", "it ends without an answer");
    let alone = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        get(&served.url("/metrics")).1.contains("ganomede_connections 1\n")
    });
    assert!(alone, "{}", get(&served.url("/metrics")).1);
}

#[test]
fn a_token_is_asked_for_and_other_hosts_are_not_answered() {
    let served = serve(Options { token: Some("a-long-secret".to_owned()), ..options() });
    let ask = |path: &str, token: Option<&str>| {
        let request = agent().get(served.url(path));
        let request = match token {
            Some(token) => request.header("Authorization", &format!("Bearer {token}")),
            None => request,
        };
        request.call().unwrap().status().as_u16()
    };
    for path in ["/v2/health/live", "/", "/page.js", "/style.css"] {
        assert_eq!(ask(path, None), 200, "{path}");
    }
    for path in ["/models", "/metrics", "/openapi.json", "/v2/models/parts"] {
        assert_eq!(ask(path, None), 401, "{path}");
        assert_eq!(ask(path, Some("another-secret")), 401, "{path}");
        assert_eq!(ask(path, Some("a-long-secret")), 200, "{path}");
    }
    // The head alone, as some probes ask; and schemes have no case.
    let head = |path: &str| agent().head(served.url(path)).call().unwrap().status().as_u16();
    assert_eq!([head("/v2/health/live"), head("/v2/health/ready"), head("/models")], [200, 200, 401]);
    let given = |value: &str| {
        let request = agent().get(served.url("/models")).header("Authorization", value);
        request.call().unwrap().status().as_u16()
    };
    for value in ["bearer a-long-secret", "BEARER a-long-secret", "Bearer  a-long-secret"] {
        assert_eq!(given(value), 200, "{value}");
    }
    for value in ["a-long-secret", "Bearer", "Bearer a-long", "Basic a-long-secret", "bearera-long-secret"] {
        assert_eq!(given(value), 401, "{value}");
    }
    let open = serve(options());
    let with =
        |host: &str| agent().get(open.url("/models")).header("Host", host).call().unwrap().status().as_u16();
    assert_eq!([with("localhost:8080"), with("127.0.0.1"), with("evil.example")], [200, 200, 403]);
}

#[test]
fn addresses_that_there_are_not_are_guarded_as_others_are() {
    let served = serve(Options { token: Some("a-long-secret".to_owned()), ..options() });
    let ask = |path: &str, token: &str| {
        let request = agent().get(served.url(path)).header("Authorization", format!("Bearer {token}"));
        let response = request.call().unwrap();
        for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(response.headers()[name], value, "{path}");
        }
        response.status().as_u16()
    };
    for path in ["/nothing", "/models/", "/v2/models/parts/nothing", "//"] {
        assert_eq!([ask(path, "a-long-secret"), ask(path, "another-secret")], [404, 401], "{path}");
    }
    // Another method than an address has is no other address.
    let posted = agent().post(served.url("/models")).header("Authorization", "Bearer a-long-secret");
    assert_eq!(posted.send(&[][..]).unwrap().status().as_u16(), 405);
    let metrics = agent().get(served.url("/metrics")).header("Authorization", "Bearer a-long-secret");
    let text = metrics.call().unwrap().body_mut().read_to_string().unwrap();
    for line in [
        "ganomede_requests_total{route=\"none\",status=\"404\"} 4",
        "ganomede_requests_total{route=\"none\",status=\"401\"} 4",
        "ganomede_requests_total{route=\"/models\",status=\"405\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let logged = served.events.lock().unwrap().iter().filter(|e| e["route"] == "none").count();
    assert_eq!(logged, 8);
    let open = serve(options());
    let response = agent().get(open.url("/nothing")).header("Host", "evil.example").call().unwrap();
    assert_eq!(response.status().as_u16(), 403);
}

#[test]
fn settings_that_nobody_should_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    trained(&path, 1);
    let source = |name: &str| Source { name: name.to_owned(), path: path.clone() };
    let wide = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let cases = [
        (vec![], options(), "at least one model"),
        (vec![source("a/b")], options(), "a/b"),
        (vec![source("a"), source("a")], options(), "two models"),
        (vec![source("a")], Options { listen: wide, ..options() }, "token"),
        (vec![source("a")], Options { token: Some("short".to_owned()), ..options() }, "8 characters"),
        (vec![source("a")], Options { queue: 0, ..options() }, "at least 1"),
    ];
    for (sources, options, says) in cases {
        let Err(error) = Server::bind(sources, cpu, options, |_: &Value| {}) else { panic!("{says}") };
        assert!(error.to_string().contains(says) && !error.is_machine_fault(), "{error}");
    }
    let taken = serve(options());
    let again = Options { listen: taken.address, ..options() };
    let Err(error) = Server::bind(vec![source("a")], cpu, again, |_: &Value| {}) else { panic!("taken") };
    assert!(error.is_machine_fault() && error.to_string().contains("choose another"), "{error}");
}

/// Sends bytes as they are and reads until the server closes.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn cut_slow_and_nonsensical_connections_hurt_nobody() {
    let served = serve(Options { timeout: Duration::from_millis(500), connections: 8, ..options() });
    assert!(raw(served.address, b"\x16\x03\x01 no HTTP at all\r\n\r\n").starts_with("HTTP/1.1 400"));
    raw(served.address, b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nhalf of it");
    // A body that stops coming.
    let mut slow = TcpStream::connect(served.address).unwrap();
    slow.write_all(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nhalf").unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    // More connections than are allowed, of which none says anything: others are answered once they go.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(served.address).unwrap()).collect();
    drop(silent);
    let (status, _) = post(&served.url("/score"), "image/png", &png(1));
    assert_eq!(status, 200);
}

#[test]
fn whoever_does_not_read_gives_the_connection_back() {
    let served = serve(Options { timeout: Duration::from_secs(1), connections: 1, ..options() });
    // Answers of about a megabyte, of which nothing is read.
    let pixel = |x: u32, y: u32| Luma([(x * 7 + y * y) as u8]);
    let image = DynamicImage::ImageLuma8(GrayImage::from_fn(320, 320, pixel));
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let bytes = bytes.into_inner();
    let length = bytes.len();
    let head =
        format!("POST /score?map=values HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    let request = [head.as_bytes(), &bytes].concat();
    let mut stalled = TcpStream::connect(served.address).unwrap();
    // The buffers between the two hold some answers; then the server reads no more, and closes.
    stalled.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let ended = (0..10_000).find_map(|_| stalled.write_all(&request).err());
    let ended = ended.expect("who does not read is answered for ever").kind();
    assert!(matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "the server waits: {ended}");
    // The only place is free again, while the client still holds its end.
    let (status, answer) = post(&served.url("/score"), "image/png", &png(1));
    assert_eq!(status, 200, "{answer}");
    let told = served.events.lock().unwrap().iter().filter(|e| e["event"] == "answer not read").count();
    assert_eq!(told, 1);
    drop(stalled);
    served.stop();
}

/// A device that gives zeros, until a run of it fails.
struct Brittle(Run);

/// What a run of the device comes to.
type Run = Arc<dyn Fn() -> Result<(), DeviceError> + Send + Sync>;

struct Zeros(Mutex<Vec<Vec<f32>>>);

struct Broken {
    run: Run,
    program: Arc<Program>,
}

fn now<'a, T: Send + 'a>(value: Result<T, DeviceError>) -> Pending<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Backend for Brittle {
    fn describe(&self) -> String {
        "brittle".to_owned()
    }

    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError> {
        Ok(Arc::new(Zeros(Mutex::new(lens.iter().map(|&len| vec![0.0; len]).collect()))))
    }

    fn store_bytes(&self, _lens: &[usize]) -> u64 {
        0
    }

    fn program_bytes(&self, _program: &Program) -> Result<u64, DeviceError> {
        Ok(0)
    }

    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        _variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError> {
        store.own::<Zeros>(program)?;
        Ok(Box::new(Broken { run: Arc::clone(&self.0), program: Arc::clone(program) }))
    }
}

impl Stored for Zeros {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn len(&self, id: StateId) -> usize {
        self.0.lock().unwrap()[id.0].len()
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn read(&self, id: StateId) -> Pending<'_, Vec<f32>> {
        now(Ok(self.0.lock().unwrap()[id.0].clone()))
    }

    fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        self.0.lock().unwrap()[id.0] = values.to_vec();
        Ok(())
    }
}

impl Loaded for Broken {
    fn bytes(&self) -> u64 {
        0
    }

    fn write(&mut self, _buffer: usize, _values: &[f32]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>> {
        now(Ok(vec![0.0; self.program.buffers[buffer].len]))
    }

    fn run(&mut self, _times: usize) -> Result<(), DeviceError> {
        (self.run)()
    }

    fn finished(&self) -> Pending<'_, ()> {
        now(Ok(()))
    }
}

#[test]
fn a_lost_device_is_opened_again_and_nothing_hangs() {
    let (lost, loads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (lost, loads) = (Arc::clone(&lost), Arc::clone(&loads));
        move |path: &Path| {
            // The first device breaks; those that are opened later do not.
            let first = loads.fetch_add(1, Ordering::SeqCst) == 0;
            let lost = if first { Arc::clone(&lost) } else { Arc::default() };
            let run = move || match lost.load(Ordering::SeqCst) {
                true => {
                    Err(DeviceError::Lost { launches: "all".to_owned(), reason: "pulled out".to_owned() })
                }
                false => Ok(()),
            };
            Detector::load(path, &Device::Other(Arc::new(Brittle(Arc::new(run)))))
        }
    };
    let served = serve_by(options(), load, |path| trained(path, 1));
    let score = || post(&served.url("/score"), "image/png", &png(1));
    assert_eq!(score().0, 200);
    lost.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| score().0)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|&status| status == 503), "{statuses:?}");
    let ready = || get(&served.url("/v2/health/ready")).0;
    let back = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        ready() == 200
    });
    assert!(back, "the device was not opened again");
    assert_eq!((score().0, loads.load(Ordering::SeqCst)), (200, 2));
    // A file that is gone leaves the model as it is.
    std::fs::remove_file(served.folder.path().join("parts.safetensors")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((score().0, loads.load(Ordering::SeqCst)), (200, 2));
}

#[test]
fn a_batch_that_is_scored_again_one_by_one_is_counted_once() {
    let panics = Arc::new(AtomicBool::new(true));
    let load = move |path: &Path| {
        let panics = Arc::clone(&panics);
        let run = move || match panics.swap(false, Ordering::SeqCst) {
            true => panic!("what no device should do"),
            false => Ok(()),
        };
        Detector::load(path, &Device::Other(Arc::new(Brittle(Arc::new(run)))))
    };
    // All samples of a request are on their way at once, and are waited for.
    let options = Options { max_wait: Duration::from_secs(60), ..options() };
    let served = serve_by(options, load, |path| trained(path, 1));
    let pixels: Vec<u8> = (0..6).flat_map(|seed| picture(seed).to_luma8().into_raw()).collect();
    assert_eq!(scores(&served, json!([6, 20, 24, 1]), "UINT8", json!(pixels)).len(), 6);
    let (_, text) = get(&served.url("/metrics"));
    for line in ["images_total", "batch_size_sum", "batch_size_count"] {
        let line = format!("ganomede_{line}{{model=\"parts\"}} 6");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn rows_of_tables_are_scored_in_their_own_unit() {
    let make = |path: &Path| {
        let rows: Vec<Vec<f64>> =
            (0..80).map(|i| vec![f64::from(i % 9) * 1e3, f64::from(i % 9) * -2.0]).collect();
        let names = ["a".to_owned(), "b".to_owned()];
        let form = ganomede::models::Form::Table;
        let samples = ganomede::detect::InMemory::measured(form, &names, rows, 0.2, 1).unwrap();
        let training = Detector::train(&ae::INFO).samples(samples).width(8).latent(1).batch(8).steps(20);
        training.run(&Device::Cpu).unwrap().save(path).unwrap();
    };
    let served = serve_by(options(), cpu, make);
    let rows = [[3e3, -6.0], [1e3, 40.0]];
    let input = json!({"name": "values", "shape": [2, 2], "datatype": "FP64", "data": rows});
    let (status, answer) = infer(&served, &json!({"inputs": [input], "outputs": [{"name": "score"}]}));
    assert_eq!(status, 200, "{answer}");
    let detector = served.detector();
    let score =
        |row: &[f64]| detector.score(ganomede::detect::Query::Measured(row.to_vec().into())).unwrap().score;
    assert_eq!(answer["outputs"][0]["data"], json!([score(&rows[0]), score(&rows[1])]));
    let (status, answer) = post(&served.url("/score"), "image/png", &png(1));
    assert_eq!(status, 422, "{answer}");
}
