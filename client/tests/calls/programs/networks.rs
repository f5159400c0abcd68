//! Networks as people have them: where nobody listens, and where packets are too long for the way. Each way that is not
//! loopback's is in a network namespace of its own.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use supernode_client::{
    Client, Config, Event, PresenceState,
    proto::{identity::RelayPin, invite::Invite},
};
use supernode_client_testkit::{Person, in_time, quick};
use supernode_testkit::{Relay, Way, lasting_port};

use crate::programs::{PROGRAM, talk, text};

/// Far less than a connection may take.
const AT_ONCE: Duration = Duration::from_secs(3);

fn invite_to(address: SocketAddr) -> Invite {
    Invite { pin: Some(RelayPin([1; 32])), ..Invite::to(address.to_string().parse().expect("an address")) }
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_a_port_where_nobody_listens_is_told_so_at_once() {
    let started = Instant::now();
    let address = lasting_port();
    let invite = invite_to(address);
    let error = in_time(Client::connect(&invite, Person::new().device(), Config::default())).await.unwrap_err();
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(
        error.to_string(),
        format!(
            "the relay cannot be reached: UDP {address} (nothing listens there, says that machine). Does the relay run, and \
             is that its port?"
        )
    );
    assert_eq!(error.words().name, "NothingListens");
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stands_is_not_ended_by_what_somebody_on_the_way_says_of_its_packets() {
    let relay = Relay::open(1);
    let way = Way::to(&relay).await;
    let (client, mut events) = Person::new().online_with(&way.invite(&relay), quick()).await;
    let address = way.address();
    way.close().await;
    // Each of its packets is refused.
    let asked = client.set_presence(PresenceState::Busy, Default::default());
    let (asked, _way) = in_time(async {
        tokio::join!(asked, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Way::from(address, &relay).await
        })
    })
    .await;
    asked.unwrap();
    assert_eq!((relay.sessions(), relay.handshakes()), (1, 1), "it went on where it was");
    client.close().await;
    while let Some(event) = events.next().await {
        assert!(matches!(event, Event::Closed(_)), "{event:?}");
    }
}

/// What a program says in a network that these commands make.
fn in_network(commands: &str, program: &Command) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--map-root-user", "sh", "-ec", &format!("{commands}\nexec \"$@\""), "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().expect("unshare, of util-linux")
}

fn doctor(invite: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").env("SUPERNODE_INVITE", invite);
    command
}

fn listen(directory: &Path, invite: &str) -> Command {
    let identity = directory.join("eve.json");
    text(Command::new(PROGRAM).arg("identity").arg("--out").arg(&identity).output().unwrap());
    let mut command = talk("listen", directory, "eve", "a");
    command.env("SUPERNODE_INVITE", invite);
    command
}

/// A way whose own end is too narrow, as into a tunnel of this machine's.
const NARROW_HERE: &str = "ip link set lo mtu 1200 up";
/// A way that is too narrow behind the next router.
const NARROW_THERE: &str = "
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add router
ip netns add relay
ip link set lo up
ip link add name home0 type veth peer name to0 netns router
ip -n router link add name far0 type veth peer name end0 netns relay
ip address add 10.0.0.1/24 dev home0
ip link set home0 up
ip -n router address add 10.0.0.2/24 dev to0
ip -n router link set to0 up
ip -n router address add 10.0.1.2/24 dev far0
ip -n router link set far0 mtu 1200 up
ip -n relay address add 10.0.1.3/24 dev end0
ip -n relay link set end0 mtu 1200 up
ip -n relay route add default via 10.0.1.2
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip route add default via 10.0.0.2";

//
#[test]
fn a_way_that_is_too_narrow_for_quic_is_called_so_wherever_it_is_narrow() {
    let directory = tempfile::tempdir().unwrap();
    for (name, network, invite) in [
        ("here", NARROW_HERE, "supernode://127.0.0.1:4433/?pin=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
        ("there", NARROW_THERE, "supernode://10.0.1.3:4433/?pin=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
    ] {
        let started = Instant::now();
        let directory = directory.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let output = in_network(network, &listen(&directory, invite));
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{name}: {told}");
        assert!(told.contains("This path takes no packets of 1200 bytes: it is too narrow for QUIC"), "{name}: {told}");
        assert!(told.contains("-> set the MTU of the VPN or tunnel to 1,280 or more"), "{name}: {told}");
        assert!(started.elapsed() < 3 * AT_ONCE, "{name}: {:?}", started.elapsed());
        let output = in_network(network, &doctor(invite));
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{name}: {told}");
        assert!(told.contains("no packets of 1,200 bytes get there, which QUIC needs"), "{name}: {told}");
        assert!(told.ends_with("In short: the way is too narrow for QUIC.\n"), "{name}: {told}");
    }
}

/// A firewall's word to whoever sends (EACCES), and none at all.
#[test]
fn doctor_tells_a_network_that_refuses_from_one_that_swallows() {
    let to = "supernode://192.0.2.9:4433/";
    let network = |route: &str| {
        format!(
            "ip link set lo up\nip link add name out0 type veth peer name far0\nip link set far0 up\nip address add 10.9.9.1/24 dev out0\nip link set out0 up\nip route add {route}"
        )
    };
    for (route, found, short) in [
        ("prohibit 192.0.2.9", "Permission denied", "UDP to there is refused"),
        ("unreachable 192.0.2.9", "this network has no way there", "UDP to there is refused"),
        ("default dev out0", "no answer to 3 packets in 3 s", "UDP is blocked here, or no relay runs there"),
    ] {
        let output = in_network(&network(route), &doctor(to));
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(3) && told.contains(found), "{route}: {told}{output:?}");
        assert!(told.ends_with(&format!("In short: {short}.\n")), "{route}: {told}");
    }
}

#[test]
fn a_person_in_a_hurry_is_told_in_a_line_what_works() {
    let relay = Relay::open(1);
    let output = doctor(&relay.invite().to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.ends_with("In short: UDP gets through; you are let in; your clock is right.\n"), "{told}");
    let closed = Relay::closed();
    let output = doctor(&closed.invite().to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.ends_with("In short: UDP gets through; the relay does not let you in.\n"), "{told}");
    let output = doctor(&invite_to(lasting_port()).to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.ends_with("In short: UDP gets through, and no relay runs at that port.\n"), "{told}");
}
