//! Runs attacks one after the other, each against a relay of its own with a call beside it, and judges them.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    attacks::{self, Attack, Outcome, Report, Run, Target, small_machine::SMALLEST_MACHINE_BYTES},
    call::{Call, Figures, LOST_AFTER, Newcomers},
    cgroup::Cgroup,
    relay::{Relay, pinned},
};

/// The variable that tells an attack's process what it attacks.
pub(crate) const TARGET: &str = "SUPERNODE_HOSTILE_TARGET";
/// Of the call's objects, those that may be lost.
const LOSS_MAX: f64 = 0.01;
/// How much longer than in the calm before an object may take: so many times, and so much.
const P99_TIMES_MAX: f64 = 3.0;
const P99_MORE_MS_MAX: f64 = 10.0;
/// How long somebody from another network may take to get in.
const NEWCOMER_MAX: Duration = Duration::from_secs(2);
/// Lines that an attack may cause, whatever it does, and one more for each second.
const LOG_LINES_MAX: f64 = 5.0;
/// How long the relay may take to give memory back: it waits ten seconds for a Hello, and a few for what is left.
const GIVE_BACK: Duration = Duration::from_secs(20);
/// What it need not give back: what an allocator keeps, and tables that have grown.
const KEPT_MB_MAX: f64 = 32.0;
/// How long an attack may take to begin and to end, besides what it was told.
const ATTACK_PATIENCE: Duration = Duration::from_secs(20);
/// After an attack that stops the relay itself: how long until the call is judged, and for how long it is.
const RECOVERY: Duration = Duration::from_millis(1500);
const AFTERWARDS: Duration = Duration::from_secs(3);
/// With `--quick`, how often an attack is made until it is held.
const ATTEMPTS_MAX: u32 = 3;
/// Niceness of relay and call where the system allows it, and how much nicer an attack is: it may have all of its core
/// that the call leaves it.
const FIRST: i32 = -15;
const NICER: &str = "15";

/// What to run and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The relay's program
    #[arg(long, value_name = "FILE")]
    relay: PathBuf,
    /// An interpreter that has aioquic; without one, attacks in Python fail
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Fewer attacks, and shorter ones
    #[arg(long)]
    quick: bool,
    /// Prints a row for each attack as one JSON array, last
    #[arg(long)]
    json: bool,
    /// Only these, also those that --quick would leave out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds that each attack goes on
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// MB of memory that a relay may have under any attack: the sum of its memory table
    #[arg(long, value_name = "N", default_value_t = (SMALLEST_MACHINE_BYTES / 1024 / 1024) as f64)]
    rss_mb_max: f64,
}

/// How one attack went.
#[derive(Debug, Serialize)]
struct Row {
    attack: &'static str,
    call_loss: f64,
    p99_ms: f64,
    p99_calm_ms: f64,
    rss_mb: f64,
    ok: bool,
    /// What the attack counted, each second.
    rate: f64,
    unit: String,
    newcomer_s: f64,
    log_lines: Option<usize>,
    /// Seconds until the memory was given back.
    given_back_s: Option<f64>,
    /// How often it was run, of which the last time is told.
    attempts: u32,
    /// Why it was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    /// What did not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
    found: std::collections::BTreeMap<String, f64>,
}

/// Markdown, as in docs/SECURITY.md.
const HEADER: &str = "| attack | call lost | p99 (calm), ms | memory, MB | achieved a second | newcomer | log lines | |
|---|---|---|---|---|---|---|---|";

/// Runs what was asked for; whether all of it held.
#[expect(clippy::print_stdout, reason = "the results are the program's data")]
pub(crate) async fn run(options: &Options) -> anyhow::Result<bool> {
    let cores = std::thread::available_parallelism()?.get();
    let (relay_core, own_core) = (0, if cores > 1 { 1 } else { 0 });
    if cores < 2 {
        eprintln!("one core only: what the attack takes is taken from the relay too, and nothing is judged fairly");
    }
    let chosen = choose(options)?;
    first_on(own_core)?;
    println!("{HEADER}");
    let mut rows = Vec::new();
    for attack in &chosen {
        let mut row = attempt(options, attack, relay_core, own_core).await;
        // A machine that is busy with something else can take a hundredth of a call from somebody, but not each time.
        while options.quick && !row.failed.is_empty() && row.attempts < ATTEMPTS_MAX {
            let attempts = row.attempts + 1;
            row = Row { attempts, ..attempt(options, attack, relay_core, own_core).await };
        }
        rows.push(row);
    }
    let failed = rows.iter().filter(|row| !row.ok && row.skipped.is_none()).count();
    let skipped = rows.iter().filter(|row| row.skipped.is_some()).count();
    println!("\n{} held, {failed} failed, {skipped} skipped", rows.len() - failed - skipped);
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(failed == 0)
}

