//! `cargo xtask demo --room N`: a room of many processes, all talking and some showing a picture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use supernode_proto::identity::IdentityKey;

use super::{
    CALL_TIMEOUT, Evidence, Outcome, START_TIMEOUT, Stage,
    canaries::{self, Word},
    during,
    memory::Memory,
    process::{Interrupted, Process},
    report::{Flow, Side},
    settled,
    shown::{Figures, Shown},
};
use crate::workspace;

/// How many of them show a picture.
const PICTURES: usize = 3;
/// Opus packets a second in the samples.
const AUDIO_PACKETS_PER_SECOND: u64 = 50;

/// Somebody in the room.
pub(super) struct Person {
    name: String,
    key: IdentityKey,
    identity: String,
    audio: PathBuf,
    video: Option<PathBuf>,
    recordings: PathBuf,
}

impl Person {
    /// The one with this letter of the alphabet, which shows a picture or not.
    pub(super) fn new(stage: &Stage<'_>, index: usize, shows: bool) -> anyhow::Result<Self> {
        let letter = char::from(b'a' + index as u8);
        let name = letter.to_ascii_uppercase().to_string();
        let identity = stage.directory.text(&format!("{letter}.identity"));
        let key = stage.quick(&["identity", "--out", &identity, "--name", &name])?;
        let samples = workspace::root().join("client/samples");
        let which = if index.is_multiple_of(2) { "a" } else { "b" };
        Ok(Self {
            key: IdentityKey::from_text(key.trim())?,
            audio: samples.join(format!("speech-{which}.opus")),
            video: shows.then(|| samples.join(format!("picture-{which}.ivf"))),
            recordings: stage.directory.path(&format!("recorded-by-{letter}")),
            name,
            identity,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn key(&self) -> IdentityKey {
        self.key
    }

    /// Words of what it sends.
    pub(super) fn canaries(&self, seconds: u64) -> anyhow::Result<Vec<Word>> {
        let mut words = canaries::of_identity(&self.name, &self.identity)?;
        words.extend(canaries::of_audio(&self.audio, seconds)?);
        if let Some(video) = &self.video {
            words.extend(canaries::of_video(video, seconds)?);
        }
        Ok(words)
    }

    /// What this one recorded of somebody.
    fn recording_of(&self, other: &Self, ending: &str) -> anyhow::Result<PathBuf> {
        let beginning = format!("{}-", other.key.to_text());
        for entry in fs::read_dir(&self.recordings).with_context(|| self.recordings.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&beginning) && name.ends_with(ending) {
                return Ok(path);
            }
        }
        bail!("{} has no {ending} of {}", self.name, other.name)
    }
}

/// The last line of `supernode-call room --json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RoomSide {
    #[serde(flatten)]
    pub(super) side: Side,
    members: Vec<Heard>,
}

impl RoomSide {
    /// Finds it in what the program printed.
    ///
    /// # Errors
    /// If the last line is something else.
    pub(super) fn parse(name: &str, stdout: &str) -> anyhow::Result<Self> {
        let last = stdout.lines().rfind(|line| !line.trim().is_empty());
        let last = last.with_context(|| format!("{name} printed no result"))?;
        serde_json::from_str(last).with_context(|| format!("{name}'s last line is no result"))
    }

