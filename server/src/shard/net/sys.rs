//! The system calls that no safe crate offers the way the relay needs them: `sendmmsg` with a GSO size of its own for
//! every message, the classic-BPF program that steers migrated clients, the kernel's count of packets it threw away, and
//! what it holds of its clock. All of the relay's `unsafe` is here.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; each block says why it is sound")]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use quinn_proto::EcnCodepoint;

use super::demultiplexer::steering_program;

/// Most messages in one call.
pub(crate) const MESSAGES_MAX: usize = 64;

/// One UDP send: bytes to one destination, cut by the kernel into datagrams of `segment_size`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) destination: SocketAddr,
    pub(crate) segment_size: Option<u16>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) source: Option<IpAddr>,
}

/// Room for the control messages of one send: ECN, source address, segment size.
const CONTROL_BYTES: usize = 128;

/// What `SO_MEMINFO` returns, and where in it the drops are (`linux/sock_diag.h`).
const MEMORY_INFO_LEN: usize = 9;
const MEMORY_INFO_DROPS: usize = 8;

/// `cmsghdr` wants its own alignment.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Whether the kernel holds the clock for synchronised (adjtimex(2)); reading it needs no privilege.
///
/// # Errors
/// What the system says: a sandbox may forbid the question.
pub(crate) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: the structure is plain integers, for which zeros are valid values; no bit in `modes` means to read only.
    let mut clock: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes to this structure of ours and keeps no pointer to it.
    match unsafe { libc::adjtimex(&raw mut clock) } {
        -1 => Err(io::Error::last_os_error()),
        libc::TIME_ERROR => Ok(false),
        _ => Ok(clock.status & libc::STA_UNSYNC == 0),
    }
}

/// Sends the first [`MESSAGES_MAX`] of `count` messages in one call and returns how many went out. `ipv6` is the
/// socket's family: an IPv6 socket reaches IPv4 destinations by mapped addresses (RFC 4291 section 2.5.5.2).
///
/// # Errors
/// What `sendmmsg` says about the first message.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    ipv6: bool,
    count: usize,
    message: impl Fn(usize) -> Message<'a>,
) -> io::Result<usize> {
    let count = count.min(MESSAGES_MAX);
    // Most calls have few messages: what is not used is not written either.
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MESSAGES_MAX];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MESSAGES_MAX];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; MESSAGES_MAX];
    let mut addresses = [const { MaybeUninit::<socket2::SockAddr>::uninit() }; MESSAGES_MAX];
    for index in 0..count {
        let message = message(index);
        let address = addresses[index].write(socket2::SockAddr::from(mapped(message.destination, ipv6)));
        // SAFETY: the structure is plain integers and pointers, for which zeros are valid values.
        let header = &mut headers[index].write(unsafe { mem::zeroed() }).msg_hdr;
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
        // The kernel only reads through this pointer.
        let bytes = message.bytes.as_ptr().cast_mut().cast();
        header.msg_iov = vectors[index].write(libc::iovec { iov_base: bytes, iov_len: message.bytes.len() });
        header.msg_iovlen = 1;
        header.msg_control = controls[index].write(Control([0; CONTROL_BYTES])).0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        let mut writer = ControlWriter { header, next: None, used: 0 };
        let is_v4 = message.destination.is_ipv4();
        if let Some(ecn) = message.ecn {
            match is_v4 {
                true => writer.push(libc::IPPROTO_IP, libc::IP_TOS, ecn as libc::c_int),
                false => writer.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ecn as libc::c_int),
            }
        }
        match message.source {
            Some(IpAddr::V4(source)) => writer.push(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                },
            ),
            Some(IpAddr::V6(source)) => writer.push(
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: source.octets() } },
            ),
            None => {}
        }
        if let Some(size) = message.segment_size {
            writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, size);
        }
        writer.finish();
    }
    // SAFETY: the first `count` headers were written, and point to addresses, vectors, bytes and control buffers that
    // live until the call returns, with their true lengths; the arrays are not moved after the pointers into them were
    // taken.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), count as _, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

fn mapped(destination: SocketAddr, ipv6: bool) -> SocketAddr {
    match destination {
        SocketAddr::V4(address) if ipv6 => SocketAddr::from((address.ip().to_ipv6_mapped(), address.port())),
        other => other,
    }
}

/// Appends control messages to a header whose buffer is [`Control`].
struct ControlWriter<'a> {
    header: &'a mut libc::msghdr,
    next: Option<*mut libc::cmsghdr>,
    used: usize,
}

