//! What the figures were taken on, and with what.

use std::path::Path;

use anyhow::{Context, Result};
use cargo_lock::Lockfile;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::peers;

/// Facts and their names, in the order in which they are shown.
pub type Machine = Vec<(String, String)>;

pub fn describe() -> Result<Machine> {
    let cpus = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(cpus);
    let model = system.cpus().first().map_or("unknown", |cpu| cpu.brand());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut machine: Machine = vec![
        ("date".into(), jiff::Zoned::now().strftime("%F").to_string()),
        ("cpu".into(), model.trim().to_owned()),
        ("cores".into(), cores.to_string()),
        ("system".into(), std::env::consts::OS.to_owned()),
        ("rustc".into(), rustc_version_runtime::version().to_string()),
    ];
    machine.extend(versions()?);
    Ok(machine)
}

/// The packages of the peers, as they were built.
fn versions() -> Result<Machine> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = Lockfile::load(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut named: Vec<&str> = peers::ALL.iter().map(|peer| peer.package).collect();
    named.dedup();
    // Several versions of a package may be in use, by peers for instance; the peer itself is the newest.
    let version = |name: &str| {
        let versions = lock
            .packages
            .iter()
            .filter(|package| package.name.as_str() == name);
        versions.map(|package| &package.version).max()
    };
    named
        .into_iter()
        .map(|name| {
            let version = version(name).with_context(|| format!("{name} isn't in Cargo.lock"))?;
            Ok((name.to_owned(), version.to_string()))
        })
        .collect()
}
