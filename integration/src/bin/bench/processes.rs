//! What the kernel counts for processes (proc(5)).

use std::{fs, path::Path};

/// Ticks of a second: `USER_HZ`, the same on every architecture of ours.
const TICKS: f64 = 100.0;

/// Resident memory of all of them together, in MiB.
pub(super) fn resident_mib(pids: &[i32]) -> f64 {
    let kib: u64 = pids.iter().map(|pid| resident_kib(*pid)).sum();
    kib as f64 / 1024.0
}

/// Seconds of processor time that they used so far, together.
pub(super) fn processor_seconds(pids: &[i32]) -> f64 {
    let ticks: u64 = pids.iter().map(|pid| processor_ticks(*pid)).sum();
    ticks as f64 / TICKS
}

/// Everything that runs inside of a network namespace, given by its name.
pub(super) fn inside(namespace: &str) -> Vec<i32> {
    let output = std::process::Command::new("ip")
        .args(["netns", "pids", namespace])
        .output()
        .expect("run ip netns pids");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// VmRSS of `/proc/PID/status`.
fn resident_kib(pid: i32) -> u64 {
    let status =
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

/// User and system time, fields 14 and 15 of `/proc/PID/stat`.
fn processor_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    let after_name = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or_default();
    after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum()
}
