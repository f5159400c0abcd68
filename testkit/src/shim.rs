//! Systems that are not as they should be: what a program asks of its C library goes through a shim, which the C compiler makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What every shim begins with: the number that its test has said last, and 0 until then.
const SAID: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static long said(void) {
    char text[32] = "";
    int file = open(getenv("SHIM_SAID_FILE"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}
"#;

const CLOCK: &str = r#"
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += said();
    return result;
}
"#;

const BUNDLES: &str = r#"
ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR((struct msghdr *)message, part))
        if (part->cmsg_level == IPPROTO_UDP && part->cmsg_type == 103) {
            errno = EIO;
            return -1;
        }
    return real(socket, message, flags);
}
"#;

const FIREWALL: &str = r#"
int sendmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags) {
    static int (*real)(int, struct mmsghdr *, unsigned, int);
    if (!real) real = dlsym(RTLD_NEXT, "sendmmsg");
    if (said()) {
        errno = EPERM;
        return -1;
    }
    return real(socket, messages, count, flags);
}
"#;

/// A library that programs are started with, and a directory that is gone with it.
pub struct Shim {
    directory: TempDir,
}

impl Shim {
    /// The time of day is as many seconds ahead as is said.
    pub fn clock() -> Self {
        Self::made_of(CLOCK)
    }

    /// Whatever is to be cut into several packets is refused, as by a network card without checksums.
    pub fn without_bundles() -> Self {
        Self::made_of(BUNDLES)
    }

    /// While another number than 0 is said, a firewall forbids what is sent many at a time.
    pub fn firewall() -> Self {
        Self::made_of(FIREWALL)
    }

    fn made_of(source: &str) -> Self {
        let shim = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        fs::write(shim.file("shim.c"), [SAID, source].concat()).expect("ours");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).args([shim.file("shim.so"), shim.file("shim.c")]);
        assert!(compiler.arg("-ldl").status().expect("a C compiler, as CONTRIBUTING says").success());
        shim
    }

    /// Tells those that run with it.
    pub fn say(&self, number: i64) {
        // In one step: they read it all the time.
        fs::write(self.file("said.new"), number.to_string()).expect("ours");
        fs::rename(self.file("said.new"), self.file("said")).expect("ours");
    }

    /// Has a program run with it.
    pub fn under<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        program.env("LD_PRELOAD", self.file("shim.so")).env("SHIM_SAID_FILE", self.file("said"))
    }

    /// For the test's own files as well.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_as_far_ahead_as_was_said_last() {
        let shim = Shim::clock();
        let unix_s = || {
            let output = shim.under(Command::new("date").arg("+%s")).output().expect("coreutils");
            String::from_utf8(output.stdout).expect("digits").trim().parse::<i64>().expect("a time")
        };
        let is_ahead = |of: i64, by: i64| assert!((by..by + 3_600).contains(&(unix_s() - of)));
        let now = unix_s();
        is_ahead(now, 0);
        shim.say(1_000_000);
        is_ahead(now, 1_000_000);
        shim.say(0);
        is_ahead(now, 0);
    }
}