fn choose(options: &Options) -> anyhow::Result<Vec<Attack>> {
    let all = attacks::all();
    if let Some(unknown) = options.only.iter().find(|name| all.iter().all(|attack| attack.name != **name)) {
        bail!("--only {unknown}: `supernode-hostile list` names what there is");
    }
    let named = |attack: &Attack| options.only.iter().any(|name| name == attack.name);
    let wanted = |attack: &Attack| match options.only.is_empty() {
        true => attack.quick || !options.quick,
        false => named(attack),
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Keeps this process to one core, and lets it and its relays go before whatever else the machine does.
fn first_on(core: usize) -> anyhow::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).context("this process cannot be kept to a core")?;
    if rustix::process::setpriority_process(None, FIRST).is_err() {
        eprintln!("no right to go first: what else this machine does may show in the call");
    }
    Ok(())
}

/// Runs one and shows its row. What an attack does to its relay must not hide what the others do.
#[expect(clippy::print_stdout, reason = "the results are the program's data")]
async fn attempt(options: &Options, attack: &Attack, relay_core: usize, own_core: usize) -> Row {
    let row = match row(options, attack, relay_core, own_core).await {
        Ok(row) => row,
        Err(error) => Row::without_result(attack.name, vec![format!("{error:#}")], None),
    };
    println!("{}", row.shown());
    row.failed.iter().for_each(|failure| eprintln!("    {failure}"));
    row
}