    /// How long at most nothing was heard of somebody; for ever if nothing ever was.
    pub(super) fn silence_ms_of(&self, other: &Person) -> u64 {
        let identity = other.key.to_text();
        let heard = self.members.iter().find(|member| member.identity == identity && member.audio_received > 0);
        heard.map_or(u64::MAX, |member| member.silence_ms_max)
    }
}

/// What one member says of another.
#[derive(Debug, Clone, Deserialize)]
struct Heard {
    identity: String,
    is_us: bool,
    audio_received: u64,
    video_received: u64,
    spoke_ms: u64,
    lost: u64,
    late: u64,
    undecryptable: u64,
    playout_delay_ms: u64,
    silence_ms_max: u64,
}

/// Runs the room. The report lacks its blindness until the evidence is judged.
pub(super) fn hold(stage: &Stage<'_>, size: usize) -> anyhow::Result<(RoomReport, Evidence)> {
    let Stage { directory, options, relay, ready, interrupted, .. } = *stage;
    let (invite, link) = (directory.path("invite"), directory.path("room"));
    fs::write(&invite, &ready.invite)?;
    let people: Vec<Person> =
        (0..size).map(|index| Person::new(stage, index, index < PICTURES)).collect::<Result<_, _>>()?;
    let mut processes = vec![start(stage, &people[0], "create", &invite, &link, size)?];
    wait_for_link(&mut processes[0], &link, interrupted)?;
    for person in &people[1..] {
        processes.push(start(stage, person, "join", &invite, &link, size)?);
    }
    let subscriptions = (size + PICTURES.min(size)) * (size - 1);
    let during = during::watch(relay, ready.admin, options.seconds, &mut processes, subscriptions, interrupted)?;
    let mut sides = Vec::new();
    for (person, process) in people.iter().zip(processes) {
        let said = process.finish(CALL_TIMEOUT + Duration::from_secs(options.seconds), interrupted)?;
        sides.push(RoomSide::parse(&person.name, &said)?);
    }

    let after = settled(ready.admin, interrupted)?;
    println!("\nWhat the relay saw");
    after.seen().iter().for_each(|(name, value)| println!("  {name} {value}"));
    let flows = flows(&people, &sides)?;
    let members: Vec<Member> = people.iter().zip(&sides).map(|(person, side)| Member::new(person, side)).collect();
    let mut canaries = canaries::of_safety_number(&sides[0].side.safety_number);
    for person in &people {
        canaries.extend(person.canaries(options.seconds)?);
    }
    let load = during.load;
    let evidence = Evidence {
        canaries: canaries::without_repeats(canaries),
        people: people.iter().map(|person| (person.name.clone(), person.key)).collect(),
        during,
        memory_after: Memory::of_process(relay.id())?,
        metrics_after: after.text().to_owned(),
    };
    let report = RoomReport { seconds: options.seconds, members, flows, shown: Shown::new(&after, load)? };
    Ok((report, evidence))
}

/// Until whoever opens the room has written its link.
pub(super) fn wait_for_link(opener: &mut Process, link: &Path, interrupted: &Interrupted) -> anyhow::Result<()> {
    let opening = Instant::now();
    while fs::read_to_string(link).map_or(0, |text| text.len()) == 0 {
        if let Some(status) = opener.ended()? {
            bail!("{} ended with {status} before the room was open", opener.name());
        }
        if opening.elapsed() > START_TIMEOUT {
            bail!("the room was not open after {} s", START_TIMEOUT.as_secs());
        }
        interrupted.pause()?;
    }
    Ok(())
}

/// Somebody goes in, who waits until there are so many.
pub(super) fn start(
    stage: &Stage<'_>,
    person: &Person,
    verb: &str,
    invite: &Path,
    link: &Path,
    size: usize,
) -> anyhow::Result<Process> {
    let mut command = Command::new(stage.program());
    command.args(["room", verb, "--json", "--identity", &person.identity]);
    command.arg("--invite-file").arg(invite).arg("--link-file").arg(link);
    command.args(["--wait-for", &size.to_string(), "--seconds", &stage.options.seconds.to_string()]);
    command.arg("--audio").arg(&person.audio).arg("--record-dir").arg(&person.recordings);
    if let Some(video) = &person.video {
        command.arg("--video").arg(video);
    }
    Process::start(person.name.clone(), format!("{}     | ", person.name), &mut command)
}

/// What each sent and each other recorded.
pub(super) fn flows(people: &[Person], sides: &[RoomSide]) -> anyhow::Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for (from, sent) in people.iter().zip(sides) {
        let identity = from.key.to_text();
        for (to, received) in people.iter().zip(sides).filter(|(to, _)| to.name != from.name) {
            let heard = received.members.iter().find(|member| member.identity == identity);
            let heard = heard.with_context(|| format!("{} does not know {}", to.name, from.name))?;
            let recording = to.recording_of(from, "audio.opus")?;
            let name = format!("audio {} to {}", from.name, to.name);
            flows.push(Flow::new(name, sent.side.audio_sent, heard.audio_received, &from.audio, &recording)?);
            if let Some(video) = &from.video {
                let recording = to.recording_of(from, "video.ivf")?;
                let name = format!("video {} to {}", from.name, to.name);
                flows.push(Flow::new(name, sent.side.video_sent, heard.video_received, video, &recording)?);
            }
        }
    }
    Ok(flows)
}

/// The figures of one member.
#[derive(Debug, Clone, Serialize)]
struct Member {
    name: String,
    audio_sent: u64,
    audio_received: u64,
    video_sent: u64,
    video_received: u64,
    /// Of what others sent.
    lost: u64,
    late: u64,
    undecryptable: u64,
    delay_us_p50: u64,
    delay_us_p99: u64,
    /// The longest that audio of anybody waits for its time.
    playout_delay_ms_max: u64,
    /// How many of the others this one heard speak.
    speakers_heard: usize,
    #[serde(skip)]
    safety_number: String,
}

