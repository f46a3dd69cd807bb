//! What of the machine's memory this process may use: its control groups (a container's limit) and its
//! resource limits. Linux tells the first, every Unix the second.

use std::path::{Path, PathBuf};

/// A limit on memory with what counts towards it, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) limit: u64,
    pub(super) used: u64,
}

impl Limit {
    pub(super) fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// The kernel writes numbers near 2⁶³ where a group of the first version has no limit.
const NONE: u64 = 1 << 60;

/// Every limit that holds for this process.
pub(super) fn all() -> Vec<Limit> {
    let listing = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = groups(&listing, Path::new("/sys/fs/cgroup"));
    limits.extend(resources());
    limits
}

/// Limits of the control groups in `listing` (`/proc/self/cgroup`) and of those above them, under `root`. In
/// a container the path may be that of the host, of which nothing is mounted but the container's own group,
/// at `root`.
fn groups(listing: &str, root: &Path) -> Vec<Limit> {
    let mut limits = vec![];
    for line in listing.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, limit, used, cache) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max", "memory.current", "inactive_file")
        } else if controllers.split(',').any(|name| name == "memory") {
            let base = root.join("memory");
            (base, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        } else {
            continue;
        };
        let number = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let group = base.join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(&base)) {
            let Some(limit) = number(folder.join(limit)).filter(|&limit| limit < NONE) else { continue };
            // Files that are only cached give way.
            let cached = stat(&folder.join("memory.stat"), cache).unwrap_or(0);
            let used = number(folder.join(used)).unwrap_or(0).saturating_sub(cached);
            limits.push(Limit { limit, used });
        }
    }
    limits
}

/// The number after `key` in a file of lines `key number`.
fn stat(file: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(' '));
    fields.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

/// Limits on the address space and the data of this process (`ulimit -v`, `ulimit -d`).
#[cfg(unix)]
fn resources() -> Vec<Limit> {
    use rustix::process::{Resource, getrlimit};
    let of = |resource, used| {
        let limit = getrlimit(resource).current?;
        let used = super::machine::proc_bytes("/proc/self/status", used).unwrap_or(0);
        Some(Limit { limit, used })
    };
    [of(Resource::As, "VmSize"), of(Resource::Data, "VmData")].into_iter().flatten().collect()
}

#[cfg(not(unix))]
fn resources() -> Vec<Limit> {
    vec![]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_groups_above_count_as_well() {
        let root = tree(&[
            ("a/memory.max", "1000000\n"),
            ("a/memory.current", "400000\n"),
            ("a/memory.stat", "anon 300000\ninactive_file 100000\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "5\n"),
            ("a/b/c/memory.max", "900000\n"),
        ]);
        let limits = groups("0::/a/b/c\n", root.path());
        let limit = |limit, used| Limit { limit, used };
        assert_eq!(limits, [limit(900_000, 0), limit(1_000_000, 300_000)]);
        assert_eq!(limits.iter().map(|l| l.left()).min(), Some(700_000));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_root() {
        let root = tree(&[("memory.max", "2000"), ("memory.current", "3000")]);
        assert_eq!(groups("0::/docker/0123\n", root.path()), [Limit { limit: 2000, used: 3000 }]);
        assert_eq!(Limit { limit: 2000, used: 3000 }.left(), 0);
    }

    #[test]
    fn groups_of_the_first_version_are_read() {
        let root = tree(&[
            ("memory/x/memory.limit_in_bytes", "5000"),
            ("memory/x/memory.usage_in_bytes", "2000"),
            ("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory.max", "1"),
        ]);
        let listing = "12:cpu,cpuacct:/x\n7:memory:/x\n1:name=systemd:/x\n";
        assert_eq!(groups(listing, root.path()), [Limit { limit: 5000, used: 1500 }]);
    }

    #[test]
    fn what_is_no_limit_is_none() {
        let root = tree(&[("a/memory.max", "lots"), ("a/memory.current", "-1")]);
        for listing in ["", "nonsense", "0::", "0::/a", "0::/../../etc", "::"] {
            assert_eq!(groups(listing, root.path()), [], "{listing:?}");
        }
    }
}