async fn row(options: &Options, attack: &Attack, relay_core: usize, own_core: usize) -> anyhow::Result<Row> {
    // Every relay has the memory of the smallest machine and no more, where the system lets us see to it.
    let cgroup = match Cgroup::create(SMALLEST_MACHINE_BYTES) {
        Ok(cgroup) => Some(cgroup),
        Err(error) if attack.setting.only_small => {
            return Ok(Row::without_result(attack.name, Vec::new(), Some(format!("{error:#}"))));
        }
        Err(_) => None,
    };
    let mut relay = Relay::start(&options.relay, relay_core, &attack.setting, cgroup)?;
    let seconds = options.seconds.unwrap_or(if options.quick { 3.0 } else { 10.0 }).max(attack.seconds_min);
    let calm = Duration::from_secs_f64(if options.quick { 1.5 } else { 5.0 });
    let call = Call::begin(&relay.door).await.context("the call before the attack")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calm_begin = Instant::now();
    tokio::time::sleep(calm).await;
    let calm_end = Instant::now();
    let (rss_before, lines_before) = (relay.rss_bytes(), relay.log_lines());

    let target = Target {
        link: relay.command(&["invite"]).unwrap_or_default(),
        admin: relay.admin.clone(),
        pid: relay.pid(),
        home: relay.home().to_owned(),
        program: options.relay.clone(),
        seconds,
    };
    let mut newcomers = (!attack.setting.interrupts).then(|| Newcomers::begin(&relay.door));
    let mut begin = Instant::now();
    let peak = watch_memory(relay.pid());
    let report = attack_beside(options, attack, &target, own_core).await;
    if let Ok(Report { skipped: Some(reason), .. }) = report {
        return Ok(Row::without_result(attack.name, Vec::new(), Some(reason)));
    }
    let mut end = Instant::now();
    let attack_seconds = (end - begin).as_secs_f64();
    if attack.setting.interrupts {
        tokio::time::sleep(RECOVERY).await;
        (begin, newcomers) = (Instant::now(), Some(Newcomers::begin(&relay.door)));
        tokio::time::sleep(AFTERWARDS).await;
        end = Instant::now();
    }
    let newcomers = newcomers.context("begun before or after")?;
    let newcomer = newcomers.end(NEWCOMER_MAX.max(LOST_AFTER)).await;
    let figures = call.figures(begin, end);
    let broken = call.broken();
    let calm = call.figures(calm_begin, calm_end);
    let log_lines = relay.log_lines().zip(lines_before).map(|(after, before)| after.saturating_sub(before));
    let ended = relay.ended()?;
    let rss_bytes = peak.end();
    let given_back = match ended {
        Some(_) => None,
        None => given_back(&relay, rss_before).await,
    };

    let mut failed = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            failed.push(what);
        }
    };
    check(ended.is_none(), format!("the relay ended: {}", ended.unwrap_or_default()));
    check(broken.is_none(), format!("the call ended: {}", broken.unwrap_or_default()));
    judge_call(&mut check, figures, calm);
    check(
        newcomer <= NEWCOMER_MAX,
        format!("a newcomer waited {:.1} s: at most {:.1}", newcomer.as_secs_f64(), NEWCOMER_MAX.as_secs_f64()),
    );
    let rss_mb = mb(rss_bytes);
    check(rss_mb <= options.rss_mb_max, format!("the relay had {rss_mb:.0} MB: at most {}", options.rss_mb_max));
    check(given_back.is_some(), format!("the relay has not given its memory back after {} s", GIVE_BACK.as_secs()));
    let lines_max = LOG_LINES_MAX + attack_seconds;
    let lines = log_lines.unwrap_or(0);
    check(lines as f64 <= lines_max, format!("the relay wrote {lines} lines: at most {lines_max:.0}"));
    let mut report = report.unwrap_or_else(|error| {
        check(false, format!("the attack itself came to nothing: {error:#}"));
        Report::default()
    });
    if let Some(peak) = relay.cgroup.as_ref().and_then(Cgroup::peak_bytes) {
        report.found("machine_mb", mb(peak));
    }
    let rate = report.count as f64 / seconds;
    check(
        rate >= attack.rate_min,
        format!("an attack of {rate:.0} a second shows nothing: at least {}", attack.rate_min),
    );
    let outcome = Outcome { report, seconds: attack_seconds, rss_before_mb: mb(rss_before), rss_mb };
    if let Err(failure) = (attack.judge)(&outcome) {
        check(false, failure);
    }
    if !failed.is_empty() {
        show_log(&relay);
    }
    Ok(Row {
        attack: attack.name,
        call_loss: round(figures.loss, 4),
        p99_ms: round(figures.p99_ms, 2),
        p99_calm_ms: round(calm.p99_ms, 2),
        rss_mb: round(rss_mb, 1),
        ok: failed.is_empty(),
        rate: round(rate, 1),
        unit: outcome.report.unit,
        newcomer_s: round(newcomer.as_secs_f64(), 3),
        log_lines,
        given_back_s: given_back.map(|after| round(after.as_secs_f64(), 1)),
        attempts: 1,
        skipped: None,
        failed,
        found: outcome.report.found.into_iter().map(|(name, value)| (name, round(value, 3))).collect(),
    })
}

fn judge_call(check: &mut impl FnMut(bool, String), figures: Figures, calm: Figures) {
    let (loss, bound) = (figures.loss * 100.0, LOSS_MAX * 100.0);
    check(loss < bound, format!("the call lost {loss:.2} % of {}: less than {bound}", figures.sent));
    let p99_max = calm.p99_ms * P99_TIMES_MAX + P99_MORE_MS_MAX;
    check(figures.p99_ms <= p99_max, format!("the call's p99 was {:.1} ms: at most {p99_max:.1}", figures.p99_ms));
    check(calm.loss < LOSS_MAX, format!("the call lost {:.2} % before the attack began", calm.loss * 100.0));
}

