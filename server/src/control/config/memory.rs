//! How much memory there is, the defaults that follow it, and what the relay can be made to hold under them.

use std::{fmt::Write, fs, path::Path};

use crate::{
    control::{
        page::{PAGE_BYTES_MAX, PAGE_CONNECTION_BYTES, PAGE_CONNECTIONS_MAX},
        push::PUSH_BYTES,
    },
    core::{SUBSCRIPTION_BYTES, TRACK_BYTES, WATCH_BYTES, limits::Limits, pool, push::PUSH_ENDPOINT_KEPT_BYTES},
    shard::{KNOCKS_BYTES, LINK_BYTES_MAX, NEWCOMER_BYTES_MAX, PREFIX_BYTES, PREFIXES_MAX},
};

/// The least memory that a relay is made for: with it, [`TABLE`] comes to less than there is.
pub const SMALLEST_BYTES: u64 = 512 * MIB;
/// From here on the defaults do not grow any more: whoever has more sets them.
pub const LARGEST_BYTES: u64 = 40 * 1024 * MIB;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Memory and cores of the machine, or of what of it this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes that this process may use: the least of what there is and what its control groups grant.
    pub memory_bytes: u64,
    /// Cores, one shard each by default.
    pub cores: u64,
}

impl Machine {
    /// The one that this process runs on; `None` if it does not say how much memory it has.
    pub fn of_process() -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let memory_bytes = physical_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let granted = granted_bytes(&groups, Path::new("/sys/fs/cgroup"));
        Some(Self { memory_bytes: granted.map_or(memory_bytes, |granted| granted.min(memory_bytes)), cores })
    }
}

/// `MemTotal` of proc(5)'s meminfo.
fn physical_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB)
}

/// The least that the process's control groups grant, from its own to the outermost; of both versions (cgroups(7)).
/// In a container its own group is what stands at the root.
fn granted_bytes(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or("/"));
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => ("memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().map(|group| root.join(folder).join(group).join(file)).collect()
    });
    // "max" is no number, and a group that is not shown here grants what the others do.
    limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// A key whose default follows the memory.
struct Follows {
    path: &'static str,
    set: fn(&mut Limits, u64),
    /// Its part of the memory is one of so many,
    part: u64,
    /// divided by what one of it takes,
    each: u64,
    /// and at most this.
    max: u64,
    /// Whether each shard has as much.
    by_shard: bool,
}

macro_rules! follows {
    ($($field:ident: 1 / $part:literal, $each:expr, $max:expr, $by_shard:literal;)*) => {
        &[$(Follows {
            path: concat!("limits.", stringify!($field)),
            set: |limits, value| limits.$field = value as _,
            part: $part, each: $each, max: $max, by_shard: $by_shard,
        },)*]
    };
}

const FOLLOWS: &[Follows] = follows! {
    sessions_max: 1 / 4, SESSION_BYTES, 100_000, false;
    tcp_links_max: 1 / 96, LINK_BYTES_MAX as u64, 1024, false;
    handshakes_max: 1 / 16, NEWCOMER_BYTES, 512, false;
    relay_rooms_max: 1 / 16, ROOM_BYTES, 32_768, false;
    relay_tables_bytes_max: 1 / 16, 1, 1024 * MIB, false;
    relay_windows_bytes_max: 1 / 16, 1, 1024 * MIB, false;
    relay_control_bytes_max: 1 / 20, 1, 1024 * MIB, false;
    relay_gaps_bytes_max: 1 / 40, 1, 512 * MIB, false;
    relay_queue_bytes_max: 1 / 22, 1, 512 * MIB, false;
    mailboxes_bytes_max: 1 / 32, 1, 64 * MIB, false;
    group_cache_shard_bytes_max: 1 / 16, 1, 64 * MIB, true;
    accounts_idle_max: 1 / 128, ACCOUNT_BYTES, 100_000, false;
    push_endpoints_max: 1 / 128, PUSH_ENDPOINT_KEPT_BYTES as u64, 65_536, false;
};

