//! What a person sees while a run goes on: a few lines that are drawn over each other.

use std::io::Write;

use super::run::Progress;

/// Columns of bars and sparklines.
const WIDTH: usize = 40;
const TICKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines at the bottom of the terminal.
#[derive(Debug, Default)]
pub struct Screen {
    lines: usize,
    rates: Vec<f64>,
    /// 99th percentile of each time, in ms.
    delays: Vec<f64>,
    p50_ms: f64,
}

impl Screen {
    /// Nothing drawn yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws over what was drawn before. A terminal that has gone away is no reason to stop measuring.
    pub fn show(&mut self, progress: &Progress, out: &mut impl Write) {
        let text = self.text(progress);
        self.clear(out);
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.lines = text.lines().count();
    }

    /// Takes the lines away.
    pub fn clear(&mut self, out: &mut impl Write) {
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
        }
        self.lines = 0;
    }

    fn text(&mut self, progress: &Progress) -> String {
        let (ready, planned) = progress.ready;
        let mut text = format!(
            "{:>6.1} s  ready     {} {ready}/{planned}\n",
            progress.at_s,
            bar(share(ready.into(), planned.into()))
        );
        let Some(measured) = progress.measured else { return text };
        // After it only stragglers come: their rate says nothing.
        if measured < 1.0 {
            self.rates.push(progress.delivered_per_s);
        }
        if let Some((p50, p99)) = progress.delay_ms {
            self.p50_ms = p50;
            self.delays.push(p99);
        }
        text += &format!("          measured  {} {:.0} %\n", bar(measured), measured * 100.0);
        text += &format!("          delivered {} {:.0}/s\n", sparkline(&self.rates), self.rates.last().unwrap_or(&0.0));
        let (p50, p99) = (self.p50_ms, self.delays.last().unwrap_or(&0.0));
        text += &format!("          p99 delay {} {p99:.2} ms (p50 {p50:.2} ms)\n", sparkline(&self.delays));
        // What is on its way is not lost yet: this is the most that can be.
        let missing = share(progress.expected.saturating_sub(progress.delivered), progress.expected);
        text += &format!("          missing   {} {:.2} %\n", bar(missing), missing * 100.0);
        text
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(WIDTH - full)
}

/// The last values, from zero to the largest of them.
fn sparkline(values: &[f64]) -> String {
    let shown = &values[values.len().saturating_sub(WIDTH)..];
    let most = shown.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let tick = |value: &f64| TICKS[((value / most * 7.0).round() as usize).min(7)];
    let line: String = shown.iter().map(tick).collect();
    " ".repeat(WIDTH - shown.len()) + &line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparklines_are_as_wide_as_they_say() {
        assert_eq!(bar(0.5).chars().filter(|character| *character == '█').count(), WIDTH / 2);
        assert_eq!(bar(7.0).chars().count(), WIDTH);
        let line = sparkline(&[0.0, 1.0, 2.0, 4.0]);
        assert!(line.ends_with("▁▃▅█"), "{line}");
        assert_eq!(line.chars().count(), WIDTH);
        assert_eq!(sparkline(&[1.0; 100]).chars().count(), WIDTH);
    }

    #[test]
    fn the_screen_takes_away_what_it_drew() {
        let mut screen = Screen::new();
        let mut out = Vec::new();
        let progress =
            Progress { measured: Some(0.5), ready: (2, 2), expected: 10, delivered: 5, ..Progress::default() };
        screen.show(&progress, &mut out);
        let drawn = String::from_utf8(std::mem::take(&mut out)).expect("text");
        assert_eq!(drawn.lines().count(), 5);
        assert!(drawn.contains("2/2") && drawn.contains("50.00 %"), "{drawn}");
        screen.clear(&mut out);
        assert_eq!(out, b"\x1b[5A\x1b[J");
    }
}
