//! Whether a relay was blind: with its whole memory, its logs and its metrics in hand, nothing planted is found.

use super::{
    canaries::Word,
    memory::{Finder, Memory},
};

/// Findings that are named one by one; the others are counted.
const NAMED_MAX: usize = 5;
/// Hexadecimal digits in a row that may stand in a log: fewer than 16 bytes, the size of a room's name, have.
const HEXADECIMAL_MAX: usize = 31;
/// Numbers in a row, as a list of bytes is printed.
const NUMBERS_MAX: usize = 7;
/// How the text forms of what names people begin, and tokens.
const PREFIXES: &[&str] = &["sn-id-", "sn-dev-", "sn-join-", "sn-ticket-", "sn-pass-", "eyJ"];

/// A place where the relay may keep things, as it was at one moment.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) memory: Memory,
    /// The words of these must be in it, or it was not searched properly.
    pub(super) controls: Vec<Word>,
}

/// A log or a page of metrics.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) name: &'static str,
    pub(super) text: String,
    /// What must be in it, or it is not what it is taken for.
    pub(super) control: String,
}

/// What the search came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blindness {
    /// Different words searched for.
    pub(super) canaries: usize,
    /// Of these, found anywhere.
    pub(super) found: Vec<String>,
    /// Bytes of memory searched, a place each.
    pub(super) searched_bytes: Vec<usize>,
    /// Words that had to be there and were.
    pub(super) controls_found: usize,
    /// Words that had to be there and were not.
    pub(super) controls_missing: Vec<String>,
    /// What the logs or metrics say of people.
    pub(super) named: Vec<String>,
    /// Words that may be left in memory that was given back: how many were found in the last place.
    pub(super) left: usize,
}

impl Blindness {
    /// Searches `places` and `texts` for `canaries`, the texts for `names` too, and the last place for `leftovers`.
    ///
    /// # Errors
    /// If there is nothing to search for.
    pub(super) fn new(
        canaries: &[Word],
        places: &[Place],
        texts: &[Text],
        names: &[Word],
        leftovers: &[Word],
    ) -> anyhow::Result<Self> {
        let mut result = Self { canaries: canaries.len(), ..Self::default() };
        let finder = Finder::new(canaries)?;
        let mut hits = vec![Vec::new(); canaries.len()];
        let mut search = |name: &'static str, memory: &Memory| {
            for (hit, count) in hits.iter_mut().zip(finder.counts(memory)) {
                if count > 0 {
                    hit.push(name);
                }
            }
        };
        for place in places {
            search(place.name, &place.memory);
            result.searched_bytes.push(place.memory.bytes());
            for (control, count) in place.controls.iter().zip(Finder::new(&place.controls)?.counts(&place.memory)) {
                result.control(count > 0, format!("{} in {}", control.name, place.name));
            }
        }
        let naming = Finder::new(names)?;
        for Text { name, text, control } in texts {
            let memory = Memory::of_bytes(text);
            search(name, &memory);
            result.control(text.contains(control), format!("`{control}` in {name}"));
            let counts = naming.counts(&memory);
            let known = names.iter().zip(counts).filter(|(_, count)| *count > 0);
            result.named.extend(known.map(|(word, _)| format!("{} in {name}", word.name)));
            result.named.extend(looks_like_a_name(text).map(|what| format!("{what} in {name}")));
        }
        if let Some(last) = places.last() {
            result.left = Finder::new(leftovers)?.counts(&last.memory).iter().filter(|count| **count > 0).count();
        }
        let found = canaries.iter().zip(hits).filter(|(_, places)| !places.is_empty());
        result.found = found.map(|(word, places)| format!("{} in {}", word.name, places.join(" and "))).collect();
        Ok(result)
    }

    /// With what a search for the same words, and others, came to elsewhere.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.canaries = self.canaries.max(other.canaries);
        self.found.extend(other.found);
        self.searched_bytes.extend(other.searched_bytes);
        self.controls_found += other.controls_found;
        self.controls_missing.extend(other.controls_missing);
        self.named.extend(other.named);
        self.left += other.left;
        self
    }

    /// What did not hold; nothing if all did.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.canaries == 0 || self.searched_bytes.is_empty() {
            failures.push("the relay's memory was not searched".into());
        }
        if !self.found.is_empty() {
            failures.push(format!("canaries found in the relay ({}): {}", self.found.len(), listed(&self.found)));
        }
        if !self.controls_missing.is_empty() || self.controls_found == 0 {
            failures.push(format!("the search does not find what is there: {}", listed(&self.controls_missing)));
        }
        if !self.named.is_empty() {
            failures.push(format!("the relay's logs or metrics name somebody: {}", listed(&self.named)));
        }
        failures
    }

    /// Bytes of memory searched, in mebibytes.
    pub(super) fn searched_mib(&self) -> f64 {
        self.searched_bytes.iter().sum::<usize>() as f64 / f64::from(1 << 20)
    }

    fn control(&mut self, is_found: bool, name: String) {
        match is_found {
            true => self.controls_found += 1,
            false => self.controls_missing.push(name),
        }
    }
}

