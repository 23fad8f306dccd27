//! The peers that are compared, ready to take samples: each a program that takes one and prints it.
//!
//! Those in Rust are this program. Those in other languages are built first; where that fails, they are left out,
//! and the reason is said.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cargo_lock::Lockfile;

use crate::peers::{self, Entry, Kind};
use crate::rows::{Figures, Row};

/// A peer that takes part.
pub struct Contestant {
    pub name: &'static str,
    pub kind: Kind,
    /// Its package and version.
    pub version: String,
    takes_part: fn(Row, usize) -> bool,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Contestant {
    pub fn takes_part(&self, row: Row, threads: usize) -> bool {
        (self.takes_part)(row, threads)
    }

    /// Takes one sample in a process of its own.
    pub fn sample(
        &self,
        row: Row,
        threads: usize,
        operations: usize,
        round: usize,
    ) -> Result<Figures> {
        let (name, shown) = (self.name, row.name());
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["--row", &shown])
            .args(["--threads", &threads.to_string()])
            .args(["--operations", &operations.to_string()])
            .args(["--round", &round.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("can't start {name}"))?;
        ensure!(
            child.status.success(),
            "{name} fails in row {shown} with {threads} threads: {}",
            child.status
        );
        serde_json::from_slice(&child.stdout)
            .with_context(|| format!("{name} prints no sample in row {shown}"))
    }
}

/// All peers of these names that can take part, or simply all, in the order of the tables.
pub fn prepare(names: &[String]) -> Result<Vec<Contestant>> {
    let chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| chosen == name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = Lockfile::load(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut contestants = Vec::new();
    for peer in peers::ALL.iter().filter(|peer| chosen(peer.name)) {
        contestants.push(of_rust(peer, &lock)?);
    }
    for peer in FOREIGN.iter().filter(|peer| chosen(peer.name)) {
        match peer.prepare() {
            Ok(contestant) => contestants.push(contestant),
            Err(reason) => eprintln!("{} is left out: {reason:#}", peer.name),
        }
    }
    Ok(contestants)
}

/// The names that `prepare` knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    let ours = peers::ALL.iter().map(|peer| peer.name);
    ours.chain(FOREIGN.iter().map(|peer| peer.name))
}

fn of_rust(peer: &Entry, lock: &Lockfile) -> Result<Contestant> {
    let package = peer.package;
    // A package may be there in several versions, because peers use it themselves. The peer is the newest.
    let version = lock
        .packages
        .iter()
        .filter(|found| found.name.as_str() == package)
        .map(|found| &found.version)
        .max()
        .with_context(|| format!("{package} isn't in Cargo.lock"))?;
    Ok(Contestant {
        name: peer.name,
        kind: peer.kind,
        version: format!("{package} {version}"),
        takes_part: peer.takes_part,
        program: std::env::current_exe()
            .context("can't find this program")?
            .into(),
        arguments: ["sample", "--peer", peer.name].map(OsString::from).into(),
    })
}

/// A peer in another language. It frees by garbage collection.
struct Foreign {
    name: &'static str,
    /// Builds it and answers how to call it.
    build: fn(target: &Path) -> Result<Vec<OsString>>,
}

const FOREIGN: [Foreign; 2] = [
    Foreign {
        name: "go-unique",
        build: build_go,
    },
    Foreign {
        name: "guava",
        build: build_guava,
    },
];

impl Foreign {
    fn prepare(&self) -> Result<Contestant> {
        let program = std::env::current_exe().context("can't find this program")?;
        let target = program.parent().context("this program lies nowhere")?;
        let mut arguments = (self.build)(target)?;
        let program = arguments.remove(0);
        let version = output(Command::new(&program).args(&arguments).arg("version"))?;
        Ok(Contestant {
            name: self.name,
            kind: Kind::Other,
            version: version.trim().to_owned(),
            // There is no handle that could be cloned, and nothing happens when it goes.
            takes_part: |row, _| !matches!(row, Row::CloneDrop | Row::Drop),
            program,
            arguments,
        })
    }
}

fn build_go(target: &Path) -> Result<Vec<OsString>> {
    let program = target.join("go-peer");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"));
    output(&mut build)?;
    Ok(vec![program.into()])
}

/// Maven fetches Guava. Where it can't, the environment variable `GUAVA` may name Guava's jar.
fn build_guava(target: &Path) -> Result<Vec<OsString>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guava");
    let class_path = match std::env::var_os("GUAVA") {
        Some(jar) => {
            let jar = PathBuf::from(jar);
            ensure!(
                jar.is_file(),
                "GUAVA is {}, which is no file",
                jar.display()
            );
            let classes = target.join("guava-peer");
            let mut build = Command::new("javac");
            build.arg("-cp").arg(&jar).arg("-d").arg(&classes);
            output(build.arg(folder.join("src/main/java/GuavaPeer.java")))?;
            vec![classes, jar]
        }
        None => {
            let mut build = Command::new("mvn");
            build.args([
                "--quiet",
                "--batch-mode",
                "-Dstyle.color=never",
                "process-classes",
            ]);
            output(build.current_dir(&folder))?;
            vec![folder.join("target/classes"), folder.join("target/lib/*")]
        }
    };
    let class_path = std::env::join_paths(class_path)?;
    Ok(vec![
        "java".into(),
        "-cp".into(),
        class_path,
        "GuavaPeer".into(),
    ])
}

/// What it prints, if it succeeds; otherwise the first thing it complains about.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = match command.output() {
        Ok(child) => child,
        Err(error) => bail!("can't run {name}: {error}"),
    };
    if child.status.success() {
        return Ok(String::from_utf8(child.stdout)?);
    }
    let said = [child.stderr, child.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let reason = said.lines().find(|line| !line.trim().is_empty());
    bail!("{name} fails: {}", reason.unwrap_or("it doesn't say why"))
}