/// Whether the default of this key follows the memory.
pub fn follows(path: &str) -> bool {
    FOLLOWS.iter().any(|follows| follows.path == path)
}

impl Limits {
    /// The limits by default on a machine.
    pub fn default_for(machine: Machine) -> Self {
        let mut limits = Self::default();
        for Follows { set, part, each, max, by_shard, .. } in FOLLOWS {
            let shards = if *by_shard { machine.cores.max(1) } else { 1 };
            set(&mut limits, (machine.memory_bytes / part / each / shards).clamp(1, *max));
        }
        // Else nobody would ever be asked for a Retry.
        limits.handshakes_before_retry = limits.handshakes_before_retry.min(limits.handshakes_max);
        limits
    }
}

/// A connection that is not let in yet: QUIC, TLS, and what its first messages bring.
const NEWCOMER_BYTES: u64 = NEWCOMER_BYTES_MAX as u64;
/// A session that is online and does nothing (`tests/idle`, and what TLS keeps) and its memberships, with its windows and
/// what it always may have of the tables: for its device, and for itself.
const SESSION_BYTES: u64 = 28 * KIB + MEMBERSHIPS_BYTES + (16 + 8) * KIB + 2 * pool::FLOOR_BYTES as u64;
/// What its memberships take, of as many rooms as one session may be in.
pub const MEMBERSHIPS_BYTES: u64 = 2 * KIB;
/// A room without members: the entries of its mailbox without their payloads, and those who are away. Measured, as the
/// others: `tests/core/kept.rs`, and on 64-bit Arm, where it is a little more.
pub const ROOM_BYTES: u64 = 80 * KIB;
/// An identity that is remembered.
pub const ACCOUNT_BYTES: u64 = 400;
/// The program and its tables while nobody is there.
const PROGRAM_BYTES: u64 = 20 * MIB;
/// A shard's thread, its receive buffer (2 MiB), the packets (8) and control messages (4) of a turn, which networks have
/// begun handshakes lately (5), and who has knocked (2).
const SHARD_BYTES: u64 = 20 * MIB + KNOCKS_BYTES as u64;
/// What waits for a shard of the others: packets (12 MiB) and letters (4, and the one that was too many).
const MAIL_BYTES: u64 = 18 * MIB;
/// Networks that had a handshake lately.
const NETWORKS_BYTES: u64 = (PREFIXES_MAX * PREFIX_BYTES) as u64;
/// The page twice, as it is and compressed, and connections to its port and to the one where pages are told of certificates.
/// The latter has no TLS, and short answers.
const WEB_BYTES: u64 = 2 * PAGE_BYTES_MAX + PAGE_CONNECTIONS_MAX as u64 * (PAGE_CONNECTION_BYTES + 32 * KIB);
/// Connections to the admin port, and the answers of an admission hook.
const ADMIN_BYTES: u64 = 8 * MIB;

/// One row of what the relay can be made to hold.
pub struct Item {
    what: &'static str,
    by: &'static str,
    bound: &'static str,
    bytes: fn(&Limits, u64) -> u64,
    live: bool,
}