/// Runs the attack in a process that goes behind the call on the same core.
async fn attack_beside(options: &Options, attack: &Attack, target: &Target, core: usize) -> anyhow::Result<Report> {
    let mut command = match attack.run {
        Run::Rust(_) => {
            let mut command = pinned(core, &std::env::current_exe()?);
            command.args(["attack", attack.name]);
            command
        }
        Run::Python(way) => {
            let python = options.python.as_ref().context("--python: an interpreter with aioquic is needed")?;
            let mut command = pinned(core, python);
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/stack.py")).arg(way);
            command
        }
    };
    command.env(TARGET, serde_json::to_string(target)?);
    let mut nice = Command::new("nice");
    nice.args(["-n", NICER]).arg(command.get_program()).args(command.get_args());
    nice.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    nice.stdout(Stdio::piped()).stdin(Stdio::null());
    let mut nice = tokio::process::Command::from(nice);
    let child = nice.kill_on_drop(true).spawn().context("nice")?;
    let patience = target.duration() + ATTACK_PATIENCE;
    let output =
        tokio::time::timeout(patience, child.wait_with_output()).await.context("the attack does not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().with_context(|| format!("the attack said nothing: {}", output.status))?;
    serde_json::from_str(last).with_context(|| format!("the attack said {last:?}"))
}

/// The most memory of a process since this began.
struct Peak {
    bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Peak {
    fn end(self) -> u64 {
        self.task.abort();
        self.bytes.load(Ordering::Relaxed)
    }
}

fn watch_memory(pid: u32) -> Peak {
    let bytes = Arc::new(AtomicU64::new(0));
    let most = bytes.clone();
    let task = tokio::spawn(async move {
        loop {
            most.fetch_max(crate::relay::rss_bytes(pid), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    Peak { bytes, task }
}

/// How long the relay takes to be as small again as it was, but for a little.
async fn given_back(relay: &Relay, before: u64) -> Option<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < GIVE_BACK {
        if mb(relay.rss_bytes()) <= mb(before) + KEPT_MB_MAX {
            return Some(begin.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

/// The end of the relay's log goes with what failed.
fn show_log(relay: &Relay) {
    let text = relay.log_text();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].iter().for_each(|line| eprintln!("    | {line}"));
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

impl Row {
    fn without_result(attack: &'static str, failed: Vec<String>, skipped: Option<String>) -> Self {
        Self {
            attack,
            call_loss: 0.0,
            p99_ms: 0.0,
            p99_calm_ms: 0.0,
            rss_mb: 0.0,
            ok: false,
            rate: 0.0,
            unit: String::new(),
            newcomer_s: 0.0,
            log_lines: None,
            given_back_s: None,
            attempts: 1,
            skipped,
            failed,
            found: std::collections::BTreeMap::new(),
        }
    }

    fn shown(&self) -> String {
        if let Some(reason) = &self.skipped {
            return format!("| `{}` | | | | | | | skipped: {reason} |", self.attack);
        }
        let verdict = if self.ok { "held" } else { "FAILED" };
        let lines = self.log_lines.map_or_else(|| "-".to_owned(), |lines| lines.to_string());
        format!(
            "| `{}` | {:.2} % | {:.1} ({:.1}) | {:.0} | {:.0} {} | {:.2} s | {lines} | {verdict} |",
            self.attack,
            self.call_loss * 100.0,
            self.p99_ms,
            self.p99_calm_ms,
            self.rss_mb,
            self.rate,
            self.unit,
            self.newcomer_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(loss: f64, p99_ms: f64) -> Vec<String> {
        let mut failures = Vec::new();
        let figures = |loss, p99_ms| Figures { sent: 400, loss, p99_ms };
        let mut check = |holds: bool, what| {
            if !holds {
                failures.push(what)
            }
        };
        judge_call(&mut check, figures(loss, p99_ms), figures(0.0, 2.0));
        failures
    }

    #[test]
    fn a_call_is_judged_by_the_calm_before() {
        assert_eq!(failures(0.0099, 16.0), Vec::<String>::new());
        assert_eq!(failures(0.01, 2.0), ["the call lost 1.00 % of 400: less than 1"]);
        assert_eq!(failures(0.0, 16.1), ["the call's p99 was 16.1 ms: at most 16.0"]);
    }

    #[test]
    fn a_row_that_could_not_be_run_has_not_held() {
        let row = Row::without_result("x", Vec::new(), Some("no control group".to_owned()));
        assert!(!row.ok && row.shown().contains("skipped: no control group"));
    }
}
