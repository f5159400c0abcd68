//! What a person is told when something did not work, in three parts: what happened, why as far as is known, and what to do.
//!
//! Each crate has a table of its own errors; here is what those tables are made of, so that the relay's program and the SDK
//! speak with one voice.

use std::{collections::BTreeSet, fmt::Write};

/// A message in its three parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// By what programs know it.
    pub name: &'static str,
    /// What happened.
    pub what: &'static str,
    /// Why, as far as is known.
    pub why: &'static str,
    /// What to do about it.
    pub todo: &'static str,
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

/// Writes a table as a section of Markdown.
pub fn write_section(text: &mut String, heading: &str, about: &str, table: &[Words]) {
    let _ =
        write!(text, "\n## {heading}\n\n{about}\n\n| name | what happened | why | what to do |\n|---|---|---|---|\n");
    for Words { name, what, why, todo } in table {
        let _ = writeln!(text, "| `{name}` | {what} | {why} | {todo} |");
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
            && words.what.starts_with(char::is_lowercase)
            && words.what != words.why
    };
    table.iter().filter(|words| !names.insert(words.name) || !is_whole(words)).map(|words| words.name).collect()
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "tables are for other crates, and these are not")]
mod tests {
    use super::*;

    enum Broken {
        Cable,
        Inner(Inner),
    }

    enum Inner {
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
