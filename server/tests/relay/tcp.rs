//! The way over TCP: the same relay, by WebSockets in TLS.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::Runtime;
use rstest::rstest;
use supernode_proto::{control::TrackKind, object::TrackAlias, tcp::PACKET_BYTES_MAX};
use supernode_server::{
    core::limits::Limits,
    shard::{TcpSnapshot, counters::Tally},
};
use supernode_tcp::{OpenError, ProxyChoice, Stream, Target, answers, open};
use supernode_testkit::{Client, Door, PATIENCE, Person, Proxy, Relay, Room, Setup, datagram, eventually, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::media::{receive_stream, send_stream};

fn relay(shards: usize, limits: Limits) -> Relay {
    let limits = Limits { presence_linger: Duration::from_millis(300), ..limits };
    Relay::of(Setup { tcp: true, ..Setup::new(shards, Door::Everybody, limits) })
}

fn port(relay: &Relay) -> SocketAddr {
    relay.running().tcp_addr().unwrap()
}

fn figures(relay: &Relay) -> TcpSnapshot {
    relay.running().tcp_figures().unwrap().snapshot()
}

fn target(address: SocketAddr) -> Target {
    Target { host: "127.0.0.1".to_owned(), address, proxy: None }
}

async fn web_socket(relay: &Relay) -> Result<Stream, OpenError> {
    timeout(PATIENCE, open(&target(port(relay)))).await.expect("in time")
}

/// Objects of a speaker come to this client once each, in order and as they were; how many of so many do not.
async fn misses(client: &mut Client, count: u64) -> u64 {
    let (mut next, mut missed) = (0, 0);
    while next < count
        && let Ok((header, sealed)) = timeout(Duration::from_secs(2), client.object()).await
    {
        let group = header.visible.group;
        assert!(group >= next, "{group} is not behind {next}");
        assert_eq!(&sealed[..], &[group as u8; 120][..]);
        missed += group - next;
        next = group + 1;
    }
    missed + count - next
}

#[tokio::test]
async fn sessions_are_counted_by_how_they_travel() {
    let relay = relay(2, Limits::default());
    let mut clients = vec![relay.connect(&Person::new()).await, relay.connect_over_tcp(&Person::new()).await];
    for _ in 0..2 {
        clients.push(relay.connect_page(&Person::new()).await);
    }
    let counted = || {
        let tallies = relay.tallies();
        let sum = |read: fn(&Tally) -> u64| tallies.iter().map(read).sum::<u64>();
        [sum(|tally| tally.sessions_native), sum(|tally| tally.sessions_over_tcp), sum(|tally| tally.sessions_of_pages)]
    };
    eventually("one native, one over TCP and two pages", || counted() == [1, 1, 2]).await;
    assert_eq!(relay.handle().sessions(9).iter().filter(|session| session.page).count(), 2);
    for client in &clients {
        client.connection.close(quinn::VarInt::from_u32(0), b"");
    }
    eventually("nobody", || counted() == [0, 0, 0]).await;
}

//
#[rstest]
#[tokio::test]
async fn whoever_comes_over_tcp_is_in_the_same_room_as_everybody(#[values(1, 2, 4)] shards: usize) {
    let relay = relay(shards, Limits::default());
    let room = Room::new();
    let mut speaker = relay.connect_over_tcp(&Person::new()).await;
    let mut by_tcp = relay.connect_over_tcp(&Person::new()).await;
    let mut by_udp = relay.connect(&Person::new()).await;
    for member in [&mut speaker, &mut by_tcp, &mut by_udp] {
        member.join(&room).await;
    }
    let voice = speaker.publish(&room, TrackKind::Audio).await;
    let picture = speaker.publish(&room, TrackKind::Video).await;
    for member in [&mut by_tcp, &mut by_udp] {
        member.subscribe(voice).await;
        member.subscribe(picture).await;
    }
    speaker.demand(2).await;
    speaker.demand(2).await;
    for group in 0..100 {
        speaker.connection.send_datagram(datagram(voice, group, &[group as u8; 120])).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let missed = [misses(&mut by_tcp, 100).await, misses(&mut by_udp, 100).await];
    let late = (speaker.tcp.as_ref().unwrap().way().dropped(), figures(&relay).dropped_late);
    assert_eq!((missed, late), ([0, 0], (0, 0)), "TCP has made nobody wait");
    let wire = stream(picture, 0, 0, &[(1, 6_000), (2, 900), (3, 4_000)]);
    send_stream(&speaker, &wire).await;
    for member in [&by_tcp, &by_udp] {
        assert_eq!(receive_stream(member).await, wire);
    }
    let figures = figures(&relay);
    assert_eq!((figures.links, figures.accepted, figures.dropped_inbox), (2, 2, 0), "{figures:?}");
    assert!(figures.packets_in >= 100 && figures.packets_out >= 20, "{figures:?}");
    let sessions = relay.handle().sessions(9);
    assert_eq!(sessions.iter().filter(|session| session.over_tcp).count(), 2);
    assert!(sessions.iter().all(|session| session.address.ip().is_ipv4()), "a client's own address, as by UDP");
    for client in [speaker, by_tcp, by_udp] {
        client.close();
        client.endpoint.wait_idle().await;
    }
    relay.assert_empty().await;
}

//
#[tokio::test]
async fn what_is_no_client_of_ours_is_closed() {
    let limits = Limits { hello_timeout: Duration::from_secs(1), ..Limits::default() };
    let relay = relay(1, limits);
    // Says nothing, and no TLS.
    for words in ["", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(port(&relay)).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{words:?}: it is closed");
    }
    eventually("they are counted", || figures(&relay).not_opened == 2).await;

    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    for message in
        [Message::text("a word"), Message::Binary(Bytes::from(vec![0x40; PACKET_BYTES_MAX + 1])), Message::Close(None)]
    {
        let mut stream = web_socket(&relay).await.unwrap();
        assert!(answers(&mut stream).await, "the relay answers a version that nobody speaks");
        stream.send(message.clone()).await.unwrap();
        let end = timeout(PATIENCE, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        assert!(end.is_ok(), "{message:?} ends it");
    }
    eventually("all have gone", || figures(&relay).links == 0).await;
}

//
#[tokio::test]
async fn a_link_without_a_connection_is_closed_and_one_with_a_session_stays() {
    let limits = Limits { hello_timeout: Duration::from_secs(1), ..Limits::default() };
    let relay = relay(1, limits);
    let session = relay.connect_over_tcp(&Person::new()).await;
    let _idle = web_socket(&relay).await.unwrap();
    assert_eq!(figures(&relay).links, 2);
    // So long may it take until it is clear that nobody comes in on it.
    tokio::time::sleep(Duration::from_secs(13)).await;
    eventually("the one that nobody was let in on is closed", || figures(&relay).links == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((figures(&relay).links, relay.population().sessions), (1, 1));
    assert!(session.connection.close_reason().is_none());
}

//
#[tokio::test]
async fn one_network_has_so_many_connections_and_no_more() {
    let relay = relay(1, Limits { connections_per_prefix_max: 2, ..Limits::default() });
    let _two = [web_socket(&relay).await.unwrap(), web_socket(&relay).await.unwrap()];
    assert!(web_socket(&relay).await.is_err(), "a third one is closed");
    assert_eq!(figures(&relay).over_network, 1);
}

//
#[tokio::test]
async fn when_all_places_are_taken_those_make_room_whom_nobody_let_in() {
    let relay = relay(1, Limits { tcp_links_max: 2, hello_timeout: Duration::from_secs(1), ..Limits::default() });
    let session = relay.connect_over_tcp(&Person::new()).await;
    // It is a newcomer's no more.
    tokio::time::sleep(Duration::from_secs(14)).await;
    let mut first = web_socket(&relay).await.unwrap();
    let mut second = web_socket(&relay).await.unwrap();
    assert!(!answers(&mut first).await, "it has made room");
    assert!(answers(&mut second).await);
    assert!(session.connection.close_reason().is_none());
    let figures = figures(&relay);
    assert_eq!((figures.links, figures.over_links), (2, 1));
}

/// Passes bytes towards the client on at this rate, with little room before it.
fn narrow(to: SocketAddr, bytes_per_second: usize) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(client, to, bytes_per_second));
        }
    });
    address
}