/// What the relay can be made to hold.
#[rustfmt::skip]
pub const TABLE: &[Item] = &[
    Item { what: "the program", by: "nobody", bound: "fixed", live: false, bytes: |_, _| PROGRAM_BYTES },
    Item { what: "threads, receive buffers, packets and messages of a turn, who began handshakes or knocked", by: "anybody", bound: "`relay.shards`, 22 MiB each", live: false,
        bytes: |_, shards| shards * SHARD_BYTES },
    Item { what: "objects and letters between shards", by: "clients", bound: "`relay.shards`, 18 MiB each", live: false,
        bytes: |_, shards| shards * MAIL_BYTES },
    Item { what: "networks with a handshake a moment ago", by: "anybody", bound: "131,072, 96 B each", live: false,
        bytes: |_, _| NETWORKS_BYTES },
    Item { what: "connections that are not let in yet", by: "anybody", bound: "`limits.handshakes_max`, 96 KiB each", live: true,
        bytes: |limits, _| limits.handshakes_max as u64 * NEWCOMER_BYTES },
    Item { what: "connections to the TCP port, if there is one", by: "anybody", bound: "`limits.tcp_links_max`, 128 KiB each", live: true,
        bytes: |limits, _| limits.tcp_links_max as u64 * LINK_BYTES_MAX as u64 },
    Item { what: "sessions, each with 24 KiB of windows and 16 KiB that nobody else can take", by: "clients", bound: "`limits.sessions_max`, 70 KiB each", live: true,
        bytes: |limits, _| u64::from(limits.sessions_max) * SESSION_BYTES },
    Item { what: "watches, subscriptions, tracks with labels, status, key packages", by: "clients", bound: "`limits.relay_tables_bytes_max`", live: true,
        bytes: |limits, _| limits.relay_tables_bytes_max },
    Item { what: "streams and control messages in flight, from publishers and to anybody", by: "clients", bound: "`limits.relay_windows_bytes_max`", live: true,
        bytes: |limits, _| limits.relay_windows_bytes_max },
    Item { what: "what QUIC keeps beside these of streams with gaps", by: "clients", bound: "`limits.relay_gaps_bytes_max`", live: true,
        bytes: |limits, _| limits.relay_gaps_bytes_max },
    Item { what: "control messages that wait to be read or have not come whole", by: "clients", bound: "`limits.relay_control_bytes_max`", live: true,
        bytes: |limits, _| limits.relay_control_bytes_max },
    Item { what: "objects that wait for subscribers", by: "clients", bound: "`limits.relay_queue_bytes_max`", live: true,
        bytes: |limits, _| limits.relay_queue_bytes_max },
    Item { what: "newest groups of tracks", by: "clients", bound: "`limits.group_cache_shard_bytes_max` a shard", live: true,
        bytes: |limits, shards| limits.group_cache_shard_bytes_max as u64 * shards },
    Item { what: "rooms", by: "clients", bound: "`limits.relay_rooms_max`, 80 KiB each", live: true,
        bytes: |limits, _| u64::from(limits.relay_rooms_max) * ROOM_BYTES },
    Item { what: "mailboxes of rooms", by: "clients", bound: "`limits.mailboxes_bytes_max`", live: true,
        bytes: |limits, _| limits.mailboxes_bytes_max as u64 },
    Item { what: "what identities without a session have used up", by: "clients", bound: "`limits.accounts_idle_max`, 400 B each", live: true,
        bytes: |limits, _| u64::from(limits.accounts_idle_max) * ACCOUNT_BYTES },
    Item { what: "where people can be woken, if they can", by: "clients", bound: "`limits.push_endpoints_max`, 4 KiB each", live: true,
        bytes: |limits, _| u64::from(limits.push_endpoints_max) * PUSH_ENDPOINT_KEPT_BYTES as u64 },
    Item { what: "who is to be woken, and connections to push services, if there are such", by: "clients", bound: "256 of 1.2 KiB, 16 of 64 KiB", live: false,
        bytes: |_, _| PUSH_BYTES },
    Item { what: "the page and connections to its port and to that of certificates, if there are such", by: "anybody", bound: "64 of 64 KiB, 64 of 32 KiB", live: false,
        bytes: |_, _| WEB_BYTES },
    Item { what: "admin port, answers of an admission hook", by: "local users, the service", bound: "fixed", live: false,
        bytes: |_, _| ADMIN_BYTES },
];

/// The most that the relay can be made to hold.
pub fn sum_bytes(limits: &Limits, shards: u64) -> u64 {
    TABLE.iter().map(|item| (item.bytes)(limits, shards)).sum()
}

