//! Times of launches as rows: one by one, by kernel and variant, by shape and by lane; with rates and the
//! share of the roofline.

use std::collections::BTreeMap;

use clap::ValueEnum;
use ganomede_kernels::Cost;
use serde::Serialize;

use crate::shared::table::{TextTable, digits};
use ganomede::device::{Executable, Peaks};

/// Order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Longest first.
    Time,
    /// Most arithmetic first.
    Flops,
    /// Most traffic first.
    Bytes,
    /// Furthest from the device's peak first.
    Share,
}

/// What a row is about; a group of launches has in common what is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Name {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lane: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shapes: Option<String>,
}

/// Time and work of some launches.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: usize,
    ms: f64,
    flop: u64,
    bytes: u64,
    /// Seconds at the peaks of those launches that arithmetic binds, and of those that traffic binds.
    roof: [f64; 2],
}

impl Sum {
    fn new(ms: f64, cost: Cost, peaks: Option<&Peaks>) -> Self {
        let [compute, memory] = peaks.map_or([0.0; 2], |peaks| peaks.bounds(cost));
        let roof = if compute >= memory { [compute, 0.0] } else { [0.0, memory] };
        Self { count: 1, ms, flop: cost.flops, bytes: cost.bytes_read + cost.bytes_written, roof }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.ms += other.ms;
        self.flop += other.flop;
        self.bytes += other.bytes;
        (0..2).for_each(|i| self.roof[i] += other.roof[i]);
    }
}

/// One launch, or some that have something in common.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LaunchTime {
    #[serde(flatten)]
    pub(crate) name: Name,
    /// Launches behind this row.
    count: usize,
    pub(crate) ms: f64,
    /// Share of the time of all launches.
    share: f64,
    flop: u64,
    bytes_moved: u64,
    gflops: f64,
    gbytes_per_second: f64,
    /// Time by the roofline over time taken: arithmetic or traffic at the device's measured peak, the longer
    /// of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_share: Option<f64>,
    /// What binds: `compute`, `memory`, or `launch` where as many empty launches would take half the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<&'static str>,
}

impl LaunchTime {
    fn new(name: Name, sum: &Sum, total_ms: f64, peaks: Option<&Peaks>) -> Self {
        let seconds = (sum.ms / 1e3).max(1e-12);
        let [compute, memory] = sum.roof;
        Self {
            name,
            count: sum.count,
            ms: sum.ms,
            share: sum.ms / total_ms.max(1e-12),
            flop: sum.flop,
            bytes_moved: sum.bytes,
            gflops: sum.flop as f64 / seconds / 1e9,
            gbytes_per_second: sum.bytes as f64 / seconds / 1e9,
            peak_share: peaks.map(|_| (compute + memory) / seconds),
            bound: peaks.map(|peaks| match peaks.launch_seconds * sum.count as f64 > 0.5 * seconds {
                true => "launch",
                false if compute >= memory => "compute",
                false => "memory",
            }),
        }
    }

    /// Time, its share `of_ms`, GFLOP/s, GB/s, share of the peak, bound.
    pub(crate) fn cells(&self, of_ms: f64) -> [String; 6] {
        [
            format!("{:.3}", self.ms),
            percent(self.ms / of_ms.max(1e-12)),
            digits(self.gflops),
            digits(self.gbytes_per_second),
            self.peak_share.map_or_else(String::new, percent),
            self.bound.unwrap_or_default().to_owned(),
        ]
    }
}

/// Headings of [`LaunchTime::cells`].
pub(crate) const CELLS: [&str; 6] = [">ms", ">share", ">GFLOP/s", ">GB/s", ">of peak", "bound"];

/// `12.3 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Rows of the launches of one program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LaunchTimes {
    /// By kernel and variant, longest first.
    pub(crate) by_kernel: Vec<LaunchTime>,
    /// By kernel, variant and shape, longest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) by_shape: Vec<LaunchTime>,
    /// By lane, in the order of their ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lanes: Vec<LaunchTime>,
    /// One by one, in order.
    pub(crate) by_launch: Vec<LaunchTime>,
}

