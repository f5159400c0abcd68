//! `supernode config` and `supernode check-config`

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use supernode_proto::identity::RelayPin;
use supernode_server::control::{
    cluster,
    config::{
        Config as Settings, ConfigError, Problem, Sources,
        reference::{self, Row},
    },
    prepared::Prepared,
    trust::Objection,
    words,
};

use super::{
    exit::Exit,
    output::{print, print_json, say},
    relay::Relay,
    serve::Flags,
    state::{self, ConfigFile},
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
    /// Prints what the running relay goes by, or what one would start with.
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.template {
            return print(&reference::template());
        }
        if self.reference {
            return print(&reference::markdown());
        }
        let json = self.json;
        let rows = self.rows()?;
        match json {
            true => print(&format!("{:#}\n", reference::effective_json(&rows))),
            false => print(&reference::effective(&rows)),
        }
    }

    fn rows(self) -> anyhow::Result<Vec<Row>> {
        let named = self.file.path.is_some();
        let flags = self.flags.to_keys()?;
        // Which relay is asked is no value to be shown of one that would start.
        let asked = !named && flags.iter().all(|flag| flag.path == "relay.state_dir");
        let loaded = Sources::of_process(self.file.path, flags).load();
        if asked {
            let path = loaded.as_ref().map_or_else(|_| state::found(), state::of_machine);
            let relay = path.and_then(|path| Relay::at(&path)).ok();
            if let Some(relay) = relay.filter(|relay| relay.is_running().unwrap_or(false)) {
                let rows = relay.get("/config")?;
                say("what the running relay goes by:");
                return Ok(rows);
            }
        }
        let rows = reference::rows(&loaded?);
        say("what a relay would start with:");
        Ok(rows)
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
        let of = match sources.file_there() {
            Some(path) => path.display().to_string(),
            None => "defaults and environment".to_owned(),
        };
        let (problems, remarks) = match check(&sources) {
            Ok(found) => found,
            Err(error) if !self.json => return Err(error),
            Err(error) => match error.downcast_ref() {
                Some(ConfigError::Invalid { problems }) => {
                    (problems.iter().map(Problem::to_string).collect(), Vec::new())
                }
                _ => (vec![words::line(error.as_ref())], Vec::new()),
            },
        };
        if self.json {
            print_json(&json!({ "of": of, "problems": problems, "remarks": remarks }))?;
        } else {
            remarks.iter().for_each(|remark| say(&format!("note: {remark}")));
            if problems.is_empty() {
                say(&format!("{of}: fine"));
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Exit::Unfit { problems: problems.join("\n") }.into()),
        }
    }
}

/// What keeps a relay from working with this, and what may.
fn check(sources: &Sources) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let config = sources.load()?.config;
    let prepared = Prepared::read(&config)?;
    let certificate = config.tls.certificate.as_deref().map_or(String::new(), |path| path.display().to_string());
    let objections = prepared.objections(&config);
    let (refused, untrusted): (Vec<_>, Vec<_>) = objections.iter().partition(|objection| objection.is_final());
    let in_words = |objections: Vec<&Objection>| -> Vec<String> {
        objections.iter().map(|objection| format!("{certificate}: {}", objection.words())).collect()
    };
    if let Some(node) = cluster::Settings::of(&config, prepared.cluster.clone(), RelayPin([0; 32])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let checked = runtime.block_on(node.check());
        // A name that does not resolve may hold this one up.
        runtime.shutdown_background();
        checked?;
    }
    let mut remarks = in_words(untrusted);
    remarks.extend(for_root_only(&config));
    Ok((in_words(refused), remarks))
}

/// Files that root can read and the user of a service cannot.
fn for_root_only(config: &Settings) -> Option<String> {
    let is_hidden = |path: &PathBuf| {
        let others_lack = |path: &Path, bit| path.metadata().is_ok_and(|metadata| metadata.mode() & bit == 0);
        // What systemd puts there is for the service's user (LoadCredential=).
        !path.starts_with("/run/credentials")
            && (others_lack(path, 0o004) || path.ancestors().skip(1).any(|above| others_lack(above, 0o001)))
    };
    let hidden = Prepared::files(config).into_iter().find(is_hidden)?;
    rustix::process::geteuid().is_root().then(|| {
        format!(
            "{}: root may read it; a relay with a user of its own, as the shipped service is, may not: see `Files for the \
             service` in OPERATING.md",
            hidden.display()
        )
    })
}