async fn pass(client: TcpStream, to: SocketAddr, bytes_per_second: usize) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let relay = socket.connect(to).await?;
    let ((mut from_client, mut to_client), (mut from_relay, mut to_relay)) = (client.into_split(), relay.into_split());
    let up = tokio::io::copy(&mut from_client, &mut to_relay);
    let down = async {
        let mut buffer = vec![0; bytes_per_second / 50];
        // The handshakes go through at once.
        let mut passed = 0;
        loop {
            let length = from_relay.read(&mut buffer).await?;
            passed += length;
            to_client.write_all(&buffer[..length]).await?;
            if length == 0 {
                return Ok::<(), io::Error>(());
            }
            if passed > 16 * 1024 {
                tokio::time::sleep(Duration::from_secs(1) * length as u32 / bytes_per_second as u32).await;
            }
        }
    };
    tokio::select! {
        _ = up => Ok(()),
        ended = down => ended,
    }
}

/// Three times what the path takes.
const TOO_MUCH_BYTES: usize = 900;

/// Says so many objects, one each 10 ms, with the time at which it does.
async fn speak(speaker: Client, voice: TrackAlias, objects: u64, start: Instant) -> Client {
    for group in 0..objects {
        let sent_ms = start.elapsed().as_millis() as u64;
        let sealed = [&sent_ms.to_be_bytes()[..], &[7; TOO_MUCH_BYTES]].concat();
        speaker.connection.send_datagram(datagram(voice, group, &sealed)).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    speaker
}

/// How long objects took to this client, ms, sorted; until none comes any more.
async fn waits(mut client: Client, start: Instant) -> (Vec<u64>, Client) {
    let mut waits = Vec::new();
    while let Ok((_, sealed)) = timeout(Duration::from_secs(3), client.object()).await {
        let sent_ms = u64::from_be_bytes(sealed[..8].try_into().unwrap());
        waits.push(start.elapsed().as_millis() as u64 - sent_ms);
    }
    waits.sort_unstable();
    (waits, client)
}

/// A room with a speaker and somebody who listens by UDP.
async fn room_of_two(relay: &Relay, room: &Room) -> (Client, Client, TrackAlias) {
    let mut speaker = relay.connect(&Person::new()).await;
    let mut listener = relay.connect(&Person::new()).await;
    speaker.join(room).await;
    listener.join(room).await;
    let voice = speaker.publish(room, TrackKind::Audio).await;
    listener.subscribe(voice).await;
    speaker.demand(1).await;
    (speaker, listener, voice)
}

//
#[tokio::test]
async fn over_a_narrow_path_nothing_ages_unseen_and_nobody_else_waits() {
    const OBJECTS: u64 = 900;
    let relay = relay(2, Limits::default());
    let (room, elsewhere) = (Room::new(), Room::new());
    let (mut speaker, other, voice) = room_of_two(&relay, &room).await;
    let mut slow = relay.connect_over_tcp_at(narrow(port(&relay), 30_000), &Person::new()).await;
    slow.join(&room).await;
    slow.subscribe(voice).await;
    speaker.demand(2).await;
    // What the machine does to everybody at that time.
    let (calm_speaker, calm, calm_voice) = room_of_two(&relay, &elsewhere).await;
    let start = Instant::now();
    let (speaker, calm_speaker, (slow_waits, slow), (other_waits, other), (calm_waits, calm)) = tokio::join!(
        speak(speaker, voice, OBJECTS, start),
        speak(calm_speaker, calm_voice, OBJECTS, start),
        waits(slow, start),
        waits(other, start),
        waits(calm, start)
    );
    let part = |waits: &[u64], percent: usize| waits[(waits.len() - 1) * percent / 100];
    let told =
        [&calm_waits, &other_waits, &slow_waits].map(|waits| [50, 90, 99, 100].map(|percent| part(waits, percent)));
    eprintln!("waits of, ms in another room, beside the slow one, and to the slow one: {told:?}");
    // A machine that stands still for half a second lets sockets overflow, everybody's.
    let came = [&calm_waits, &other_waits].map(|waits| waits.len() as u64);
    assert!(came[0] > OBJECTS / 2 && came[1] + OBJECTS / 100 >= came[0], "{came:?}, {:?}", relay.ledger());
    for percent in [50, 90, 99] {
        let (other, calm) = (part(&other_waits, percent), part(&calm_waits, percent));
        assert!(other <= 2 * calm + 20, "whoever is beside the slow one waits for it: {told:?}");
    }
    // A tenth of a second here, as much in the kernel and on the path, and one retransmission.
    assert!(slow_waits.len() >= 100, "{} objects", slow_waits.len());
    assert!(part(&slow_waits, 90) < 1_000 && part(&slow_waits, 100) < 2_500, "{told:?}");
    let ledger = relay.ledger();
    assert!(ledger.dropped.iter().sum::<u64>() > 100, "the core knows that the path is narrow: {ledger:?}");
    for client in [slow, other, speaker, calm, calm_speaker] {
        client.close();
        client.endpoint.wait_idle().await;
    }
    relay.assert_empty().await;
}

/// Keeps saying something and hears all of it, however often the way changes meanwhile.
struct Talk {
    speaker: Client,
    listener: Client,
    voice: TrackAlias,
    next: u64,
}

impl Talk {
    async fn begin(relay: &Relay, mut speaker: Client) -> Self {
        let room = Room::new();
        let mut listener = relay.connect(&Person::new()).await;
        speaker.join(&room).await;
        listener.join(&room).await;
        let voice = speaker.publish(&room, TrackKind::Audio).await;
        listener.subscribe(voice).await;
        speaker.demand(1).await;
        Self { speaker, listener, voice, next: 0 }
    }

    /// Until the listener hears what was said since.
    async fn goes_on(&mut self) {
        let from = self.next;
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "nothing is heard any more");
            self.speaker.connection.send_datagram(datagram(self.voice, self.next, &[1; 60])).unwrap();
            self.next += 1;
            if let Ok((header, _)) = timeout(Duration::from_millis(20), self.listener.object()).await
                && header.visible.group >= from
            {
                return;
            }
        }
    }
}

