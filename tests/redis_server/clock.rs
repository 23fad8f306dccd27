//! A wall clock of a server that a test can set.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What comes between a server and its clock: by how many microseconds it is wrong lies in a file.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

static volatile long long *wrong_by;
static int (*real)(struct timeval *, void *);

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int file = open(getenv("HAPAX_WRONG_BY"), O_RDONLY);
    void *page = mmap(0, sizeof *wrong_by, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    wrong_by = page;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int answer = real(time, zone);
    long long now = time->tv_sec * 1000000LL + time->tv_usec + *wrong_by;
    time->tv_sec = now / 1000000;
    time->tv_usec = now % 1000000;
    return answer;
}
"#;

/// The clock of one server.
pub(super) struct Clock {
    file: PathBuf,
    shim: PathBuf,
}

impl Clock {
    pub(super) fn make(directory: &Path) -> Self {
        let [source, shim, file] =
            ["clock.c", "clock.so", "wrong-by"].map(|name| directory.join(name));
        std::fs::write(&source, SHIM).unwrap();
        std::fs::write(&file, 0_i64.to_ne_bytes()).unwrap();
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .output()
            .expect("these tests need a C compiler, as SQLite does");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        Self { file, shim }
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", self.shim.clone()),
            ("HAPAX_WRONG_BY", self.file.clone()),
        ]
    }

    pub(super) fn set(&self, ahead: Duration, behind: Duration) {
        let wrong_by = ahead.as_micros() as i64 - behind.as_micros() as i64;
        let file = std::fs::OpenOptions::new().write(true).open(&self.file);
        file.unwrap()
            .write_all_at(&wrong_by.to_ne_bytes(), 0)
            .unwrap();
    }
}
