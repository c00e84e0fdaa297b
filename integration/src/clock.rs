//! A wall clock that is wrong for some processes alone: there is one for the whole machine, which no test may set.
//!
//! A library that is put before the C library answers `clock_gettime(CLOCK_REALTIME)` with what a file says added; clocks that
//! count from the boot are the kernel's.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::run;

/// The file is mapped before `main`: a process that shuts itself in can open none later.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t none, *by = &none;
__attribute__((constructor)) static void map(void) {
    const char *path = getenv("CLOCK_SET_BY");
    int file = open(path ? path : "", O_RDONLY | O_CLOEXEC);
    void *place = mmap(0, sizeof *by, PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) by = place;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += *by;
    return result;
}
"#;

/// See the module's head.
#[derive(Debug)]
pub struct WrongClock {
    library: PathBuf,
    by: PathBuf,
}

impl WrongClock {
    /// As right as the machine's at first. `folder`: where it is made.
    ///
    /// # Panics
    /// Where there is no C compiler.
    pub fn new(folder: &Path) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, LIBRARY).expect("write a source");
        let mut compiler = Command::new("gcc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        run(compiler.args([&library, &source]));
        let by = folder.join("clock-set-by");
        fs::write(&by, 0_i64.to_ne_bytes()).expect("write how wrong the clock is");
        Self { library, by }
    }

    /// What `command` starts has this clock.
    pub fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("CLOCK_SET_BY", &self.by);
    }

    /// Sets it, for all who have it, to so many seconds from what is right.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set_by(&self, seconds: i64) {
        // in place: it is mapped
        let mut file = File::options()
            .write(true)
            .open(&self.by)
            .expect("open how wrong the clock is");
        file.write_all(&seconds.to_ne_bytes())
            .expect("write how wrong the clock is");
    }
}
