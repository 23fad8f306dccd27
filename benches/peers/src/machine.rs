//! What the figures were taken on.

use std::time::Duration;

use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// Facts and their names, in the order in which they are shown.
pub type Machine = Vec<(&'static str, String)>;

pub fn describe() -> Machine {
    let cpus = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(cpus);
    let model = system.cpus().first().map_or("unknown", |cpu| cpu.brand());
    let facts = [
        ("date", jiff::Zoned::now().strftime("%F").to_string()),
        ("cpu", model.trim().to_owned()),
        ("cores", cores().to_string()),
        (
            "system",
            format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        ),
        ("rustc", rustc_version_runtime::version().to_string()),
    ];
    facts.into()
}

/// As many threads can run at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much of this machine others use, in percent: to be asked while this program does nothing.
pub fn busy() -> f32 {
    let mut system = System::new();
    system.refresh_cpu_usage();
    std::thread::sleep(Duration::from_secs(1));
    system.refresh_cpu_usage();
    system.global_cpu_usage()
}
