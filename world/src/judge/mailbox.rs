//! The order of a room's messages.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Rule;

type Verdict = Result<(), (Rule, String)>;

/// A member's view of the messages.
#[derive(Debug)]
struct View {
    /// Of the connection.
    link: u64,
    /// Of the relay.
    process: u16,
    member: u32,
    /// Which time of the room's it is in, if that is known.
    life: Option<u32>,
    last: u64,
    /// The last commit that it was sent: its epoch, and which message.
    commit: Option<(u64, u64)>,
    /// Its own, which it is not sent: those that it asked to be passed on, and those that gaps have been put down to.
    own: (u64, u64),
}

/// Everybody's views.
#[derive(Debug, Default)]
pub struct Mailboxes {
    views: BTreeMap<(usize, usize), View>,
    /// By room, time of the room and sequence.
    messages: BTreeMap<(usize, u32, u64), Bytes>,
    /// Whose commit each epoch has, by room and time of the room.
    commits: BTreeMap<(usize, u32, u64), usize>,
    lives: u32,
}

impl Mailboxes {
    /// A client is in, as this member, beside these, since this message. Returns which time of the room's it is, if that
    /// can be known.
    pub fn joined(
        &mut self,
        (client, room): (usize, usize),
        (link, process): (u64, u16),
        member: u32,
        others: &[(u32, usize)],
        last: u64,
    ) -> Option<u32> {
        let life = if others.is_empty() && last == 0 {
            self.lives += 1;
            Some(self.lives)
        } else {
            let theirs = |(number, other): &(u32, usize)| {
                let view = self.views.get(&(*other, room))?;
                ((view.process, view.member) == (process, *number)).then_some(view.life).flatten()
            };
            others.iter().find_map(theirs)
        };
        self.views.insert((client, room), View { link, process, member, life, last, commit: None, own: (0, 0) });
        life
    }

    /// Which time of a room's a client is in.
    pub fn life(&self, client: usize, room: usize) -> Option<u32> {
        self.views.get(&(client, room))?.life
    }

    /// It is out, or its connection is gone.
    pub fn left(&mut self, client: usize, room: usize) {
        self.views.remove(&(client, room));
    }

    /// It sends a message itself.
    pub fn sends(&mut self, client: usize, room: usize) {
        if let Some(view) = self.views.get_mut(&(client, room)) {
            view.own.0 += 1;
        }
    }

    /// It was refused.
    pub fn refused(&mut self, client: usize, room: usize) {
        if let Some(view) = self.views.get_mut(&(client, room)) {
            view.own.0 = view.own.0.saturating_sub(1);
        }
    }

    /// Whether a message is newer than all that it was told of.
    pub fn is_news(&self, client: usize, room: usize, sequence: u64) -> bool {
        self.views.get(&(client, room)).is_some_and(|view| sequence > view.last)
    }

    /// A message reached it.
    ///
    /// # Errors
    /// What does not hold.
    pub fn delivered(&mut self, client: usize, room: usize, link: u64, sequence: u64, payload: &Bytes) -> Verdict {
        let Some(view) = self.views.get_mut(&(client, room)).filter(|view| view.link == link) else { return Ok(()) };
        let what = format!("client {client} in room {room} got message {sequence} after {}", view.last);
        if sequence <= view.last {
            return Err((Rule::Mailbox, what));
        }
        let gap = sequence - view.last - 1;
        let own = view.own.0.saturating_sub(view.own.1);
        if gap > own {
            return Err((Rule::Mailbox, format!("{what}, and {own} in between may be its own")));
        }
        (view.last, view.own.1) = (sequence, view.own.1 + gap);
        let Some(life) = view.life else { return Ok(()) };
        let same = self.messages.entry((room, life, sequence)).or_insert_with(|| payload.clone()) == payload;
        if same { Ok(()) } else { Err((Rule::Mailbox, format!("{what}, and others got another one"))) }
    }

    /// A commit of this epoch reached it, as a message that is new to it.
    ///
    /// # Errors
    /// If there was one already that nobody has told it was taken back.
    pub fn followed(&mut self, client: usize, room: usize, link: u64, epoch: u64, sequence: u64) -> Verdict {
        let Some(view) = self.views.get_mut(&(client, room)).filter(|view| view.link == link) else { return Ok(()) };
        match view.commit.replace((epoch, sequence)) {
            Some((before, first)) if before == epoch && first < sequence => {
                let what =
                    format!("client {client} in room {room} got commits {first} and {sequence} of epoch {epoch}");
                Err((Rule::Mailbox, format!("{what}, and was not told that the first is taken back")))
            }
            _ => Ok(()),
        }
    }

    /// It is told that a commit is taken back.
    pub fn taken_back(&mut self, client: usize, room: usize, epoch: u64, sequence: u64) {
        if let Some(view) = self.views.get_mut(&(client, room)) {
            view.commit.take_if(|commit| *commit == (epoch, sequence));
        }
    }

    /// A client knows that this one's commit is the epoch's.
    ///
    /// # Errors
    /// What does not hold.
    pub fn commits(&mut self, client: usize, room: usize, epoch: u64, sender: usize) -> Verdict {
        let Some(life) = self.life(client, room) else { return Ok(()) };
        let won = *self.commits.entry((room, life, epoch)).or_insert(sender);
        if won == sender {
            return Ok(());
        }
        Err((Rule::Mailbox, format!("the commits of {won} and of {sender} both count in epoch {epoch} of room {room}")))
    }

    /// Nothing is under way any more: everybody has everything.
    ///
    /// # Errors
    /// What does not hold.
    pub fn settled(&self) -> Verdict {
        for ((client, room), view) in &self.views {
            let Some(life) = view.life else { continue };
            let in_life = self.messages.range((*room, life, 0)..=(*room, life, u64::MAX));
            let newest = in_life.last().map_or(0, |((_, _, sequence), _)| *sequence);
            let own = view.own.0.saturating_sub(view.own.1);
            if newest > view.last + own {
                let what = format!("client {client} in room {room} has message {}, and there is {newest}", view.last);
                return Err((Rule::Mailbox, what));
            }
        }
        Ok(())
    }
}
