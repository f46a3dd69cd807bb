//! Scoring by several processes or machines: each scores a part of what is listed and writes it as JSON
//! lines, `merge` gives the document of one run.
//!
//! A sample belongs to a part by its place in the whole list (all sets in the order in which they were given,
//! files in the order of their names) modulo the number of parts. Parts differ by one sample at most, and the
//! same list gives the same parts on every machine. Of series the samples are whole files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ganomede_datasets::Rejected;
use ganomede_datasets::memory::Held;
use ganomede_host::line;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Answer, Answers, DetectError, Judge, MapOutputs, SeriesAnswer};
use crate::eval::Drift;
use crate::models::scorer::ScoreConfig;

/// Version of the lines; those of another are refused.
const FORMAT: u32 = 1;
/// Memory for a byte of a line: its text and what is made of it.
const PARSED: u64 = 4;

/// One of several parts of what is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// Whether the sample at this place of the list is of this part.
    pub fn takes(self, place: usize) -> bool {
        place % self.of == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `I/N`, counted from 0.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            Some((_, of)) if of > 0 => Err(format!("parts are counted from 0: 0/{of} to {}/{of}", of - 1)),
            _ => Err("write I/N, the number of the part from 0 and how many there are: 0/4".to_owned()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The list of what is scored, as far as a part of it has to agree with the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Samples in the whole list.
    pub total: usize,
    /// SHA-256 over their names.
    pub sha256: String,
    /// How many of the rejected files are of each set.
    #[serde(skip)]
    pub rejected: Vec<usize>,
}

/// Goes through a list and says what of it is scored here.
pub(super) struct Listing {
    shard: Option<Shard>,
    total: usize,
    hash: Sha256,
}

impl Listing {
    pub(super) fn new(shard: Option<Shard>) -> Self {
        Self { shard, total: 0, hash: Sha256::new() }
    }

    /// The next of the list: its place where it is scored here.
    pub(super) fn next(&mut self, name: &str) -> Option<usize> {
        let place = self.total;
        self.total += 1;
        if self.shard.is_some() {
            self.hash.update((name.len() as u64).to_le_bytes());
            self.hash.update(name);
        }
        self.shard.is_none_or(|shard| shard.takes(place)).then_some(place)
    }

    pub(super) fn finish(self) -> Listed {
        let sha256 = self.shard.map_or(String::new(), |_| hex(&self.hash.finalize()));
        Listed { total: self.total, sha256, rejected: vec![] }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a part was scored with; the first line of its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardHead {
    /// Version of the lines.
    shard_format: u32,
    /// Which part.
    #[serde(flatten)]
    shard: Shard,
    /// The model file, as it was named.
    pub model: PathBuf,
    /// The device.
    pub device: String,
    /// What all parts have alike.
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Common {
    model_sha256: String,
    settings_sha256: String,
    threshold: Option<f64>,
    /// Held-out samples that reach the threshold, and all of them.
    held_out: Option<[usize; 2]>,
    listed: Listed,
    /// Whether samples are series.
    series: bool,
    skipped: Vec<Rejected>,
    map_range: Option<[f32; 2]>,
    map_threshold: Option<f32>,
}

/// A line of a sample.
#[derive(Serialize, Deserialize)]
struct Line<A> {
    place: usize,
    answer: A,
}

/// The last line.
#[derive(Serialize, Deserialize)]
struct Tail {
    /// Lines of samples.
    end: usize,
    /// Files that could not be used, by set.
    rejected: Vec<Vec<Rejected>>,
}

/// A model and its settings, as parts are held against each other.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    /// The model file.
    pub path: &'a Path,
    /// Which score, and how it is searched.
    pub score: &'a ScoreConfig,
    /// What judges.
    pub judge: &'a Judge<'a>,
    /// What is made of maps.
    pub maps: &'a MapOutputs,
    /// What it was scored on.
    pub device: &'a str,
}

/// Writes a part as JSON lines: what it was scored with, a line a sample, and an end that says how many.
///
/// # Errors
/// [`DetectError::Input`] where the model cannot be read again or the place does not take what is written.
pub fn write_shard(
    out: &mut dyn Write,
    shard: Shard,
    scoring: &Scoring<'_>,
    answers: &Answers,
) -> Result<(), DetectError> {
    let MapOutputs { folder, raw, mask, rate, regions } = scoring.maps;
    let settings = format!("{:?} {:?} {:?}", scoring.score, (folder.is_some(), raw, mask, rate, regions), {
        scoring.judge.threshold.as_ref().map(|threshold| threshold.value.to_bits())
    });
    let (skipped, map_range, map_threshold, listed) = match answers {
        Answers::Samples { skipped, map_range, map_threshold, listed, .. } => {
            (skipped.clone(), *map_range, *map_threshold, listed.clone())
        }
        Answers::Points { listed, .. } => (vec![], None, None, listed.clone()),
    };
    let head = ShardHead {
        shard_format: FORMAT,
        shard,
        model: scoring.path.to_owned(),
        device: scoring.device.to_owned(),
        common: Common {
            model_sha256: file_sha256(scoring.path)?,
            settings_sha256: hex(&Sha256::digest(settings)),
            threshold: scoring.judge.threshold.as_ref().map(|threshold| threshold.value),
            held_out: scoring.judge.promise(),
            listed,
            series: matches!(answers, Answers::Points { .. }),
            skipped,
            map_range,
            map_threshold,
        },
    };
    put(out, &head)?;
    let (end, rejected) = match answers {
        Answers::Samples { images, rejected, listed, .. } => {
            for answer in images {
                put(out, &Line { place: answer.place, answer })?;
            }
            let mut rest = rejected.iter().cloned();
            let by_set = listed.rejected.iter().map(|&count| rest.by_ref().take(count).collect());
            (images.len(), by_set.collect())
        }
        Answers::Points { series, .. } => {
            for answer in series {
                put(out, &Line { place: answer.place, answer })?;
            }
            (series.len(), vec![])
        }
    };
    put(out, &Tail { end, rejected })
}

fn put(out: &mut dyn Write, value: &impl Serialize) -> Result<(), DetectError> {
    let fault = |e: std::io::Error| DetectError::Input(format!("cannot write the lines of a part: {e}"));
    let mut text = serde_json::to_vec(value).map_err(|e| fault(e.into()))?;
    text.push(b'\n');
    out.write_all(&text).map_err(fault)
}

/// SHA-256 over the bytes of a file.
fn file_sha256(path: &Path) -> Result<String, DetectError> {
    let fault = |source| crate::models::file::FileError::Read { path: path.to_owned(), source };
    let (mut file, _) = ganomede_host::files::open_regular(path).map_err(fault)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(fault)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// What parts give together.
#[derive(Debug)]
pub struct Merged {
    /// The model file, as the first part named it.
    pub model: PathBuf,
    /// Devices of the parts, each once.
    pub device: String,
    /// The threshold.
    pub threshold: Option<f64>,
    /// As one run gives them.
    pub answers: Answers,
}

/// A part that was read.
struct Part {
    path: PathBuf,
    head: ShardHead,
    samples: Vec<Line<Answer>>,
    series: Vec<Line<SeriesAnswer>>,
    tail: Tail,
}

/// Puts parts together, whatever their order.
///
/// # Errors
/// [`DetectError::Input`] for files that are no parts, are cut short, are of different runs, or are not all
/// parts of one, each once.
pub fn merge(paths: &[PathBuf]) -> Result<Merged, DetectError> {
    let held = Held::default();
    let mut parts = paths.iter().map(|path| read(path, &held)).collect::<Result<Vec<_>, _>>()?;
    parts.sort_by_key(|part| part.head.shard.index);
    check(&parts)?;
    let first = &parts[0].head;
    let Common { threshold, held_out, listed, series, skipped, map_range, map_threshold, .. } =
        first.common.clone();
    let (model, mut devices) = (first.model.clone(), vec![]);
    let (mut samples, mut points) = (BTreeMap::new(), BTreeMap::new());
    let mut rejected: Vec<BTreeSet<Rejected>> = vec![];
    for part in parts {
        if !devices.contains(&part.head.device) {
            devices.push(part.head.device.clone());
        }
        samples.extend(part.samples.into_iter().map(|line| (line.place, line.answer)));
        points.extend(part.series.into_iter().map(|line| (line.place, line.answer)));
        rejected.resize(rejected.len().max(part.tail.rejected.len()), BTreeSet::new());
        rejected.iter_mut().zip(part.tail.rejected).for_each(|(all, of)| all.extend(of));
    }
    let answers = if series {
        Answers::Points { series: points.into_values().collect(), listed }
    } else {
        let images: Vec<Answer> = samples.into_values().collect();
        let rejected: Vec<Rejected> = rejected.into_iter().flatten().collect();
        if images.is_empty() {
            return Err(super::no_image("the parts", &rejected));
        }
        let flagged = images.iter().filter(|answer| answer.anomalous == Some(true)).count();
        let drift = held_out.and_then(|held_out| Drift::of_counts(held_out, flagged, images.len()));
        Answers::Samples { images, rejected, skipped, map_range, map_threshold, drift, listed }
    };
    Ok(Merged { model, device: devices.join("; "), threshold, answers })
}

/// Refuses parts that are not all of one run.
fn check(parts: &[Part]) -> Result<(), DetectError> {
    let fault = |text: String| Err(DetectError::Input(text));
    let Some(first) = parts.first() else {
        return fault(
            "there are no parts to merge; give the files that `score` wrote with `shard`".to_owned(),
        );
    };
    let shown = |part: &Part| line(&part.path.to_string_lossy()).into_owned();
    let of = first.head.shard.of;
    for part in parts {
        let (a, b) = (&first.head.common, &part.head.common);
        let differs = [
            (part.head.shard.of != of, "are of another number of parts: score all with one"),
            (a.model_sha256 != b.model_sha256, "were scored with different models: score one of them again"),
            (
                a.settings_sha256 != b.settings_sha256,
                "were scored with different settings of the score, its threshold or its maps: score one of them again",
            ),
            (
                (&a.listed, a.series) != (&b.listed, b.series),
                "are of different lists of samples: the files changed between them, score again",
            ),
            (a != b, "differ in what they say of the whole: score again"),
        ];
        if let Some((_, how)) = differs.into_iter().find(|(is, _)| *is) {
            return fault(format!("'{}' and '{}' {how}", shown(first), shown(part)));
        }
    }
    if let Some([a, b]) = parts.windows(2).find_map(|pair| {
        let [a, b] = pair else { return None };
        (a.head.shard == b.head.shard).then_some([a, b])
    }) {
        let what =
            format!("'{}' and '{}' are both part {}: give each once", shown(a), shown(b), a.head.shard);
        return fault(what);
    }
    let there: BTreeSet<usize> = parts.iter().map(|part| part.head.shard.index).collect();
    let missing: Vec<_> = (0..of).filter(|index| !there.contains(index)).collect();
    if let Some(index) = missing.first() {
        let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        return fault(format!("part {index}/{of} is missing{more}; score it and give it too"));
    }
    Ok(())
}

/// Reads a part.
fn read(path: &Path, held: &Held) -> Result<Part, DetectError> {
    let shown = line(&path.to_string_lossy()).into_owned();
    let fault = |what: String| DetectError::Input(format!("'{shown}' {what}"));
    let failed = |e: std::io::Error| {
        DetectError::Input(format!("cannot read '{shown}': {e}; check the path and its permissions"))
    };
    let (file, length) = ganomede_host::files::open_regular(path).map_err(failed)?;
    held.grow(PARSED.saturating_mul(length)).map_err(|short| fault(short.to_string()))?;
    let mut lines = BufReader::new(file.take(length)).lines();
    let is_none = || {
        fault("is no part of a score: give what `score` wrote with `shard`, whole and as it was".to_owned())
    };
    let text = match lines.next() {
        Some(Ok(text)) => text,
        Some(Err(e)) if e.kind() != std::io::ErrorKind::InvalidData => return Err(failed(e)),
        _ => return Err(is_none()),
    };
    let head: ShardHead = serde_json::from_str(&text).map_err(|_| is_none())?;
    if head.shard_format != FORMAT {
        return Err(fault(format!(
            "has lines of format {}, this program reads {FORMAT}; merge with the version that wrote them",
            head.shard_format
        )));
    }
    let (Shard { index, of }, total) = (head.shard, head.common.listed.total);
    if index >= of {
        return Err(is_none());
    }
    let (mut samples, mut series, mut tail, mut last) = (vec![], vec![], None, None);
    for (number, text) in lines.enumerate() {
        let damaged =
            |what: &str| fault(format!("is damaged in line {}: {what}; score it again", number + 2));
        let text = text.map_err(|e| damaged(&e.to_string()))?;
        if tail.is_some() {
            return Err(damaged("a line after the end"));
        }
        if text.starts_with("{\"end\"") {
            tail = Some(serde_json::from_str::<Tail>(&text).map_err(|e| damaged(&e.to_string()))?);
            continue;
        }
        let place = if head.common.series {
            series.push(
                serde_json::from_str::<Line<SeriesAnswer>>(&text).map_err(|e| damaged(&e.to_string()))?,
            );
            series.last().map(|line| line.place)
        } else {
            samples.push(serde_json::from_str::<Line<Answer>>(&text).map_err(|e| damaged(&e.to_string()))?);
            samples.last().map(|line| line.place)
        };
        if place <= last || !place.is_some_and(|place| place < total && head.shard.takes(place)) {
            return Err(damaged("a sample that is not of this part, or not in order"));
        }
        last = place;
    }
    let tail = tail.filter(|tail| tail.end == samples.len() + series.len());
    let tail = tail.ok_or_else(|| {
        fault(format!(
            "is not whole: part {} ended before its last line was written; score it again",
            head.shard
        ))
    })?;
    Ok(Part { path: path.to_owned(), head, samples, series, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_and_every_sample_is_in_one() {
        for (of, total) in [(1, 7), (3, 7), (4, 2), (5, 100)] {
            let counts: Vec<usize> = (0..of)
                .map(|index| (0..total).filter(|&place| Shard { index, of }.takes(place)).count())
                .collect();
            assert_eq!(counts.iter().sum::<usize>(), total);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
    }

    #[test]
    fn a_part_is_written_as_two_numbers() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        assert_eq!(Shard { index: 2, of: 3 }.to_string(), "2/3");
        for (text, says) in
            [("3/3", "0/3 to 2/3"), ("0/0", "I/N"), ("1", "I/N"), ("-1/2", "I/N"), ("a/b", "I/N")]
        {
            let refused = text.parse::<Shard>().unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