/// What in a text looks like the name of a person, device, room or ticket, whosever it is: nobody but clients knows how
/// the rooms of a call are called.
fn looks_like_a_name(text: &str) -> impl Iterator<Item = String> {
    let prefixes = PREFIXES.iter().filter(|prefix| text.contains(**prefix)).map(|prefix| format!("`{prefix}`"));
    let longest = text.split(|letter: char| !letter.is_ascii_hexdigit()).map(str::len).max().unwrap_or(0);
    let hexadecimal = (longest > HEXADECIMAL_MAX).then(|| format!("{longest} hexadecimal digits in a row"));
    let lists = text.split(|letter: char| !letter.is_ascii_digit() && letter != ',' && letter != ' ');
    let longest = lists.map(|list| list.split(',').filter(|number| !number.trim().is_empty()).count()).max();
    let numbers = longest.filter(|count| *count > NUMBERS_MAX).map(|count| format!("a list of {count} numbers"));
    prefixes.chain(hexadecimal).chain(numbers).collect::<Vec<_>>().into_iter()
}

fn listed(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED_MAX);
    let shown = all[..all.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const LOG: &str = "INFO supernode: ready listen=127.0.0.1:4433 shards=2\n";

    fn text(text: &str) -> Text {
        Text { name: "the log", text: text.into(), control: "ready".into() }
    }

    fn place(bytes: &str) -> Place {
        Place { name: "the memory", memory: Memory::of_bytes(bytes), controls: vec![Word::new("the pin", "PIN")] }
    }

    fn judge(memory: &str, log: &str) -> Vec<String> {
        let (canary, name) = (Word::new("a canary", "tweet"), Word::new("A's identity", "alice"));
        let blindness = Blindness::new(&[canary], &[place(memory)], &[text(log)], &[name], &[]).expect("a search");
        blindness.failures()
    }

    #[test]
    fn a_blind_relay_passes() {
        assert_eq!(judge("..PIN..", LOG), Vec::<String>::new());
    }

    #[test]
    fn whatever_it_holds_or_says_too_much_is_one_failure_that_names_it() {
        let canary = judge("PIN tweet tweet", LOG);
        assert_eq!(canary, ["canaries found in the relay (1): a canary in the memory"]);
        assert_eq!(judge("PIN", &format!("{LOG}tweet")), ["canaries found in the relay (1): a canary in the log"]);
        let blind_search = judge("..", LOG);
        assert_eq!(blind_search, ["the search does not find what is there: the pin in the memory"]);
        let no_log = judge("PIN", "");
        assert_eq!(no_log, ["the search does not find what is there: `ready` in the log"]);
        let named = judge("PIN", &format!("{LOG}alice is here"));
        assert_eq!(named, ["the relay's logs or metrics name somebody: A's identity in the log"]);
    }

    #[test]
    fn names_that_nobody_told_us_are_seen_by_their_look() {
        let room = "0123456789abcdef0123456789ABCDEF";
        let list = format!("{:?}", [1u8; 16]);
        for name in [room, &list, "sn-id-abc", "sn-dev-abc", "sn-ticket-abc", "token eyJhbGciOi"] {
            assert_eq!(judge("PIN", &format!("{LOG}room={name}")).len(), 1, "{name}");
        }
        assert!(judge("PIN", &format!("{LOG}took 1,234,567 ns, 2026-11-23T03:33:27.123456Z")).is_empty());
    }

    #[test]
    fn a_search_for_nothing_or_of_nothing_is_a_failure() {
        let nowhere = Blindness::new(&[Word::new("a canary", "tweet")], &[], &[text(LOG)], &[], &[]).expect("a search");
        assert_eq!(nowhere.failures(), ["the relay's memory was not searched"]);
        let nothing = Blindness::new(&[], &[place("PIN")], &[], &[], &[]).expect("a search");
        assert_eq!(nothing.failures(), ["the relay's memory was not searched"]);
    }

    #[test]
    fn a_process_that_holds_a_canary_is_caught() {
        let guilty = Command::new("sleep").arg("60").env("KEPT", "tweet tweet tweet").stdin(Stdio::null()).spawn();
        let mut guilty = guilty.expect("there is a sleep");
        let memory = Memory::of_process(guilty.id());
        guilty.kill().expect("it runs");
        guilty.wait().expect("it ends");
        let canary = Word::new("a canary", "tweet tweet tweet");
        let controls = vec![Word::new("its variable", "KEPT=")];
        let place = Place { name: "its memory", memory: memory.expect("our own child"), controls };
        let blindness = Blindness::new(&[canary], &[place], &[], &[], &[]).expect("a search");
        assert_eq!(blindness.failures(), ["canaries found in the relay (1): a canary in its memory"]);
        assert_eq!(blindness.controls_found, 1);
    }

    #[test]
    fn what_is_left_behind_is_counted_and_no_failure() {
        let (before, after) = (place("PIN alice bob"), place("PIN bob"));
        let names = [Word::new("A", "alice"), Word::new("B", "bob")];
        let canaries = [Word::new("a canary", "tweet")];
        let blindness = Blindness::new(&canaries, &[before, after], &[], &[], &names).expect("a search");
        assert_eq!((blindness.left, blindness.failures()), (1, vec![]));
        assert_eq!(blindness.searched_bytes, [13, 7]);
    }
}
