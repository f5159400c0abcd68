//! The real package on a real systemd: installed, started, reloaded, upgraded under a call, watched, backed up, given
//! secrets, stopped under a call and removed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;
use supernode_proto::invite::Invite;

use super::{
    files,
    machine::{Inside, Machine, Scratch},
    tools,
};
use crate::{
    demo::talk::{Place, Talk},
    workspace::{self, Run},
};

/// For what takes systemd a moment.
const SOON: Duration = Duration::from_secs(20);
/// For the watchdog (`WatchdogSec=15`) and the start after it.
const WATCHDOG: Duration = Duration::from_secs(45);
/// By which name the certificate of this test knows the relay.
const HOST: &str = "relay.example";
const SECRET: &str = "from-a-file-of-root";
/// An admission service in the Perl that every Debian has.
const HOOK: &str = r#"use IO::Socket::INET;
my $service = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8099", Listen => 5, ReuseAddr => 1) or die;
open(my $asked, ">", "/root/asked") or die;
$asked->autoflush;
while (my $client = $service->accept) {
    while (<$client>) { print $asked $_; last if /^\r/ }
    print $client "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    close $client;
}
"#;

/// Does all of it, on a copy of this Debian.
///
/// # Errors
/// What does not hold, or if tools are missing and cannot be installed.
pub(super) fn run(programs: &Path, debian: &Path, scratch: &Scratch) -> anyhow::Result<()> {
    tools::ensure("dpkg-shlibdeps", "dpkg-dev")?;
    tools::ensure("openssl", "openssl")?;
    let begun = Instant::now();
    let packages = scratch.path("packages");
    fs::create_dir(&packages)?;
    let [first, second] = ["1", "2"].map(|revision| package(programs, &packages, revision));
    let (first, second) = (first?, second?);
    let root = scratch.path("machine");
    Run::new(&["cp", "-a", &debian.to_string_lossy(), &root.to_string_lossy()]).status()?;
    let secrets = Secrets::make(&root)?;
    let samples = workspace::root().join("client/samples");
    let bound = [(programs, "/programs"), (samples.as_path(), "/samples"), (packages.as_path(), "/packages")];
    let machine = Machine::boot(&root, &bound)?;
    let service = Service { machine: machine.inside()?, handbook: workspace::read("docs/OPERATING.md")? };
    let done = |what: &str| println!("   {:>3.0} s  {what}", begun.elapsed().as_secs_f32());
    done("a machine has booted");
    service.installed(&first)?;
    done("installed, started, answers as a user of its own, and no token is in the journal");
    service.reloaded()?;
    done(
        "systemctl reload takes a good file over, a bad one not; the journal has priorities, one time, JSON when asked",
    );
    service.upgraded(&second, &scratch.path("upgrade"))?;
    done("a newer package took the running one's place while a call went on");
    service.watched()?;
    done("the watchdog ended the one that stood still, without a core, and another runs");
    service.backed_up()?;
    done("the handbook's backup brings the keys back");
    service.stopped(&scratch.path("stop"))?;
    done("systemctl stop let a call end by itself");
    service.given_secrets(&secrets)?;
    done("certificate and hook's secret come by LoadCredential, from files of root's");
    service.removed()?;
    done("removed; the keys stay");
    Ok(())
}

/// Makes the package of this revision; its path in the machine.
fn package(programs: &Path, to: &Path, revision: &'static str) -> anyhow::Result<String> {
    let program = programs.join("supernode");
    let words = ["env", &format!("PROGRAM={}", program.display()), "deploy/debian/build.sh", &to.to_string_lossy()];
    let path = Run::new(&words).env("REVISION", revision).output()?;
    let name = Path::new(path.trim()).file_name().context("build.sh prints a path")?;
    Ok(format!("/packages/{}", name.to_string_lossy()))
}

struct Service {
    machine: Inside,
    handbook: String,
}

impl Service {
    fn run(&self, script: &str) -> anyhow::Result<String> {
        self.machine.run(script)
    }

