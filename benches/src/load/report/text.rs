//! The report for a terminal.

use std::{collections::BTreeMap, fmt};

use super::{Quantiles, Report};

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p999, max, .. } = self;
        write!(f, "p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, sessions, generator, relay, .. } = self;
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
        };
        for (index, line) in self.about.to_string().lines().enumerate() {
            writeln!(f, "{:<11} {line}", if index == 0 { "run" } else { "" })?;
        }
        writeln!(
            f,
            "sessions    {} planned, {} alive after, {} subscriptions",
            sessions.planned, sessions.alive_after, sessions.subscriptions_planned
        )?;
        writeln!(
            f,
            "delivered   {} of {} ({:.0}/s, {:.1} Mbit/s), lost {} ({:.3} %), late {}, duplicates {}, reordered {}, \
             held back {}",
            objects.delivered,
            objects.expected,
            objects.delivered_per_s,
            objects.delivered_mbit_per_s,
            objects.lost,
            objects.loss * 100.0,
            objects.late,
            objects.duplicates,
            objects.reordered,
            objects.held_back
        )?;
        if objects.delivered_aside > 0 {
            writeln!(f, "aside       {} delivered to slow, passing or flooding clients", objects.delivered_aside)?;
        }
        if self.scenario.outsiders.is_some() {
            writeln!(
                f,
                "outsiders   {} put out, {} requests turned away, {} trespasses",
                sessions.put_out, sessions.turned_away, objects.trespasses
            )?;
        }
        writeln!(f, "delay       {}", self.delay_ms)?;
        writeln!(f, "setup       {}", self.setup_ms)?;
        let busy: Vec<String> = generator.busy.iter().map(|busy| format!("{:.0} %", busy * 100.0)).collect();
        writeln!(f, "generator   busy {}, lag {}", busy.join(" "), generator.lag_ms)?;
        if let Some(busy) = relay.busy {
            let rss = relay.rss_mib.unwrap_or_default();
            let cost = relay.cpu_us_per_delivered.map(|cost| format!("{cost:.2} us CPU per delivery, "));
            writeln!(f, "relay       busy {:.0} %, {}RSS {rss:.1} MiB", busy * 100.0, cost.unwrap_or_default())?;
        }
        if sessions.opened > 0 {
            let cost = relay.cpu_us_per_session_opened.map(|cost| format!(", {cost:.0} us of the relay's CPU each"));
            let (opened, rate) = (sessions.opened, sessions.opened_per_s);
            writeln!(f, "opened      {opened} sessions, {rate:.1}/s{}", cost.unwrap_or_default())?;
        }
        if let Some(packets) = relay.datagrams_out_per_delivered {
            writeln!(f, "            {packets:.2} datagrams out per delivery")?;
        }
        if let Some(scrapes) = &relay.scrapes {
            let super::ScrapeReport { count, failed, bytes_max, time_ms } = scrapes;
            writeln!(
                f,
                "scrapes     {count} of {bytes_max} bytes, p50 {:.1}  p99 {:.1}  max {:.1} ms, {failed} not answered",
                time_ms.p50, time_ms.p99, time_ms.max
            )?;
        }
        for (what, counts) in [("drops", &relay.drops), ("closed", &sessions.closed), ("refused", &sessions.refused)] {
            if !counts.is_empty() {
                writeln!(f, "{what:<11} {}", list(counts))?;
            }
        }
        for stage in &self.stages {
            writeln!(
                f,
                "stage       {} s to {:.0} %: {:.0}/s delivered, p50 {:.2}  p99 {:.2} ms, lost {:.3} %: {}",
                stage.for_s,
                stage.to * 100.0,
                stage.delivered_per_s,
                stage.delay_ms.p50,
                stage.delay_ms.p99,
                stage.loss * 100.0,
                stage.word()
            )?;
        }
        if let Some(why) = &self.aborted {
            writeln!(f, "ABORTED     {why}")?;
        }
        for verdict in &self.slo {
            writeln!(f, "slo         {}: {}", verdict.word(), verdict.expression)?;
        }
        for doubt in &self.doubts {
            writeln!(f, "INVALID     {doubt}")?;
        }
        Ok(())
    }
}
