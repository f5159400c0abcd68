//! The program with microphones and loudspeakers, which are a sound server's that nobody hears. What is heard is judged by
//! what it is: pitch, level and gaps. Needs Debian's pulseaudio, pulseaudio-utils and libasound2-plugins.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails may panic, and says what it measured")]

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use supernode_testkit::Relay;

const PROGRAM: &str = env!("CARGO_BIN_EXE_supernode-call");
const RATE: usize = 48_000;
/// What is said, as a part of the loudest.
const LEVEL: f64 = 0.3;
/// How long what is heard is judged, from a second after it begins.
const JUDGED_S: usize = 5;
/// Parts of it, of which each is as loud as the tone, or a gap.
const WINDOW: usize = RATE / 100;
/// Two people, and what each says.
const PEOPLE: [(&str, f64); 2] = [("alice", 440.0), ("bob", 620.0)];
/// How often a call is made until it is held.
const ATTEMPTS_MAX: usize = 3;
const READY: Duration = Duration::from_secs(20);

/// A process that ends with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sound server of our own, with a sink for each mouth, whose monitor is a microphone, and one for each ear.
struct Stage {
    directory: PathBuf,
    server: Option<Process>,
}

impl Stage {
    fn open(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("supernode-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut stage = Self { directory, server: None };
        let mut devices = String::new();
        for (who, _) in PEOPLE {
            for (pcm, device) in [("mouth", "mouth.monitor"), ("ear", "ear")] {
                devices += &format!(
                    "pcm.{who}_{pcm} {{ type pulse server \"{}\" device \"{who}_{device}\" \
                     hint {{ show on description \"the {pcm} of {who}\" }} }}\n",
                    stage.address()
                );
            }
        }
        fs::write(stage.file(".asoundrc"), devices).unwrap();
        stage.start();
        stage
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn address(&self) -> String {
        format!("unix:{}", self.file("native").display())
    }

    fn start(&mut self) {
        let socket = self.file("native");
        let _ = fs::remove_file(&socket);
        let mut command = self.command("/usr/bin/pulseaudio");
        command.args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"]);
        command.args(["--realtime=no", "--high-priority=no"]);
        for (who, _) in PEOPLE {
            for sink in ["mouth", "ear"] {
                command.args(["-L", &format!("module-null-sink sink_name={who}_{sink} rate=48000 channels=1")]);
            }
        }
        command.args(["-L", &format!("module-native-protocol-unix socket={} auth-anonymous=1", socket.display())]);
        command.stdout(Stdio::null()).stderr(File::create(self.file("pulseaudio.log")).unwrap());
        self.server =
            Some(Process(command.spawn().expect("apt-get install pulseaudio pulseaudio-utils libasound2-plugins")));
        until("the sound server is there", || socket.exists());
    }

    /// With nothing of this machine's own settings for sound.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", &self.directory)
            .env("XDG_RUNTIME_DIR", &self.directory)
            .env("PULSE_SERVER", self.address());
        command.stdin(Stdio::null());
        command
    }

    fn sound(&self, program: &str, device: &str) -> Command {
        let mut command = self.command(program);
        command.args(["--raw", "--format=s16le", "--rate=48000", "--channels=1", "--latency-msec=60"]);
        command.arg(format!("--device={device}"));
        command
    }

    /// Somebody says a tone from now on.
    fn speak(&self, who: &str, pitch: f64) -> Process {
        let sample = |at: usize| (at as f64 * pitch * std::f64::consts::TAU / RATE as f64).sin() * LEVEL * 32_767.0;
        let bytes: Vec<u8> = (0..90 * RATE).flat_map(|at| (sample(at) as i16).to_le_bytes()).collect();
        let tone = self.file(&format!("{who}.tone"));
        fs::write(&tone, bytes).unwrap();
        Process(self.sound("pacat", &format!("{who}_mouth")).arg(tone).spawn().unwrap())
    }

    /// What somebody hears from now on.
    fn hear(&self, who: &str) -> Process {
        let heard = File::create(self.file(&format!("{who}.heard"))).unwrap();
        Process(self.sound("parec", &format!("{who}_ear.monitor")).stdout(heard).spawn().unwrap())
    }

    fn heard(&self, who: &str) -> Vec<f64> {
        let bytes = fs::read(self.file(&format!("{who}.heard"))).unwrap();
        bytes.chunks_exact(2).map(|two| f64::from(i16::from_le_bytes([two[0], two[1]])) / 32_768.0).collect()
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Bob waits and Alice calls, each by their own devices.
    fn call(&self, relay: &Relay, seconds: &str) -> [Child; 2] {
        for (who, _) in PEOPLE {
            text(self.program(&["identity", "--out"]).arg(self.file(who)).output().unwrap());
        }
        let ticket = text(self.program(&["ticket", "--identity"]).arg(self.file("bob")).output().unwrap());
        let mut sides = ["call", "listen"].map(|side| self.program(&[side, "--json"]));
        for (side, (who, _)) in sides.iter_mut().zip(PEOPLE) {
            side.arg("--identity").arg(self.file(who)).env("SUPERNODE_INVITE", relay.invite().to_string());
            side.args(["--mic", &format!("{who}_mouth"), "--speaker", &format!("{who}_ear")]);
        }
        let [call, listen] = &mut sides;
        call.env("SUPERNODE_TICKET", ticket).args(["--seconds", seconds]);
        let listening = listen.spawn().unwrap();
        [call.spawn().unwrap(), listening]
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server = None;
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < READY, "{what}");
        sleep(Duration::from_millis(20));
    }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How loud a pitch is in this (Goertzel's algorithm), as the amplitude of a tone.
fn loudness(samples: &[f64], pitch: f64) -> f64 {
    let turn = pitch * std::f64::consts::TAU / RATE as f64;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let angle = turn * at as f64;
        real += sample * angle.cos();
        imaginary += sample * angle.sin();
    }
    2.0 * f64::hypot(real, imaginary) / samples.len() as f64
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

/// What is heard from a second after it begins, for so long as it is judged.
fn judged<'a>(heard: &'a [f64], who: &str) -> &'a [f64] {
    let begins = heard.chunks(WINDOW).position(|window| rms(window) > LEVEL / 3.0);
    let begins = begins.unwrap_or_else(|| panic!("{who} hears nothing")) * WINDOW + RATE;
    assert!(heard.len() >= begins + JUDGED_S * RATE, "{who} hears something for {} samples only", heard.len() - begins);
    &heard[begins..begins + JUDGED_S * RATE]
}

/// What is wrong with what somebody hears.
fn faults(who: &str, heard: &[f64], pitch: f64, own: f64) -> Vec<String> {
    let heard = judged(heard, who);
    let crossings = heard.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count() as f64 / JUDGED_S as f64;
    let gaps = heard.chunks_exact(WINDOW).filter(|window| rms(window) < LEVEL / 3.0).count();
    let windows = heard.len() / WINDOW;
    let level_db = 20.0 * (rms(heard) / (LEVEL / 2f64.sqrt())).log10();
    let echo = heard.chunks(RATE / 10).map(|part| loudness(part, own)).fold(0.0, f64::max);
    println!(
        "{who}: {crossings:.1} Hz of {pitch}, {level_db:.2} dB, {gaps} of {windows} windows are gaps, own {echo:.4}"
    );
    let must = [
        ((crossings / pitch - 1.0).abs() < 0.01, format!("{who} hears {crossings} Hz, and {pitch} was said")),
        (level_db.abs() < 3.0, format!("{who} hears it by {level_db:.1} dB louder than it was said")),
        ((gaps as f64) < windows as f64 * 0.01, format!("{who}: {gaps} of {windows} windows are gaps")),
        (echo < LEVEL / 10.0, format!("{who} hears themselves: {echo}")),
    ];
    must.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
}

/// What is wrong with what both hear.
fn faults_of_both(stage: &Stage) -> Vec<String> {
    let [(alice, a), (bob, b)] = PEOPLE;
    [faults(alice, &stage.heard(alice), b, a), faults(bob, &stage.heard(bob), a, b)].concat()
}

/// A machine that is busy with something else takes its turns from sound devices that are made of processes, but not each time.
fn held_at_last(try_it: impl Fn() -> Vec<String>) {
    let mut faults = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        faults = try_it();
        if faults.is_empty() {
            return;
        }
        println!("{}", faults.join("\n"));
    }
    panic!("each of {ATTEMPTS_MAX} times: {}", faults.join("; "));
}

