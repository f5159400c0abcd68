//! HTTP/1 for the operator: every wait has an end, and connections have a bound.
//!
//! The admin port and the control socket each have connections of their own, so that whoever fills the one does not keep
//! the operator's commands from the other.

use std::{collections::VecDeque, convert::Infallible, pin::pin, time::Duration};

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
pub(super) async fn serve<L: Listener>(mut listener: L, router: Router) -> Infallible {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, _) = listener.accept().await;
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connections.spawn(answer(TokioIo::new(stream), router.clone())));
    }
}

async fn answer<S>(stream: TokioIo<S>, router: Router)
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    // How it ends is the other side's business: it is gone, too slow, or no HTTP.
    if tokio::time::timeout(LIFE, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, served).await;
    }
}
