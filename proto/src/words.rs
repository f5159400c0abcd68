//! What a person is told when something did not work, in three parts: what happened, why as far as is known, and what to do.
//!
//! Each crate has a table of its own errors; here is what those tables are made of, and how a program says it, so that all
//! programs and the SDK speak with one voice.

use std::{borrow::Cow, collections::BTreeSet, error::Error, fmt::Write};

/// A message in its three parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// By what programs know it.
    pub name: &'static str,
    /// What happened. Of a program's own errors it is what the program says, with `{path}` and the like in it.
    pub what: &'static str,
    /// Why, as far as is known. "As is said" where what happened says it already.
    pub why: &'static str,
    /// What to do about it; "nothing" where that is so.
    pub todo: &'static str,
}

impl Words {
    /// Why, for whoever reads what happened.
    pub fn why_to_tell(&self) -> Option<&'static str> {
        (!self.why.starts_with("as is said")).then_some(self.why)
    }

    /// What to do, if there is anything.
    pub fn todo_to_tell(&self) -> Option<&'static str> {
        (self.todo != "nothing").then_some(self.todo)
    }
}

/// An error of which people are told.
pub trait Told {
    /// What to tell them.
    fn words(&self) -> &'static Words;
}

/// A table of [`Words`]: a name, what happened, why, and what to do in each row.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $table:ident: $($name:literal, $what:literal, $why:literal, $todo:literal;)*) => {
        $(#[$doc])*
        pub const $table: &[$crate::words::Words] =
            &[$($crate::words::Words { name: $name, what: $what, why: $why, todo: $todo },)*];
    };
}