/// The table for the handbook, with the defaults of the smallest machine with two cores.
pub fn markdown() -> String {
    let machine = Machine { memory_bytes: SMALLEST_BYTES, cores: 2 };
    let limits = Limits::default_for(machine);
    let mut text = String::from("| what | by whom | bound | MiB at 512 MiB | reload |\n|---|---|---|---|---|\n");
    for Item { what, by, bound, bytes, live } in TABLE {
        let (mib, reload) = (mib(bytes(&limits, machine.cores)), if *live { "yes" } else { "no" });
        let _ = writeln!(text, "| {what} | {by} | {bound} | {mib} | {reload} |");
    }
    let _ = writeln!(text, "| all of it | | | {} | |", mib(sum_bytes(&limits, machine.cores)));
    let _ = write!(
        text,
        "\nIn the tables a watch counts {WATCH_BYTES} bytes, a subscription {SUBSCRIPTION_BYTES}, a track {TRACK_BYTES}, a key \
         package 64 more than it has;\n{} KiB of the first three each session may always keep, and as much of status and key packages.\n",
        pool::FLOOR_BYTES / 1024
    );
    text
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::{Config, key::Kind, keys};

    #[test]
    fn by_default_everything_fits_the_smallest_machine_and_all_larger_ones() {
        for cores in [1, 2] {
            for mebibytes in [512, 600, 1024, 2048, 4096, 8192, 16_384, 28_672, 40_960, 65_536] {
                let machine = Machine { memory_bytes: mebibytes * MIB, cores: cores.max(mebibytes / 4096) };
                let sum = sum_bytes(&Limits::default_for(machine), machine.cores);
                assert!(sum <= machine.memory_bytes, "{} MiB of {mebibytes} on {} cores", sum / MIB, machine.cores);
            }
        }
    }

    #[test]
    fn a_large_machine_has_the_defaults_of_the_documents() {
        let large = Config {
            limits: Limits::default_for(Machine { memory_bytes: LARGEST_BYTES, cores: 16 }),
            ..Config::default()
        };
        for key in keys::KEYS.iter().filter(|key| matches!(key.kind, Kind::Integer { .. })) {
            assert_eq!(key.get(&large), key.get(&Config::default()), "{}", key.path);
        }
        assert!(FOLLOWS.iter().all(|follows| keys::find(follows.path).is_some()));
    }

    #[test]
    fn every_default_of_a_tiny_machine_is_within_its_bounds() {
        let tiny =
            Config { limits: Limits::default_for(Machine { memory_bytes: 256 * MIB, cores: 8 }), ..Config::default() };
        for key in keys::KEYS {
            if let Kind::Integer { min, max, get, .. } = key.kind {
                assert!((min..=max).contains(&get(&tiny)), "{} = {}", key.path, get(&tiny));
            }
        }
    }

    #[test]
    fn memory_is_what_there_is_or_what_the_groups_grant() {
        assert_eq!(physical_bytes("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * KIB));
        assert_eq!(physical_bytes("nothing"), None);
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("system.slice/supernode.service/memory.max", "max\n");
        write("system.slice/memory.max", "536870912\n");
        let own = "0::/system.slice/supernode.service\n";
        assert_eq!(granted_bytes(own, root.path()), Some(512 * MIB), "an outer group's counts as well");
        write("system.slice/supernode.service/memory.max", "268435456\n");
        assert_eq!(granted_bytes(own, root.path()), Some(256 * MIB));
        assert_eq!(granted_bytes("0::/elsewhere\n", root.path()), None);
        write("memory.max", "134217728\n");
        assert_eq!(granted_bytes("0::/../elsewhere\n", root.path()), Some(128 * MIB), "in a container it is the root");
        write("memory/docker/memory.limit_in_bytes", "402653184\n");
        let first_version = "5:cpu,cpuacct:/docker\n4:memory:/docker\n";
        assert_eq!(granted_bytes(first_version, root.path()), Some(384 * MIB));
    }
}
