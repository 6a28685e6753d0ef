//! What a container may use, and what its limits cost. The number of CPUs is the standard library's business, which reads quota and
//! affinity; the memory limit, and how often the quota stopped this process, are read here, from the control groups that it is in.

use std::fs;
use std::time::Duration;

/// Bytes that this process may use: the lowest limit of its control groups, or what the machine has. `None` where neither can
/// be read.
#[must_use]
pub(crate) fn memory_limit() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let group = read("/proc/self/cgroup").and_then(|groups| lowest_limit(&groups, read));
    [group, read("/proc/meminfo").and_then(|text| total_memory(&text))].into_iter().flatten().min()
}

/// What a limit of CPU time has done to the control group of this process, since the group exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuThrottling {
    /// Periods in which the group wanted CPU time, usually of a tenth of a second.
    pub(crate) periods: u64,
    /// Those in which it wanted more than it may have.
    pub(crate) throttled_periods: u64,
    /// How long its threads were stopped for that, those of all CPUs together.
    pub(crate) throttled: Duration,
}

/// What the limits of CPU time have done so far. `None` where there is none, or where it cannot be read.
#[must_use]
pub(crate) fn cpu_throttling() -> Option<CpuThrottling> {
    let read = |path: &str| fs::read_to_string(path).ok();
    read("/proc/self/cgroup").and_then(|groups| throttling(&groups, read))
}

/// The time for which this process was stopped by a limit of CPU time: the difference of two such times tells how much of what
/// is between them was lost to it.
#[must_use]
#[expect(dead_code, reason = "for the times that an answer tells")]
pub(crate) fn cpu_throttled() -> Option<Duration> {
    cpu_throttling().map(|cpu| cpu.throttled)
}

/// The lowest limit of the groups that `/proc/self/cgroup` lists.
fn lowest_limit(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    // "max", for no limit, is no number.
    let limits = files(groups, "memory", "memory.max", "memory.limit_in_bytes");
    limits.filter_map(|path| read(&path)?.trim().parse().ok()).min()
}

/// What happened to the group that was stopped for longest: an outer group that is stopped stops the inner ones as well.
fn throttling(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<CpuThrottling> {
    let statistics = files(groups, "cpu", "cpu.stat", "cpu.stat");
    statistics.filter_map(|path| cpu_stat(&read(&path)?)).max_by_key(|cpu| (cpu.throttled, cpu.periods))
}

/// `cpu.stat` of either version of control groups. `None` for a group without a limit: it has no periods.
fn cpu_stat(text: &str) -> Option<CpuThrottling> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(found, _)| *found == name)?.1.trim().parse::<u64>().ok()
    };
    let periods = value("nr_periods").filter(|&periods| periods > 0)?;
    // Microseconds in version 2, nanoseconds in version 1.
    let throttled = value("throttled_usec").map(Duration::from_micros);
    let throttled = throttled.or_else(|| value("throttled_time").map(Duration::from_nanos))?;
    Some(CpuThrottling { periods, throttled_periods: value("nr_throttled")?, throttled })
}

/// The paths of a controller's file, called `unified` or `own` by version, in the groups that `/proc/self/cgroup` lists and in all
/// that are around them: what an outer group may not, the inner one may not either. Inside a container the path is often one of
/// the host, and the container's own group is at the root.
fn files(groups: &str, controller: &str, unified: &str, own: &str) -> impl Iterator<Item = String> {
    groups.lines().flat_map(move |line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), unified),
            list if list.split(',').any(|name| name == controller) => {
                (format!("/sys/fs/cgroup/{controller}"), own)
            }
            _ => return Vec::new(),
        };
        let outward = std::iter::successors(Some(path.trim_end_matches('/')), |path| {
            path.rsplit_once('/').map(|(outer, _)| outer)
        });
        outward.map(|path| format!("{root}{path}/{file}")).collect()
    })
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
    fn a_quota_s_statistics_are_read_in_both_versions() {
        let unified =
            "usage_usec 5\nuser_usec 4\nnr_periods 70\nnr_throttled 7\nthrottled_usec 2500000\nnr_bursts 0\n";
        let own = "nr_periods 70\nnr_throttled 7\nthrottled_time 2500000000\n";
        let throttled = Duration::from_millis(2500);
        let expected = Some(CpuThrottling { periods: 70, throttled_periods: 7, throttled });
        assert_eq!((cpu_stat(unified), cpu_stat(own)), (expected, expected));
        for without in [
            "",
            "usage_usec 5\n",
            "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
            "nr_periods 7\nnr_throttled x\nthrottled_usec 1\n",
            "nr_periods 7\nnr_throttled 1\n",
            "nr_periods\n\u{0}\n",
        ] {
            assert_eq!(cpu_stat(without), None, "{without:?}");
        }
    }

    #[test]
    fn the_group_that_was_stopped_for_longest_counts() {
        let stat = |periods: u64, throttled: u64| {
            format!("nr_periods {periods}\nnr_throttled 1\nthrottled_usec {throttled}\n")
        };
        let read = |path: &str| match path {
            "/sys/fs/cgroup/pod/app/cpu.stat" => Some(stat(9, 10)),
            "/sys/fs/cgroup/pod/cpu.stat" => Some(stat(5, 2_000_000)),
            "/sys/fs/cgroup/cpu.stat" => Some("usage_usec 5\n".to_owned()),
            _ => None,
        };
        let found = throttling("0::/pod/app\n", read).unwrap();
        assert_eq!((found.periods, found.throttled), (5, Duration::from_secs(2)));
        let read = |path: &str| {
            (path == "/sys/fs/cgroup/cpu/cpu.stat")
                .then(|| "nr_periods 3\nnr_throttled 2\nthrottled_time 9\n".to_owned())
        };
        let groups = "9:name=systemd:/\n4:cpu,cpuacct:/docker/ab\n0::/\n";
        assert_eq!(throttling(groups, read).unwrap().throttled, Duration::from_nanos(9));
    }

    #[test]
    fn the_machine_s_memory_is_read() {
        assert_eq!(total_memory("MemTotal:       24612345 kB\nMemFree: 1 kB\n"), Some(24_612_345 * 1024));
        assert_eq!(total_memory("MemTotal: many"), None);
    }
}
