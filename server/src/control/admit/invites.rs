//! Invites to which the operator has given a label, so that they can be listed and taken back: the file `invites` in the
//! state directory. One without a label leaves nothing there.
//!
//! A line is the digest of the token, when it was made and when it ends in seconds of Unix time, for whom it is, and the
//! label. What the label says is the operator's business; the link cannot be made from it again.

use supernode_proto::troubles;

use crate::control::state_dir::{StateDir, StateError};
use crate::core::TokenDigest;

const FILE: &str = "invites";
/// About 4,000 of them.
const FILE_BYTES_MAX: u64 = 512 * 1024;
/// Bytes of a label.
pub const LABEL_BYTES_MAX: usize = 64;
/// One that has ended is listed for so long: 30 days.
const REMEMBERED_S: u64 = 30 * 24 * 3600;
/// So long before its end an invite is warned of: 7 days.
pub const WARN_S: u64 = 7 * 24 * 3600;

/// For whom an invite is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Whoever has the link.
    Anybody,
    /// The first device that uses it.
    OneUse,
    /// One identity.
    OnePerson,
}

impl For {
    const ALL: [(Self, &str); 3] =
        [(Self::Anybody, "anybody"), (Self::OneUse, "one-use"), (Self::OnePerson, "one-person")];

    /// In a word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// An invite with a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// What the operator calls it.
    pub label: String,
    /// By what `supernode revoke` knows its token.
    pub token: TokenDigest,
    /// When it was made, Unix time.
    pub made_unix_s: u64,
    /// Its last second, Unix time.
    pub ends_unix_s: u64,
    /// For whom it is.
    pub of: For,
}

troubles! {
    /// Why an invite cannot be written down.
    pub LabelError as WORDS, through State(StateError):
    Label { label: String },
        "the label {label:?} must be 1 to {bound} bytes without control characters, and not begin or end with a space"
            with (bound = LABEL_BYTES_MAX),
        "a label is a word or a few, by which people know the invite", "choose a shorter or plainer label";
    Taken { label: String }, "an invite with the label {label:?} is still good",
        "two with one label could not be told apart",
        "take that one back first (supernode invites revoke), or choose another label";
}

/// What is written down.
///
/// # Errors
/// See [`StateError`].
pub fn read(state: &StateDir) -> Result<Vec<Labelled>, StateError> {
    let text = state.read_up_to(FILE, FILE_BYTES_MAX)?.unwrap_or_default();
    let broken = |line: usize| state.broken(FILE, &format!("line {line} is no invite"));
    text.lines().enumerate().map(|(index, line)| Labelled::from_line(line).ok_or_else(|| broken(index + 1))).collect()
}

/// Whether this can be a label.
///
/// # Errors
/// [`LabelError::Label`].
pub fn check_label(label: &str) -> Result<(), LabelError> {
    let fits = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.chars().any(char::is_control);
    (fits && label.trim() == label).then_some(()).ok_or_else(|| LabelError::Label { label: label.to_owned() })
}

/// Writes one down, and leaves out those that ended long ago.
///
/// # Errors
/// See [`LabelError`].
pub fn add(state: &StateDir, new: Labelled, now_unix_s: u64) -> Result<(), LabelError> {
    check_label(&new.label)?;
    let mut all = read(state)?;
    if all.iter().any(|one| one.label == new.label && one.ends_unix_s > now_unix_s) {
        return Err(LabelError::Taken { label: new.label });
    }
    all.retain(|one| one.ends_unix_s + REMEMBERED_S > now_unix_s);
    all.push(new);
    write(state, &all)
}

/// Forgets the one with this label.
///
/// # Errors
/// See [`LabelError`].
pub fn forget(state: &StateDir, label: &str) -> Result<(), LabelError> {
    let mut all = read(state)?;
    all.retain(|one| one.label != label);
    write(state, &all)
}

/// Those that end soon.
pub fn ending(all: &[Labelled], now_unix_s: u64) -> impl Iterator<Item = &Labelled> {
    all.iter().filter(move |one| (now_unix_s..now_unix_s + WARN_S).contains(&one.ends_unix_s))
}

fn write(state: &StateDir, all: &[Labelled]) -> Result<(), LabelError> {
    Ok(state.replace(FILE, &all.iter().map(Labelled::to_line).collect::<String>())?)
}

impl Labelled {
    fn to_line(&self) -> String {
        let Self { label, token, made_unix_s, ends_unix_s, of } = self;
        format!("{} {made_unix_s} {ends_unix_s} {} {label}\n", token.to_text(), of.word())
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        let token = TokenDigest::from_text(parts.next()?)?;
        let (made_unix_s, ends_unix_s) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let word = parts.next()?;
        let (of, _) = For::ALL.into_iter().find(|(_, known)| *known == word)?;
        Some(Self { label: parts.next()?.to_owned(), token, made_unix_s, ends_unix_s, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(label: &str, ends_unix_s: u64) -> Labelled {
        let token = TokenDigest::of(&format!("{label}.{ends_unix_s}.c")).expect("a token");
        Labelled { label: label.to_owned(), token, made_unix_s: 5, ends_unix_s, of: For::OneUse }
    }

    #[test]
    fn what_has_a_label_is_listed_until_long_after_its_end() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        assert_eq!(read(&state).expect("none"), []);
        let (one, two) = (invite("choir, tenors", 100), invite("Ömer's laptop", 1000));
        add(&state, one.clone(), 10).expect("written");
        add(&state, two.clone(), 10).expect("written");
        assert_eq!(read(&state).expect("two"), [one.clone(), two.clone()]);
        assert!(matches!(add(&state, invite("choir, tenors", 200), 10), Err(LabelError::Taken { .. })));
        assert_eq!(ending(&read(&state).expect("two"), 101).collect::<Vec<_>>(), [&two]);
        add(&state, invite("choir, tenors", 200), 101).expect("the earlier one has ended");
        add(&state, invite("new", REMEMBERED_S * 2), REMEMBERED_S + 500).expect("written");
        let labels: Vec<String> = read(&state).expect("two").into_iter().map(|one| one.label).collect();
        assert_eq!(labels, ["Ömer's laptop", "new"]);
        forget(&state, "new").expect("written");
        assert_eq!(read(&state).expect("one"), [two]);
    }

    #[test]
    fn a_label_is_one_line_and_a_broken_file_is_named() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        for bad in ["", " x", "two\nlines", &"x".repeat(65)] {
            assert!(matches!(add(&state, invite(bad, 10), 1), Err(LabelError::Label { .. })), "{bad:?}");
        }
        state.replace(FILE, "nonsense\n").expect("ours");
        assert!(read(&state).expect_err("broken").to_string().contains("line 1 is no invite"));
    }
}
