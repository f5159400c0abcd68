//! HTTP/1 for the operator and for pages: every wait has an end, and connections have a bound.
//!
//! Each port and the control socket have connections of their own, so that whoever fills the one does not keep the operator's
//! commands from the other.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    hash::Hash,
    pin::pin,
    time::Duration,
};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::task::{AbortHandle, JoinSet};

/// Connections of one listener at a time: a few browsers with six each, Prometheus, probes and commands are far fewer. Each
/// takes a descriptor, of which a process may have 1,024, and up to [`HEAD_BYTES_MAX`] and an answer. One more ends the
/// oldest: so whoever comes with a question always gets in, also when somebody else keeps all of them open.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, and so how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever is asked: after that it ends with the answer that is under way.
const LIFE: Duration = Duration::from_secs(60);
/// How long that answer may take then: the slowest asks every shard, which takes 3 s at most.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Answers requests until the task is dropped.
pub(super) async fn serve<L: Listener>(listener: L, router: Router) -> Infallible {
    let answer = move |stream| answer(TokioIo::new(stream), router.clone(), LIFE);
    serve_each(listener, CONNECTIONS_MAX, |_| (), answer).await
}

/// Answers each connection so, until the task is dropped. One too many ends the oldest of the network that has most.
pub(super) async fn serve_each<L, N, A>(
    mut listener: L,
    connections_max: usize,
    network: impl Fn(&L::Addr) -> N,
    answer: impl Fn(L::Io) -> A,
) -> Infallible
where
    L: Listener,
    N: Copy + Eq + Hash,
    A: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open: VecDeque<(N, AbortHandle)> = VecDeque::new();
    loop {
        let (stream, address) = listener.accept().await;
        while connections.try_join_next().is_some() {}
        open.retain(|(_, connection)| !connection.is_finished());
        if open.len() >= connections_max
            && let Some(place) = oldest_of_most(&open)
            && let Some((_, oldest)) = open.remove(place)
        {
            oldest.abort();
        }
        open.push_back((network(&address), connections.spawn(answer(stream))));
    }
}

/// The place of the oldest one of the network that has most; of networks with as many, of the one that came first.
fn oldest_of_most<N: Copy + Eq + Hash, T>(open: &VecDeque<(N, T)>) -> Option<usize> {
    let mut counts: HashMap<N, usize> = HashMap::new();
    open.iter().for_each(|(network, _)| *counts.entry(*network).or_default() += 1);
    let most = counts.values().copied().max()?;
    open.iter().position(|(network, _)| counts[network] == most)
}

/// Answers what comes on one connection.
pub(super) async fn answer<S>(stream: TokioIo<S>, router: Router, life: Duration)
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    // How it ends is the other side's business: it is gone, too slow, or no HTTP.
    if tokio::time::timeout(life, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, served).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_gives_way_and_of_theirs_the_oldest() {
        let open = |networks: &str| networks.chars().map(|network| (network, ())).collect::<VecDeque<_>>();
        assert_eq!(oldest_of_most(&open("abcbc")), Some(1));
        assert_eq!(oldest_of_most(&open("abccc")), Some(2));
        assert_eq!(oldest_of_most(&open("abc")), Some(0));
        assert_eq!(oldest_of_most(&open("")), None);
    }
}
