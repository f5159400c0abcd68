//! The live roster: who is here, who speaks, and how their media arrives.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_client::Call;

use super::figures::{MemberFigures, Watched};
use crate::progress::note;

/// So much of a public name tells people apart in a small room.
const NAME_CHARACTERS: usize = 16;

/// Shows the roster once a second until dropped: on a terminal in place, else in one line.
pub(super) async fn show(call: Call, watched: Arc<Watched>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let in_place = std::io::stderr().is_terminal();
    let mut shown = 0;
    for second in 1u64.. {
        ticks.tick().await;
        let members = watched.members(&call, Instant::now());
        if !in_place {
            note(&line(second, &members, &call.safety_number().unwrap_or_default()));
            continue;
        }
        let mut text = String::new();
        if shown > 0 {
            // Up over what was shown before, and from there on all is cleared.
            text += &format!("\x1b[{shown}A\x1b[J");
        }
        let lines = table(&members);
        shown = lines.len();
        lines.iter().for_each(|line| text += &format!("{line}\n"));
        // Without standard error there is nobody to show it to.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// A heading, and a line for each member.
pub(super) fn table(members: &[MemberFigures]) -> Vec<String> {
    let heading = format!(
        "{:<NAME_CHARACTERS$} {:<5} {:<6} {:>7} {:>6} {:>5} {:>9} {:>9}",
        "member", "here", "speaks", "kbit/s", "lost", "late", "delay ms", "played at"
    );
    let row = |member: &MemberFigures| {
        let yes = |is_so: bool| if is_so { "yes" } else { "" };
        let here = if member.is_us { "us" } else { yes(member.is_here) };
        let delay = member.delay_us_p50.map_or_else(|| "-".into(), |us| format!("{}.{}", us / 1000, us / 100 % 10));
        format!(
            "{:<NAME_CHARACTERS$} {here:<5} {:<6} {:>7} {:>6} {:>5} {delay:>9} {:>6} ms",
            name(&member.identity),
            yes(member.speaks),
            member.kbit_per_s,
            member.lost,
            member.late,
            member.playout_delay_ms,
        )
    };
    std::iter::once(heading).chain(members.iter().map(row)).collect()
}

fn line(second: u64, members: &[MemberFigures], safety_number: &str) -> String {
    let here = members.iter().filter(|member| member.is_here).count();
    let speakers: Vec<String> = members.iter().filter(|m| m.speaks).map(|m| name(&m.identity)).collect();
    let speakers = if speakers.is_empty() { "nobody".to_owned() } else { speakers.join(" ") };
    let kilobits: u64 = members.iter().map(|member| member.kbit_per_s).sum();
    let lost: u64 = members.iter().map(|member| member.lost).sum();
    format!(
        "{second:>4} s  {here} here  in {kilobits:>5} kbit/s  lost {lost}  speaks {speakers}  safety {safety_number}"
    )
}

/// The beginning of a public name, behind what all have in common.
pub(super) fn name(identity: &str) -> String {
    identity.strip_prefix("sn-id-").unwrap_or(identity).chars().take(NAME_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(identity: &str) -> MemberFigures {
        MemberFigures {
            identity: identity.into(),
            device: "sn-dev-x".into(),
            is_us: false,
            is_here: true,
            speaks: true,
            spoke_ms: 20,
            audio_received: 5,
            video_received: 0,
            bytes_received: 500,
            kbit_per_s: 24,
            lost: 1,
            late: 2,
            undecryptable: 0,
            delay_us_p50: Some(1_250),
            delay_us_p99: None,
            playout_delay_ms: 20,
            silence_ms_max: 60,
        }
    }

    #[test]
    fn a_roster_has_a_line_for_everybody() {
        let quiet = MemberFigures { speaks: false, is_here: false, delay_us_p50: None, ..member("sn-id-bbbb") };
        let us = MemberFigures { is_us: true, ..member("sn-id-aaaabbbbccccddddeeee") };
        let lines = table(&[us, quiet]);
        assert_eq!(lines[0], "member           here  speaks  kbit/s   lost  late  delay ms played at");
        assert_eq!(lines[1], "aaaabbbbccccdddd us    yes         24      1     2       1.2     20 ms");
        assert_eq!(lines[2], "bbbb                               24      1     2         -     20 ms");
        assert_eq!(
            line(7, &[member("sn-id-aaaa"), member("sn-id-cccc")], "12345"),
            "   7 s  2 here  in    48 kbit/s  lost 2  speaks aaaa cccc  safety 12345"
        );
    }
}