//
#[rstest]
#[tokio::test]
async fn a_connection_moves_from_tcp_to_udp_and_goes_on(#[values(1, 2, 4)] shards: usize) {
    let relay = relay(shards, Limits::default());
    let speaker = relay.connect_over_tcp(&Person::new()).await;
    let mut talk = Talk::begin(&relay, speaker).await;
    talk.goes_on().await;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = quinn::TokioRuntime.wrap_udp_socket(udp).unwrap();
    let connection = talk.speaker.connection.clone();
    let carrier = talk.speaker.tcp.as_ref().unwrap();
    assert!(carrier.move_to_udp(udp, || drop(connection.send_datagram(Bytes::new()))).await);
    for _ in 0..20 {
        talk.goes_on().await;
    }
    assert!(talk.speaker.connection.close_reason().is_none(), "the same connection");
    eventually("no TCP is left", || figures(&relay).links == 0).await;
    talk.goes_on().await;
    assert!(relay.handle().sessions(9).iter().all(|session| !session.over_tcp));
}

//
#[tokio::test]
async fn where_udp_does_not_get_through_a_move_is_taken_back() {
    let relay = relay(2, Limits::default());
    let speaker = relay.connect_over_tcp(&Person::new()).await;
    let mut talk = Talk::begin(&relay, speaker).await;
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = quinn::TokioRuntime.wrap_udp_socket(nowhere).unwrap();
    let connection = talk.speaker.connection.clone();
    let carrier = talk.speaker.tcp.as_ref().unwrap();
    let deaf = Arc::new(Deaf(nowhere));
    assert!(!carrier.move_to_udp(deaf, || drop(connection.send_datagram(Bytes::new()))).await);
    for _ in 0..5 {
        talk.goes_on().await;
    }
    assert_eq!(figures(&relay).links, 1);
}