impl Member {
    fn new(person: &Person, side: &RoomSide) -> Self {
        let others = || side.members.iter().filter(|member| !member.is_us);
        let Side { audio_sent, audio_received, video_sent, video_received, delay_us_p50, delay_us_p99, .. } = side.side;
        Self {
            name: person.name.clone(),
            audio_sent,
            audio_received,
            video_sent,
            video_received,
            lost: others().map(|member| member.lost).sum(),
            late: others().map(|member| member.late).sum(),
            undecryptable: others().map(|member| member.undecryptable).sum(),
            delay_us_p50,
            delay_us_p99,
            playout_delay_ms_max: others().map(|member| member.playout_delay_ms).max().unwrap_or(0),
            speakers_heard: others().filter(|member| member.spoke_ms > 0).count(),
            safety_number: side.side.safety_number.clone(),
        }
    }

    fn line(&self) -> String {
        let Self { name, audio_sent, audio_received, video_sent, video_received, lost, late, .. } = self;
        format!(
            "  {name}: sent {audio_sent:>4} audio {video_sent:>4} video, received {audio_received:>5} and {video_received:>4}, \
             lost {lost}, late {late}, delay p50 {} µs p99 {} µs, heard {} speak",
            self.delay_us_p50, self.delay_us_p99, self.speakers_heard
        )
    }
}

/// Everything the demo found out about a room.
pub(super) struct RoomReport {
    seconds: u64,
    members: Vec<Member>,
    flows: Vec<Flow>,
    shown: Shown,
}

/// The line for programs: the keys of a call, and the members.
#[derive(Serialize)]
struct Json<'a> {
    audio_sent: u64,
    audio_received: u64,
    video_sent: u64,
    video_received: u64,
    media_identical: bool,
    safety_numbers_equal: bool,
    delay_us_p50: u64,
    delay_us_p99: u64,
    #[serde(flatten)]
    relay: Figures,
    members: &'a [Member],
}

impl RoomReport {
    fn safety_numbers_equal(&self) -> bool {
        let first = self.members.first().map(|member| member.safety_number.as_str()).unwrap_or_default();
        !first.is_empty() && self.members.iter().all(|member| member.safety_number == first)
    }

    fn sum(&self, figure: impl Fn(&Member) -> u64) -> u64 {
        self.members.iter().map(figure).sum()
    }
}

