//! The documents: one title each, links that lead somewhere, commands that exist.

use std::path::Path;

use super::{Findings, sources::SourceFile};

/// Documents that must be there.
const REQUIRED: &[&str] = &[
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/CONTRIBUTING.md",
    "docs/PROTOCOL.md",
    "docs/SECURITY.md",
    "docs/THREAT-MODEL.md",
];
/// Cargo commands that a document may name besides `cargo xtask`.
const CARGO: &[&str] =
    &["add", "bench", "build", "check", "clippy", "deny", "doc", "fmt", "install", "run", "test", "tree"];

/// A line of a document outside of code fences, and the same inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Prose(&'a str),
    /// The fence's language and the line.
    Fenced(&'a str, &'a str),
}

/// Documents that are missing.
pub fn missing(files: &[SourceFile]) -> Findings {
    let missing = REQUIRED.iter().filter(|path| files.iter().all(|file| file.path != **path));
    missing.map(|path| format!("{path}: is missing")).collect()
}

/// Documents that have not exactly one title.
pub fn titles(files: &[SourceFile]) -> Findings {
    let titles = |file: &SourceFile| {
        lines(&file.text).filter(|(_, line)| matches!(line, Line::Prose(line) if line.starts_with("# "))).count()
    };
    let wrong = files.iter().map(|file| (&file.path, titles(file))).filter(|(_, titles)| *titles != 1);
    wrong.map(|(path, titles)| format!("{path}: {titles} titles (`# ...`): must be one")).collect()
}

/// Relative links that lead to no file, or to no heading of one.
pub fn links(root: &Path, files: &[SourceFile]) -> Findings {
    let mut findings = Findings::new();
    for file in files {
        for (number, target) in link_targets(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let resolved = resolve(&file.path, path);
            let Some(resolved) = resolved.filter(|resolved| path.is_empty() || root.join(resolved).exists()) else {
                findings.push(format!("{}:{number}: link to {target}: there is no such file", file.path));
                continue;
            };
            let document = files.iter().find(|file| file.path == resolved);
            if let Some(document) = document.filter(|_| !anchor.is_empty())
                && !anchors(&document.text).any(|found| found == anchor)
            {
                findings.push(format!("{}:{number}: link to {target}: there is no such heading", file.path));
            }
        }
    }
    findings
}

/// One command of a document's `sh` or `console` fence, or of any fence's line that begins with `$ `.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// Where it stands.
    pub at: String,
    /// Its words, without variables set before it.
    pub words: Vec<String>,
}

/// All commands of a document.
pub fn commands(file: &SourceFile) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut continued = String::new();
    let has_prompts = |language: &str| language == "console" || file.text.contains("\n$ ");
    for (number, line) in lines(&file.text) {
        let Line::Fenced(language, line) = line else { continue };
        let line = match line.trim().strip_prefix("$ ") {
            Some(command) => command,
            None if !continued.is_empty() => line.trim(),
            None if matches!(language, "sh" | "bash") && !has_prompts(language) => line.trim(),
            None => continue,
        };
        let line = line.split(" #").next().unwrap_or(line).trim();
        if let Some(first_part) = line.strip_suffix('\\') {
            continued += first_part;
            continue;
        }
        let whole = std::mem::take(&mut continued) + line;
        for command in whole.split("&&").flat_map(|part| part.split(['|', ';', '>', '<'])) {
            let words = command.split_whitespace().skip_while(|word| is_assignment(word) || *word == "sudo");
            let words: Vec<String> = words.map(str::to_owned).collect();
            if words.first().is_some_and(|word| !word.starts_with('#')) {
                commands.push(Command { at: format!("{}:{number}", file.path), words });
            }
        }
    }
    commands
}

/// Commands of ours that do not exist. `help` gives what a program prints for `<words> --help`, or nothing if it knows
/// no such words; its first word is `xtask`, `supernode` or another program's name.
pub fn unknown_commands(commands: &[Command], programs: &[&str], help: &dyn Fn(&[&str]) -> Option<String>) -> Findings {
    let mut findings = Findings::new();
    for Command { at, words } in commands {
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        let (program, arguments) = match words[..] {
            ["cargo", "xtask", ref arguments @ ..] => ("xtask", arguments),
            ["cargo", verb, ..] if !CARGO.contains(&verb) => {
                findings.push(format!("{at}: `cargo {verb}`: is no cargo command that a document should name"));
                continue;
            }
            [program, ref arguments @ ..] => (program.rsplit('/').next().unwrap_or(program), arguments),
            [] => continue,
        };
        if program == "xtask" || programs.contains(&program) {
            findings.extend(unknown_words(at, program, arguments, help));
        }
    }
    findings
}

/// The subcommand if there is one, and its own if it has some, then every `--flag`, looked up in the program's own help.
fn unknown_words(at: &str, program: &str, arguments: &[&str], help: &dyn Fn(&[&str]) -> Option<String>) -> Findings {
    let is_command = |word: &&&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let mut words: Vec<&str> = [program].into_iter().chain(arguments.first().filter(is_command).copied()).collect();
    let mut text = help(&words);
    if words.len() == 2
        && text.as_ref().is_some_and(|text| text.contains("Commands:"))
        && let Some(nested) = arguments.get(1).filter(is_command)
    {
        words.push(nested);
        text = help(&words);
    }
    let Some(help) = text else {
        return vec![format!("{at}: `{}`: there is no such command", words.join(" "))];
    };
    let flags =
        arguments.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word));
    let known = |flag: &str| help.split(|c: char| c.is_whitespace() || ",=[]<>".contains(c)).any(|word| word == flag);
    let unknown = flags.filter(|flag| *flag != "--help" && !known(flag));
    unknown.map(|flag| format!("{at}: `{} {flag}`: there is no such option", words.join(" "))).collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|character| character.is_ascii_uppercase() || character == '_')
    })
}

