//! Rooms: one process is in the room until it is told to leave; the others of these commands tell it.

mod control;
mod figures;
mod recording;
mod roster;
mod stay;
mod voices;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand};
use supernode_client::{
    RoomLink,
    proto::identity::{IdentityKey, Ticket},
};

use crate::{OwnInvite, failure::Failure, parse_identity, say, secret_text};
use control::{Order, tell};
use stay::{Entry, stay};

/// What can be done with a room.
#[derive(Subcommand)]
pub(crate) enum RoomCommand {
    /// Opens a room and stays in it; lets in who knocks with the room's link.
    Create {
        #[command(flatten)]
        stay: StayArgs,
        /// File with the invite link; without it, the environment has the link.
        #[arg(long)]
        invite_file: Option<PathBuf>,
        /// What those who are invited see.
        #[arg(long, default_value = "a room")]
        name: String,
        /// File for the room's link, readable by its owner only; without it, standard output has the link first.
        #[arg(long)]
        link_file: Option<PathBuf>,
        /// How long the link and our ticket in it hold.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=365))]
        link_days: u16,
    },
    /// Knocks at a room and stays in it.
    Join {
        #[command(flatten)]
        stay: StayArgs,
        /// File with the room's link; without it, the environment (SUPERNODE_ROOM) has it.
        #[arg(long)]
        link_file: Option<PathBuf>,
        /// File with an invite link of our own for the relay that the room's link names.
        #[arg(long)]
        invite_file: Option<PathBuf>,
    },
    /// Waits to be invited into a room, and stays in it.
    Wait {
        #[command(flatten)]
        stay: StayArgs,
        /// File with the invite link; without it, the environment has the link.
        #[arg(long)]
        invite_file: Option<PathBuf>,
    },
    /// Has the process that is in a room with this identity leave it.
    Leave {
        #[command(flatten)]
        ours: OursArgs,
    },
    /// Removes a person from the room with all their devices: they have no keys from now on, and the door stays shut.
    Kick {
        #[command(flatten)]
        ours: OursArgs,
        /// The public name of the person.
        #[arg(value_name = "IDENTITY", value_parser = parse_identity)]
        who: IdentityKey,
    },
    /// Rings a person and brings them into the room when they answer.
    Invite {
        #[command(flatten)]
        ours: OursArgs,
        /// File with the ticket of the person; without it, the environment (SUPERNODE_TICKET) has the ticket.
        #[arg(long)]
        ticket_file: Option<PathBuf>,
    },
    /// Prints who is in the room, who speaks, and how their media arrives.
    Roster {
        #[command(flatten)]
        ours: OursArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends the lines on standard input to everybody in the room.
    Say {
        #[command(flatten)]
        ours: OursArgs,
    },
}

/// What both ways into a room need.
#[derive(Args)]
pub(crate) struct StayArgs {
    /// Our identity file.
    #[arg(long)]
    identity: PathBuf,
    /// Ogg Opus file to play; without it, we only listen.
    #[arg(long)]
    audio: Option<PathBuf>,
    /// IVF file (VP8, VP9 or AV1) to play.
    #[arg(long)]
    video: Option<PathBuf>,
    /// Directory for what is received, a file for each track; without it, nothing is kept.
    #[arg(long)]
    record_dir: Option<PathBuf>,
    /// Let in only this person; may be given again. Without it, everybody who has the link.
    #[arg(long = "only", value_name = "IDENTITY", value_parser = parse_identity)]
    only: Vec<IdentityKey>,
    /// Show the relay when we speak, so that others can take the most active speakers only; without it, it cannot tell.
    #[arg(long)]
    show_activity: bool,
    /// Of those who show it, take only so many most active speakers; 0 takes everybody.
    #[arg(long, value_name = "N", default_value_t = 0)]
    speakers: u32,
    /// Play once so many are in the room, ourselves included, and all of them listen.
    #[arg(long, value_name = "N", default_value = "2")]
    wait_for: NonZeroUsize,
    /// Leave after this many seconds of media and once the others have ended theirs; without it, when told to.
    #[arg(long)]
    seconds: Option<u64>,
    /// Print one JSON object with the room's figures as the last line.
    #[arg(long)]
    json: bool,
}

/// Which room: that of the process that is in one with this identity.
#[derive(Args)]
pub(crate) struct OursArgs {
    /// Our identity file.
    #[arg(long)]
    identity: PathBuf,
}

/// Carries a command out.
pub(crate) fn run(command: RoomCommand) -> Result<(), Failure> {
    match command {
        RoomCommand::Create { stay: args, invite_file, name, link_file, link_days } => {
            let relay = OwnInvite::read(invite_file.as_ref())?;
            stay(&args, Entry::Create { relay, name, link_file, link_days })
        }
        RoomCommand::Join { stay: args, link_file, invite_file } => {
            let link: RoomLink = secret_text(link_file.as_ref(), "SUPERNODE_ROOM")?
                .parse()
                .map_err(|error| Failure::here(anyhow::Error::new(error)))?;
            let relay = match invite_file {
                Some(_) => OwnInvite::read(invite_file.as_ref())?,
                None => OwnInvite { invite: link.relay.clone(), file: None },
            };
            stay(&args, Entry::Knock { relay, link: Box::new(link) })
        }
        RoomCommand::Wait { stay: args, invite_file } => {
            let relay = OwnInvite::read(invite_file.as_ref())?;
            stay(&args, Entry::Wait { relay })
        }
        RoomCommand::Leave { ours } => tell(&ours.identity, &Order::Leave).map(drop),
        RoomCommand::Kick { ours, who } => tell(&ours.identity, &Order::Kick { who: who.to_text() }).map(drop),
        RoomCommand::Invite { ours, ticket_file } => {
            let ticket = secret_text(ticket_file.as_ref(), "SUPERNODE_TICKET")?;
            Ticket::from_text(&ticket).map_err(|error| Failure::here(error.into()))?;
            let answer = tell(&ours.identity, &Order::Invite { ticket })?;
            say(answer.outcome.as_deref().unwrap_or("in"))
        }
        RoomCommand::Roster { ours, json } => {
            let members = tell(&ours.identity, &Order::Roster)?.members;
            if json {
                return say(&serde_json::to_string(&members).map_err(|error| Failure::here(error.into()))?);
            }
            roster::table(&members).iter().try_for_each(|line| say(line))
        }
        RoomCommand::Say { ours } => {
            for line in std::io::stdin().lines() {
                let line = line.map_err(|error| Failure::here(error.into()))?;
                tell(&ours.identity, &Order::Say { line })?;
            }
            Ok(())
        }
    }
}
