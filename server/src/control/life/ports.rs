//! The relay's TCP ports: opened, or taken over from the process that is replaced.
//!
//! None is shared with a process that goes on by itself (`SO_REUSEPORT`): connections would come to either, and a second
//! relay would not be told that the address is taken.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// One of each kind that a relay may have, in the order in which they are handed over.
#[derive(Debug)]
pub struct Ports<T> {
    /// The operator's.
    pub admin: T,
    /// That of clients whose network lets no UDP through.
    pub tcp: Option<T>,
    /// Where pages are told of certificates.
    pub certificates: Option<T>,
    /// Where the page is.
    pub page: Option<T>,
}

impl<T> Ports<T> {
    /// All that there are, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [Some(&self.admin), self.tcp.as_ref(), self.certificates.as_ref(), self.page.as_ref()].into_iter().flatten()
    }
}

/// A port: that of the process that is replaced, if it is at this address or any would do, else one that is opened.
///
/// # Errors
/// What the system says.
pub fn open(address: SocketAddr, theirs: Option<&TcpListener>, backlog: i32) -> io::Result<TcpListener> {
    let is_it = |theirs: &&TcpListener| address.port() == 0 || theirs.local_addr().is_ok_and(|at| at == address);
    if let Some(theirs) = theirs.filter(is_it) {
        return theirs.try_clone();
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of a process before this one may linger at the port, which is no reason not to have it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