/// Sends nothing, and hears nothing.
#[derive(Debug)]
struct Deaf(Arc<dyn quinn::AsyncUdpSocket>);

impl quinn::AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> std::pin::Pin<Box<dyn quinn::UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, _: &quinn::udp::Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut std::task::Context<'_>,
        _: &mut [io::IoSliceMut<'_>],
        _: &mut [quinn::udp::RecvMeta],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

//
#[rstest]
#[tokio::test]
async fn a_connection_outlives_the_tcp_connections_below_it(#[values(1, 4)] shards: usize) {
    let relay = relay(shards, Limits::default());
    let proxy = Proxy::start(Duration::from_secs(60)).await;
    let through = ProxyChoice::Use(proxy.address().to_string().parse().unwrap()).for_host("127.0.0.1");
    let target = Target { proxy: through, ..target(port(&relay)) };
    let speaker = relay.connect_by(target, &Person::new()).await;
    let mut talk = Talk::begin(&relay, speaker).await;
    for cuts in 1..=3 {
        talk.goes_on().await;
        proxy.cut();
        eventually("another one is opened", || proxy.tunnels() == cuts + 1).await;
    }
    talk.goes_on().await;
    assert!(talk.speaker.connection.close_reason().is_none(), "one connection, and one session");
    eventually("the earlier links are gone", || figures(&relay).links == 1).await;
}
