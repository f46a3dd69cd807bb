//! Files that lie: thousands of mutants of every kind of file, and small files that unpack to gigabytes.
//! Nothing panics, and nothing takes more memory than the budget. One test in this file: others beside it
//! would be counted too.

#[path = "common/counting.rs"]
mod counting;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/mutate.rs"]
mod mutate;

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use ganomede_datasets::memory::{MIN_BUDGET, budget, set_budget};
use ganomede_datasets::{
    DataError, Dataset, OpenOptions, SignalOptions, SignalSet, Split, Table, TableOptions, TrainPart, info,
};
use hostile::Kind;
use mutate::{Random, mutant};

/// Mutants of each kind.
const MUTANTS: usize = 3000;
/// What lies beside what the budget counts: buffers of readers, names, headers, a few of them at a time.
const ASIDE: usize = 12 << 20;

#[test]
fn hostile_files_neither_panic_nor_take_more_memory_than_the_budget() {
    set_budget(0);
    assert_eq!(budget(), MIN_BUDGET);
    let place = tempfile::tempdir().unwrap();
    mutants(place.path());
    bombs(place.path());
    one_at_a_time(place.path());
}

fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let peak = counting::peak(|| result = Some(catch_unwind(AssertUnwindSafe(work))));
    assert!(peak < budget() as usize + ASIDE, "{what} takes {} MiB", peak >> 20);
    result.unwrap().unwrap_or_else(|_| panic!("{what} panics"))
}

fn mutants(place: &Path) {
    for kind in Kind::ALL {
        let (seeds, place) = (kind.seeds(), place.join(kind.name()));
        fs::create_dir(&place).unwrap();
        assert!(kind.feed(&seeds[0], &place), "the first seed of {kind:?} is right");
        let mut random = Random(kind as u64);
        let mut taken = 0;
        for number in 0..MUTANTS {
            let bytes = mutant(&mut random, &seeds);
            let what = format!("mutant {number} of {kind:?}");
            taken += usize::from(bounded(&what, || kind.feed(&bytes, &place)));
        }
        // Most are refused, and enough get through all checks to make this a test of what comes after.
        assert!((MUTANTS / 100..MUTANTS).contains(&taken), "{taken} mutants of {kind:?} are taken");
    }
}

/// Refused because of memory, with the file's name and the number of bytes.
fn refused<T>(path: &Path, opened: Result<T, DataError>) {
    let Err(error) = opened else { panic!("{} is taken", path.display()) };
    let (message, name) = (error.to_string(), path.file_name().unwrap().to_str().unwrap());
    assert!(!error.is_machine_fault(), "{message}");
    assert!(message.contains(name) && message.contains("needs") && message.contains("--memory"), "{message}");
}

/// `head`, then `count` times `piece`, gzipped.
fn gzipped(path: &Path, head: &[u8], piece: &[u8], count: usize) {
    let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    file.write_all(head).unwrap();
    (0..count).for_each(|_| file.write_all(piece).unwrap());
    file.finish().unwrap();
}

