//! What is sent next: each service in its turn, so that one which hangs does not keep the messages to others.

use std::{collections::VecDeque, time::Instant};

use super::Outcome;

/// Messages that wait, to all services together. Older ones were asked for longer ago, and who rings asks again: the newest is
/// the one that is dropped.
pub(super) const WAITING_MAX: usize = 256;
/// Messages that one service is sent at the same time.
const OF_ONE_SERVICE_MAX: usize = 8;

/// Messages by service, and how many of each are being sent.
pub(super) struct Queue<T> {
    services: Vec<Service<T>>,
    /// Which is looked at first the next time.
    turn: usize,
    waiting: usize,
    sending: usize,
}

struct Service<T> {
    waiting: VecDeque<T>,
    sending: usize,
    /// It has asked to be left alone until then.
    quiet_until: Option<Instant>,
}

impl<T> Queue<T> {
    /// For so many services.
    pub(super) fn new(services: usize) -> Self {
        let service = |_| Service { waiting: VecDeque::new(), sending: 0, quiet_until: None };
        Self { services: (0..services).map(service).collect(), turn: 0, waiting: 0, sending: 0 }
    }

    /// Puts a message to a service.
    ///
    /// # Errors
    /// What became of it: there is no room, or the service wants to be left alone.
    pub(super) fn push(&mut self, service: usize, message: T, now: Instant) -> Result<(), Outcome> {
        let service = self.services.get_mut(service).ok_or(Outcome::NoRoom)?;
        if service.quiet_until.is_some_and(|until| now < until) {
            return Err(Outcome::Busy);
        }
        if self.waiting >= WAITING_MAX {
            return Err(Outcome::NoRoom);
        }
        service.waiting.push_back(message);
        self.waiting += 1;
        Ok(())
    }

    /// The message that is sent next, if fewer than `max` are, with the service to name in [`Self::sent`].
    pub(super) fn pop(&mut self, max: usize) -> Option<(usize, T)> {
        if self.sending >= max {
            return None;
        }
        let count = self.services.len();
        for place in (self.turn..self.turn + count).map(|place| place % count.max(1)) {
            let service = &mut self.services[place];
            if service.sending >= OF_ONE_SERVICE_MAX {
                continue;
            }
            if let Some(message) = service.waiting.pop_front() {
                service.sending += 1;
                (self.sending, self.waiting, self.turn) = (self.sending + 1, self.waiting - 1, place + 1);
                return Some((place, message));
            }
        }
        None
    }

    /// A message to this service is not being sent any more; it wants to be left alone until then.
    pub(super) fn sent(&mut self, service: usize, quiet_until: Option<Instant>) {
        let service = &mut self.services[service];
        (service.sending, self.sending) = (service.sending - 1, self.sending - 1);
        if quiet_until.is_some() {
            service.quiet_until = quiet_until;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_service_that_hangs_keeps_none_of_the_messages_to_others() {
        let (mut queue, now) = (Queue::new(2), Instant::now());
        for number in 0..20 {
            queue.push(0, number, now).expect("room");
        }
        queue.push(1, 100, now).expect("room");
        let sending: Vec<_> = std::iter::from_fn(|| queue.pop(16)).collect();
        assert_eq!(sending.iter().filter(|(service, _)| *service == 0).count(), OF_ONE_SERVICE_MAX);
        assert_eq!(sending[1], (1, 100), "its turn comes next");
        queue.sent(0, None);
        assert_eq!(queue.pop(16), Some((0, 8)));
        assert_eq!(queue.pop(9), None, "as many as may are being sent");
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_a_service_that_wants_to_be_left_alone_is() {
        let (mut queue, now) = (Queue::new(2), Instant::now());
        for number in 0..WAITING_MAX {
            queue.push(0, number, now).expect("room");
        }
        assert_eq!(queue.push(1, 0, now), Err(Outcome::NoRoom));
        assert_eq!(queue.pop(1), Some((0, 0)));
        queue.sent(0, Some(now + Duration::from_secs(5)));
        assert_eq!(queue.push(0, 0, now), Err(Outcome::Busy));
        queue.push(1, 0, now).expect("room, and another service");
        assert_eq!(queue.pop(1), Some((1, 0)));
        queue.sent(1, None);
        queue.push(0, 0, now + Duration::from_secs(5)).expect("it may be asked again");
    }
}
