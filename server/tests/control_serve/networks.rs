//! Machines as people have them: one of IPv6 only, in a network namespace of its own, and one whose firewall refuses for a
//! while what the relay sends.

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use supernode_proto::control::relay_message::Body;
use supernode_proto::invite::Invite;
use supernode_testkit::Shim;

use crate::{PATIENCE, connect, printed, serve_to, serve_with, supernode};

/// A machine with a way out by IPv6, and of IPv4 nothing but its own loopback.
const IPV6_ONLY: &str = "
ip link set lo up
ip link add name out0 type veth peer name far0
ip link set far0 up
ip address add 2001:db8:5::7/64 dev out0 nodad
ip link set out0 up
ip -6 route add default dev out0";

/// The program on a machine of its own that these commands make.
fn on_machine(commands: &str, program: &Command) -> Command {
    let script = format!("{commands}\nexec \"$@\"");
    wrapped(&["unshare", "--net", "--map-root-user", "sh", "-ec", &script, "sh"], program)
}

/// The program beside another one, on the same machine.
fn beside(pid: u32, program: &Command) -> Output {
    let target = pid.to_string();
    let mut command = wrapped(&["nsenter", "--user", "--net", "--preserve-credentials", "--target", &target], program);
    command.output().expect("nsenter, of util-linux")
}

fn wrapped(by: &[&str], program: &Command) -> Command {
    let mut command = Command::new(by[0]);
    command.args(&by[1..]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn a_host_of_ipv6_only_is_named_by_the_address_that_its_clients_can_use() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut program = on_machine(IPV6_ONLY, &supernode(home.path()));
    program.env("XDG_STATE_HOME", home.path());
    let relay = serve_to(program, &["--open"], Stdio::piped());
    let is_reachable = |link: &Invite| assert_eq!(link.host, "2001:db8:5::7");
    is_reachable(&relay.invite());
    let command = |arguments: &[&str]| {
        let mut command = supernode(home.path());
        command.args(arguments);
        beside(relay.child.id(), &command)
    };
    is_reachable(&printed(&command(&["invite"])));
    let doctor = command(&["doctor"]);
    let found = String::from_utf8_lossy(&doctor.stdout);
    assert!(found.contains("UDP [2001:db8:5::7]:4433: handshake in"), "{found}{doctor:?}");
    assert!(!found.contains("127.0.0.1"), "{found}");
    assert_eq!(doctor.status.code(), Some(0), "{found}");
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_forbids_sends_for_a_while_is_named_in_log_metrics_and_page_and_ends_nobody_s_session() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let shim = Shim::firewall();
    let mut program = supernode(home.path());
    shim.under(&mut program);
    let relay = serve_with(program, &["--open", "--listen", "127.0.0.1:0"]);
    let mut client = connect(home.path(), &relay.invite(), 1, None).await;
    assert!(matches!(client.next().await, Ok(Body::Welcome(_))));

    shim.say(1);
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "{what}");
            // Something to acknowledge.
            client.connection.send_datagram(Vec::new().into()).expect("the relay takes them");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let forbidden = || {
        let metrics = relay.get("/metrics");
        let row =
            metrics.lines().find(|line| line.starts_with("supernode_udp_send_errors_total{reason=\"forbidden\"}"));
        row.and_then(|row| row.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default()
    };
    until("the metric counts them", &|| forbidden() > 0);
    until("the page says so", &|| {
        let page = relay.get("/dashboard.json");
        page.contains("SupernodeSendErrors") && page.contains("because a firewall forbids it")
    });
    shim.say(0);
    // It has forgotten nobody.
    let heard = client.connection.stats().udp_rx.datagrams;
    until("it answers again", &|| client.connection.stats().udp_rx.datagrams > heard);
    assert!(client.connection.close_reason().is_none());
    let count = forbidden();
    let (code, log) = relay.terminate();
    assert_eq!(code, Some(0), "{log}");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("the kernel does not take packets")).collect();
    assert!(told.len() == 1 && told[0].contains("Operation not permitted (os error 1)"), "{count}: {told:?}");
    assert!(told[0].contains("packets="), "{told:?}");
}