fn bombs(place: &Path) {
    const MIB: usize = 1 << 20;
    let at = |name: &str| place.join(name);
    let open = |path: &Path| Dataset::open(path.to_str().unwrap(), &OpenOptions::default());
    let zeros = vec![0; MIB];

    // More images than any set has, told by the header.
    let path = at("many-images-idx3-ubyte.gz");
    let sizes = [(64u32 << 20) + 1, 1, 1].map(u32::to_be_bytes).concat();
    gzipped(&path, &[&[0, 0, 8, 3], &sizes[..]].concat(), &zeros, 65);
    let peak =
        counting::peak(|| assert!(open(&path).err().unwrap().to_string().contains("at most 67108864")));
    assert!(peak < 1 << 20, "{peak} bytes");

    // 40 million images of two pixels.
    let path = at("train-images-idx3-ubyte.gz");
    let sizes = [40u32 << 20, 2, 1].map(u32::to_be_bytes).concat();
    gzipped(&path, &[&[0, 0, 8, 3], &sizes[..]].concat(), &zeros, 80);
    bounded("IDX", || refused(&path, open(&path)));
    let path = at("images.npz");
    let shape = format!("{}, 2, 1", 40 << 20);
    fs::write(
        &path,
        hostile::archive(&[("train_images", &hostile::array("|u1", &shape, &vec![0; 80 * MIB]))]),
    )
    .unwrap();
    bounded("NPZ", || refused(&path, open(&path)));
    // Few pixels, and many entries of them.
    let path = at("t10k-images-idx3-ubyte.gz");
    let sizes = [40u32 << 20, 1, 1].map(u32::to_be_bytes).concat();
    gzipped(&path, &[&[0, 0, 8, 3], &sizes[..]].concat(), &zeros, 40);
    bounded("entries", || refused(&path, open(&path)));

    // A record without end, a field without end, rows without end; as a series, as a table and as labels.
    let train = Some(TrainPart::Fraction(0.5));
    let series = at("good.csv");
    fs::write(&series, "value\n1\n2\n3\n").unwrap();
    for (name, head, piece, megabytes, why) in [
        ("commas.csv.gz", "", ",", 4, "a row of more than 2 MiB"),
        ("field.csv.gz", "value\n", "1", 4, "a row of more than 2 MiB"),
        ("quoted.csv.gz", "value\n\"", "1\n", 4, "a row of more than 2 MiB"),
        ("rows.csv.gz", "value\n", "1\n", 80, "needs"),
        ("wide.csv.gz", "", "1,2,3,4,5,6,7,8,9,10\n", 80, "needs"),
    ] {
        let path = at(name);
        gzipped(&path, head.as_bytes(), piece.repeat(MIB / piece.len()).as_bytes(), megabytes);
        let spec = path.to_str().unwrap();
        let options = SignalOptions { train, ..SignalOptions::default() };
        let labels = SignalOptions { labels: Some(path.clone()), ..options.clone() };
        let messages = bounded(name, || {
            [
                SignalSet::open(spec, &options).map(drop),
                Table::open(spec, &TableOptions::default()).map(drop),
                SignalSet::open(series.to_str().unwrap(), &labels).map(drop),
            ]
            .map(|opened| opened.unwrap_err().to_string())
        });
        assert!(messages[0].contains(why), "{}", messages[0]);
        // The others may find fault with the columns first.
        assert!(messages.iter().all(|message| message.contains(name)), "{messages:?}");
    }

    // Windows of labels, in 8 MiB and in more.
    for (megabytes, why) in [(2, "needs"), (9, "more than the")] {
        let path = at("labels.json");
        let text = "[0,0],".repeat(megabytes * MIB / 6);
        fs::write(&path, format!("[{}]", text.trim_end_matches(','))).unwrap();
        let labels = SignalOptions { labels: Some(path.clone()), train, ..SignalOptions::default() };
        let message =
            bounded("JSON", || SignalSet::open(series.to_str().unwrap(), &labels).unwrap_err().to_string());
        assert!(message.contains("labels.json") && message.contains(why), "{message}");
    }

    // Sparse files of 5 GB under every name that is opened whole or in part.
    let sparse = at("sparse");
    fs::create_dir(&sparse).unwrap();
    for name in ["a.png", "b.npz", "data_batch_1.bin", "train-images-idx3-ubyte", "c.csv", "batches.meta.txt"]
    {
        let path = sparse.join(name);
        File::create(&path).unwrap().set_len(5 << 30).unwrap();
        let spec = path.to_str().unwrap();
        bounded(name, || {
            assert!(open(&path).is_err(), "{name}");
            assert!(Table::open(spec, &TableOptions::default()).is_err(), "{name}");
        });
        fs::remove_file(path).unwrap();
    }
    File::create(sparse.join("batches.meta.txt")).unwrap().set_len(5 << 30).unwrap();
    fs::write(sparse.join("data_batch_1.bin"), [0; 3073]).unwrap();
    let message = bounded("names", || open(&sparse).err().unwrap().to_string());
    assert!(message.contains("batches.meta.txt") && message.contains("5368709120 bytes"), "{message}");
}

/// A gray or colour PNG of zeros; 16 bits a sample if `deep`.
fn png(width: u32, height: u32, channels: u32, deep: bool) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
    };
    let colour = if channels == 1 { 0 } else { 6 };
    let header =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[if deep { 16 } else { 8 }, colour, 0, 0, 0]]
            .concat();
    let mut data = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0; 1 + (width * channels * (1 + u32::from(deep))) as usize];
    (0..height).for_each(|_| data.write_all(&row).unwrap());
    let data = data.finish().unwrap();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", b"")]
        .concat()
}

/// Eight images that fit one after another, and one that never does, decoded by eight threads.
fn one_at_a_time(place: &Path) {
    let folder = place.join("large");
    fs::create_dir(&folder).unwrap();
    // 8 MiB decoded, 26 with what is made of them.
    let fits = png(1024, 1024, 4, true);
    (0..8).for_each(|i| fs::write(folder.join(format!("{i}.png")), &fits).unwrap());
    fs::write(folder.join("x.png"), png(4096, 4096, 4, true)).unwrap();
    let data = Dataset::open(folder.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(data.len(Split::Train), 8);
    let rejected = data.rejected();
    assert!(rejected.len() == 1 && rejected[0].path.ends_with("x.png"), "{rejected:?}");
    assert!(rejected[0].reason.contains("needs") && rejected[0].reason.contains("64.0 MiB"), "{rejected:?}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let found = bounded("eight images at once", || pool.install(|| info(&data, true)).unwrap());
    assert_eq!(found.splits.iter().map(|s| s.decoded).collect::<Vec<_>>(), [8, 8]);
}
