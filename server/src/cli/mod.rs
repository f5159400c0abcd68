//! The command line: one file for each command; those to a relay that runs are in `running`, those about who gets in in `admit`.

mod admit;
mod cluster;
mod config;
mod doctor;
pub(crate) mod exit;
mod manual;
mod output;
mod page;
mod relay;
mod running;
mod serve;
mod state;
mod what_i_see;

use clap::{Parser, Subcommand};
use supernode_server::control::log::Log;

use admit::{invite, invites, revoke, rotate};

/// A blind relay for calls: it knows who is online, lets people ring each other, and forwards what it cannot read.
///
/// Data goes to standard output, words to standard error. Commands find the running relay by its state directory, and
/// only its own user can open that.
#[derive(Parser)]
#[command(name = "supernode", version, after_help = exit::TABLE)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT; prints one line of JSON when it is ready.
    Serve(serve::Serve),
    /// Print the configuration in effect and where each value was said, secrets masked.
    Config(config::Config),
    /// Check a configuration and the files that it names without running; exit code 0 fine, 1 not.
    CheckConfig(config::CheckConfig),
    /// Print a link that lets somebody use this relay; the relay may be running.
    Invite(invite::Invite),
    /// Print the SHA-256 of the page that this program was built with, or write it to a file that people can keep.
    Page(page::Page),
    /// List the invites that were given a label, or take one back.
    Invites(invites::Invites),
    /// Show what the running relay is doing.
    Status(running::status::Status),
    /// Show which nodes the running relay's cluster has, or make a secret for a new cluster.
    Cluster(cluster::Cluster),
    /// Show the running relay's rates, live.
    Top(running::top::Top),
    /// List who is connected; addresses and whole names only if asked for.
    Sessions(running::sessions::Sessions),
    /// Print what one client does and is told, as it happens.
    Follow(running::follow::Follow),
    /// End a session, or all of an identity, a device or a network; their clients may come back.
    Kick(running::kick::Kick),
    /// Refuse an identity, a device, an admission token or a network from now on, and end its sessions.
    Revoke(revoke::Revoke),
    /// Put a new key in an old one's place; what the old one signed is good for a while longer.
    Rotate(rotate::Rotate),
    /// End the running relay in order: clients are told to move, calls may go on for a while.
    Drain(running::drain::Drain),
    /// Put the program that is installed now in the running relay's place; calls go on.
    Upgrade(running::upgrade::Upgrade),
    /// Look for what keeps a relay on this machine from working well, and say what to do.
    Doctor(doctor::Doctor),
    /// Print everything that the relay can see about its users, why, and for how long.
    WhatISee(what_i_see::WhatISee),
    /// Print the manual page of a command.
    Man(manual::Man),
    /// Print a script that completes this program's commands in a shell.
    Completions(manual::Completions),
}

impl Cli {
    /// Whether its memory may be read by others and end up in a core.
    pub(crate) fn is_dumpable(&self) -> bool {
        matches!(&self.command, Command::Serve(serve) if serve.dumpable)
    }

    /// Does what was asked.
    pub(crate) fn run(self, log: &Log) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(log),
            Command::Config(config) => config.run(),
            Command::CheckConfig(check) => check.run(),
            Command::Invite(invite) => invite.run(),
            Command::Page(page) => page.run(),
            Command::Invites(invites) => invites.run(),
            Command::Status(status) => status.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::Top(top) => top.run(),
            Command::Sessions(sessions) => sessions.run(),
            Command::Follow(follow) => follow.run(),
            Command::Kick(kick) => kick.run(),
            Command::Revoke(revoke) => revoke.run(),
            Command::Rotate(rotate) => rotate.run(),
            Command::Drain(drain) => drain.run(),
            Command::Upgrade(upgrade) => upgrade.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::WhatISee(what_i_see) => what_i_see.run(),
            Command::Man(man) => man.run(),
            Command::Completions(completions) => completions.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