impl Outcome for RoomReport {
    fn shown(&mut self) -> &mut Shown {
        &mut self.shown
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.members.iter().map(Member::line).collect();
        let identical = self.flows.iter().filter(|flow| flow.is_identical()).count();
        lines
            .push(format!("  recordings     {identical} of {} are what was sent, packet for packet", self.flows.len()));
        lines.extend(self.flows.iter().filter(|flow| !flow.is_identical()).map(Flow::line));
        let verdict = if self.safety_numbers_equal() { "the same for all" } else { "NOT THE SAME" };
        let number = self.members.first().map(|member| member.safety_number.as_str()).unwrap_or_default();
        lines.push(format!("  safety number  {number} ({verdict})"));
        lines.extend(self.shown.lines());
        lines.join("\n")
    }

    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut must = |held: bool, sentence: String| {
            if !held {
                failures.push(sentence);
            }
        };
        must(!self.flows.is_empty(), "nothing was to be sent".into());
        for flow in &self.flows {
            must(flow.is_identical(), format!("what was sent is not what was recorded:{}", flow.line()));
        }
        must(self.safety_numbers_equal(), "the safety numbers differ or are empty".into());
        for member in &self.members {
            let least = self.seconds.min(12) * AUDIO_PACKETS_PER_SECOND / 2;
            must(
                member.audio_sent >= least,
                format!("{} sent {} packets: at least {least}", member.name, member.audio_sent),
            );
            let others = self.members.len() - 1;
            must(
                member.speakers_heard == others,
                format!("{} heard {} of {others} speak", member.name, member.speakers_heard),
            );
        }
        failures.extend(self.shown.failures());
        failures
    }

    fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(&Json {
            audio_sent: self.sum(|member| member.audio_sent),
            audio_received: self.sum(|member| member.audio_received),
            video_sent: self.sum(|member| member.video_sent),
            video_received: self.sum(|member| member.video_received),
            media_identical: !self.flows.is_empty() && self.flows.iter().all(Flow::is_identical),
            safety_numbers_equal: self.safety_numbers_equal(),
            delay_us_p50: self.members.iter().map(|member| member.delay_us_p50).max().unwrap_or(0),
            delay_us_p99: self.members.iter().map(|member| member.delay_us_p99).max().unwrap_or(0),
            relay: self.shown.figures(),
            members: &self.members,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shown::tests::good, *};

    fn side() -> RoomSide {
        let json = r#"{"audio_sent":200,"audio_received":200,"video_sent":80,"video_received":0,"safety_number":"12345",
            "delay_us_p50":900,"delay_us_p99":2000,"silence_ms_max":80,"rung":"full","members":[
            {"identity":"a","is_us":true,"audio_received":0,"video_received":0,"spoke_ms":0,"lost":0,"late":0,
            "undecryptable":0,"playout_delay_ms":0,"silence_ms_max":0,"kbit_per_s":0},
            {"identity":"b","is_us":false,"audio_received":120,"video_received":0,"spoke_ms":3200,"lost":2,"late":1,
            "undecryptable":0,"playout_delay_ms":20,"silence_ms_max":40,"kbit_per_s":24},
            {"identity":"c","is_us":false,"audio_received":80,"video_received":0,"spoke_ms":20,"lost":1,"late":0,
            "undecryptable":4,"playout_delay_ms":60,"silence_ms_max":80,"kbit_per_s":24}]}"#;
        serde_json::from_str(json).expect("what supernode-call prints, and more")
    }

    fn member(name: &str) -> Member {
        let person = Person {
            name: name.into(),
            key: IdentityKey::new([1; 32]),
            identity: String::new(),
            audio: PathBuf::new(),
            video: None,
            recordings: PathBuf::new(),
        };
        Member::new(&person, &side())
    }

    /// A flow whose recording is what was sent, of which the receiver says that it got so many packets.
    fn flow(received: u64) -> Flow {
        let sample = workspace::root().join("client/samples/speech-a.opus");
        Flow::new("audio A to B", 601, received, &sample, &sample).expect("samples")
    }

    fn report() -> RoomReport {
        RoomReport { seconds: 4, members: ["A", "B", "C"].map(member).into(), flows: vec![flow(601)], shown: good() }
    }

    #[test]
    fn a_good_room_has_no_failures_and_prints_the_promised_keys() {
        assert_eq!(report().failures(), Vec::<String>::new());
        let member = |name| {
            format!(
                r#"{{"name":"{name}","audio_sent":200,"audio_received":200,"video_sent":80,"video_received":0,"lost":3,"late":1,"undecryptable":4,"delay_us_p50":900,"delay_us_p99":2000,"playout_delay_ms_max":60,"speakers_heard":2}}"#
            )
        };
        let expected = format!(
            r#"{{"audio_sent":600,"audio_received":600,"video_sent":240,"video_received":0,"media_identical":true,"safety_numbers_equal":true,"delay_us_p50":900,"delay_us_p99":2000,"ledger_balanced":true,"relay_datagrams_forwarded":400,"relay_cpu_us_per_datagram":50.0,"canaries":7,"canaries_found":0,"memory_searched_mib":2.0,"members":[{}]}}"#,
            ["A", "B", "C"].map(member).join(",")
        );
        assert_eq!(report().json().expect("numbers"), expected);
        let text = report().text();
        assert!(text.contains("1 of 1 are what was sent, packet for packet"), "{text}");
        assert!(text.contains("12345 (the same for all)") && text.contains("lost 3, late 1"), "{text}");
    }

    #[test]
    fn each_broken_promise_is_one_failure() {
        type Break = fn(&mut RoomReport);
        let breaks: [(&str, Break); 7] = [
            ("lost", |report| report.flows.push(flow(600))),
            ("no room", |report| report.flows.clear()),
            ("safety", |report| report.members[2].safety_number = "54321".into()),
            ("no safety number", |report| {
                report.members.iter_mut().for_each(|member| member.safety_number.clear());
            }),
            ("hardly spoke", |report| report.members[0].audio_sent = 99),
            ("not heard by all", |report| report.members[1].speakers_heard = 1),
            ("the relay's part", |report| report.shown.datagrams_forwarded = 0.0),
        ];
        for (name, break_it) in breaks {
            let mut report = report();
            break_it(&mut report);
            assert_eq!(report.failures().len(), 1, "{name}: {:?}", report.failures());
        }
    }
}
