//! `supernode top`

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use crossterm::{
    cursor,
    event::{self, Event, KeyCode, KeyModifiers},
    execute, queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{self, Clear, ClearType},
};
use supernode_server::control::status::Status as Reading;

use crate::cli::{
    exit::Exit,
    output::{bits, count, duration, print_json},
    relay::Relay,
    state::State,
};

#[derive(Args)]
pub(crate) struct Top {
    #[command(flatten)]
    state: State,
    /// Seconds between two looks, 1 to 60.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=60))]
    interval_s: u8,
    /// Print the rates of one interval as JSON, and end.
    #[arg(long)]
    json: bool,
}

/// What happened between two readings, a second.
#[derive(serde::Serialize)]
struct Rates {
    datagrams_in: f64,
    datagrams_out: f64,
    bits_in: f64,
    bits_out: f64,
    objects_received: f64,
    objects_delivered: f64,
    dropped: BTreeMap<String, f64>,
    refused: BTreeMap<String, f64>,
}

impl Top {
    /// Shows the running relay's rates until `q` is pressed.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let relay = Relay::of(&self.state)?;
        let interval = Duration::from_secs(self.interval_s.into());
        if self.json {
            let before = relay.status()?;
            std::thread::sleep(interval);
            return print_json(&Rates::between(&before, &relay.status()?));
        }
        if !io::stdout().is_terminal() {
            return Err(Exit::NoTerminal.into());
        }
        let before = relay.status()?;
        terminal::enable_raw_mode()?;
        let shown = execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .map_err(anyhow::Error::from)
            .and_then(|()| watch(&relay, interval, before));
        // Whatever happened, the terminal is given back as it was.
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
        shown
    }
}

fn watch(relay: &Relay, interval: Duration, mut before: Reading) -> anyhow::Result<()> {
    let mut lines = vec!["one moment: rates need two looks".to_owned()];
    loop {
        draw(&lines)?;
        if wait_for_key(interval)? {
            return Ok(());
        }
        let now = relay.status()?;
        // Another process has taken over: its counters begin anew.
        if now.pid == before.pid {
            lines = page(&now, &Rates::between(&before, &now));
        }
        before = now;
    }
}

/// Waits for the interval; whether the user wants to leave.
fn wait_for_key(interval: Duration) -> anyhow::Result<bool> {
    if !event::poll(interval)? {
        return Ok(false);
    }
    Ok(match event::read()? {
        Event::Key(key) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
            _ => false,
        },
        _ => false,
    })
}

fn draw(lines: &[String]) -> anyhow::Result<()> {
    let (width, height) = terminal::size()?;
    let mut out = io::stdout().lock();
    queue!(out, cursor::MoveTo(0, 0), Clear(ClearType::All))?;
    for (row, line) in lines.iter().take(height.into()).enumerate() {
        let fits: String = line.chars().take(width.into()).collect();
        let weight = if row == 0 { Attribute::Bold } else { Attribute::Reset };
        queue!(out, cursor::MoveTo(0, row as u16), SetAttribute(weight), Print(fits), SetAttribute(Attribute::Reset))?;
    }
    Ok(out.flush()?)
}

fn page(now: &Reading, rates: &Rates) -> Vec<String> {
    let mut lines = vec![
        format!(
            "supernode {} on {}: {}, up {}   (q leaves)",
            now.version,
            now.listen,
            now.phase.word(),
            duration(now.uptime_s)
        ),
        String::new(),
        format!(
            "sessions  {:>8} of {}   handshaking {}   rings {}",
            now.sessions, now.sessions_max, now.handshaking, now.rings
        ),
        format!("calls     {:>8} rooms   {} tracks   {} subscriptions", now.rooms, now.tracks, now.subscriptions),
        format!("in        {:>14}   {:>8}/s datagrams", bits(rates.bits_in), count(rates.datagrams_in as u64)),
        format!("out       {:>14}   {:>8}/s datagrams", bits(rates.bits_out), count(rates.datagrams_out as u64)),
        format!(
            "objects   {:>8}/s in   {}/s delivered   {} waiting",
            count(rates.objects_received as u64),
            count(rates.objects_delivered as u64),
            count(now.objects.queued)
        ),
        String::new(),
    ];
    let reasons = |verb: &str, rates: &BTreeMap<String, f64>| -> Vec<String> {
        rates.iter().map(|(reason, rate)| format!("{verb} as {reason}: {rate:.1}/s")).collect()
    };
    let mut losses = reasons("dropped", &rates.dropped);
    losses.extend(reasons("refused", &rates.refused));
    if losses.is_empty() {
        losses.push("nothing dropped, nothing refused".to_owned());
    }
    lines.extend(losses);
    lines
}

impl Rates {
    fn between(before: &Reading, now: &Reading) -> Self {
        let seconds = (now.unix_ms.saturating_sub(before.unix_ms) as f64 / 1e3).max(0.001);
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let by_reason = |before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>| {
            let grown = |(reason, count): (&String, &u64)| {
                let rate = rate(before.get(reason).copied().unwrap_or(0), *count);
                (rate > 0.0).then(|| (reason.clone(), rate))
            };
            now.iter().filter_map(grown).collect()
        };
        Self {
            datagrams_in: rate(before.datagrams_in, now.datagrams_in),
            datagrams_out: rate(before.datagrams_out, now.datagrams_out),
            bits_in: 8.0 * rate(before.bytes_in, now.bytes_in),
            bits_out: 8.0 * rate(before.bytes_out, now.bytes_out),
            objects_received: rate(before.objects.received, now.objects.received),
            objects_delivered: rate(before.objects.delivered, now.objects.delivered),
            dropped: by_reason(&before.objects.dropped, &now.objects.dropped),
            refused: by_reason(&before.refused, &now.refused),
        }
    }
}
