//! `supernode-call`: calls somebody through a Supernode relay, or waits to be called, with media from files.

mod absence;
mod connect;
mod failure;
mod identity;
mod play;
mod progress;
mod record;
mod room;
mod talk;

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use supernode_client::proto::{
    identity::{IdentityKey, Ticket},
    invite::Invite,
};
use tracing_subscriber::EnvFilter;

use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something here failed: a file, an address, a key
  2  the command line is wrong
  3  the relay cannot be reached or did not let us in
  4  no call came about: declined, busy, nobody there
  5  the call broke off";

const SECRETS: &str = "\
Invite links, room links and tickets let others in, so they are read from a file or from the environment \
(SUPERNODE_INVITE, SUPERNODE_TICKET, SUPERNODE_ROOM), never from the command line, which every user of the machine can see.";

/// Calls through a Supernode relay with media from files, recorded packet for packet.
#[derive(Parser)]
#[command(version, about, after_help = format!("{SECRETS}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes an identity with one device and prints its public name.
    Identity {
        /// File for the secret keys, which must not exist yet; readable by its owner only.
        #[arg(long)]
        out: PathBuf,
        /// A name to remember the file by; never sent anywhere.
        #[arg(long)]
        name: Option<String>,
    },
    /// Prints a ticket that lets its holder see our presence and ring us.
    Ticket {
        /// Our identity file.
        #[arg(long)]
        identity: PathBuf,
        /// The public name of the one person who may use it; without it, whoever carries it may.
        #[arg(long = "for", value_name = "IDENTITY", value_parser = parse_identity)]
        holder: Option<IdentityKey>,
        /// How long it holds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
    },
    /// Waits for one call, answers it, and ends with it.
    Listen {
        #[command(flatten)]
        talk: TalkArgs,
    },
    /// Waits until somebody is online, rings, and talks.
    Call {
        #[command(flatten)]
        talk: TalkArgs,
        /// File with the ticket of the person to call; without it, the environment has the ticket.
        #[arg(long)]
        ticket_file: Option<PathBuf>,
        /// Hang up after this many seconds of media; without it, when the files end.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Rooms of many: opens one, knocks at one, and tells whoever is in one what to do.
    Room {
        #[command(subcommand)]
        command: room::RoomCommand,
    },
}

/// What both sides of a call need.
#[derive(Args)]
struct TalkArgs {
    /// Our identity file.
    #[arg(long)]
    identity: PathBuf,
    /// File with the invite link; without it, the environment has the link.
    #[arg(long)]
    invite_file: Option<PathBuf>,
    /// PEM file with an authority to trust beside those of this system, where the invite link has no pin.
    #[arg(long)]
    authority_file: Option<PathBuf>,
    /// Ogg Opus file to play.
    #[arg(long)]
    audio: PathBuf,
    /// IVF file (VP8, VP9 or AV1) to play.
    #[arg(long)]
    video: PathBuf,
    /// Directory for what is received: audio.opus and video.ivf.
    #[arg(long)]
    record_dir: PathBuf,
    /// Print one JSON object with the call's figures as the last line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Identity { out, name } => {
            say(&identity::create(&out, name)?)?;
        }
        Command::Ticket { identity, holder, days } => {
            say(&identity::load(&identity)?.ticket(holder, days))?;
        }
        Command::Listen { talk } => talk::run(&talk, None)?,
        Command::Call { talk, ticket_file, seconds } => {
            let ticket = secret_text(ticket_file.as_ref(), "SUPERNODE_TICKET")?;
            let ticket = Ticket::from_text(&ticket).map_err(|error| Failure::here(error.into()))?;
            talk::run(&talk, Some((ticket, seconds)))?;
        }
        Command::Room { command } => room::run(command)?,
    }
    Ok(())
}

/// One line on standard output.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::here(error.into()))
}

/// The way to a relay, and the file that has it.
#[derive(Debug, Clone)]
struct OwnInvite {
    invite: Invite,
    file: Option<PathBuf>,
}

impl OwnInvite {
    fn read(file: Option<&PathBuf>) -> Result<Self, Failure> {
        let invite = secret_text(file, "SUPERNODE_INVITE")?;
        let invite = invite.parse().map_err(|error| Failure::here(anyhow::Error::new(error)))?;
        Ok(Self { invite, file: file.cloned() })
    }

    /// Puts the link that leads there from now on in the place of the one that was given, if it is another.
    fn keep(&self, now: &Invite) {
        if *now == self.invite {
            return;
        }
        let Some(file) = &self.file else {
            return progress::note(
                "the relay has a new key: ask for a new link, or give one in a file, which is kept current",
            );
        };
        match write_secret(file, &now.to_string()) {
            Ok(()) => progress::note(&format!("{}: the link has the relay's new key now", file.display())),
            Err(error) => progress::note(&format!("the relay has a new key, and the link cannot be kept: {error:#}")),
        }
    }
}

/// A line for nobody else's eyes, in one step in the place of what was there.
fn write_secret(path: &Path, line: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = file.with_context(|| format!("cannot make {}", new.display()))?;
    writeln!(file, "{line}").with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// A secret from a file, or else from the environment.
fn secret_text(file: Option<&PathBuf>, variable: &'static str) -> Result<String, Failure> {
    use anyhow::anyhow;
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        None => std::env::var(variable).map_err(|_| anyhow!("neither a file nor {variable} is given")),
    };
    Ok(text.map_err(Failure::here)?.trim().to_owned())
}

fn parse_identity(text: &str) -> Result<IdentityKey, String> {
    IdentityKey::from_text(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
