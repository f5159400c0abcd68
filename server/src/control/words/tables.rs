//! A row for each error that an operator can meet.

use supernode_proto::words_of;

use super::{
    AcmeError, AdminError, AllowListError, CertificateError, ConfigError, HandoverError, HookError, InviteLinkError,
    IssueError, LabelError, PagesPortError, PrepareError, RevokedError, RotateError, RotateKeyError, ServeError,
    StateError, TlsError,
};

words_of! {
    /// Of the configuration.
    ConfigError as CONFIG:
    Read, "the configuration cannot be read", "the file is not there, or this user may not read it",
        "compare the path with what was meant (--config), or let this user read the file";
    Syntax, "the configuration is no TOML", "a quote, bracket or equals sign is missing or too many at the place that is shown",
        "mend that line; `supernode config --template` prints a file that is right";
    Invalid, "the configuration has a key or a value that cannot be", "as is said: what may stand there follows each of them",
        "put right each line at the place that it names: a file, a variable or an option; docs/CONFIG.md has every key";
}

words_of! {
    /// Of what the configuration names.
    PrepareError as PREPARE, through Certificate AllowList Hook State:
    Secret, "the hook's secret cannot be used", "the file cannot be read, or holds something else than one line of printable characters",
        "write the secret into the file that admission.hook.secret_file names, on one line, readable for this user";
}

words_of! {
    /// Of the certificate and its key.
    CertificateError as CERTIFICATE:
    Read, "the certificate or its key cannot be read", "the file is not there, or this user may not read it",
        "compare the path in tls.certificate or tls.key, and let the relay's user read the file";
    Content, "the certificate or its key is of no use", "the file holds something else, or is damaged",
        "put the right file there, in PEM form; `supernode check-config` tries it";
    Mismatch, "the certificate and the key do not belong together", "one of them was renewed without the other, or the paths are mixed up",
        "put both of one order there: the certificate first, then the key";
}

words_of! {
    /// Of TLS.
    TlsError as TLS:
    Rustls, "the certificate and its key do not work together", "the key is of a kind that TLS 1.3 does not use, or is damaged",
        "use a key of ECDSA (P-256 or P-384), Ed25519 or RSA with 2048 bits or more";
    Initial, "the relay cannot encrypt as QUIC wants it", "the program was built without AES-128-GCM",
        "take a program that was built as README.md says";
}

words_of! {
    /// Of certificates by ACME.
    AcmeError as ACME, through State:
    Authority, "the authority for certificates cannot be used", "it does not answer, or refuses, as it says",
        "see what it says; look at tls.acme.directory and at this machine's way to it; the relay tries again by itself";
    NoChallenge, "the authority does not offer to check over HTTP", "it wants another proof for this name, as for names with a star",
        "name the hosts in tls.acme.domains one by one, or use another authority (tls.acme.directory)";
    Refused, "the authority did not issue the certificate", "it could not reach this machine under every name, most likely",
        "let every name of tls.acme.domains lead here, with TCP port 80 open; the relay tries again by itself";
    Late, "the certificate did not come in time", "the authority is busy, or its question does not get through to here",
        "look whether TCP port 80 is open from outside; the relay tries again by itself";
    Useless, "the authority's certificate is of no use", "it is for another key, or cannot be read",
        "look at tls.acme.directory: is it an ACME authority? The relay tries again by itself";
    Listen, "the port for the authority's question cannot be opened", "another program has it, or this user may not open a port below 1024",
        "end the other program, or give the relay CAP_NET_BIND_SERVICE, or name another port that 80 leads to (tls.acme.listen)";
    Request, "the certificate cannot be asked for", "a name in tls.acme.domains is no host's",
        "write plain host names into tls.acme.domains";
    Account, "the account at the authority cannot be read", "its file is damaged",
        "restore the file from a backup, or remove it: a new account is made";
}

words_of! {
    /// Of the allow-list.
    AllowListError as ALLOW_LIST:
    Read, "the list of who is let in cannot be read", "the file is not there, or this user may not read it",
        "compare the path in admission.allow_list, and let the relay's user read the file";
    Line, "the list of who is let in has a line that is no identity", "a name was cut off or mistyped",
        "write one identity (sn-id-...) a line, or put # before what is a remark";
}

words_of! {
    /// Of the hook.
    HookError as HOOK:
    Authorities, "the hook's certificate could not be checked", "this machine's list of authorities cannot be read",
        "install the system's certificates (ca-certificates)";
}

words_of! {
    /// Of the state directory.
    StateError as STATE:
    NoDefault, "it is not known where the state directory is", "as is said: neither XDG_STATE_HOME nor HOME is set",
        "name it: --state-dir, or relay.state_dir in the configuration";
    Io, "something in the state directory cannot be done", "the system refused, as it says: no right, no room, or a file that is not there",
        "see what the system says; the relay's commands need the user that the relay runs as (or root)";
    NotADirectory, "the state directory is none", "something else has that path", "name a directory: --state-dir, or relay.state_dir";
    Permissions, "others could read or replace a key", "a copy, an archive or a umask left the mode of a file or directory too open",
        "set the mode as said; if a stranger may have read a key, put a new one in its place (supernode rotate)";
    Owner, "the state directory or a file in it is another user's", "the relay ran as another user before, or the files were copied",
        "do one of the two that are said; never let two users run one relay";
    Broken, "a file in the state directory is of no use", "it was damaged, or put there by hand",
        "restore the file from a backup; or remove it and the next start makes a new one (links with the old key's pin end)";
    Missing, "the state directory, or a file in it, is not there", "no relay has been started with it yet, or the path is another one",
        "start the relay once (supernode serve), or name the right directory (--state-dir)";
    Generate, "a new key could not be made", "the system gave no random numbers, or none that are of use",
        "see what the system says; a sandbox without getrandom is likely";
}

