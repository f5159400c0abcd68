//! The container's image, built by the Dockerfile and run as the handbook says: by podman, as there is no Docker here.
//!
//! Neither of the two images that it begins with can be had from a registry of packages, so both are made of Debian's. What
//! stands for the compiler's hands out the program that the gate has built: all else in the Dockerfile is done.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};

use super::{
    files,
    machine::{Inside, Room, Scratch},
    tools,
};
use crate::{
    demo::talk::{Place, Talk},
    workspace::{self, Run},
};

/// For what takes a container a moment.
const SOON: Duration = Duration::from_secs(20);
/// What the Dockerfile calls the compiler's image and the last one's base.
const FROM: [&str; 2] = ["docker.io/library/rust", "gcr.io/distroless/cc-debian12"];
/// Packages of the last one's base.
const BASE: &str = "base-files libc6 libgcc-s1 netbase";

/// Builds it and runs it, on what this Debian has.
///
/// # Errors
/// What does not hold, or if tools are missing and cannot be installed.
pub(super) fn run(programs: &Path, debian: &Path, scratch: &Scratch) -> anyhow::Result<()> {
    tools::ensure("podman", "podman")?;
    tools::ensure("crun", "crun")?;
    let room = Room::new()?;
    let store = scratch.path("store");
    fs::create_dir(&store)?;
    // Its locks, too, are to be gone with the rest.
    fs::write(store.join("containers.conf"), "[engine]\nlock_type = \"file\"\n")?;
    let image = Image { room: room.inside()?, store: store.to_string_lossy().into_owned() };
    image.bases(programs, debian, scratch)?;
    image.build()?;
    println!("   the Dockerfile makes an image");
    image.upgraded(programs, scratch)?;
    Ok(())
}

struct Image {
    room: Inside,
    store: String,
}

impl Image {
    /// A script in which `docker` is podman, with everything that it keeps in the store.
    fn script(&self, script: &str) -> String {
        let root = workspace::root();
        format!(
            "export CONTAINERS_CONF={0}/containers.conf; docker() {{ podman --root {0}/images --runroot {0}/run --tmpdir \
             {0}/tmp --storage-driver overlay --cgroup-manager cgroupfs --events-backend none --runtime crun \"$@\"; }}; \
             cd '{1}'; {script}",
            self.store,
            root.display()
        )
    }

    fn run(&self, script: &str) -> anyhow::Result<String> {
        self.room.run(&self.script(script))
    }

    /// What stands for the two images that others make.
    fn bases(&self, programs: &Path, debian: &Path, scratch: &Scratch) -> anyhow::Result<()> {
        let base = scratch.path("base");
        fs::create_dir(&base)?;
        // The files of some packages, and a user.
        let copy = format!(
            "cd '{0}'; for package in {BASE}; do cat var/lib/dpkg/info/$package.list var/lib/dpkg/info/$package:*.list 2> \
             /dev/null || true; done | sed 's,^/,,' | sort -u | while read -r path; do [ -n \"$path\" ] && [ ! -d \"$path\" ] \
             && echo \"$path\" || true; done | tar -c --no-recursion -T - | tar -x -C '{1}'; for link in bin lib lib64 sbin; do \
             [ -e $link ] && cp -P $link '{1}' || true; done; mkdir -p '{1}/tmp' '{1}/etc'; chmod 1777 '{1}/tmp'; echo \
             'nonroot:x:65532:65532::/home/nonroot:/sbin/nologin' > '{1}/etc/passwd'",
            debian.display(),
            base.display()
        );
        Run::new(&["sh", "-ec", &copy]).status()?;
        let cargo = debian.join("usr/local/bin/cargo");
        fs::copy(programs.join("supernode"), debian.join("supernode"))?;
        fs::write(
            &cargo,
            "#!/bin/sh\nset -e\n[ \"$*\" = 'build --release --locked -p supernode-server --bin supernode' ]\ninstall -D \
             /supernode target/release/supernode\n",
        )?;
        Run::new(&["chmod", "755", &cargo.to_string_lossy()]).status()?;
        let dockerfile = workspace::read("Dockerfile")?;
        for (name, tree) in FROM.iter().zip([debian, base.as_path()]) {
            let line = dockerfile.lines().find_map(|line| line.strip_prefix(&format!("FROM {name}")));
            let tag =
                line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no FROM {name}"))?;
            self.run(&format!("tar -C '{}' -c . | docker import --quiet - {name}{tag}", tree.display()))?;
        }
        Ok(())
    }

    fn build(&self) -> anyhow::Result<()> {
        // Health checks are Docker's, and not of the other format.
        let options = "--quiet --pull=never --layers=false --format docker --isolation chroot --network host";
        self.run(&format!("docker build {options} -t supernode ."))?;
        self.run("docker tag supernode supernode:0.2.0").map(drop)
    }

    /// Two containers, one after the other, with a call that goes on.
    fn upgraded(&self, programs: &Path, scratch: &Scratch) -> anyhow::Result<()> {
        let handbook = workspace::read("docs/OPERATING.md")?;
        let commands = files::commands(&handbook, "Containers", "--takeover")?;
        // As the compose file has it; the rest is so that containers need no more rights here than this process has.
        let hardened = "--read-only --cap-drop ALL --security-opt no-new-privileges --ulimit core=0 --cgroups disabled \
                        --ulimit nofile=4096:4096 --ulimit nproc=4096:4096";
        let harden = |command: &str| command.replace("docker run ", &format!("docker run {hardened} "));
        self.run(&harden("docker run -d --name relay --network host -v supernode:/var/lib/supernode supernode"))?;
        self.room.until(&self.script("docker exec relay supernode status"), SOON, |_| true)?;
        let files = scratch.path("talk");
        fs::create_dir(&files)?;
        let files = files.to_string_lossy().into_owned();
        self.run(&format!("docker exec relay supernode invite --host 127.0.0.1 > {files}/invite"))?;
        let user = self.run("stat -c %u /proc/$(docker inspect --format '{{.State.Pid}}' relay)")?;
        if user.trim() != "65532" {
            bail!("the relay's user is {user}");
        }
        let samples = workspace::root().join("client/samples").to_string_lossy().into_owned();
        let program = programs.join("supernode-call").to_string_lossy().into_owned();
        let shell = |script: &str| self.room.shell(script);
        let place = Place { shell: &shell, program: &program, samples: &samples, files: &files };
        let talk = Talk::begin(&place, Path::new(&files))?;
        // Waits for the first one's end.
        let ended = self.run(&harden(commands))?;
        if ended.lines().last() != Some("0") {
            bail!("the first container ended with {ended}");
        }
        println!("   a second container took the first one's place: {}", talk.finish()?);
        self.run("docker exec relay-2 supernode status && docker healthcheck run relay-2")?;
        let ended = self.run("docker stop relay-2 > /dev/null && docker wait relay-2")?;
        if ended.trim() != "0" {
            bail!("the second container ended with {ended}");
        }
        Ok(())
    }
}
