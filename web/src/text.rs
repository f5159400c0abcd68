//! Text that others chose, made fit to be shown.

/// The text without what is not to be seen: control characters, and those that turn the direction of what follows, by which
/// a name can look like another. At most `characters_max` characters; what is longer ends in an ellipsis.
pub(crate) fn clean(text: &str, characters_max: usize) -> String {
    let mut seen = text.chars().filter(|character| is_harmless(*character));
    let mut kept: String = seen.by_ref().take(characters_max).collect();
    if seen.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// As [`clean`], and without spaces at either end: of names.
pub(crate) fn clean_name(text: &str, characters_max: usize) -> String {
    clean(&text.split_whitespace().collect::<Vec<_>>().join(" "), characters_max)
}

/// As [`clean`], with its lines.
pub(crate) fn clean_lines(text: &str, characters_max: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| clean(line, characters_max)).collect();
    let mut kept: String = lines.join("\n").trim().chars().take(characters_max).collect();
    kept.truncate(kept.trim_end().len());
    kept
}

fn is_harmless(character: char) -> bool {
    // Marks of direction, embeddings, overrides and isolates (Unicode annex 9), and what has no width.
    let steers = matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !character.is_control() && !steers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_neither_steers_nor_turns_nor_grows() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\0", 64), "a[2Jbc");
        assert_eq!(clean_name("  Ada \n Lovelace\t", 64), "Ada Lovelace");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
        assert_eq!(clean_lines("one\r\ntwo\u{7}\n\n", 64), "one\ntwo");
        assert_eq!(clean_lines(&"x\n".repeat(99), 9), "x\nx\nx\nx\nx");
        assert_eq!(clean("👩‍👩‍👧 ü", 64), "👩‍👩‍👧 ü", "joined pictures stay whole");
    }
}
