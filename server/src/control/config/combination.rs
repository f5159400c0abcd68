//! Keys that are fine one by one, and not together.

use super::{
    error::Problem,
    keys,
    layers::{Loaded, Origin},
    values::{AdmissionChoice, Config, PagesChoice, PlainChoice, TlsChoice},
};

/// What one choice needs, and what only it can use: a setting that does nothing is a mistake.
struct Needs {
    choice: &'static str,
    word: &'static str,
    chosen: fn(&Loaded) -> bool,
    needed: &'static [&'static str],
    usable: &'static [&'static str],
}

const NEEDS: &[Needs] = &[
    Needs {
        choice: "tls.mode",
        word: "files",
        chosen: |loaded| loaded.config.tls.mode == TlsChoice::Files,
        needed: &["tls.certificate", "tls.key"],
        usable: &["tls.certificate", "tls.key"],
    },
    Needs {
        choice: "tls.mode",
        word: "acme",
        chosen: |loaded| loaded.config.tls.mode == TlsChoice::Acme,
        needed: &["tls.acme.domains"],
        usable: &[
            "tls.acme.domains",
            "tls.acme.contact",
            "tls.acme.directory",
            "tls.acme.directory_ca",
            "tls.acme.listen",
        ],
    },
    Needs {
        choice: "web.pages",
        word: "on",
        chosen: |loaded| loaded.config.web.pages == PagesChoice::On,
        needed: &[],
        usable: &["web.listen", "web.page", "web.page_file", "web.page_url"],
    },
    Needs {
        choice: "admission.mode",
        word: "tokens",
        chosen: |loaded| loaded.config.admission.mode == AdmissionChoice::Tokens,
        needed: &[],
        usable: &["admission.classes"],
    },
    Needs {
        choice: "admission.mode",
        word: "allow-list",
        chosen: |loaded| loaded.config.admission.mode == AdmissionChoice::AllowList,
        needed: &["admission.allow_list"],
        usable: &["admission.allow_list"],
    },
    Needs {
        choice: "admission.mode",
        word: "hook",
        chosen: |loaded| loaded.config.admission.mode == AdmissionChoice::Hook,
        needed: &["admission.hook.url"],
        usable: &[
            "admission.hook.url",
            "admission.hook.secret",
            "admission.hook.secret_file",
            "admission.hook.timeout_ms",
            "admission.hook.cache_s",
            "admission.hook.grace_s",
        ],
    },
];

/// What does not go together.
pub(super) fn problems(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Needs { choice, word, chosen, needed, usable } in NEEDS {
        if chosen(loaded) {
            let missing = needed.iter().filter(|path| value(loaded, path) == "nothing");
            problems.extend(missing.map(|path| {
                let hint = format!("{choice} = {word:?} needs it");
                problem(loaded, path, choice, "must be set", hint)
            }));
        } else {
            let idle = usable.iter().filter(|path| !is_default(loaded, path));
            problems.extend(idle.map(|path| {
                let hint = format!("it belongs to {choice} = {word:?}");
                problem(loaded, path, path, &format!("does nothing while {choice} = {}", value(loaded, choice)), hint)
            }));
        }
    }
    let hook = &loaded.config.admission.hook;
    if hook.secret.is_some() && hook.secret_file.is_some() {
        let (path, other) = ("admission.hook.secret_file", "admission.hook.secret");
        problems.push(problem(
            loaded,
            path,
            path,
            &format!("must not be set beside {other}"),
            "which one counts?".to_owned(),
        ));
    }
    problems.extend(of_the_page(loaded));
    problems.extend(of_the_cluster(loaded));
    if loaded.config.push.contact.is_none() && !is_default(loaded, "push.hosts") {
        let idle = "does nothing while push.contact = nothing";
        problems.push(problem(loaded, "push.hosts", "push.hosts", idle, "push services want a contact".to_owned()));
    }
    let limits = &loaded.config.limits;
    if limits.handshakes_before_retry > limits.handshakes_max {
        let (path, bound) = ("limits.handshakes_before_retry", "limits.handshakes_max");
        let bound = format!("must be at most {bound} = {}", limits.handshakes_max);
        problems.push(problem(loaded, path, path, &bound, "else nobody is ever asked for a Retry".to_owned()));
    }
    problems
}