    /// A property of the unit.
    fn property(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.run(&format!("systemctl show --value -p {name} supernode"))?.trim().to_owned())
    }

    fn expect(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let is = self.property(name)?;
        if is == value {
            return Ok(());
        }
        bail!("{name} of the unit is {is}, not {value}\n{}", self.run("journalctl --no-pager -u supernode -n 30")?)
    }

    /// Lines of the unit's journal, its own and systemd's.
    fn journal(&self) -> anyhow::Result<Vec<Value>> {
        let lines = self.run("journalctl --sync; journalctl --no-pager -u supernode -o json")?;
        lines.lines().map(|line| serde_json::from_str(line).context("a line of the journal")).collect()
    }

    fn commands(&self, heading: &str, word: &str) -> anyhow::Result<&str> {
        files::commands(&self.handbook, heading, word)
    }

    fn installed(&self, package: &str) -> anyhow::Result<()> {
        self.run(&format!("apt-get -qq install --yes --no-install-recommends {package}"))?;
        self.expect("ActiveState", "inactive")?;
        let start = self.commands("systemd and the Debian package", "enable")?;
        let start = start.lines().find(|line| line.starts_with("systemctl enable")).context("how it is started")?;
        self.run(start)?;
        self.expect("ActiveState", "active")?;
        self.expect("Type", "notify-reload")?;
        let process = self.property("MainPID")?;
        let user = self.run(&format!("stat -c %u /proc/{process}"))?;
        // DynamicUser= takes one of these.
        if !user.trim().parse().is_ok_and(|user: u32| (61184..=65519).contains(&user)) {
            bail!("the relay runs as user {user}");
        }
        self.exposed()?;
        self.fits(&process)?;
        self.run(
            "supernode status && supernode man > /dev/null && man=/usr/share/man/man1/supernode.1.gz && test -s $man",
        )?;
        let journal = self.run("journalctl --no-pager -u supernode")?;
        if !journal.contains("ready") || journal.contains("token=") {
            bail!("the journal has a token, or no word of the start:\n{journal}");
        }
        Ok(())
    }

    /// That it is as exposed as the handbook says, while it runs.
    fn exposed(&self) -> anyhow::Result<()> {
        let said = self.number("by the file, and ", " while it runs")?;
        let verdict = self.run("systemd-analyze security --no-pager supernode | tail -n 1")?;
        if verdict.contains(&format!("supernode.service: {said} ")) {
            return Ok(());
        }
        bail!("the handbook says an exposure of {said}: {}", verdict.trim())
    }

    /// That it takes as much memory alone as the handbook says, give or take a third.
    fn fits(&self, process: &str) -> anyhow::Result<()> {
        let said: f64 = self.number("beyond the ", " MB that the process takes alone")?.parse()?;
        let kib = self.run(&format!("ps -o rss= -p {process}"))?;
        let is = kib.trim().parse::<f64>()? * 1024.0 / 1e6;
        if (said * 0.67..said * 1.33).contains(&is) {
            Ok(())
        } else {
            bail!("the handbook says {said} MB; it takes {is:.0}")
        }
    }

    /// What the handbook says between these words.
    fn number(&self, before: &str, behind: &str) -> anyhow::Result<&str> {
        let mut all = self.handbook.split(before).skip(1).filter_map(|rest| Some(rest.split_once(behind)?.0));
        all.find(|number| number.parse::<f64>().is_ok())
            .with_context(|| format!("the handbook does not say ...{before}N{behind}..."))
    }

    fn reloaded(&self) -> anyhow::Result<()> {
        let with = |text: &str| {
            self.run(&format!("mkdir -p /etc/supernode && printf '{text}' > /etc/supernode/supernode.toml"))?;
            // systemd waits until the relay has read it.
            self.run("systemctl reload supernode && supernode config --json")
        };
        let rooms_max = |shown: &str| -> anyhow::Result<Value> {
            Ok(serde_json::from_str::<Value>(shown)?["limits.rooms_max"]["value"].clone())
        };
        let good = with("[limits]\\nrooms_max = 3\\n")?;
        let bad = with("[limits]\\nrooms_max = 0\\n")?;
        if rooms_max(&good)? != 3 || rooms_max(&bad)? != 3 {
            bail!("limits.rooms_max is {}, and after a bad file {}", rooms_max(&good)?, rooms_max(&bad)?);
        }
        let message = |line: &Value| line["MESSAGE"].as_str().unwrap_or_default().to_owned();
        let of = |priority: &str, words: &str| -> anyhow::Result<String> {
            let lines = self.journal()?;
            let found =
                lines.iter().filter(|line| message(line).contains(words)).find(|line| line["PRIORITY"] == priority);
            found.map(message).with_context(|| format!("no line of priority {priority} with {words:?}: {lines:?}"))
        };
        of("3", "limits.rooms_max = 0: must be")?;
        let ready = of("6", "ready")?;
        if ready.starts_with("20") || ready.contains('<') {
            bail!("a time or a priority of its own in the journal: {ready}");
        }
        with("[log]\\nformat = \"json\"\\n")?;
        with("[limits]\\nrooms_max = 0\\n[log]\\nformat = \"json\"\\n")?;
        let json = of("3", "{\"")?;
        let json: Value = serde_json::from_str(&json).with_context(|| json.clone())?;
        if json["level"] != "ERROR" || json["message"].as_str().is_none_or(|words| !words.contains("not taken over")) {
            bail!("{json}");
        }
        with("")?;
        Ok(())
    }

    fn upgraded(&self, package: &str, directory: &Path) -> anyhow::Result<()> {
        let before = self.property("MainPID")?;
        let talk = self.talk(directory)?;
        self.run(&format!("apt-get -qq install --yes --no-install-recommends {package}"))?;
        self.expect("ActiveState", "active")?;
        self.expect("NRestarts", "0")?;
        let after = self.property("MainPID")?;
        if before == after || after == "0" {
            bail!("the process of the service was {before} and is {after}");
        }
        println!("          {}", talk.finish()?);
        // The old one ends once it has nobody left.
        self.machine
            .until(&format!("test -e /proc/{before} && echo there || echo gone"), SOON, |said| said == "gone\n")?;
        self.expect("ActiveState", "active")?;
        self.expect("MainPID", &after)?;
        self.run("supernode status && systemctl reload supernode").map(drop)
    }

    fn watched(&self) -> anyhow::Result<()> {
        let process = self.property("MainPID")?;
        self.run(&format!("kill -STOP {process}"))?;
        let asked = "systemctl show --value -p NRestarts -p ActiveState supernode | sort";
        self.machine.until(asked, WATCHDOG, |said| said == "1\nactive\n")?;
        let journal = self.run("journalctl --no-pager -u supernode")?;
        if !journal.contains("Watchdog timeout") || journal.contains("code=dumped") {
            bail!("no word of the watchdog, or a core:\n{journal}");
        }
        self.run("supernode status").map(drop)
    }

    fn invite(&self, host: &str, file: &str) -> anyhow::Result<Invite> {
        let link = self.run(&format!("supernode invite --host {host} | tee {file}"))?;
        link.trim().parse().context("the link of an invite")
    }

    fn backed_up(&self) -> anyhow::Result<()> {
        let before = self.invite(HOST, "/root/link")?;
        self.run(&format!("cd /root && {}", self.commands("Backup", "-czf")?))?;
        self.run("systemctl stop supernode && rm -r /var/lib/supernode /var/lib/private/supernode")?;
        self.run(&format!("cd /root && {}", self.commands("Backup", "-xzpf")?))?;
        self.expect("ActiveState", "active")?;
        let after = self.invite(HOST, "/root/link")?;
        if before.pin.is_none() || before.pin != after.pin {
            bail!("clients do not know the relay again");
        }
        Ok(())
    }

    fn stopped(&self, directory: &Path) -> anyhow::Result<()> {
        let talk = self.talk(directory)?;
        self.run("systemctl stop supernode")?;
        println!("          {}", talk.finish()?);
        self.expect("Result", "success")?;
        self.run("systemctl start supernode").map(drop)
    }

    fn given_secrets(&self, secrets: &Secrets) -> anyhow::Result<()> {
        let configured = format!(
            "[tls]\nmode = \"files\"\ncertificate = \"{0}/fullchain.pem\"\nkey = \"{0}/privkey.pem\"\n",
            secrets.certificate
        );
        self.run(&format!("printf '{configured}' > /root/named.toml"))?;
        let noted = self.run("supernode check-config /root/named.toml 2>&1")?;
        if !noted.contains("privkey.pem: root may read it; a relay with a user of its own") {
            bail!("check-config takes a key that only root may read for one that the service may:\n{noted}");
        }
        // The package has the drop-ins elsewhere.
        let install = self.commands("Files for the service", "tls-files.conf")?;
        let install = install.replace("deploy/systemd/drop-ins/", "/usr/share/doc/supernode/examples/");
        self.run(&install)?;
        self.expect("ActiveState", "active")?;
        self.run(&format!("echo 127.0.0.1 {HOST} >> /etc/hosts"))?;
        let link = self.invite(HOST, "/root/named")?;
        if link.pin.is_some() {
            bail!("a link to a relay with an authority's certificate has a pin");
        }
        let come = "/programs/supernode-call doctor --invite-file /root/named --authority-file /root/authority.pem";
        self.run(come)?;

        // A service that keeps what it is asked with, and says yes.
        self.run("systemd-run --quiet --unit hook perl /root/hook.pl")?;
        self.machine.until("systemctl show --value -p ActiveState hook", SOON, |said| said == "active\n")?;
        let hook = "[admission]\\nmode = \"hook\"\\n[admission.hook]\\nurl = \"http://127.0.0.1:8099/\"\\n";
        self.run(&format!("printf '{hook}' > /etc/supernode/supernode.toml"))?;
        self.run(&install.replace("tls-files.conf", "hook-secret.conf"))?;
        self.machine.until(come, SOON, |_| true)?;
        let asked = self.run("cat /root/asked")?.to_lowercase();
        if !asked.contains(&format!("authorization: bearer {SECRET}")) {
            bail!("the hook was not shown the secret:\n{asked}");
        }
        Ok(())
    }

    fn removed(&self) -> anyhow::Result<()> {
        self.run("apt-get -qq purge --yes supernode")?;
        self.run("! systemctl cat supernode 2> /dev/null && ! pgrep -x supernode && test ! -e /usr/bin/supernode")?;
        self.run("test -s /var/lib/private/supernode/tls-key.pem").map(drop)
    }

    /// Two people in the machine, in a call.
    fn talk(&self, directory: &Path) -> anyhow::Result<Talk> {
        let inside = format!("/root/{}", directory.file_name().unwrap_or_default().to_string_lossy());
        self.run(&format!("mkdir {inside}"))?;
        self.invite("127.0.0.1", &format!("{inside}/invite"))?;
        fs::create_dir(directory)?;
        let shell = |script: &str| self.machine.shell(script);
        let place = Place { shell: &shell, program: "/programs/supernode-call", samples: "/samples", files: &inside };
        Talk::begin(&place, directory)
    }
}