words_of! {
    /// Of a relay that runs, or should.
    ServeError as SERVE, through State Tls Certificate Prepare Invite Issue Admin Pages Revoked Handover:
    Metrics, "the table of metrics does not fit together", "the program is at fault", "tell the authors, with what is said";
    StateInUse, "another relay runs already", "two relays cannot share a state directory",
        "end it (supernode drain), or replace it while its calls go on (--takeover), or name another directory (--state-dir)";
    Listen, "the relay's UDP port cannot be opened", "another program has it, the address is not this machine's, or the port is below 1024",
        "see who has it (ss -ulpn), and compare relay.listen with this machine's addresses (ip address)";
    ListenTcp, "the TCP port for clients cannot be opened", "another program has it (a web server, most likely), or it is below 1024",
        "see who has it (ss -tlpn); take another port for tcp.listen, or let the relay open low ports (AmbientCapabilities=CAP_NET_BIND_SERVICE)";
    System, "the system refused something that the relay needs", "too few descriptors or threads, or standard output is gone",
        "see what the system says, and raise the limit that it names (ulimit -a, or LimitNOFILE= and TasksMax= of the unit)";
    ShardsEnded, "the relay ended by itself", "the program is at fault", "start it again, and tell the authors, with the log";
    ShardFailed, "a part of the relay broke down", "the program is at fault", "start it again, and tell the authors, with the log";
    Interrupted, "the relay ended before its calls were over", "as is said: by a second signal", "nothing";
}

words_of! {
    /// Of the admin port.
    AdminError as ADMIN:
    NotLoopback, "the admin port was not opened", "as is said: whoever reaches it reads what is there",
        "set admin.listen to a loopback address such as 127.0.0.1:9464; from afar, reach it through ssh -L";
    Bind, "the admin port cannot be opened", "another program has it, most likely a second relay on this machine",
        "see who has it (ss -tlpn), or set another admin.listen (--admin)";
}

words_of! {
    /// Of the port for pages.
    PagesPortError as PAGES_PORT:
    Bind, "the port for pages cannot be opened", "another program has it, or this user may not open it",
        "see who has it (ss -tlpn), or set another web.listen";
}

words_of! {
    /// Of a hand-over.
    HandoverError as HANDOVER, through State:
    Refused, "the running relay does not hand over", "as is said: it gives its reason", "do as it says; it goes on as before";
    BrokeOff, "the hand-over broke off", "the other process ended, or is of a version that does not know how",
        "look at the other process's log; if it runs on, try again, else start the relay as usual";
    TakenBack, "the new process did not take over, and this one goes on", "its own log says why it did not serve in time",
        "look at what the new process logged, mend that, and run supernode upgrade again";
    TooLate, "this process did not take over", "as is said: it did not serve in time; the relay that ran before goes on",
        "look at the log above for what took so long, and try again when the machine has less to do";
    Differs, "the new process cannot take over", "as is said: the sockets that it would get are opened with another setting",
        "start it with the running relay's setting, or end that one first (supernode drain)";
}

words_of! {
    /// Of an invite link.
    InviteLinkError as INVITE_LINK, through State Issue:
    Address, "the link was not made", "its address is none that clients can use", "write it as HOST or HOST:PORT (--host, relay.advertise)";
    NoAddress, "the link was not made", "nobody has said yet where clients reach the relay",
        "say it (--host HOST:PORT, or relay.advertise), or start the relay once";
}

words_of! {
    /// Of a token.
    IssueError as ISSUE:
    Lifetime, "the token was not made", "as is said: it would be good for too short or too long a time", "name a time within the bounds that are said";
    Sign, "the token was not made", "the admission key does not sign: its file is damaged", "put a new key in its place (supernode rotate admission-key)";
}

words_of! {
    /// Of invites with a label.
    LabelError as LABEL, through State:
    Label, "the invite was not made", "as is said: its label has another form", "choose a shorter or plainer label";
    Taken, "the invite was not made", "as is said: an invite with this label is still good",
        "take that one back first (supernode invites revoke), or choose another label";
}

words_of! {
    /// Of the list of those who are refused.
    RevokedError as REVOKED, through State:
    Line, "the list of who is refused has a line that is nothing of the kind", "it was written by hand, or is damaged",
        "mend or remove that line of the file `revoked` in the state directory; then run supernode revoke again";
    Full, "nobody more can be refused", "as is said: the list is as long as it may be", "take old entries back (supernode revoke --undo)";
    Networks, "no more networks can be refused", "each first packet is compared with all of them",
        "take some back (supernode revoke --undo), or use the firewall";
}

words_of! {
    /// Of a new admission key.
    RotateError as ROTATE, through State:
    TooMany, "no new admission key was made", "as is said: too many from before are still good",
        "wait until the first of them ends, or give the old ones no more time (--keep-days 0), which ends everybody's session by them";
}

words_of! {
    /// Of a new relay key.
    RotateKeyError as ROTATE_KEY, through State:
    TooMany, "no new relay key was made", "as is said: too many earlier pins are still good", "wait until the first of them ends";
    ByAuthority, "no new relay key was made", "as is said: an authority has signed the present key",
        "leave it; if the key has leaked, stop the relay, remove the file that is named, tls-key.pem and tls-certificate.pem, and start it: it orders another";
}
