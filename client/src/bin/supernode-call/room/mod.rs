//! Rooms: one process is in the room until it is told to leave; the others of these commands tell it.

mod control;
mod figures;
mod porch;
mod recording;
mod roster;
mod stay;
mod voices;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand};
use supernode_client::proto::identity::IdentityKey;

use crate::{
    ProxyArgs,
    failure::Failure,
    papers::links::{self, OwnInvite},
    parse_identity,
    progress::note,
    say,
    sound::SoundArgs,
    trouble::Trouble,
};
use control::{Order, tell};
use stay::{Entry, stay};

/// What can be done with a room.
#[derive(Subcommand)]
pub(crate) enum RoomCommand {
    /// Makes a room with a link of its own, and stays in it; lets in who knocks and has the link, and shows who else knocks.
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
        /// For more than 40 devices, or some without X-Wing: the members agree on keys by X25519 alone, for as long as the
        /// room is open.
        #[arg(long)]
        large: bool,
    },
    /// Goes into the room of a link, by whoever is there, or opens it if nobody is, and stays in it.
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
    /// Lets in somebody who knocks without having the room's link; without a name, prints who does.
    Admit {
        #[command(flatten)]
        ours: OursArgs,
        /// The public name of the person.
        #[arg(value_name = "IDENTITY", value_parser = parse_identity)]
        who: Option<IdentityKey>,
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
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Ogg Opus file to play; without it or a microphone, we only listen.
    #[arg(long)]
    audio: Option<PathBuf>,
    #[command(flatten)]
    sound: SoundArgs,
    /// IVF file (VP8, VP9 or AV1) to play.
    #[arg(long)]
    video: Option<PathBuf>,
    /// Directory for what is received, a file for each track; without it, nothing is kept.
    #[arg(long)]
    record_dir: Option<PathBuf>,
    /// Let in only this person; may be given again. Without it, everybody who has the link, and others when told to.
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
        RoomCommand::Create { stay: args, invite_file, name, link_file, large } => {
            let relay = OwnInvite::read(invite_file.as_ref())?;
            stay(&args, Entry::Create { relay, name, link_file, large })
        }
        RoomCommand::Join { stay: args, link_file, invite_file } => {
            let link = links::room(link_file.as_ref())?;
            let relay = match invite_file {
                Some(_) => OwnInvite::read(invite_file.as_ref())?,
                None => OwnInvite { invite: link.relay.clone(), file: None },
            };
            stay(&args, Entry::Knock { relay, link })
        }
        RoomCommand::Wait { stay: args, invite_file } => {
            let relay = OwnInvite::read(invite_file.as_ref())?;
            stay(&args, Entry::Wait { relay })
        }
        RoomCommand::Leave { ours } => tell(&ours.identity, &Order::Leave).map(drop),
        RoomCommand::Kick { ours, who } => {
            tell(&ours.identity, &Order::Kick { who: who.to_text() })?;
            //
            note(
                "they have the room's link still: when nobody is in, it opens the room. To change it, make another room",
            );
            Ok(())
        }
        RoomCommand::Admit { ours, who } => {
            let knocking = tell(&ours.identity, &Order::Admit { who: who.map(|who| who.to_text()) })?.knocking;
            knocking.iter().try_for_each(|who| say(who))
        }
        RoomCommand::Invite { ours, ticket_file } => {
            let ticket = crate::ticket(ticket_file.as_ref())?.to_text().to_string();
            let answer = tell(&ours.identity, &Order::Invite { ticket })?;
            say(answer.outcome.as_deref().unwrap_or("in"))
        }
        RoomCommand::Roster { ours, json } => {
            let members = tell(&ours.identity, &Order::Roster)?.members;
            if json {
                return say(&serde_json::to_string(&members).expect("figures and names are JSON"));
            }
            roster::table(&members).iter().try_for_each(|line| say(line))
        }
        RoomCommand::Say { ours } => {
            for line in std::io::stdin().lines() {
                let line = line.map_err(Trouble::Input)?;
                tell(&ours.identity, &Order::Say { line })?;
            }
            Ok(())
        }
    }
}