impl ControlWriter<'_> {
    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic.
        let (space, len) =
            unsafe { (libc::CMSG_SPACE(size_of::<T>() as _) as usize, libc::CMSG_LEN(size_of::<T>() as _)) };
        assert!(self.used + space <= CONTROL_BYTES, "the control messages of one send fit CONTROL_BYTES");
        // SAFETY: the header's control buffer is CONTROL_BYTES long, zeroed and aligned; the assertion above leaves
        // room for this message, so both macros return a pointer into it, and the value fits behind the header.
        unsafe {
            let message = match self.next {
                None => libc::CMSG_FIRSTHDR(self.header),
                Some(last) => libc::CMSG_NXTHDR(self.header, last),
            };
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = len as _;
            ptr::write_unaligned(libc::CMSG_DATA(message).cast::<T>(), value);
            self.next = Some(message);
        }
        self.used += space;
    }

    fn finish(self) {
        self.header.msg_controllen = self.used as _;
        if self.used == 0 {
            self.header.msg_control = ptr::null_mut();
        }
    }
}

/// Makes the kernel give each packet to the socket of the shard that it belongs to ([`steering_program`]). Setting it on one
/// socket of the group is enough.
///
/// # Errors
/// What `setsockopt` says; steering between shards then happens in user space alone.
pub(crate) fn steer_by_connection_id(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut program = steering_program();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose length and pointer are those of a live array, before it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            ptr::from_ref(&filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets that the kernel has thrown away because this socket's receive buffer was full, since it was opened.
///
/// # Errors
/// What `getsockopt` says.
pub(crate) fn receive_drops(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0u32; MEMORY_INFO_LEN];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into a live array of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            ptr::from_mut(&mut len),
        )
    };
    if result == 0 { Ok(u64::from(info[MEMORY_INFO_DROPS])) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use socket2::SockRef;

    use super::*;

    /// Makes the kernel refuse bundles with EINVAL, as it does for a socket without checksums, or take them again.
    pub(crate) fn refuse_bundles(socket: BorrowedFd<'_>, refuse: bool) {
        let without_checksums = libc::c_int::from(refuse);
        // SAFETY: the kernel reads an integer that lives until the call returns, and is told its true size.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                ptr::from_ref(&without_checksums).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn pair(bind: &str) -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind(bind).expect("loopback");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        (UdpSocket::bind(bind).expect("loopback"), receiver)
    }

    #[test]
    fn the_kernel_says_whether_its_clock_is_kept_right_unless_a_sandbox_forbids_the_question() {
        if let Err(error) = clock_is_synchronised() {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        }
    }

    #[test]
    fn one_call_sends_to_several_destinations_and_cuts_into_segments() {
        let (sender, first) = pair("127.0.0.1:0");
        let (_, second) = pair("127.0.0.1:0");
        let bytes: Vec<u8> = (0..250).collect();
        let message = |socket: &UdpSocket, segment_size, ecn| Message {
            bytes: &bytes,
            destination: socket.local_addr().expect("bound"),
            segment_size,
            ecn,
            source: Some(IpAddr::from([127, 0, 0, 1])),
        };
        let messages = [message(&first, Some(100), None), message(&second, None, Some(EcnCodepoint::Ect0))];
        assert_eq!(send(sender.as_fd(), false, 2, |index| messages[index]).expect("sent"), 2);
        let mut buffer = [0; 1000];
        let sizes: Vec<usize> = (0..3).map(|_| first.recv(&mut buffer).expect("a segment")).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert_eq!(second.recv(&mut buffer).expect("a datagram"), 250);
        assert_eq!(&buffer[..250], &bytes[..]);
    }

    #[test]
    fn what_a_full_buffer_loses_is_counted() {
        let (sender, receiver) = pair("127.0.0.1:0");
        assert_eq!(receive_drops(receiver.as_fd()).expect("read"), 0);
        let full = SockRef::from(&receiver);
        full.set_recv_buffer_size(4096).expect("a small buffer");
        let sent = 100;
        for _ in 0..sent {
            sender.send_to(&[0; 1000], receiver.local_addr().expect("bound")).expect("sent");
        }
        receiver.set_nonblocking(true).expect("set");
        let mut read = 0;
        while receiver.recv(&mut [0; 1000]).is_ok() {
            read += 1;
        }
        assert!(read < sent, "the buffer was small");
        assert_eq!(receive_drops(receiver.as_fd()).expect("read"), sent - read);
    }

    #[test]
    fn an_ipv6_socket_reaches_ipv4() {
        let Ok(sender) = UdpSocket::bind("[::]:0") else { return };
        let (_, receiver) = pair("127.0.0.1:0");
        let destination = receiver.local_addr().expect("bound");
        let message = Message { bytes: b"hello", destination, segment_size: None, ecn: None, source: None };
        assert_eq!(send(sender.as_fd(), true, 1, |_| message).expect("sent"), 1);
        assert_eq!(receiver.recv(&mut [0; 10]).expect("received"), 5);
    }

    #[test]
    fn the_kernel_takes_the_steering_program() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        steer_by_connection_id(socket.as_fd()).expect("attached");
    }
}