/// A table of [`Words`] for an error, with a row for each of its variants: one without a row does not
/// compile. Variants `through` which another error comes say what that one says.
#[macro_export]
macro_rules! words_of {
    (
        $(#[$doc:meta])* $error:ident as $table:ident $(, through $($through:ident)*)?:
        $($variant:ident, $what:literal, $why:literal, $todo:literal;)*
    ) => {
        $(#[$doc])*
        pub const $table: &[$crate::words::Words] =
            &[$($crate::words::Words { name: stringify!($variant), what: $what, why: $why, todo: $todo },)*];

        impl $crate::words::Told for $error {
            fn words(&self) -> &'static $crate::words::Words {
                match self {
                    $(Self::$variant { .. } =>
                        &$crate::words::Words { name: stringify!($variant), what: $what, why: $why, todo: $todo },)*
                    $($(Self::$through(inner) => $crate::words::Told::words(inner),)*)?
                }
            }
        }
    };
}

/// Errors, and the table of [`Words`] for them: for each its name and fields, what is said then (`with` what thiserror cannot
/// take from a field by its name), why, and what to do. Errors `through` which another one comes say what that one says.
#[macro_export]
macro_rules! troubles {
    (
        $(#[$doc:meta])* $vis:vis $error:ident as $table:ident $(, through $($through:ident($inner:ty))+)?:
        $($variant:ident $({ $($field:tt)* })? $(( $($unnamed:tt)* ))?,
            $what:literal $(with ($($value:tt)*))?, $why:literal, $todo:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[allow(missing_docs, reason = "what is said of an error names its fields")]
        $vis enum $error {
            $(#[doc = $what] #[error($what $(, $($value)*)?)] $variant $({ $($field)* })? $(( $($unnamed)* ))?,)*
            $($(#[error(transparent)] $through(#[from] $inner),)+)?
        }

        $crate::words_of! {
            /// What is said of each.
            $error as $table $(, through $($through)+)?:
            $($variant, $what, $why, $todo;)*
        }
    };
}

/// An error with its causes, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// What happened, and each on a line of its own, why and what to do.
pub fn told(what: &str, words: &Words) -> String {
    let mut text = what.to_owned();
    if let Some(why) = words.why_to_tell() {
        let _ = write!(text, "\n  {why}");
    }
    if let Some(todo) = words.todo_to_tell() {
        let _ = write!(text, "\n  -> {todo}");
    }
    text
}

/// For readers, who see no values: `{path}` is `PATH`.
fn without_fields(what: &'static str) -> Cow<'static, str> {
    let mut pieces = what.split('{');
    let Some(first) = pieces.next().filter(|first| first.len() < what.len()) else { return what.into() };
    let named = pieces.map(|piece| match piece.split_once('}') {
        Some((field, rest)) => format!("{}{rest}", field.split(':').next().unwrap_or_default().to_uppercase()),
        None => piece.to_owned(),
    });
    std::iter::once(first.to_owned()).chain(named).collect::<String>().into()
}

/// Writes a table as a section of Markdown.
pub fn write_section(text: &mut String, heading: &str, about: &str, table: &[Words]) {
    let _ =
        write!(text, "\n## {heading}\n\n{about}\n\n| name | what happened | why | what to do |\n|---|---|---|---|\n");
    for Words { name, what, why, todo } in table {
        let _ = writeln!(text, "| `{name}` | {} | {why} | {todo} |", without_fields(what));
    }
}

/// The rows that lack a part, or have one that does not read as the others do: for the tests of whoever has a table.
pub fn lacking(table: &[Words]) -> Vec<&'static str> {
    /// No part says anything in fewer bytes.
    const PART_BYTES_MIN: usize = 7;
    let mut names = BTreeSet::new();
    let is_part = |part: &str| part.len() >= PART_BYTES_MIN && !part.ends_with('.') && !part.contains(['|', '\n']);
    let is_whole = |words: &Words| {
        [words.what, words.why, words.todo].into_iter().all(is_part)
            && words.what.starts_with(|first: char| first.is_lowercase() || "{-".contains(first))
            && words.what != words.why
    };
    table.iter().filter(|words| !names.insert(words.name) || !is_whole(words)).map(|words| words.name).collect()
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "tables are for other crates, and these are not")]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    pub(super) enum Broken {
        #[error("cut")]
        Cable,
        #[error(transparent)]
        Inner(Inner),
    }

    #[derive(Debug, thiserror::Error)]
    pub(super) enum Inner {
        #[error("out")]
        Plug { loose: bool },
    }

    words_of! { Inner as INNER: Plug, "the plug is out", "somebody pulled it", "push it in"; }
    words_of! { Broken as BROKEN, through Inner: Cable, "the cable is broken", "it is old", "take another"; }

    #[test]
    fn an_error_says_what_its_row_says_and_an_inner_one_its_own() {
        assert_eq!(Broken::Cable.words(), &BROKEN[0]);
        let inner = Inner::Plug { loose: true };
        assert!(matches!(inner, Inner::Plug { loose: true }));
        assert_eq!(Broken::Inner(inner).words().todo, "push it in");
        assert_eq!(INNER[0].name, "Plug");
    }

    troubles! {
        /// What can go wrong with a lamp.
        pub(super) Lamp as LAMP, through Broken(Broken):
        Dark { room: String, source: Burnt }, "{room}: the lamp is dark", "bulbs last for a time", "take another";
        Dim { watts: u32 }, "{watts:03} W of {most} W" with (most = WATTS_MAX), "somebody turned it down", "turn it up";
        Off, "the lamp is off", "as is said", "nothing";
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the bulb is burnt")]
    pub(super) struct Burnt;

    const WATTS_MAX: u32 = 60;

    #[test]
    fn an_error_is_said_and_told_by_one_row() {
        let dark = Lamp::Dark { room: "kitchen".into(), source: Burnt };
        assert_eq!(
            told(&chain(&dark), dark.words()),
            "kitchen: the lamp is dark: the bulb is burnt\n  bulbs last for a time\n  -> take another"
        );
        assert_eq!(told(&chain(&Lamp::Off), Lamp::Off.words()), "the lamp is off", "there is no more to say");
        assert_eq!(Lamp::Dim { watts: 7 }.to_string(), "007 W of 60 W");
        assert_eq!(Lamp::from(Broken::Cable).to_string(), "cut", "as the inner one says it");
        let mut section = String::new();
        write_section(&mut section, "Lamps", "Of lamps.", LAMP);
        assert!(
            section.contains("| `Dark` | ROOM: the lamp is dark | bulbs last for a time | take another |"),
            "{section}"
        );
        assert!(lacking(LAMP).is_empty(), "a message may begin with what it is about");
    }

    #[test]
    fn fields_in_a_message_are_named_for_readers() {
        assert_eq!(without_fields("--class {class}: has {known:?} only"), "--class CLASS: has KNOWN only");
        assert_eq!(without_fields("mode {mode:04o} of {path}"), "mode MODE of PATH");
        assert_eq!(without_fields("none"), "none");
    }

    #[test]
    fn rows_that_lack_a_part_are_found() {
        let whole = Words { name: "a", what: "it does not work", why: "it is old", todo: "buy another" };
        assert!(lacking(&[whole]).is_empty());
        assert_eq!(lacking(&[whole, whole]), ["a"], "twice");
        for broken in [
            Words { what: "", ..whole },
            Words { why: "", ..whole },
            Words { todo: "", ..whole },
            Words { todo: "buy another.", ..whole },
            Words { todo: "buy | another", ..whole },
            Words { what: "It does not work", ..whole },
            Words { why: whole.what, ..whole },
        ] {
            assert_eq!(lacking(&[broken]), ["a"], "{broken:?}");
        }
    }
}