impl LaunchTimes {
    /// Rows of launches that took `ms` each; `lanes` names the lane of each, or is empty.
    pub(crate) fn new(
        executable: &Executable,
        ms: &[f64],
        lanes: &[String],
        by_shape: bool,
        peaks: Option<&Peaks>,
    ) -> Self {
        let launches = executable.program().launches.iter().zip(ms).enumerate();
        let all: Vec<(Name, Sum)> = launches
            .map(|(index, (launch, &ms))| {
                let name = Name {
                    index: Some(index),
                    lane: lanes.get(index).cloned(),
                    kernel: Some(launch.kernel.name()),
                    variant: Some(executable.variant(index)),
                    scope: Some(launch.scope.clone()),
                    shapes: Some(launch.shapes()),
                };
                (name, Sum::new(ms, launch.kernel.cost(), peaks))
            })
            .collect();
        let total: f64 = ms.iter().sum();
        let grouped = |key: &dyn Fn(&Name) -> Name| {
            let mut groups: BTreeMap<Name, Sum> = BTreeMap::new();
            all.iter().for_each(|(name, sum)| groups.entry(key(name)).or_default().add(sum));
            let rows = groups.into_iter().map(|(name, sum)| LaunchTime::new(name, &sum, total, peaks));
            sorted(rows.collect(), Sort::Time)
        };
        let kernel = |name: &Name| Name { kernel: name.kernel, variant: name.variant, ..Name::default() };
        let shape = |name: &Name| Name { shapes: name.shapes.clone(), ..kernel(name) };
        let lane = |name: &Name| Name { lane: name.lane.clone(), ..Name::default() };
        let position = |row: &LaunchTime| lanes.iter().rposition(|lane| row.name.lane.as_ref() == Some(lane));
        let mut by_lane = if lanes.is_empty() { vec![] } else { grouped(&lane) };
        by_lane.sort_by_key(position);
        Self {
            by_kernel: grouped(&kernel),
            by_shape: if by_shape { grouped(&shape) } else { vec![] },
            lanes: by_lane,
            by_launch: all
                .iter()
                .map(|(name, sum)| LaunchTime::new(name.clone(), sum, total, peaks))
                .collect(),
        }
    }

    /// Puts launches, kernels and shapes into this order.
    pub(crate) fn sort(&mut self, order: Sort) {
        for rows in [&mut self.by_kernel, &mut self.by_shape, &mut self.by_launch] {
            *rows = sorted(std::mem::take(rows), order);
        }
    }

    /// Time of all launches together.
    pub(crate) fn total_ms(&self) -> f64 {
        self.by_kernel.iter().map(|row| row.ms).sum()
    }

    /// A table of the launches, each with its share `of_ms`.
    pub(crate) fn launch_table(&self, of_ms: f64) -> String {
        table(&[">#"], &["kernel", "variant", "shapes", "layer"], &self.by_launch, of_ms, |name| {
            let index = name.index.map_or_else(String::new, |i| i.to_string());
            (vec![index], vec![word(name.kernel), word(name.variant), text(&name.shapes), text(&name.scope)])
        })
    }

    /// A table of kernels by shape.
    pub(crate) fn shape_table(&self, of_ms: f64) -> String {
        table(&[], &["kernel", "variant", "shapes"], &self.by_shape, of_ms, |name| {
            (vec![], vec![word(name.kernel), word(name.variant), text(&name.shapes)])
        })
    }

    /// A table of lanes.
    pub(crate) fn lane_table(&self, of_ms: f64) -> String {
        table(&["lane"], &[], &self.lanes, of_ms, |name| (vec![text(&name.lane)], vec![]))
    }

    /// Rows of kernels for a table with the headings [`KERNEL_HEADINGS`].
    pub(crate) fn kernel_rows(&self, of_ms: f64) -> impl Iterator<Item = Vec<String>> + '_ {
        self.by_kernel.iter().map(move |row| {
            let names = [word(row.name.kernel), word(row.name.variant), row.count.to_string()];
            names.into_iter().chain(row.cells(of_ms)).collect()
        })
    }
}

/// Headings of [`LaunchTimes::kernel_rows`].
pub(crate) const KERNEL_HEADINGS: [&str; 9] =
    ["kernel", "variant", ">launches", CELLS[0], CELLS[1], CELLS[2], CELLS[3], CELLS[4], CELLS[5]];

fn word(name: Option<&'static str>) -> String {
    name.unwrap_or_default().to_owned()
}

fn text(name: &Option<String>) -> String {
    name.clone().unwrap_or_default()
}

/// A table with launches and cells between the columns `before` and `after`, which `names` fills.
fn table(
    before: &[&'static str],
    after: &[&'static str],
    rows: &[LaunchTime],
    of_ms: f64,
    names: impl Fn(&Name) -> (Vec<String>, Vec<String>),
) -> String {
    // Where every row is one launch, their number says nothing.
    let counted = rows.iter().any(|row| row.name.index.is_none());
    let count: &[&'static str] = if counted { &[">launches"] } else { &[] };
    let mut table = TextTable::new(&[before, count, &CELLS, after].concat());
    for row in rows {
        let (first, last) = names(&row.name);
        let count = counted.then(|| row.count.to_string());
        table.row(first.into_iter().chain(count).chain(row.cells(of_ms)).chain(last));
    }
    table.text()
}

fn sorted(mut rows: Vec<LaunchTime>, order: Sort) -> Vec<LaunchTime> {
    rows.sort_by(|a, b| match order {
        Sort::Time => b.ms.total_cmp(&a.ms),
        Sort::Flops => b.flop.cmp(&a.flop),
        Sort::Bytes => b.bytes_moved.cmp(&a.bytes_moved),
        Sort::Share => {
            let share = |row: &LaunchTime| row.peak_share.unwrap_or(f64::INFINITY);
            share(a).total_cmp(&share(b))
        }
    });
    rows
}
