//! Every key there is.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use supernode_proto::page_link::PageUrl;

use super::{
    key::{Key, Kind, Reload},
    values::{AdmissionChoice, PagesChoice, PlainChoice, TlsChoice},
};
use crate::{
    control::{
        classes::{CLASSES_MAX, Class},
        cluster::{NODES_MAX, NatsAddress, is_name},
        hook::hook_url,
        invite::parse_host,
        log::{Format, filter},
    },
    core::push_services::PushHost,
    shard::SHARDS_MAX,
};

/// The sections, in the order of the documents, with what each is about.
pub const SECTIONS: &[(&str, &str)] = &[
    ("relay", "The UDP port and the threads behind it."),
    ("tcp", "A TCP port for clients whose network lets no UDP through: the same calls, as WebSockets in TLS."),
    ("admin", "The operator's own port: metrics, health, status."),
    ("tls", "By what clients know the relay."),
    ("tls.acme", "A certificate from an authority that speaks ACME (RFC 8555), only with `tls.mode = \"acme\"`."),
    ("web", "Pages in browsers, which come in by WebTransport on the relay's own UDP port."),
    ("push", "Waking people whose page is closed, by the push services of their browsers."),
    (
        "cluster",
        "More than one relay as one. Each relay is a node of the cluster and says so to the others through NATS with \
         JetStream. Without `cluster.nats`, the relay is alone, and nothing here does anything.",
    ),
    ("admission", "Who gets in."),
    ("admission.hook", "Asking an HTTP service, only with `admission.mode = \"hook\"`."),
    (
        "limits",
        "What those who are in may do, and how much of the machine all of them together may use. Clients are told \
         what concerns them. A rate that changes counts at once, also for those who are there.",
    ),
    ("log", "What is written to standard error."),
];

/// The key at this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

macro_rules! number {
    ($path:literal, $($field:ident).+, $unit:literal, $min:literal ..= $max:expr, $reload:expr, $what:literal, $cost:literal) => {
        Key {
            path: $path,
            kind: Kind::Integer {
                unit: $unit, min: $min, max: $max as u64,
                get: |config| config.$($field).+ as u64,
                set: |config, value| config.$($field).+ = value as _,
            },
            what: $what, unset: "", cost: $cost, reload: $reload,
        }
    };
}

macro_rules! time {
    ($path:literal, $($field:ident).+, $unit:literal, $from:ident, $as:ident, $min:literal ..= $max:literal, $what:literal, $cost:literal) => {
        Key {
            path: $path,
            kind: Kind::Integer {
                unit: $unit, min: $min, max: $max,
                get: |config| config.$($field).+.$as() as u64,
                set: |config, value| config.$($field).+ = Duration::$from(value),
            },
            what: $what, unset: "", cost: $cost, reload: Live,
        }
    };
}

macro_rules! file {
    ($path:literal, $($field:ident).+, $what:literal, $unset:literal, $cost:literal, $reload:expr) => {
        Key {
            path: $path,
            kind: Kind::Text {
                form: "an absolute path",
                get: |config| config.$($field).+.as_ref().map(|path| path.display().to_string()),
                set: |config, text| {
                    let path = PathBuf::from(text);
                    path.is_absolute().then(|| config.$($field).+ = Some(path))
                },
            },
            what: $what, unset: $unset, cost: $cost, reload: $reload,
        }
    };
}

use Reload::{Live, Restart};

