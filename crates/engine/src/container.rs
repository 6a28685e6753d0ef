//! What a container may use. The number of CPUs is the standard library's business, which reads quota and affinity; the memory
//! limit is read here, from the control groups that this process is in.

use std::fs;

/// Bytes that this process may use: the lowest limit of its control groups, or what the machine has. `None` where neither can
/// be read.
#[must_use]
pub(crate) fn memory_limit() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let group = read("/proc/self/cgroup").and_then(|groups| lowest_limit(&groups, read));
    [group, read("/proc/meminfo").and_then(|text| total_memory(&text))].into_iter().flatten().min()
}

/// The lowest limit of the groups that `/proc/self/cgroup` lists, of either version of control groups. A limit of an outer group
/// counts as well; inside a container the path is often one of the host, and the container's own group is at the root.
fn lowest_limit(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let outward = std::iter::successors(Some(path.trim_end_matches('/')), |path| {
            path.rsplit_once('/').map(|(outer, _)| outer)
        });
        // "max", for no limit, is no number.
        outward.filter_map(|path| read(&format!("{root}{path}/{file}"))?.trim().parse().ok()).collect()
    });
    limits.min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(groups: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &str| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| format!("{text}\n"))
        };
        assert_eq!(lowest_limit(groups, read), expected);
    }

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        check("0::/\n", &[("/sys/fs/cgroup/memory.max", "2147483648")], Some(2_147_483_648));
        check("0::/\n", &[("/sys/fs/cgroup/memory.max", "max")], None);
        let outer = ("/sys/fs/cgroup/pod/memory.max", "100");
        check("0::/pod/app\n", &[outer, ("/sys/fs/cgroup/pod/app/memory.max", "200")], Some(100));
        let groups = "9:name=systemd:/\n4:cpu,memory:/docker/ab\n0::/\n";
        check(groups, &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "300")], Some(300));
        check("", &[], None);
        check("nonsense", &[], None);
    }

    #[test]
    fn the_machine_s_memory_is_read() {
        assert_eq!(total_memory("MemTotal:       24612345 kB\nMemFree: 1 kB\n"), Some(24_612_345 * 1024));
        assert_eq!(total_memory("MemTotal: many"), None);
    }
}