fn figures(who: &str, output: Output) -> (serde_json::Value, String) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{who}: {told}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_str(stdout.lines().last().unwrap()).unwrap(), told)
}

#[test]
fn two_people_talk_by_microphone_and_loudspeaker() {
    held_at_last(talk);
}

fn talk() -> Vec<String> {
    let relay = Relay::open(1);
    let stage = Stage::open("sound");
    let _hearing = PEOPLE.map(|(who, _)| stage.hear(who));
    let _speaking = PEOPLE.map(|(who, pitch)| stage.speak(who, pitch));
    let sides = stage.call(&relay, "8").map(|side| side.wait_with_output().unwrap());
    for ((who, _), side) in PEOPLE.into_iter().zip(sides) {
        let (figures, told) = figures(who, side);
        // A sound server may give nothing of a microphone for a second after it was opened.
        assert!(figures["audio_sent"].as_u64().unwrap() > 250, "{figures}");
        assert_eq!((&figures["lost"], &figures["undecryptable"]), (&0.into(), &0.into()), "{figures}");
        let counted = |line: &&str| line.starts_with("microphone: ") || line.starts_with("loudspeaker: 1 voices");
        assert_eq!(told.lines().filter(counted).count(), 2, "{told}");
        told.lines().filter(counted).for_each(|line| println!("{who}'s {line}"));
    }
    faults_of_both(&stage)
}

