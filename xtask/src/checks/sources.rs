//! The files of the workspace, and what no source file may have.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Findings;

/// Longest source file that can still be taken in.
pub const LINES_MAX: usize = 800;
/// Nobody takes these in.
const GENERATED: &str = "proto/generated/";
/// What says "not finished". Written in halves, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("TO", "DO"),
    concat!("#[ign", "ore"),
];
/// Clocks and dice are arguments in these places, so that tests and simulations can choose them.
const PURE: &[&str] = &["proto/src/", "keys/src/", "session/src/", "calls/src/", "e2ee/src/", "server/src/core/"];
const CLOCKS_AND_DICE: &[&str] = &["Instant::now", "SystemTime::now", "rand::rng(", "rand::random", "thread_rng"];

/// A text file of the workspace.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path from the workspace's root, with `/` between the parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl SourceFile {
    /// Whether it holds tests only.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The file up to its test module, which stands last.
    pub fn without_tests(&self) -> Self {
        let lines = self.text.lines().collect::<Vec<_>>();
        let is_test_module =
            |pair: &[&str]| pair[0].contains("#[cfg(test)]") && pair[1].trim_start().starts_with("mod ");
        let end = lines.windows(2).position(is_test_module).unwrap_or(lines.len());
        Self { path: self.path.clone(), text: lines[..end].join("\n") }
    }

    /// Its lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Directories of what is made or installed, not written.
const MADE: [&str; 2] = ["target", "node_modules"];

/// All files below `root` that end in `.extension`, in the order of their paths. Build output and hidden directories
/// are left out.
///
/// # Errors
/// If a directory or file cannot be read.
pub fn read_all(root: &Path, extension: &str) -> io::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.');
            match entry.file_type()? {
                kind if kind.is_dir() && !hidden && !MADE.iter().any(|made| name == *made) => directories.push(path),
                kind if kind.is_file() && path.extension().is_some_and(|found| found == extension) => {
                    files.push(SourceFile { path: relative(root, &path), text: fs::read_to_string(&path)? });
                }
                _ => {}
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn relative(root: &Path, path: &Path) -> String {
    let below: PathBuf = path.strip_prefix(root).unwrap_or(path).components().collect();
    below.to_string_lossy().replace('\\', "/")
}

/// Files that are too long.
pub fn too_long(files: &[SourceFile]) -> Findings {
    let written = files.iter().filter(|file| !file.path.starts_with(GENERATED));
    let lengths = written.map(|file| (&file.path, file.text.lines().count()));
    lengths
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines: at most {LINES_MAX}"))
        .collect()
}

/// What was left unfinished, comments included.
pub fn unfinished(files: &[SourceFile]) -> Findings {
    find(files, UNFINISHED, |line| line, "is unfinished work: finish it, or say in docs/ what is not there")
}

/// Clocks and randomness where they are arguments. Tests may take a first moment from the clock: there is no other way
/// to make an `Instant`.
pub fn clocks_and_dice(files: &[SourceFile]) -> Findings {
    let is_pure = |file: &&SourceFile| PURE.iter().any(|place| file.path.starts_with(place)) && !file.is_test();
    let pure: Vec<SourceFile> = files.iter().filter(is_pure).map(SourceFile::without_tests).collect();
    find(&pure, CLOCKS_AND_DICE, code, "time and randomness are arguments here")
}

/// Every line that has one of `words` in the part of it that `part` leaves.
pub(crate) fn find(files: &[SourceFile], words: &[&str], part: impl Fn(&str) -> &str, sentence: &str) -> Findings {
    let mut findings = Findings::new();
    for file in files {
        for (number, line) in file.lines() {
            let found = words.iter().filter(|word| has_word(part(line), word));
            findings.extend(found.map(|word| format!("{}:{number}: `{word}`: {sentence}", file.path)));
        }
    }
    findings
}

/// A line without its `//` comment. A `//` inside a string cuts a little too much, which no check here minds.
pub(crate) fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Whether `word` stands in `line` and no letter, digit or underscore continues it at an end that is one itself.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_part) && word.starts_with(is_part);
        let after = line[at + word.len()..].chars().next().is_some_and(is_part) && word.ends_with(is_part);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile { path: path.into(), text: text.into() }]
    }

    #[test]
    fn a_file_of_more_lines_than_allowed_is_found() {
        assert!(too_long(&file("a.rs", &"line\n".repeat(LINES_MAX))).is_empty());
        let longer = "line\n".repeat(LINES_MAX + 1);
        assert_eq!(too_long(&file("a.rs", &longer)), ["a.rs: 801 lines: at most 800"]);
        assert!(too_long(&file("proto/generated/a.rs", &longer)).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_comments() {
        for word in UNFINISHED {
            assert_eq!(unfinished(&file("a.rs", &format!("fn f() {{}}\n// {word} later"))).len(), 1, "{word}");
        }
        assert!(unfinished(&file("a.rs", concat!("let todos = 1; // an ignored X", "XXL"))).is_empty());
    }

    #[test]
    fn a_clock_in_a_pure_place_is_found_and_elsewhere_is_not() {
        for word in CLOCKS_AND_DICE {
            let line = format!("let x = {word});");
            assert_eq!(clocks_and_dice(&file("server/src/core/room.rs", &line)).len(), 1, "{word}");
            assert!(clocks_and_dice(&file("server/src/shard/mod.rs", &line)).is_empty(), "{word}");
        }
        assert!(clocks_and_dice(&file("proto/src/lib.rs", "/// Never calls Instant::now.")).is_empty());
        let in_tests = "fn f() {}\n#[cfg(test)]\nmod tests {\nlet start = Instant::now();\n}\n";
        assert!(clocks_and_dice(&file("proto/src/lib.rs", in_tests)).is_empty());
        let behind_an_item = "#[cfg(test)]\nfn f() {}\nlet start = Instant::now();\n";
        assert_eq!(clocks_and_dice(&file("proto/src/lib.rs", behind_an_item)).len(), 1);
    }

    #[test]
    fn files_are_read_with_their_paths_from_the_root() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let paths: Vec<String> =
            read_all(root, "rs").expect("our own sources").into_iter().map(|file| file.path).collect();
        assert!(paths.contains(&"src/checks/sources.rs".to_owned()), "{paths:?}");
    }
}