/// The page needs a certificate that browsers take without a warning, and a port of its own.
fn of_the_page(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let Some(page) = config.web.page else {
        let idle = "does nothing while web.page = nothing".to_owned();
        let file = config.web.page_file.as_ref();
        return file
            .map(|_| problem(loaded, "web.page_file", "web.page_file", &idle, "it is served there".to_owned()))
            .into_iter()
            .collect();
    };
    let mut problems = Vec::new();
    if config.tls.mode == TlsChoice::SelfSigned && !page.ip().is_loopback() {
        let bound = "must be on a loopback address while tls.mode = \"self-signed\"";
        let hint = "browsers would warn of it: order a certificate (tls.mode = \"acme\"), or put a web server that has one in \
                    front, or give people the page as a file (supernode page --out)";
        problems.push(problem(loaded, "web.page", "web.page", bound, hint.to_owned()));
    }
    let others = [
        ("tcp.listen", config.tcp.listen),
        ("web.listen", config.web.listen),
        ("admin.listen", Some(config.admin.listen)),
    ];
    for (path, _) in others.into_iter().filter(|(_, other)| page.port() != 0 && *other == Some(page)) {
        let hint = "each has a port of its own".to_owned();
        problems.push(problem(loaded, "web.page", "web.page", &format!("must not be the address of {path}"), hint));
    }
    problems
}

/// A node needs to be told all of it, and a relay that is alone nothing.
fn of_the_cluster(loaded: &Loaded) -> Vec<Problem> {
    const NEEDED: [&str; 4] = ["cluster.name", "cluster.node", "cluster.address", "cluster.secret_file"];
    const MORE: [&str; 4] =
        ["cluster.nats_plain", "cluster.nats_credentials_file", "cluster.nats_ca", "cluster.nats_replicas"];
    let cluster = &loaded.config.cluster;
    if cluster.nats.is_empty() {
        let idle = NEEDED.iter().chain(&MORE).filter(|path| !is_default(loaded, path));
        let one = |path: &&str| {
            let hint = "a node of a cluster needs the addresses of NATS".to_owned();
            problem(loaded, path, path, "does nothing while cluster.nats = nothing", hint)
        };
        return idle.map(one).collect();
    }
    let missing = NEEDED.iter().filter(|path| is_default(loaded, path));
    let one = |path: &&str| {
        let hint = match *path {
            "cluster.node" => "each node has its own, from 1 on",
            "cluster.address" => "where the other nodes reach this one's UDP port",
            "cluster.secret_file" => "supernode cluster secret FILE makes one, for all nodes",
            _ => "it is the same on all nodes",
        };
        problem(loaded, path, "cluster.nats", "must be set beside cluster.nats", hint.to_owned())
    };
    let mut problems: Vec<Problem> = missing.map(one).collect();
    let in_the_open = cluster.nats.iter().any(|address| !address.is_private());
    if in_the_open && cluster.nats_plain == PlainChoice::Loopback {
        let hint = "use tls://, or set cluster.nats_plain = \"anywhere\" if nobody can listen in on the way";
        let bound = "must be tls:// but on a loopback address";
        problems.push(problem(loaded, "cluster.nats", "cluster.nats", bound, hint.to_owned()));
    }
    problems
}

fn problem(loaded: &Loaded, path: &str, said_at: &str, bound: &str, hint: String) -> Problem {
    Problem {
        origin: origin(loaded, said_at),
        path: path.to_owned(),
        value: Some(value(loaded, path)),
        bound: bound.to_owned(),
        hint,
    }
}

fn origin(loaded: &Loaded, path: &str) -> Origin {
    keys::find(path).map_or(Origin::Default, |key| loaded.origin(key).clone())
}

fn is_default(loaded: &Loaded, path: &str) -> bool {
    keys::find(path).is_none_or(|key| key.get(&loaded.config) == key.get(&Config::default()))
}

fn value(loaded: &Loaded, path: &str) -> String {
    let setting = keys::find(path).and_then(|key| key.get(&loaded.config));
    setting.map_or_else(|| "nothing".to_owned(), |setting| setting.to_string())
}
