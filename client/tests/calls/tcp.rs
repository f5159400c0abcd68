//! Networks that let no UDP through: the way over TCP, through proxies, and back.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use supernode_client::{
    Call, CallEvent, Client, Config, Direction, Error, Event, Network, OutgoingFrame, ProxyChoice, SubscribeOptions,
    TrackKind, Transport, Ways, proto::invite::Invite,
};
use supernode_client_testkit::{Pair, Person, in_time, pair_with, quick, track};
use supernode_proto::close::Retry;
use supernode_testkit::{Door, Proxy, Relay, Setup, Way, eventually};

use crate::{
    programs::{PROGRAM, figures, talk, text},
    talks::{WHOLE, hear, packets, speak, whole},
};

/// No connection is idle for so long.
const NEVER: Duration = Duration::from_secs(3600);

fn relay(shards: usize) -> Relay {
    Relay::of(Setup { tcp: true, ..Setup::new(shards, Door::Everybody, Default::default()) })
}

/// A network on which no UDP gets through to the relay until it is opened.
async fn without_udp(relay: &Relay) -> (Way, Invite) {
    let way = Way::to(relay).await;
    way.set_open(false);
    let invite = way.invite(relay);
    assert!(invite.tcp.is_some());
    (way, invite)
}

/// Past whatever proxy this machine is told to use.
fn direct() -> Network {
    Network { proxy: ProxyChoice::Direct, ..Network::default() }
}

fn through(proxy: &Proxy) -> Config {
    let proxy = ProxyChoice::Use(proxy.address().to_string().parse().unwrap());
    Config { network: Network { proxy, ..Network::default() }, ..quick() }
}

async fn both_talk(pair: &Pair) {
    let (said, pause) = (packets(60), Duration::from_millis(5));
    let speaking = [speak(pair.caller.clone(), said.clone(), pause), speak(pair.callee.clone(), said.clone(), pause)];
    let (to_callee, to_caller) =
        tokio::join!(hear(&pair.callee, TrackKind::Audio), hear(&pair.caller, TrackKind::Audio));
    for speaking in speaking {
        speaking.await.unwrap();
    }
    assert!(to_callee == said && to_caller == said, "every packet, in order, unchanged");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_over_tcp_where_no_udp_gets_through() {
    let relay = relay(2);
    let (_way, invite) = without_udp(&relay).await;
    let began = std::time::Instant::now();
    let mut pair = pair_with(&invite, Config { network: direct(), ..quick() }).await;
    assert!(began.elapsed() < Duration::from_secs(4), "nobody waits until UDP is given up: {:?}", began.elapsed());
    both_talk(&pair).await;
    assert_eq!(pair.caller.stats().transport, Some(Transport::Tcp));
    assert_eq!(pair.callee_client.transport(), Some(Transport::Tcp));
    let told = in_time(pair._events.0.next()).await;
    assert!(matches!(told, Some(Event::TransportChanged(Transport::Tcp))), "{told:?}");
    let figures = relay.running().tcp_figures().unwrap().snapshot();
    assert_eq!((figures.links, figures.dropped_no_room), (2, 0), "{figures:?}");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn where_udp_gets_through_nobody_goes_over_tcp() {
    let relay = relay(1);
    let (client, _events) = Person::new().online_with(&relay.invite(), quick()).await;
    assert_eq!(client.transport(), Some(Transport::Udp));
    assert_eq!(relay.running().tcp_figures().unwrap().snapshot().links, 0);
    let tcp = Config { network: Network { ways: Ways::Tcp, ..direct() }, ..quick() };
    let (client, _events) = Person::new().online_with(&relay.invite(), tcp).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.transport(), Some(Transport::Tcp), "as it was told to");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_gets_through_both_ways_are_named() {
    let relay = relay(1);
    let (_way, invite) = without_udp(&relay).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let invite = Invite { tcp: Some(nobody), ..invite };
    let config = Config { connect_timeout: Duration::from_secs(1), network: direct(), ..quick() };
    let error = Client::connect(&invite, Person::new().device(), config).await.err().unwrap();
    let told = error.to_string();
    assert!(told.contains(&format!("UDP 127.0.0.1:{} (no answer in time)", invite.port)), "{told}");
    assert!(told.contains(&format!("TCP 127.0.0.1:{nobody} (")) && told.contains("refused"), "{told}");
    assert!(matches!(error, Error::Unreachable(_)) && error.retry() == Retry::Later);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_a_proxy_and_on_when_that_ends_its_connections() {
    let relay = relay(2);
    let (_way, invite) = without_udp(&relay).await;
    let proxy = Proxy::start(NEVER).await;
    let pair = pair_with(&invite, through(&proxy)).await;
    assert_eq!(proxy.tunnels(), 2);
    keep_speaking(pair.caller.clone());
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut heard = in_time(pair.callee.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio))).await.unwrap();
    for tunnels in [4, 6] {
        for _ in 0..50 {
            in_time(heard.next()).await.expect("the call goes on");
        }
        proxy.cut();
        eventually("both open another connection", || proxy.tunnels() == tunnels).await;
    }
    for _ in 0..50 {
        in_time(heard.next()).await.expect("the call goes on");
    }
    assert_eq!(relay.population().sessions, 2, "the sessions were never away");
    let proxy = ProxyChoice::Use("http://127.0.0.1:9".parse().unwrap());
    let network = Network { ways: Ways::Tcp, proxy, ..Network::default() };
    let refused = Config { network, connect_timeout: Duration::from_secs(1), ..quick() };
    let error = Client::connect(&invite, Person::new().device(), refused).await.err().unwrap().to_string();
    assert!(error.contains("through the proxy"), "{error}");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_tcp_ends_during_an_upgrade_goes_on_in_the_process_that_takes_over() {
    let mut relay = relay(2);
    let (_way, invite) = without_udp(&relay).await;
    let proxy = Proxy::start(NEVER).await;
    let pair = pair_with(&invite, through(&proxy)).await;
    keep_speaking(pair.caller.clone());
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut heard = in_time(pair.callee.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio))).await.unwrap();
    for _ in 0..25 {
        in_time(heard.next()).await.expect("the call goes on");
    }
    let mut events = [pair.caller.events(), pair.callee.events()];
    let old = relay.upgrade(Duration::from_secs(2));
    // By now the old process takes no more of them: what is opened reaches the new one, to which its QUIC is nobody's.
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.cut();
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    assert_eq!(relay.sessions(), 2, "both are with the new process");
    assert_eq!(pair.callee_client.transport(), Some(Transport::Tcp));
    for _ in 0..50 {
        in_time(heard.next()).await.expect("the call goes on");
    }
    // Nobody said goodbye to the old one: it ends once QUIC has given its connections up.
    tokio::time::timeout(Duration::from_secs(90), old).await.expect("it ends").unwrap();
}

