//! What is to be done: who talks to whom, how often, how much.

use std::net::SocketAddr;

use clap::Args;

use supernode_measure::stamp::Stamp;

use crate::meter::HEAD_BYTES;

/// Rooms in which everybody talks to everybody. A 1:1 call is a room of two.
#[derive(Debug, Clone, Args)]
pub struct Work {
    /// Where the relay listens.
    #[arg(long, value_name = "IP:PORT")]
    pub relay: SocketAddr,
    /// The relay's process on this machine: its CPU time and memory are part of the result.
    #[arg(long, value_name = "PID")]
    pub relay_pid: Option<u32>,
    /// Rooms.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rooms: u32,
    /// Members of each room.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub members: u32,
    /// What each member sends in a second; 0 for clients that only stay connected.
    #[arg(long, value_name = "RATE", default_value_t = 100.0)]
    pub objects_per_second: f64,
    /// Bytes that the relay is given for each object.
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = object_bytes)]
    pub object_bytes: usize,
    /// Time between everybody being there and the measured part, in s.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub warm_up_s: f64,
    /// Length of the measured part, in s.
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    pub hold_s: f64,
    /// After it: how long what is under way may take, in s.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub linger_s: f64,
    /// Phases are drawn from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Work {
    /// How many clients there are. They are numbered from 0, room by room.
    pub fn clients(&self) -> u32 {
        self.rooms * self.members
    }

    /// Whether they only stay connected.
    pub fn is_idle(&self) -> bool {
        self.objects_per_second <= 0.0
    }

    /// The room that a client is in.
    pub fn room(&self, client: u32) -> u32 {
        client / self.members
    }

    /// Everybody else in a client's room.
    pub fn others(&self, client: u32) -> impl Iterator<Item = u32> + use<> {
        let first = self.room(client) * self.members;
        (first..first + self.members).filter(move |other| *other != client)
    }
}

fn object_bytes(text: &str) -> Result<usize, String> {
    let least = Stamp::BYTES + HEAD_BYTES;
    match text.parse() {
        Ok(bytes) if (least..=1200).contains(&bytes) => Ok(bytes),
        _ => Err(format!("must be {least} to 1200")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        work: Work,
    }

    #[test]
    fn the_others_are_those_in_ones_own_room() {
        let cli = Cli::try_parse_from(["x", "--relay", "127.0.0.1:1", "--rooms", "2", "--members", "3"]);
        let Work { .. } = cli.as_ref().map(|cli| &cli.work).expect("a command line");
        let work = cli.expect("a command line").work;
        assert_eq!(work.clients(), 6);
        assert_eq!(work.others(4).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(work.others(0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn an_object_has_room_for_its_stamp() {
        assert!(Cli::try_parse_from(["x", "--relay", "127.0.0.1:1", "--object-bytes", "19"]).is_err());
        assert!(Cli::try_parse_from(["x", "--relay", "127.0.0.1:1", "--object-bytes", "20"]).is_ok());
    }
}
