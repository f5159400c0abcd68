//! `supernode-call`: calls somebody through a Supernode relay, or waits to be called, with media from files or from a microphone.

mod absence;
mod connect;
mod doctor;
mod failure;
mod listen;
mod media;
mod papers;
mod progress;
mod room;
mod sound;
mod talk;
mod trouble;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use supernode_client::{Network, Proxy, ProxyChoice, e2ee::Pass, proto::identity::IdentityKey};
use tracing_subscriber::EnvFilter;

use failure::{EXIT_CODES, Failure};
use papers::{devices, given, identity, links};
use sound::SoundArgs;
use trouble::Trouble;

const SECRETS: &str = "\
Invite links, room links and tickets let others in, so they are read from a file or from the environment \
(SUPERNODE_INVITE, SUPERNODE_TICKET, SUPERNODE_ROOM), never from the command line, which every user of the machine can see.";

/// Calls through a Supernode relay with media from files, recorded packet for packet, or by microphone and loudspeaker.
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
    /// Prints a ticket that lets its holder see our presence and ring us. One that begins with sn-pass- has a key in it:
    /// whoever has it may use it, so keep it as secret as that.
    Ticket {
        /// Our identity file.
        #[arg(long)]
        identity: PathBuf,
        /// The public name of the one person who may use it; without it, whoever carries it may.
        #[arg(long = "for", value_name = "IDENTITY", value_parser = parse_identity)]
        holder: Option<IdentityKey>,
        /// File with an invite link: the ticket is of use only at the relay that its pin names. With --web the link leads there.
        #[arg(long, required_if_eq("web", "true"))]
        invite_file: Option<PathBuf>,
        /// First take back all tickets that we have given: they are void for our clients that start from now on, and at
        /// the relay once one of them is online.
        #[arg(long)]
        void_earlier: bool,
        /// How long it holds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
        #[command(flatten)]
        giving: given::Giving,
    },
    /// Makes a link to a room that stands, without going in: whoever comes first opens the room. It is made here because its
    /// secret is the members' alone: the relay never has it.
    RoomLink(given::RoomLinkArgs),
    /// Our devices: adds one without copying our identity's key, and takes one back.
    Devices {
        #[command(subcommand)]
        command: devices::DevicesCommand,
    },
    /// Waits for one call, answers it, and ends with it.
    Listen {
        #[command(flatten)]
        talk: TalkArgs,
        /// Wait for the next call after each, and for the relay however long it is away, until interrupted (SIGINT or
        /// SIGTERM). Each call is recorded in a directory of its own.
        #[arg(long)]
        again: bool,
    },
    /// Rings somebody, and talks. While they are away it rings on, and at once when they are there: a page of theirs may be
    /// woken by it.
    Call {
        #[command(flatten)]
        talk: TalkArgs,
        /// File with the ticket of the person to call; without it, the environment has the ticket.
        #[arg(long)]
        ticket_file: Option<PathBuf>,
        /// Hang up after this many seconds of media; without it, when the files end.
        #[arg(long)]
        seconds: Option<u64>,
        /// While nobody of theirs is online, ring on for so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 45, value_parser = clap::value_parser!(u64).range(..=86_400))]
        ring_for: u64,
    },
    /// Looks whether calls can be made from here, and if not, what is in the way: name, UDP, invite, clock.
    Doctor {
        /// File with the invite link; without it, the environment has the link.
        #[arg(long)]
        invite_file: Option<PathBuf>,
        /// Our identity file, to be let in as who we are; without it, as somebody who was never there.
        #[arg(long)]
        identity: Option<PathBuf>,
        /// PEM file with an authority to trust beside those of this system, where the invite link has no pin.
        #[arg(long)]
        authority_file: Option<PathBuf>,
        #[command(flatten)]
        proxy: ProxyArgs,
    },
    /// Lists microphones and loudspeakers by the names that --mic and --speaker take. Needs a program that was built with
    /// --features sound.
    Sound,
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
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Ogg Opus file to play.
    #[arg(long, required_unless_present = "mic")]
    audio: Option<PathBuf>,
    #[command(flatten)]
    sound: SoundArgs,
    /// IVF file (VP8, VP9 or AV1) to play; without it, we are only heard.
    #[arg(long)]
    video: Option<PathBuf>,
    /// Directory for what is received: audio.opus and video.ivf, which must not be there yet. With --speaker nothing need be kept.
    #[arg(long, required_unless_present = "speaker")]
    record_dir: Option<PathBuf>,
    /// Print one JSON object with the call's figures as the last line.
    #[arg(long)]
    json: bool,
}