/// What only root may read in the machine: a certificate with its key where the drop-in looks for it, and a hook's secret.
struct Secrets {
    certificate: String,
}

impl Secrets {
    fn make(root: &Path) -> anyhow::Result<Self> {
        let certificate = format!("/etc/letsencrypt/live/{HOST}");
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        let live: PathBuf = inside(&certificate);
        fs::create_dir_all(&live)?;
        fs::create_dir_all(inside("/etc/supernode"))?;
        fs::write(inside("/etc/supernode/hook-secret"), format!("{SECRET}\n"))?;
        fs::write(inside("/root/hook.pl"), HOOK)?;
        let script = format!(
            "umask 077; chmod 600 '{0}'; cd '{1}'; new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'; \
             openssl req -x509 $new -subj /CN=authority -keyout authority-key.pem -out '{2}' 2> /dev/null; \
             printf 'subjectAltName=DNS:{HOST}\nbasicConstraints=CA:FALSE\n' > extensions; \
             openssl req $new -subj /CN={HOST} -keyout privkey.pem -out request.pem 2> /dev/null; \
             openssl x509 -req -in request.pem -CA '{2}' -CAkey authority-key.pem -CAcreateserial -days 2 -extfile extensions \
             -out fullchain.pem 2> /dev/null; chmod 644 '{2}' fullchain.pem",
            inside("/etc/supernode/hook-secret").display(),
            live.display(),
            inside("/root/authority.pem").display(),
        );
        Run::new(&["sh", "-ec", &script]).status()?;
        Ok(Self { certificate })
    }
}
