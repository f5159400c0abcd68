//! `supernode config` and `supernode check-config`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use supernode_server::control::{
    config::{ConfigError, Problem, Sources, reference},
    prepared::Prepared,
};

use super::{
    output::{print, print_json, say},
    serve::Flags,
    state::ConfigFile,
};

#[derive(Args)]
pub(super) struct Config {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
    /// As JSON: each key with its value and where that was said.
    #[arg(long)]
    json: bool,
    /// A file with every key, its meaning and its default, to begin from.
    #[arg(long, conflicts_with_all = ["json", "reference"])]
    template: bool,
    /// Every key as a page of Markdown.
    #[arg(long, conflicts_with = "json")]
    reference: bool,
}

impl Config {
    /// Prints what is in effect.
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.template {
            return print(&reference::template());
        }
        if self.reference {
            return print(&reference::markdown());
        }
        let loaded = Sources::of_process(self.file.path, self.flags.to_keys()?).load()?;
        match self.json {
            true => print(&format!("{:#}\n", reference::effective_json(&loaded))),
            false => print(&reference::effective(&loaded)),
        }
    }
}

#[derive(Args)]
pub(super) struct CheckConfig {
    /// Configuration [default: /etc/supernode/supernode.toml if it is there].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// As JSON: what was checked, and a list of what is wrong with it.
    #[arg(long)]
    json: bool,
}

impl CheckConfig {
    /// Says whether a relay would start with a configuration, with the environment as it is.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sources = Sources::of_process(self.file, Vec::new());
        let of = match &sources.file {
            Some(path) => path.display().to_string(),
            None => "defaults and environment".to_owned(),
        };
        let checked = check(&sources);
        if self.json {
            let problems = match &checked {
                Ok(()) => Vec::new(),
                Err(error) => match error.downcast_ref() {
                    Some(ConfigError::Invalid(problems)) => problems.iter().map(Problem::to_string).collect(),
                    _ => vec![format!("{error:#}")],
                },
            };
            print_json(&json!({ "of": of, "problems": problems }))?;
        } else if checked.is_ok() {
            say(&format!("{of}: fine"));
        }
        checked
    }
}

fn check(sources: &Sources) -> anyhow::Result<()> {
    Prepared::read(&sources.load()?.config)?;
    Ok(())
}