fn lines(text: &str) -> impl Iterator<Item = (usize, Line<'_>)> {
    let mut fence = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.trim()) };
            return None;
        }
        Some((index + 1, fence.map_or(Line::Prose(line), |language| Line::Fenced(language, line))))
    })
}

/// What stands in `](...)`, with the line's number; code in backticks holds no link.
fn link_targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text)
        .filter_map(|(number, line)| if let Line::Prose(line) = line { Some((number, line)) } else { None })
        .flat_map(|(number, line)| {
            let prose = line.split('`').step_by(2).flat_map(|prose| prose.split("](").skip(1));
            // Code inside a link's text splits the link in two: its target then begins the next piece of prose.
            prose.filter_map(|after| after.split_once(')')).map(move |(target, _)| (number, target.trim()))
        })
}

/// A link's path from the root, or `None` if it leads out of the workspace.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a document's headings: lower case, spaces to hyphens, punctuation left out.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    lines(text).filter_map(|(_, line)| match line {
        Line::Prose(line) if line.starts_with('#') => {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
            Some(kept.map(|character| if character == ' ' { '-' } else { character }).collect())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(missing(&[]).len(), REQUIRED.len());
        let all: Vec<SourceFile> = REQUIRED.iter().map(|path| file(path, "# Title")).collect();
        assert!(missing(&all).is_empty());
    }

    #[test]
    fn a_document_has_one_title_and_comments_in_fences_are_none() {
        assert!(titles(&[file("a.md", "# Title\n## Part\n```sh\n# comment\n```\n")]).is_empty());
        assert_eq!(titles(&[file("a.md", "# One\n# Two\n")]), ["a.md: 2 titles (`# ...`): must be one"]);
        assert_eq!(titles(&[file("a.md", "## Part\n")]).len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let found = |text: &str| links(root(), &[file("src/a.md", text)]);
        assert!(
            found("# T\n[web](https://example.org/x) [lib](lib.rs) [up](../Cargo.toml) [here](#t) [dir](../src/)")
                .is_empty()
        );
        assert_eq!(found("[gone](gone.md)"), ["src/a.md:1: link to gone.md: there is no such file"]);
        assert_eq!(found("[`code`](gone.md)").len(), 1);
        assert_eq!(found("# T\n[here](#elsewhere)"), ["src/a.md:2: link to #elsewhere: there is no such heading"]);
        assert_eq!(found("[out](../../../x)").len(), 1);
        assert!(found("```text\n[not](a-link)\n```\n`[nor](this)`").is_empty());
    }

    #[test]
    fn headings_make_anchors() {
        let anchors: Vec<String> = anchors("# The wire, version 1\n## `Hello` and R-1").collect();
        assert_eq!(anchors, ["the-wire-version-1", "hello-and-r-1"]);
    }

    #[test]
    fn commands_are_taken_from_shell_fences_and_prompts() {
        let text = "```sh\nRUST_LOG=debug supernode serve \\\n  --open # why\ncd x && cargo xtask demo > out\n```\n```text\nnot one\n```\n";
        let words: Vec<String> =
            commands(&file("a.md", text)).into_iter().map(|command| command.words.join(" ")).collect();
        assert_eq!(words, ["supernode serve --open", "cd x", "cargo xtask demo", "out"]);
        let with_output = "```console\n$ supernode invite\nsupernode://x\n```\n";
        let words: Vec<String> =
            commands(&file("a.md", with_output)).into_iter().map(|command| command.words.join(" ")).collect();
        assert_eq!(words, ["supernode invite"]);
    }

    #[test]
    fn a_command_or_option_that_does_not_exist_is_found() {
        let help = |words: &[&str]| match words {
            ["xtask", "demo"] => Some("Options:\n  --seconds <N>\n  --json".to_owned()),
            ["supernode", "serve"] => Some("  -l, --listen <ADDRESS>".to_owned()),
            ["supernode", "room"] => Some("Commands:\n  open".to_owned()),
            ["supernode", "room", "open"] => Some("  --wide".to_owned()),
            _ => None,
        };
        let found = |line: &str| {
            let file = file("a.md", &format!("```sh\n{line}\n```\n"));
            unknown_commands(&commands(&file), &["supernode"], &help)
        };
        assert!(found("cargo xtask demo --seconds 4 --json").is_empty());
        assert!(found("./target/release/supernode serve --listen=[::]:4433").is_empty());
        assert!(found("curl -s http://127.0.0.1/metrics").is_empty());
        assert_eq!(found("cargo xtask dmeo"), ["a.md:2: `xtask dmeo`: there is no such command"]);
        assert_eq!(found("cargo xtask demo --second 4"), ["a.md:2: `xtask demo --second`: there is no such option"]);
        assert_eq!(found("supernode sing").len(), 1);
        assert!(found("supernode room open --wide").is_empty());
        assert_eq!(
            found("supernode room open --shut"),
            ["a.md:2: `supernode room open --shut`: there is no such option"]
        );
        assert_eq!(found("supernode room opne"), ["a.md:2: `supernode room opne`: there is no such command"]);
        assert_eq!(found("cargo bild").len(), 1);
    }
}