impl TalkArgs {
    fn network(&self) -> Network {
        Network { authority_file: self.authority_file.clone(), proxy: self.proxy.choice(), ..Network::default() }
    }
}

/// What to go through where no UDP gets through.
#[derive(Args)]
struct ProxyArgs {
    /// HTTP proxy to go through where no UDP gets through, as http://HOST:PORT, or `none`; without it, what HTTPS_PROXY and
    /// NO_PROXY say. One that asks for a password is given in HTTPS_PROXY: every user of the machine can see a command line.
    #[arg(long, value_name = "URL", value_parser = parse_proxy)]
    proxy: Option<ProxyChoice>,
}

impl ProxyArgs {
    fn choice(&self) -> ProxyChoice {
        self.proxy.clone().unwrap_or_default()
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the verifier logs comes again as the error, in our words.
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn,rustls_platform_verifier=off"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
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
        Command::Ticket { identity, holder, invite_file, void_earlier, days, giving } => {
            let relay = invite_file.map(|file| links::invite(Some(&file))).transpose()?;
            let pin = relay.as_ref().and_then(|invite| invite.pin);
            if void_earlier {
                identity::void_tickets(&identity)?;
            }
            given::ticket(identity::load(&identity)?.pass(holder, pin, days)?, relay, &giving)?;
        }
        Command::RoomLink(args) => given::room_link(&args)?,
        Command::Devices { command } => devices::run(command)?,
        Command::Listen { talk, again: true } => listen::run(&talk)?,
        Command::Listen { talk, again: false } => talk::run(&talk, None)?,
        Command::Call { talk, ticket_file, seconds, ring_for } => {
            let (seconds, ring_for) = (seconds.map(Duration::from_secs), Duration::from_secs(ring_for));
            let whom = talk::Whom { pass: ticket(ticket_file.as_ref())?, ring_for, seconds };
            talk::run(&talk, Some(&whom))?;
        }
        Command::Doctor { invite_file, identity, authority_file, proxy } => {
            doctor::run(&doctor::With {
                invite_file: invite_file.as_ref(),
                identity: identity.as_deref(),
                authority_file,
                proxy: proxy.choice(),
            })?;
        }
        Command::Sound => sound::list()?.iter().try_for_each(|line| say(line))?,
        Command::Room { command } => room::run(command)?,
    }
    Ok(())
}

/// One line on standard output.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Trouble::Output(error).into())
}

fn ticket(file: Option<&PathBuf>) -> Result<Pass, Failure> {
    Ok(links::ticket(file)?)
}

fn parse_identity(text: &str) -> Result<IdentityKey, String> {
    IdentityKey::from_text(text).map_err(|error| error.to_string())
}

fn parse_proxy(text: &str) -> Result<ProxyChoice, String> {
    if text == "none" {
        return Ok(ProxyChoice::Direct);
    }
    let proxy: Proxy = text.parse().map_err(|error: supernode_client::BadProxy| error.to_string())?;
    if proxy.has_password() {
        return Err("every user of this machine can see a password here: set HTTPS_PROXY to it instead".to_owned());
    }
    Ok(ProxyChoice::Use(proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_proxy_may_be_named_and_its_password_may_not() {
        assert_eq!(parse_proxy("none"), Ok(ProxyChoice::Direct));
        assert!(matches!(parse_proxy("http://proxy.example:3128"), Ok(ProxyChoice::Use(_))));
        assert!(parse_proxy("http://anna:pass@proxy.example:3128").is_err_and(|told| !told.contains("pass@")));
        assert!(parse_proxy("socks5://proxy.example").is_err());
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