/// The table.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    // ---- relay
    Key { path: "relay.listen", reload: Restart,
        kind: Kind::Text {
            form: "IP:PORT, an IPv6 address in brackets",
            get: |config| config.relay.listen.map(|address| address.to_string()),
            set: |config, text| { config.relay.listen = Some(text.parse().ok()?); Some(()) } },
        what: "UDP address to listen on.",
        unset: "port 4433 of every IPv6 and IPv4 address",
        cost: "Below port 1024 the relay needs the right to open it." },
    Key { path: "relay.advertise", reload: Restart,
        kind: Kind::Text {
            form: "HOST or HOST:PORT, an IPv6 address in brackets, or up to eight of them divided by commas",
            get: |config| config.relay.advertise.clone(),
            set: |config, text| { parse_host(text).ok()?; config.relay.advertise = Some(text.to_owned()); Some(()) } },
        what: "Where clients reach the relay, for invite links; behind a comma each, where else there are relays with the same key \
               and TCP ports, in the order in which they are to be tried.",
        unset: "the first name of the certificate if an authority signed it, else the address that the relay listens on",
        cost: "Behind a NAT or a forwarded port the relay cannot know it. Each further address is one that a client tries when those \
               before it do not answer within 250 ms." },
    number!("relay.shards", relay.shards, "threads", 0..=SHARDS_MAX, Restart,
        "Threads, each with its own UDP socket; 0 for one a core.",
        "More than there are cores gain nothing and bundle less."),
    Key { path: "relay.batch_window_us", reload: Live,
        kind: Kind::Integer { unit: "microseconds", min: 0, max: 10_000,
            get: |config| config.relay.batch_window.as_micros() as u64,
            set: |config, value| config.relay.batch_window = Duration::from_micros(value) },
        what: "The longest that packets may gather before they are served, when they come thick; 0 is off.",
        unset: "",
        cost: "Delay of at most this much, for fewer wake-ups and fuller packets." },
    Key { path: "relay.drain_patience_s", reload: Restart,
        kind: Kind::Integer { unit: "seconds", min: 0, max: 3600,
            get: |config| config.relay.drain_patience.as_secs(),
            set: |config, value| config.relay.drain_patience = Duration::from_secs(value) },
        what: "How long calls may go on after the relay was told to end.", unset: "",
        cost: "So long a stop takes, and whoever stops services must wait for it: `TimeoutStopSec=` of a unit (systemd is asked \
               for more), `terminationGracePeriodSeconds` of a pod and `stop_grace_period` of a container, all 90 s as shipped, \
               end calls that are still going on." },
    file!("relay.state_dir", relay.state_dir, "Directory with the relay's keys, which only its user may write to.",
        "`$XDG_STATE_HOME/supernode` or `~/.local/state/supernode`",
        "With another directory it is another relay: invite links of the old one end.", Restart),

    // ---- tcp
    Key { path: "tcp.listen", reload: Restart,
        kind: Kind::Text {
            form: "IP:PORT, an IPv6 address in brackets",
            get: |config| config.tcp.listen.map(|address| address.to_string()),
            set: |config, text| { config.tcp.listen = Some(text.parse().ok()?); Some(()) } },
        what: "TCP address to listen on, such as `[::]:443`. Networks that let only web pages through let port 443 through.",
        unset: "there is no way over TCP",
        cost: "A thread of its own, which encrypts and sends each packet once more, and for those who use it sound that stutters \
               where TCP loses packets. Below port 1024 the relay needs the right to open it." },
    number!("tcp.advertise_port", tcp.advertise_port, "port", 0..=65_535, Restart,
        "Where clients reach that port, for invite links; 0 is the port of `tcp.listen`.",
        "Behind a forwarded port the relay cannot know it."),

    // ---- admin
    Key { path: "admin.listen", reload: Restart,
        kind: Kind::Text {
            form: "IP:PORT on a loopback address: the admin port asks for no password",
            get: |config| Some(config.admin.listen.to_string()),
            set: |config, text| {
                let address: SocketAddr = text.parse().ok()?;
                address.ip().is_loopback().then(|| config.admin.listen = address)
            } },
        what: "TCP address of the admin port.", unset: "",
        cost: "Every user of the machine can read it: totals that name nobody." },

    // ---- tls
    Key { path: "tls.mode", reload: Live,
        kind: Kind::Choice { words: &["self-signed", "files", "acme"],
            get: |config| config.tls.mode as usize,
            set: |config, which| config.tls.mode = [TlsChoice::SelfSigned, TlsChoice::Files, TlsChoice::Acme][which] },
        what: "Where the certificate comes from: the relay makes it and invite links carry its pin; the operator's files; \
               or an authority that speaks ACME.", unset: "",
        cost: "With `files` and `acme`, clients trust every authority that their system trusts. Links with a pin stay good \
               with `acme`, which certifies the same key, and end with `files`." },
    file!("tls.certificate", tls.certificate,
        "PEM file: the certificate, then those that lead to its authority. Watched; a new one is taken within seconds.",
        "only `tls.mode = \"files\"` has one", "", Live),
    file!("tls.key", tls.key,
        "PEM file with the certificate's private key. Watched like the certificate: they change together.",
        "only `tls.mode = \"files\"` has one", "Whoever reads it can pose as the relay: keep it from other users.", Live),

    // ---- tls.acme
    Key { path: "tls.acme.domains", reload: Restart,
        kind: Kind::List { form: "a host name", max: 100,
            get: |config| config.tls.acme.domains.clone(),
            set: |config, list| {
                let name = |name: &String| name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
                list.iter().all(name).then(|| config.tls.acme.domains = list)
            } },
        what: "Names to order a certificate for; the first one goes into invite links.",
        unset: "only `tls.mode = \"acme\"` has some",
        cost: "All of them must lead to this machine's port 80." },
    Key { path: "tls.acme.contact", reload: Restart,
        kind: Kind::Text { form: "a mail address",
            get: |config| config.tls.acme.contact.clone(),
            set: |config, text| text.contains('@').then(|| config.tls.acme.contact = Some(text.to_owned())) },
        what: "Mail address that the authority may write to about the certificate.",
        unset: "the authority is given none", cost: "The authority knows it." },
    Key { path: "tls.acme.directory", reload: Restart,
        kind: Kind::Text { form: "an https:// address",
            get: |config| Some(config.tls.acme.directory.clone()),
            set: |config, text| text.starts_with("https://").then(|| config.tls.acme.directory = text.to_owned()) },
        what: "The authority's directory. Ordering agrees to its terms of service.", unset: "",
        cost: "" },
    file!("tls.acme.directory_ca", tls.acme.directory_ca,
        "PEM file with the root certificate of the directory's own server, for an authority of one's own.",
        "whom this machine trusts", "", Restart),
    Key { path: "tls.acme.listen", reload: Restart,
        kind: Kind::Text { form: "IP:PORT, an IPv6 address in brackets",
            get: |config| Some(config.tls.acme.listen.to_string()),
            set: |config, text| { config.tls.acme.listen = text.parse().ok()?; Some(()) } },
        what: "TCP address on which the authority's question is answered (HTTP-01); it asks port 80 of each name. Open only \
               while a certificate is ordered.", unset: "",
        cost: "Below port 1024 the relay needs the right to open it." },

    // ---- web
    Key { path: "web.pages", reload: Live,
        kind: Kind::Choice { words: &["off", "on"],
            get: |config| config.web.pages as usize,
            set: |config, which| config.web.pages = [PagesChoice::Off, PagesChoice::On][which] },
        what: "Whether pages in browsers may come in. They are shown the authority's certificate, if there is one, else one of \
               the relay's own key that is good for 13 days.", unset: "",
        cost: "What is reachable from the network has HTTP/3's requests to read as well." },
    Key { path: "web.listen", reload: Restart,
        kind: Kind::Text {
            form: "IP:PORT, an IPv6 address in brackets",
            get: |config| config.web.listen.map(|address| address.to_string()),
            set: |config, text| { config.web.listen = Some(text.parse().ok()?); Some(()) } },
        what: "TCP address at which pages are told by plain HTTP (`GET /certificates`) which certificates they may be shown. \
               They check the key by the invite's pin, so nobody in between can tell them another relay's.",
        unset: "pages must come with an authority's certificate, or learn of the certificates another way",
        cost: "Everybody who reaches it learns that a relay is here." },
    Key { path: "web.page", reload: Restart,
        kind: Kind::Text {
            form: "IP:PORT, an IPv6 address in brackets",
            get: |config| config.web.page.map(|address| address.to_string()),
            set: |config, text| { config.web.page = Some(text.parse().ok()?); Some(()) } },
        what: "TCP address at which the page is, such as `[::]:443`: by HTTPS with the certificate of an authority, which \
               `tls.mode` has to bring; without one, on a loopback address only, by HTTP. There a web server that has a \
               certificate may stand in front.",
        unset: "people open the page from a file or another host",
        cost: "Whoever serves a page can serve another one: whoever owns the relay's machine gets at the calls of those who open it here." },
    file!("web.page_file", web.page_file,
        "The page to serve, one HTML file. It is read again when it changes.",
        "the one that this program was built with", "", Live),
    Key { path: "web.page_url", reload: Live,
        kind: Kind::Text {
            form: "an https:, http: or file: URL without #",
            get: |config| config.web.page_url.clone(),
            set: |config, text| { config.web.page_url = Some(text.parse::<PageUrl>().ok()?.to_string()); Some(()) } },
        what: "Where people find the page, for `supernode invite --web`; it may be on another host.",
        unset: "what follows from `web.page`, `relay.advertise` and the certificate",
        cost: "" },

    // ---- push
    Key { path: "push.contact", reload: Restart,
        kind: Kind::Text { form: "a mail address",
            get: |config| config.push.contact.clone(),
            set: |config, text| {
                let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>,:".contains(&byte));
                (text.contains('@') && is_plain).then(|| config.push.contact = Some(text.to_owned()))
            } },
        what: "Mail address that push services may write to about what this relay sends (RFC 8292). With it, people whose page is \
               closed can be woken when somebody with a ticket rings, if they choose so.",
        unset: "nobody is woken",
        cost: "The push services know it, and this relay's address; the relay keeps in memory where those who choose so are \
               woken. A browser's push service learns when a page of its is." },
    Key { path: "push.hosts", reload: Restart,
        kind: Kind::List { form: "HOST, HOST:PORT or *.HOST", max: 64,
            get: |config| config.push.hosts.iter().map(PushHost::to_string).collect(),
            set: |config, list| {
                config.push.hosts = list.iter().map(|host| PushHost::parse(host)).collect::<Option<_>>()?;
                Some(())
            } },
        what: "Push services where the relay may be told to wake somebody, by HTTPS. It dials nothing else, follows no redirect, \
               and goes to addresses of private networks only where one stands here itself.",
        unset: "",
        cost: "Clients choose what is asked there, each at most once in `limits.push_interval_ms`." },

    // ---- cluster
    Key { path: "cluster.nats", reload: Restart,
        kind: Kind::List { form: NatsAddress::FORM, max: 16,
            get: |config| config.cluster.nats.iter().map(ToString::to_string).collect(),
            set: |config, list| {
                config.cluster.nats = list.iter().map(|address| address.parse().ok()).collect::<Option<_>>()?;
                Some(())
            } },
        what: "NATS servers with JetStream, which decide which nodes live. One of them is enough to find the others of a NATS \
               cluster.",
        unset: "the relay is alone", cost: "Whoever runs them sees the nodes' addresses and when something happens, \
               nobody's identity, and no call; THREAT-MODEL.md says more." },
    Key { path: "cluster.nats_plain", reload: Restart,
        kind: Kind::Choice { words: &["loopback", "anywhere"],
            get: |config| config.cluster.nats_plain as usize,
            set: |config, which| config.cluster.nats_plain = [PlainChoice::Loopback, PlainChoice::Anywhere][which] },
        what: "Where NATS may be spoken to without TLS (`nats://`): on this machine, or wherever the operator knows that nobody \
               listens in, such as in a VPN.", unset: "",
        cost: "Whoever listens in on the way reads the password for NATS, and can then keep the cluster from working." },
    file!("cluster.nats_credentials_file", cluster.nats_credentials_file,
        "File with what NATS lets the relay in by: a `.creds` file, as `nsc` makes it, or one line `USER:PASSWORD`.",
        "NATS must let in whoever reaches it", "Keep it from other users.", Restart),
    file!("cluster.nats_ca", cluster.nats_ca,
        "PEM file with the root certificate of the NATS servers, for an authority of one's own.",
        "whom this machine trusts", "", Restart),
    number!("cluster.nats_replicas", cluster.nats_replicas, "servers", 1..=5, Restart,
        "On how many NATS servers what is decided is kept, when the first node of a new cluster makes its place there. Three, \
         where there are three: then one of them may die.",
        "With one, its death stops the cluster until it is back; and more than there are servers, it is never made."),
    Key { path: "cluster.name", reload: Restart,
        kind: Kind::Text { form: "1 to 32 letters, digits, - and _",
            get: |config| config.cluster.name.clone(),
            set: |config, text| is_name(text).then(|| config.cluster.name = Some(text.to_owned())) },
        what: "The cluster's name, the same on all of its nodes. Clusters with different names can use the same NATS servers.",
        unset: "only `cluster.nats` has one", cost: "NATS shows it." },
    number!("cluster.node", cluster.node, "the node's number", 0..=NODES_MAX, Restart,
        "This node's number, from 1 on, which no other node of the cluster has; 0 while there is no cluster.",
        "Of two relays with the same number one stays outside of the cluster, and says so."),
    Key { path: "cluster.address", reload: Restart,
        kind: Kind::Text { form: "IP:PORT that others can send to, an IPv6 address in brackets",
            get: |config| config.cluster.address.map(|address| address.to_string()),
            set: |config, text| {
                let address: SocketAddr = text.parse().ok()?;
                let can_be_reached = !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0;
                can_be_reached.then(|| config.cluster.address = Some(address))
            } },
        what: "Where the other nodes reach this one's UDP port.",
        unset: "only `cluster.nats` has one", cost: "Behind a NAT or a forwarded port the relay cannot know it." },
    file!("cluster.secret_file", cluster.secret_file,
        "File with the cluster's secret, the same on all of its nodes: `supernode cluster secret FILE` makes one.",
        "only `cluster.nats` has one",
        "Whoever reads it, and can reach NATS, can pose as a node. Keep it from other users.", Restart),

    // ---- admission
    Key { path: "admission.mode", reload: Live,
        kind: Kind::Choice { words: &["tokens", "allow-list", "hook", "open"],
            get: |config| config.admission.mode as usize,
            set: |config, which| config.admission.mode =
                [AdmissionChoice::Tokens, AdmissionChoice::AllowList, AdmissionChoice::Hook, AdmissionChoice::Open][which] },
        what: "By what one gets in: a token of this relay (`supernode invite`), one's identity being in a file, the word of \
               an HTTP service, or nothing. After a change those who are in are asked about again within a second, and go if \
               they would not be let in.", unset: "",
        cost: "With `open`, anyone who can reach the port may use the relay." },
    file!("admission.allow_list", admission.allow_list,
        "File with one identity (`sn-id-...`) a line; what follows a `#` is a remark. Watched; a new one is taken within \
         seconds, whoever is not on it any more goes, and a broken one changes nothing.",
        "only `admission.mode = \"allow-list\"` has one", "At most 64 MiB, about a million identities.", Live),

    Key { path: "admission.classes", reload: Live,
        kind: Kind::List {
            form: "a name and limits of a session that it changes, such as `guest rooms_max=1 rings_per_minute_max=5`",
            max: CLASSES_MAX,
            get: |config| config.admission.classes.iter().map(ToString::to_string).collect(),
            set: |config, list| {
                let classes: Vec<Class> = list.iter().map(|class| class.parse()).collect::<Result<_, _>>().ok()?;
                let twice = classes.iter().enumerate().any(|(at, one)| classes[..at].iter().any(|other| other.name() == one.name()));
                (!twice).then(|| config.admission.classes = classes)
            } },
        what: "Classes of limits that a token may name (`supernode invite --class guest`): lower-case letters, digits and `-`, \
               then any of rooms_max, tracks_max, subscriptions_max, watches_max, rings_per_minute_max, \
               requests_per_second_max, ingest_objects_per_second_max and ingest_bytes_per_second_max, higher or lower than \
               `[limits]` says. Whose token names a class that is not here (any more) is not let in.",
        unset: "tokens grant what `[limits]` says", cost: "What a class raises, its holders may use." },

    // ---- admission.hook
    Key { path: "admission.hook.url", reload: Live,
        kind: Kind::Address { form: "an https:// address, or http:// on a loopback address, without user or password",
            get: |config| config.admission.hook.url.clone(),
            set: |config, text| { hook_url(text)?; config.admission.hook.url = Some(text.to_owned()); Some(()) } },
        what: "Asked by `POST` with `{\"identity\": \"sn-id-...\", \"token\": \"...\"}`; status 200 or 204 lets in, 401 and 403 \
               do not. Whatever else comes, or nothing in time, lets nobody in and is not remembered.",
        unset: "only `admission.mode = \"hook\"` has one", cost: "The service learns who connects, and when." },
    Key { path: "admission.hook.secret", reload: Live,
        kind: Kind::Secret {
            get: |config| config.admission.hook.secret.clone(),
            set: |config, text| config.admission.hook.secret = Some(text.to_owned()) },
        what: "Sent to the service as `Authorization: Bearer`, so that it knows who asks.",
        unset: "no such header is sent, unless `admission.hook.secret_file` is set",
        cost: "Whoever reads the configuration has it: better in a file of its own." },
    file!("admission.hook.secret_file", admission.hook.secret_file,
        "File with that secret as its only line, such as a credential of systemd's. Watched; a new one is taken within \
         seconds.", "`admission.hook.secret`, if that is set", "Keep it from other users.", Live),
    time!("admission.hook.timeout_ms", admission.hook.timeout, "milliseconds", from_millis, as_millis, 100..=9000,
        "How long the service may take.",
        "Whoever connects waits as long; the relay serves others meanwhile. A client has 10 s in all."),
    time!("admission.hook.cache_s", admission.hook.cache, "seconds", from_secs, as_secs, 1..=3600,
        "How long an answer is good for, yes or no. Then the service is asked again about those who are in, every 30 s at \
         most for each.",
        "As long, the service's change of mind shows nothing. At most 65,536 answers are kept."),
    time!("admission.hook.grace_s", admission.hook.grace, "seconds", from_secs, as_secs, 0..=604_800,
        "How long those who are in stay, once an answer is old, while the service gives none. A clear no ends a session at \
         once.", "So long somebody stays whom the service would not let in any more. Less, and its outage ends calls."),

    // ---- limits: the relay
    number!("limits.sessions_max", limits.sessions_max, "sessions", 1..=10_000_000, Live,
        "Sessions of the whole relay.", "About 30 KB each."),
    number!("limits.handshakes_before_retry", limits.handshakes_before_retry, "handshakes", 0..=1_000_000, Live,
        "Clients of the whole relay that are not let in yet before new addresses must prove themselves by Retry (RFC 9000 \
         section 8.1.2); 0 asks always. Divided among the shards.", "A Retry costs an honest client one round trip."),
    number!("limits.handshakes_max", limits.handshakes_max, "handshakes", 1..=1_000_000, Live,
        "Clients of the whole relay that are not let in yet. Beyond it, whoever comes gets the place of the oldest of the \
         network that has most. Divided among the shards.", "23 KB of memory each, at most 96 KiB."),
    number!("limits.handshakes_per_second_max", limits.handshakes_per_second_max, "handshakes a second", 10..=1_000_000, Live,
        "Handshakes that each shard begins. When it has few left, those go first whose networks have begun fewest.",
        "0.3 ms of a core each, with which the shard could forward media."),
    number!("limits.connections_per_prefix_max", limits.connections_per_prefix_max, "connections", 1..=10_000_000, Live,
        "Connections of one network: an IPv4 address, or the first 56 bits of an IPv6 address.",
        "Less keeps one network from taking all places; too little shuts out people behind a carrier's shared address."),
    number!("limits.handshakes_per_prefix_per_second_max", limits.handshakes_per_prefix_per_second_max, "handshakes a second",
        1..=1_000_000, Live,
        "Handshakes that one network may begin. Above it its clients must prove their addresses by Retry, and get as many \
         again.", "A key exchange for each."),
    number!("limits.tcp_links_max", limits.tcp_links_max, "connections", 1..=1_000_000, Live,
        "Connections to the TCP port at once. Beyond it, whoever comes gets the place of a connection that nobody was let in \
         on yet, of the network that has most of them; if there is none, it is closed.", "At most 128 KiB of memory each."),
    time!("limits.hello_timeout_ms", limits.hello_timeout, "milliseconds", from_millis, as_millis, 1000..=60_000,
        "How long a client may take from its first packet to its Hello.", "So long can a silent client hold a handshake."),
    // ---- limits: presence and rings
    number!("limits.devices_per_identity_max", limits.devices_per_identity_max, "devices", 1..=256, Live,
        "Devices of one identity that are online at once.", "Each is rung by every ring."),
    number!("limits.watches_max", limits.watches_max, "watches", 0..=100_000, Live,
        "Identities that one session watches.", "Memory for each."),
    number!("limits.watchers_per_identity_max", limits.watchers_per_identity_max, "sessions", 0..=100_000, Live,
        "Sessions that watch one identity.", "A change of state is sent to all of them."),
    time!("limits.presence_interval_ms", limits.presence_interval, "milliseconds", from_millis, as_millis, 0..=60_000,
        "Between two announcements of one identity's state.", "Less tells watchers more often, and costs as much more."),
    time!("limits.presence_linger_ms", limits.presence_linger, "milliseconds", from_millis, as_millis, 0..=60_000,
        "How long an identity stays online for its watchers after its last connection broke.",
        "More hides departures, less shows every change of network as one."),
    number!("limits.rings_per_minute_max", limits.rings_per_minute_max, "rings a minute", 0..=100_000, Live,
        "Rings that one identity may start, on all of its devices.", "Each is sent to all devices of the callee."),
    number!("limits.incoming_rings_max", limits.incoming_rings_max, "rings", 1..=1000, Live,
        "Rings that one device can have at once.", "Up to 16 KiB each on their way to the device."),
    number!("limits.rings_per_pair_max", limits.rings_per_pair_max, "rings", 1..=1000, Live,
        "Rings of one person that one device can have at once.", "As many of its places as one caller can take up."),
    time!("limits.ring_timeout_ms", limits.ring_timeout, "milliseconds", from_millis, as_millis, 1000..=600_000,
        "How long a ring waits for an answer.", ""),
    // ---- limits: rooms and media
    number!("limits.rooms_max", limits.rooms_max, "rooms", 1..=1000, Live,
        "Rooms that one session is in.", ""),
    number!("limits.room_members_max", limits.room_members_max, "members", 2..=10_000, Live,
        "Members of one room.", "Every object goes to every subscriber: the work grows with the square."),
    number!("limits.room_devices_per_identity_max", limits.room_devices_per_identity_max, "devices", 1..=256, Live,
        "Devices of one identity in one room.", "Each has a place in the group, and every object is sent to each."),
    number!("limits.mailbox_messages_max", limits.mailbox_messages_max, "messages", 0..=65_536, Live,
        "Messages that one room's mailbox keeps for members that were away.",
        "A member that missed more than is kept cannot come back to its call."),
    number!("limits.mailbox_bytes_max", limits.mailbox_bytes_max, "bytes", 0..=67_108_864, Live,
        "Bytes that one room's mailbox keeps.", "Memory for each room, and what a member that comes back is sent at once."),
    number!("limits.mailboxes_bytes_max", limits.mailboxes_bytes_max, "bytes", 0..=17_179_869_184u64, Live,
        "Bytes that the mailboxes of all rooms keep. Of what is free of it, one room keeps a 128th at most.", "Memory."),
    time!("limits.away_ms_max", limits.away_max, "milliseconds", from_millis, as_millis, 0..=86_400_000,
        "How long a device whose session ended in a room may catch up without being a member.",
        "So long the relay remembers that it was there."),
    number!("limits.rejected_commits_max", limits.rejected_commits_max, "commits", 1..=1000, Live,
        "Commits of one identity that a room may reject, by two others at least, before the room is closed to it.",
        "More lets a member that cannot follow disturb its group for longer."),
    time!("limits.rejected_commits_span_ms", limits.rejected_commits_span, "milliseconds", from_millis, as_millis, 1000..=86_400_000,
        "How long a rejected commit counts.", "So long a room stays closed to whom it was closed."),
    number!("limits.tracks_max", limits.tracks_max, "tracks", 1..=1000, Live,
        "Tracks that one session publishes.", ""),
    number!("limits.subscriptions_max", limits.subscriptions_max, "subscriptions", 1..=100_000, Live,
        "Tracks that one session subscribes to.", "Memory for each, and what it sends."),
    number!("limits.requests_per_second_max", limits.requests_per_second_max, "requests a second", 1..=100_000, Live,
        "Control requests of one identity, on all of its devices, with four times that as a burst. Above it the first \
         sixteen are refused, then one a second; the others are only counted.", ""),
    number!("limits.requests_excess_max", limits.requests_excess_max, "requests", 1..=1_000_000, Live,
        "Requests above that rate that one identity may send before its session is closed; a hundredth is forgiven every \
         second.", "A comparison for each."),
    number!("limits.catch_ups_per_minute_max", limits.catch_ups_per_minute_max, "requests a minute", 1..=100_000, Live,
        "Times that one identity may ask for what a room's mailbox has kept.",
        "Each is answered with up to `limits.mailbox_bytes_max`."),
    number!("limits.beacons_per_minute_max", limits.beacons_per_minute_max, "requests a minute", 1..=100_000, Live,
        "Beacons that one identity may post, in all its rooms: what its devices say of their groups.",
        "Each is passed on to everybody in the room; too few, and people are shown as split from the call."),
    number!("limits.key_packages_taken_per_minute_max", limits.key_packages_taken_per_minute_max, "requests a minute",
        1..=100_000, Live,
        "Times that one identity may take key packages of others.", "What one takes, another cannot."),
    number!("limits.key_packages_given_per_minute_max", limits.key_packages_given_per_minute_max, "requests a minute",
        1..=100_000, Live,
        "Times that key packages of one identity are given out.",
        "More lets those who have its ticket empty its store before it deposits more."),
    number!("limits.mls_bytes_per_second_max", limits.mls_bytes_per_second_max, "bytes a second", 16_384..=1_073_741_824u64, Live,
        "Bytes that the devices of one identity may put into the mailboxes of their rooms, with four times that as a burst. \
         The default's burst lets five guests into a room of 250.",
        "Everybody else in the room is sent them, before any media."),
    number!("limits.control_backlog_bytes_max", limits.control_backlog_bytes_max, "bytes", 65_536..=67_108_864, Live,
        "Control messages that may wait for one client to read; beyond it its session is closed. From half of it on, \
         messages of its rooms' mailboxes are withheld until it has read the rest.",
        "Memory for each client that does not read."),
    number!("limits.ingest_objects_per_second_max", limits.ingest_objects_per_second_max, "objects a second", 1..=10_000_000, Live,
        "Objects that one identity may send, on all of its devices.", "Beyond it they are refused and counted."),
    number!("limits.ingest_bytes_per_second_max", limits.ingest_bytes_per_second_max, "bytes a second", 1000..=4_294_967_295u64, Live,
        "Bytes of objects that one identity may send, on all of its devices.", "Beyond it they are refused and counted."),
    number!("limits.ingest_excess_objects_max", limits.ingest_excess_objects_max, "objects", 1..=100_000_000, Live,
        "Objects above these rates that one identity may send before its session is closed; a hundredth is forgiven every second.", ""),
    number!("limits.egress_bytes_per_second_max", limits.egress_bytes_per_second_max, "bytes a second", 100_000..=17_179_869_184u64, Live,
        "Bytes that all devices of one identity together are sent, packets and all. Above it objects wait as if the path \
         took no more.", "What one identity can make the relay send."),
    number!("limits.egress_bytes_per_day_max", limits.egress_bytes_per_day_max, "bytes a day", 0..=1_000_000_000_000_000u64, Live,
        "Bytes that all devices of one identity together are sent in a day; 0 is off. What is used comes back evenly. Who \
         has used it up is closed with DAY_USED_UP and let in again once a 24th has come back.",
        "Calls that go on when it is used up end."),
    number!("limits.relay_egress_bytes_per_day_max", limits.relay_egress_bytes_per_day_max, "bytes a day", 0..=1_000_000_000_000_000u64, Live,
        "Bytes that the relay sends in a day; 0 is off. What is used comes back evenly, so the first day may be as much \
         again. When it is used up, whoever is sent something is closed with RELAY_DAY_USED_UP, and nobody is let in until \
         a 24th has come back.",
        "Calls that go on when it is used up end."),
    number!("limits.relay_rooms_max", limits.relay_rooms_max, "rooms", 1..=10_000_000, Live,
        "Rooms of the whole relay.", "About 1 KB each, and what their mailboxes keep."),
    number!("limits.relay_queue_bytes_max", limits.relay_queue_bytes_max, "bytes", 1_048_576..=1_099_511_627_776u64, Live,
        "Objects that may wait for all subscribers together, each counted with the packet that it keeps; each shard has an \
         equal part. Above it the fullest queues are cut to one height.", "Memory."),
    number!("limits.relay_tables_bytes_max", limits.relay_tables_bytes_max, "bytes", 1_048_576..=1_099_511_627_776u64, Live,
        "What sessions keep in tables: watches, subscriptions, tracks, status and key packages. One session keeps a 16th of \
         what is free at most, and 8 KiB always.", "Memory."),
    number!("limits.relay_windows_bytes_max", limits.relay_windows_bytes_max, "bytes", 1_048_576..=1_099_511_627_776u64, Live,
        "What streams may have in flight between the relay and its clients, both ways. One connection has a 16th of what is \
         free at most, and 24 KiB always.", "Memory. With too little, large pictures take more round trips."),
    number!("limits.relay_control_bytes_max", limits.relay_control_bytes_max, "bytes", 1_048_576..=1_099_511_627_776u64, Live,
        "Control messages of all sessions that wait to be read, or have not come whole; each shard has an equal part. Above \
         it the sessions with most of them are closed.", "Memory."),
    number!("limits.relay_gaps_bytes_max", limits.relay_gaps_bytes_max, "bytes", 1_048_576..=1_099_511_627_776u64, Live,
        "What QUIC may keep of clients' streams with gaps, reckoned from the pieces that came, beyond what they may have in \
         flight; each shard has an equal part. Above it the clients with most of it are closed.",
        "Memory. With too little, clients on paths that lose much are closed where many publish."),
    number!("limits.accounts_idle_max", limits.accounts_idle_max, "identities", 0..=100_000_000, Live,
        "Identities without a session of which the relay remembers what they have used up. Above it those that have used \
         up least are forgotten.", "About 400 bytes each."),
    number!("limits.push_endpoints_max", limits.push_endpoints_max, "endpoints", 0..=100_000_000, Live,
        "Places where closed pages can be woken, of all people together, with `push.contact` only; a person has at most as many \
         as devices (16). More are refused.", "4 KiB each at most, about 700 bytes as browsers have them."),
    time!("limits.push_interval_ms", limits.push_interval, "milliseconds", from_millis, as_millis, 1000..=3_600_000,
        "Between two times that one person's closed pages are woken: who rings more often wakes nobody by it.",
        "With less, whoever has a person's ticket makes their devices show it more often, and the push services be asked more \
         often."),
    time!("limits.queue_age_ms_max", limits.queue_age_max, "milliseconds", from_millis, as_millis, 1..=60_000,
        "How long an object may wait for a subscriber whose subscription says nothing.",
        "Delay: what comes later than this is noise in a call."),
    time!("limits.audio_budget_ms", limits.audio_budget, "milliseconds", from_millis, as_millis, 0..=100,
        "How long audio may gather for one receiver when several people speak, so that their objects share packets; 0 sends \
         each at once.", "Delay of at most this much, for fewer packets."),
    number!("limits.data_queue_bytes_max", limits.data_queue_bytes_max, "bytes", 65_536..=1_073_741_824u64, Live,
        "Bytes of a data track's streams that may wait for one subscriber: they are neither expired nor thinned. From a \
         quarter of it on, the publisher is held.", "Memory for each subscriber of data that is slow."),
    number!("limits.group_cache_track_bytes_max", limits.group_cache_track_bytes_max, "bytes", 0..=67_108_864, Live,
        "Bytes of a track's newest group that are kept for those who come late.",
        "Memory for each track, and what a newcomer is sent at once."),
    number!("limits.group_cache_shard_bytes_max", limits.group_cache_shard_bytes_max, "bytes", 0..=17_179_869_184u64, Live,
        "Bytes that one shard keeps of all tracks' newest groups.", "Memory for each shard."),
    time!("limits.too_slow_after_ms", limits.too_slow_after, "milliseconds", from_millis, as_millis, 1000..=600_000,
        "How long objects may wait too long for a subscriber that is sent audio and data only, before it is closed.",
        "So long somebody hears a call in pieces before being told."),
    number!("limits.queue_bytes_max", limits.queue_bytes_max, "bytes", 16_384..=67_108_864, Live,
        "Objects that may wait for one subscriber.", "Memory for each subscriber that is slower than what it receives."),
    time!("limits.keyframe_interval_ms", limits.keyframe_interval, "milliseconds", from_millis, as_millis, 0..=60_000,
        "Between two key frame requests of one track that are passed on.", "Key frames are several times as large as others."),

    // ---- log
    Key { path: "log.filter", reload: Live,
        kind: Kind::Text { form: filter::FORM,
            get: |config| Some(config.log.filter.clone()),
            set: |config, text| { filter::parse(text)?; config.log.filter = text.to_owned(); Some(()) } },
        what: "What is logged. The environment variable RUST_LOG sets it too. Of INFO and above, a place of the program says at most 10 lines in 10 s, and then how many it left out.", unset: "",
        cost: "DEBUG may name addresses and rooms. `info` lets libraries warn of what strangers send. TRACE, a line a packet, is in debug builds only." },
    Key { path: "log.format", reload: Live,
        kind: Kind::Choice { words: &["text", "json"],
            get: |config| config.log.format as usize,
            set: |config, which| config.log.format = [Format::Text, Format::Json][which] },
        what: "How a line is written: for people, or as one JSON object with `time`, `level`, `target`, `message` and what else \
               belongs to it. Lines that systemd's journal takes have its priority in front and no time of their own, in \
               both. What is said before the configuration has been read is text.", unset: "", cost: "" },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::Config;

    #[test]
    fn every_limit_of_the_core_can_be_set() {
        let source = include_str!("../../core/grants/limits.rs");
        let mut fields = 0;
        for line in source.lines() {
            let Some((name, kind)) = line.trim().strip_prefix("pub ").and_then(|field| field.split_once(": ")) else {
                continue;
            };
            let name = match (kind.trim_end_matches(','), name.strip_suffix("_max")) {
                ("Duration", Some(name)) => format!("{name}_ms_max"),
                ("Duration", None) => format!("{name}_ms"),
                _ => name.to_owned(),
            };
            assert!(find(&format!("limits.{name}")).is_some(), "limits.{name} has no row in KEYS");
            fields += 1;
        }
        assert_eq!(fields, KEYS.iter().filter(|key| key.section() == "limits").count());
    }

    #[test]
    fn every_key_stands_in_a_section_and_its_default_is_within_its_bounds() {
        let config = Config::default();
        for key in KEYS {
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section()), "{}", key.path);
            assert!(key.unset.is_empty() == key.get(&config).is_some(), "{}: unset says what happens then", key.path);
            if let Kind::Integer { min, max, get, .. } = key.kind {
                assert!((min..=max).contains(&get(&config)), "{}", key.path);
            }
        }
    }
}
