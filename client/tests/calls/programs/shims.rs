//! A system that is not as it should be: what programs get from it goes through a shim, which the C compiler makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use supernode_client::{Client, RingOutcome, e2ee::Pass};
use supernode_client_testkit::{PATIENCE, Person, in_time, quick};
use supernode_testkit::Relay;

use crate::programs::{PROGRAM, figures, talk, text};

/// The time of day is as many seconds ahead as the file of `SHIM_AHEAD_FILE` says now.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        long ahead = 0;
        FILE *file = fopen(getenv("SHIM_AHEAD_FILE"), "r");
        if (file) {
            if (fscanf(file, "%ld", &ahead) != 1) ahead = 0;
            fclose(file);
        }
        time->tv_sec += ahead;
    }
    return result;
}
"#;

/// Whatever is to be cut into several packets is refused, as by a network card without checksums.
const BUNDLES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <netinet/in.h>
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

struct Shim {
    directory: PathBuf,
}

impl Shim {
    fn new(name: &str, source: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("supernode-shim-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("shim.c"), source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(directory.join("shim.so"));
        let made =
            compiler.arg(directory.join("shim.c")).arg("-ldl").status().expect("a C compiler, as CONTRIBUTING says");
        assert!(made.success());
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn set_clock_ahead(&self, seconds: i64) {
        // In one step: the program reads it all the time.
        fs::write(self.file("ahead.new"), seconds.to_string()).unwrap();
        fs::rename(self.file("ahead.new"), self.file("ahead")).unwrap();
    }

    fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", self.file("shim.so")).env("SHIM_AHEAD_FILE", self.file("ahead"))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn identity(directory: &Path, who: &str) {
    text(
        Command::new(PROGRAM).arg("identity").arg("--out").arg(directory.join(format!("{who}.json"))).output().unwrap(),
    );
}

fn ticket(directory: &Path, who: &str) -> Pass {
    let mut command = Command::new(PROGRAM);
    let ticket = command.arg("ticket").arg("--identity").arg(directory.join(format!("{who}.json"))).output().unwrap();
    Pass::from_text(&text(ticket)).unwrap()
}

fn listen(shim: &Shim, relay: &Relay) -> Child {
    let mut command = talk("listen", &shim.directory, "bob", "b");
    shim.under(&mut command).env("SUPERNODE_INVITE", relay.invite().to_string()).stdin(Stdio::null()).spawn().unwrap()
}

/// What a program that is ended now has said.
fn said(mut program: Child) -> String {
    program.kill().unwrap();
    String::from_utf8_lossy(&program.wait_with_output().unwrap().stderr).into_owned()
}

const DAY_S: u64 = 86_400;

/// Rings the program once it is online, as a device that is certified for so many seconds.
async fn ring(relay: &Relay, pass: &Pass, certified_s: u64) -> RingOutcome {
    let device = Person::new().device_for(certified_s);
    let (client, _events) = in_time(Client::connect(&relay.invite(), device, quick())).await.unwrap();
    let mut watch = in_time(client.watch(pass)).await.unwrap();
    in_time(watch.online()).await.unwrap();
    let mut ring = in_time(client.ring(pass)).await.unwrap();
    in_time(ring.outcome()).await.unwrap()
}

async fn is_answered(relay: &Relay, pass: &Pass) {
    let outcome = ring(relay, pass, DAY_S).await;
    assert!(matches!(outcome, RingOutcome::Answered(_)), "{outcome:?}");
}

// R-168
#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_clock_is_two_hours_off_is_reached_and_is_told() {
    let shim = Shim::new("clock", CLOCK);
    identity(&shim.directory, "bob");
    let ticket = ticket(&shim.directory, "bob");
    for (ahead_s, words) in [(-7_230, "2 h behind the relay's"), (7_230, "2 h ahead of the relay's")] {
        let relay = Relay::open(1);
        shim.set_clock_ahead(ahead_s);
        let listening = listen(&shim, &relay);
        is_answered(&relay, &ticket).await;
        let said = said(listening);
        assert!(said.contains(words), "{said}");
    }
}

// R-167
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_declined_when_a_caller_s_certificate_has_ended_by_the_callee_s_clock() {
    let shim = Shim::new("ended", CLOCK);
    identity(&shim.directory, "bob");
    let ticket = ticket(&shim.directory, "bob");
    let relay = Relay::open(1);
    shim.set_clock_ahead(7_230);
    let listening = listen(&shim, &relay);
    let outcome = ring(&relay, &ticket, 3_600).await;
    assert!(matches!(outcome, RingOutcome::TimedOut), "{outcome:?}");
    let said = said(listening);
    assert!(said.contains("somebody rang, and their invitation does not hold by this device's clock"), "{said}");
}

// R-166, R-167
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_boots_in_1970_says_so_and_comes_in_once_its_clock_is_set() {
    let shim = Shim::new("boot", CLOCK);
    identity(&shim.directory, "bob");
    let ticket = ticket(&shim.directory, "bob");
    let relay = Relay::open(1);
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    shim.set_clock_ahead(100 - now_s);
    let listening = listen(&shim, &relay);
    tokio::time::timeout(PATIENCE, async {
        while relay.closed_with("DELEGATION_EXPIRED") == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it was turned away");
    shim.set_clock_ahead(0);
    is_answered(&relay, &ticket).await;
    let said = said(listening);
    assert!(said.contains("years behind the relay's: waiting until the one that is wrong is set"), "{said}");
    assert_eq!(relay.closed_with("DELEGATION_EXPIRED"), 1, "and it did not ask again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_loses_nothing_where_the_kernel_refuses_bundles_of_packets() {
    let shim = Arc::new(Shim::new("bundles", BUNDLES));
    identity(&shim.directory, "alice");
    identity(&shim.directory, "bob");
    fs::write(shim.file("ticket"), ticket(&shim.directory, "bob").to_text()).unwrap();
    let relay = Relay::open(1);
    let listening = listen(&shim, &relay);
    let mut calling = talk("call", &shim.directory, "alice", "a");
    calling.arg("--ticket-file").arg(shim.file("ticket")).args(["--seconds", "3"]);
    let calling = shim.under(&mut calling).env("SUPERNODE_INVITE", relay.invite().to_string()).spawn().unwrap();
    let outputs =
        tokio::task::spawn_blocking(|| [calling, listening].map(|program| program.wait_with_output().unwrap()));
    let [alice, bob] = outputs.await.unwrap().map(figures);
    for (sender, receiver) in [(&alice, &bob), (&bob, &alice)] {
        for medium in ["audio", "video"] {
            assert_eq!(sender[format!("{medium}_sent")], receiver[format!("{medium}_received")]);
        }
        assert_eq!(receiver["lost"], 0);
    }
}