/// Sends for as long as the call lasts.
fn keep_speaking(call: Call) {
    tokio::spawn(async move {
        let mut publisher = call.publish(TrackKind::Audio, track("voice"), WHOLE).await.unwrap();
        publisher.wanted().await.unwrap();
        for number in 0u64.. {
            if publisher.send(&OutgoingFrame::independent(&number.to_be_bytes(), number * 20_000)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_moves_to_udp_in_the_middle_and_nothing_of_it_is_lost() {
    let relay = relay(2);
    let (way, invite) = without_udp(&relay).await;
    let mut pair = pair_with(&invite, Config { network: direct(), ..quick() }).await;
    keep_speaking(pair.caller.clone());
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut heard = in_time(pair.callee.subscribe(&voice, SubscribeOptions::for_kind(TrackKind::Audio))).await.unwrap();
    let mut hear = async |count: usize| {
        for _ in 0..count {
            in_time(heard.next()).await.expect("the call goes on");
        }
    };
    hear(100).await;
    assert_eq!(pair.caller_client.transport(), Some(Transport::Tcp));
    way.set_open(true);
    let both_by_udp =
        || [&pair.caller_client, &pair.callee_client].iter().all(|client| client.transport() == Some(Transport::Udp));
    while !both_by_udp() {
        hear(1).await;
    }
    hear(100).await;
    eventually("TCP is left", || relay.running().tcp_figures().unwrap().snapshot().links == 0).await;
    hear(50).await;
    let stats = pair.callee.stats();
    let lost = stats.sum(Direction::Received, |track| track.lost);
    let figures = relay.running().tcp_figures().unwrap().snapshot();
    assert!(lost <= 5, "a moment at most: {lost}; {figures:?}");
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(100), pair._events.0.next()).await {
        assert!(!matches!(event, Event::Disconnected(_) | Event::Reconnected), "it is one session: {event:?}");
    }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_udp_ends_comes_back_over_tcp() {
    let relay = relay(2);
    let (way, invite) = without_udp(&relay).await;
    way.set_open(true);
    let config = Config { silence_max: Duration::from_secs(2), network: direct(), ..quick() };
    let pair = pair_with(&invite, config).await;
    let mut publisher = in_time(pair.caller.publish(TrackKind::Audio, track("voice"), WHOLE)).await.unwrap();
    let voice = in_time(pair.callee.track(TrackKind::Audio)).await.unwrap();
    let mut heard = in_time(pair.callee.subscribe(&voice, whole(TrackKind::Audio))).await.unwrap();
    in_time(publisher.wanted()).await.unwrap();
    let clients = [&pair.caller_client, &pair.callee_client];
    let all_by = |transport| clients.iter().all(|client| client.transport() == Some(transport));
    assert!(all_by(Transport::Udp));
    let mut events = [pair.caller.events(), pair.callee.events()];
    way.set_open(false);
    for events in &mut events {
        in_time(async { while !matches!(events.recv().await.unwrap(), CallEvent::Resumed) {} }).await;
    }
    assert!(all_by(Transport::Tcp));
    in_time(publisher.wanted()).await.unwrap();
    publisher.send(&OutgoingFrame::independent(b"by TCP", 1)).await.unwrap();
    assert_eq!(in_time(heard.next()).await.unwrap().payload, "by TCP");
}

/// Two programs call each other for so many seconds; what they said in the end, and on the way.
async fn programs(
    name: &str,
    invite: &Invite,
    proxy: Option<&Proxy>,
    seconds: u64,
) -> Vec<(serde_json::Value, String)> {
    let directory = std::env::temp_dir().join(format!("supernode-tcp-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| -> PathBuf { directory.join(name) };
    for who in ["alice", "bob"] {
        text(Command::new(PROGRAM).arg("identity").arg("--out").arg(file(&format!("{who}.json"))).output().unwrap());
    }
    let ticket = Command::new(PROGRAM).arg("ticket").arg("--identity").arg(file("bob.json")).output().unwrap();
    fs::write(file("ticket"), text(ticket)).unwrap();
    let program = |side: &str, who: &str, media: &str| {
        let mut command = talk(side, &directory, who, media);
        command.env("SUPERNODE_INVITE", invite.to_string()).stdin(Stdio::null());
        command.env_remove("HTTPS_PROXY");
        // One is told by the environment, the other by an option.
        match (proxy.map(|proxy| format!("http://{}", proxy.address())), side) {
            (Some(proxy), "call") => command.args(["--proxy", &proxy]),
            (Some(proxy), _) => command.env("HTTPS_PROXY", proxy),
            (None, _) => &mut command,
        };
        command.env_remove("https_proxy").env_remove("NO_PROXY").env_remove("no_proxy");
        command
    };
    let mut listening = program("listen", "bob", "b").spawn().unwrap();
    let mut calling = program("call", "alice", "a");
    calling.arg("--ticket-file").arg(file("ticket")).args(["--seconds", &seconds.to_string()]);
    let ended = tokio::task::spawn_blocking(move || {
        let called = calling.output().unwrap();
        if !called.status.success() {
            // Nobody will ring it any more.
            listening.kill().unwrap();
        }
        [called, listening.wait_with_output().unwrap()].map(|output| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (figures(output), said)
        })
    });
    let ended = ended.await.unwrap().to_vec();
    fs::remove_dir_all(directory).unwrap();
    for (sender, receiver) in [(&ended[0].0, &ended[1].0), (&ended[1].0, &ended[0].0)] {
        let (sent, received) = (sender["audio_sent"].as_u64().unwrap(), receiver["audio_received"].as_u64().unwrap());
        assert!(received > 0 && received * 100 >= sent * 95, "{received} of {sent} came");
        assert_eq!(receiver["undecryptable"], 0);
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_call_each_other_over_tcp_only_and_say_so() {
    let relay = relay(2);
    let (_way, invite) = without_udp(&relay).await;
    for (figures, said) in programs("only", &invite, None, 3).await {
        assert_eq!(figures["transport"], "tcp");
        assert!(said.contains("going over TCP") && said.contains("over TCP  safety"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_call_each_other_and_change_to_udp_in_the_middle() {
    let relay = relay(2);
    let (way, invite) = without_udp(&relay).await;
    let open = async {
        eventually("a call goes on", || relay.population().rooms == 1).await;
        way.set_open(true);
    };
    let (ended, ()) = tokio::join!(programs("move", &invite, None, 12), open);
    for (figures, said) in ended {
        assert_eq!(figures["transport"], "udp", "{said}");
        assert!(said.contains("going over TCP") && said.contains("UDP gets through"), "{said}");
        assert!(!said.contains("the connection broke"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_a_hurry_is_told_that_tcp_works_where_udp_does_not() {
    let relay = relay(1);
    let (_way, invite) = without_udp(&relay).await;
    let mut doctor = Command::new(PROGRAM);
    doctor.arg("doctor").env("SUPERNODE_INVITE", invite.to_string());
    for name in ["HTTPS_PROXY", "https_proxy"] {
        doctor.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || doctor.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("a lost packet holds up what is behind it"), "{told}");
    let short = "UDP is blocked here; TCP works; you are let in; your clock is right";
    assert!(told.ends_with(&format!("In short: {short}.\n")), "{told}");
}

/// The proxy ends what is idle for a minute; the one who waits to be called is idle for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_behind_a_proxy_that_kills_idle_connections_is_reached() {
    let relay = relay(1);
    let (_way, invite) = without_udp(&relay).await;
    let proxy = Proxy::start(Duration::from_secs(60)).await;
    let (waiting, mut events) = Person::new().online_with(&invite, through(&proxy)).await;
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!((proxy.tunnels(), proxy.ended()), (1, 0), "it was never idle");
    assert_eq!(waiting.transport(), Some(Transport::Tcp));
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
        assert!(!matches!(event, Event::Disconnected(_)), "{event:?}");
    }
    programs("idle", &invite, Some(&proxy), 2).await;
    assert_eq!(proxy.tunnels(), 3);
}