#[test]
fn a_sound_server_that_goes_away_is_said_and_heard_again_when_it_is_back() {
    held_at_last(talk_through_an_outage);
}

fn talk_through_an_outage() -> Vec<String> {
    let relay = Relay::open(1);
    let mut stage = Stage::open("unplugged");
    let speaking = PEOPLE.map(|(who, pitch)| stage.speak(who, pitch));
    let sides = stage.call(&relay, "24");
    sleep(Duration::from_secs(8));
    drop(speaking);
    stage.server = None;
    sleep(Duration::from_secs(2));
    stage.start();
    let _hearing = PEOPLE.map(|(who, _)| stage.hear(who));
    let _speaking = PEOPLE.map(|(who, pitch)| stage.speak(who, pitch));
    for ((who, _), side) in PEOPLE.into_iter().zip(sides.map(|side| side.wait_with_output().unwrap())) {
        let (_, told) = figures(who, side);
        for device in [format!("microphone {who}_mouth"), format!("loudspeaker {who}_ear")] {
            assert!(told.contains(&format!("{device}: cannot be used")), "{told}");
            assert!(told.contains(&format!("the {device} is back")), "{told}");
        }
    }
    faults_of_both(&stage)
}

#[test]
fn devices_are_listed_by_the_names_that_they_are_chosen_by_and_one_that_is_not_there_is_named() {
    let stage = Stage::open("devices");
    let listed = text(stage.program(&["sound"]).output().unwrap());
    let (microphones, loudspeakers) = listed.split_once("loudspeakers (--speaker NAME):").unwrap();
    assert!(microphones.contains("  alice_mouth  the mouth of alice"), "{listed}");
    assert!(loudspeakers.contains("  bob_ear  the ear of bob"), "{listed}");
    text(stage.program(&["identity", "--out"]).arg(stage.file("eve")).output().unwrap());
    let relay = Relay::open(1);
    let mut listen = stage.program(&["listen", "--mic", "alice_nose", "--speaker", "--identity"]);
    let listen = listen.arg(stage.file("eve")).env("SUPERNODE_INVITE", relay.invite().to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&listen.stderr);
    assert_eq!(listen.status.code(), Some(1), "{told}");
    assert!(told.starts_with("supernode-call: microphone alice_nose: cannot be used: "), "in our words: {told}");
    assert!(told.contains("-> see which there are (supernode-call sound)"), "{told}");
}
