//! What INFO tells of the process and the machine, read from the kernel when somebody asks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // files of the kernel, not of the data directory

use slotstorm_node::io::{VitalSigns, Vitals};

/// Asks the kernel.
pub const VITALS: Vitals = Vitals(read);

/// Ticks of processor time in a second, as `/proc` counts them on every Linux.
const TICKS: u64 = 100;

fn read() -> VitalSigns {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (user_us, system_us) = processor_time(&file("/proc/self/stat"));
    let (main_user_us, main_system_us) = processor_time(&file("/proc/thread-self/stat"));
    let release = file("/proc/sys/kernel/osrelease");
    VitalSigns {
        user_us,
        system_us,
        main_user_us,
        main_system_us,
        rss_bytes: kilobytes(&file("/proc/self/status"), "VmRSS:"),
        total_memory_bytes: kilobytes(&file("/proc/meminfo"), "MemTotal:"),
        os: format!("Linux {} {}", release.trim(), std::env::consts::ARCH),
        executable: std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default(),
    }
}

/// The 14th and 15th field; the second one, a name in parentheses, may hold anything.
fn processor_time(stat: &str) -> (u64, u64) {
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = behind_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().unwrap_or(0));
    let mut us = || fields.next().unwrap_or(0) * (1_000_000 / TICKS);
    (us(), us())
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
