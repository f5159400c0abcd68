//! The TCP port: who may open a connection, by the rules of the shards' door, and the thread.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, LocalSet},
};

use super::{
    Figures, LinkId, Links, Tls,
    link::{self, Link},
    queue::Queue,
};
use crate::{
    core::directory::Directory,
    shard::{
        door::{
            pace::{HANDSHAKES_SPAN, Pace},
            places::{Place, Places},
            prefixes::{Prefix, Prefixes, Verdict},
        },
        post::inbox::Postbox,
    },
};

/// How often the thread looks whether the relay drains or ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it goes on after the shards have ended, so that their goodbyes get out.
const LAST_PACKETS: Duration = Duration::from_millis(150);
/// How long it waits where the system has no descriptor left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// What the thread runs.
pub(in crate::shard) struct Port {
    pub(in crate::shard) listener: StdListener,
    pub(in crate::shard) tls: Tls,
    pub(in crate::shard) links: Links,
    pub(in crate::shard) postboxes: Arc<[Postbox]>,
    pub(in crate::shard) directory: Arc<Directory>,
    pub(in crate::shard) stop: Arc<AtomicBool>,
}

/// Who is at the door of this port.
struct Porch {
    prefixes: Prefixes,
    pace: RefCell<Pace>,
    /// Of those that may not be a client's yet, with what ends them.
    places: RefCell<Places>,
    newcomers: RefCell<HashMap<LinkId, AbortHandle>>,
}

/// A link's place, from its first byte to its end.
pub(super) struct Held {
    porch: Rc<Porch>,
    links: Links,
    id: LinkId,
    prefix: Prefix,
    place: Place,
}

impl Port {
    /// Runs until the relay ends.
    ///
    /// # Errors
    /// What the system says to the port.
    pub(in crate::shard) fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let mut listener = Some(TcpListener::from_std(self.listener.try_clone()?)?);
        let now = Instant::now();
        let porch = Rc::new(Porch {
            prefixes: Prefixes::default(),
            pace: RefCell::new(Pace::new(HANDSHAKES_SPAN, 1, now)),
            places: RefCell::default(),
            newcomers: RefCell::default(),
        });
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut last: LinkId = 0;
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = look.tick() => {
                    if self.stop.load(Relaxed) {
                        tokio::time::sleep(LAST_PACKETS).await;
                        return Ok(());
                    }
                    // Whoever is to be told to go elsewhere is let in no more.
                    listener = listener.filter(|_| !self.directory.is_draining());
                }
                accepted = accepted => match accepted {
                    Ok((stream, peer)) => {
                        last = last.checked_add(1).unwrap_or(1);
                        self.meet(stream, peer, last, &porch);
                    }
                    // A connection that has ended in the queue is no reason to wait, but it is rare.
                    Err(error) => {
                        tracing::debug!(%error, "a TCP connection cannot be taken");
                        tokio::time::sleep(AFTER_REFUSAL).await;
                    }
                },
            }
        }
    }

    /// A connection: it is let on by the same limits as a QUIC handshake, or closed.
    fn meet(&self, stream: TcpStream, peer: SocketAddr, id: LinkId, porch: &Rc<Porch>) {
        let (limits, now, figures) = (self.directory.limits_now(), Instant::now(), &self.links.figures);
        Figures::count(&figures.accepted, 1);
        let network = porch.prefixes.network(peer.ip());
        // TCP's handshake has proven the address.
        let Verdict::Enter(prefix) = porch.prefixes.enter(&network, true, &limits, now) else {
            return Figures::count(&figures.over_network, 1);
        };
        if !porch.pace.borrow_mut().begin(&network, limits.handshakes_per_second_max, now) {
            porch.prefixes.leave(prefix, now);
            return Figures::count(&figures.over_pace, 1);
        }
        let queue = Arc::new(Queue::new(now));
        self.links.queues.insert(id, queue.clone());
        Figures::count(&figures.links, 1);
        let place = porch.places.borrow_mut().take(id, network);
        let held = Held { porch: porch.clone(), links: self.links.clone(), id, prefix, place };
        let link = Link { id, peer, queue, links: self.links.clone(), postboxes: self.postboxes.clone() };
        let opened = tokio::time::timeout(limits.hello_timeout, link::open(stream, self.tls.load_full()));
        let hello_timeout = limits.hello_timeout;
        let task = tokio::task::spawn_local(async move {
            match opened.await {
                Ok(Some(stream)) => link.carry(stream, hello_timeout, &held).await,
                Ok(None) | Err(_) => Figures::count(&held.links.figures.not_opened, 1),
            }
        });
        porch.newcomers.borrow_mut().insert(id, task.abort_handle());
        if self.links.len() > limits.tcp_links_max {
            // Somebody who may be no client makes room: of the network that has most of them, as at the shards' door.
            let goes = porch.places.borrow().next_to_go(place).unwrap_or(id);
            Figures::count(&figures.over_links, 1);
            if let Some(task) = porch.newcomers.borrow_mut().remove(&goes) {
                task.abort();
            }
        }
    }
}

impl Held {
    /// It is no newcomer any more.
    pub(super) fn stands(&self) {
        self.porch.places.borrow_mut().leave(self.place);
        self.porch.newcomers.borrow_mut().remove(&self.id);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stands();
        self.porch.prefixes.leave(self.prefix, Instant::now());
        self.links.queues.remove(&self.id);
        self.links.figures.links.fetch_sub(1, Relaxed);
    }
}
