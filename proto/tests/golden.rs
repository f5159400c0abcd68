//! The bytes of version 1, written down in `golden/`: what is not written there is not in the protocol.
//!
//! A difference means that the wire changed. If it was meant to, `SUPERNODE_BLESS=1 cargo test -p supernode-proto`
//! writes the files anew; the diff then shows the change.

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the property tests, which use other parts")]
mod vectors;

use std::{collections::BTreeSet, env, fmt::Write, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::Signer as _;
use prost::Message;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    cluster::{Letter, MAIL_NAMES, NODE_VERSION, NodeHello, NodeReceived, NodeWelcome, decode_letter},
    control::{ClientMessage, FrameReader, MESSAGE_NAMES, RelayMessage, frame},
    identity::{
        ChannelBinding, Delegation, RelayPin, Revocation, RoomId, Ticket, beacon_signing_input, hello_signing_input,
        join_signing_input, present_signing_input, ring_signing_input, room_signing_input, verify_beacon, verify_hello,
        verify_join, verify_room,
    },
    invite::Invite,
    limits,
    mls::Envelope,
    object::{DatagramHeader, StreamHeader, StreamObjectHeader},
};
use vectors::{cluster, control, identity, object};

#[test]
fn every_control_message_is_written_down() {
    let (requests, answers) = (control::requests(), control::answers());
    let have: Vec<&str> =
        requests.iter().map(|(name, _)| &**name).chain(answers.iter().map(|(name, _)| &**name)).collect();
    let unique: BTreeSet<&str> = have.iter().copied().collect();
    let schema: BTreeSet<&str> = MESSAGE_NAMES.iter().copied().collect();
    let missing: Vec<_> = schema.symmetric_difference(&unique).collect();
    assert!(missing.is_empty(), "in the schema or in the examples, but not in both: {missing:?}");
    assert_eq!(unique.len(), have.len(), "an example is there twice");

    let mut golden = Golden::new("control.txt", "Control messages, each with its length in front.");
    for (name, message) in requests {
        let bytes = frame(&message);
        golden.hex(&name, &bytes);
        assert_eq!(read_one::<ClientMessage>(&bytes), message, "{name}");
    }
    for (name, message) in answers {
        let bytes = frame(&message);
        golden.hex(&name, &bytes);
        assert_eq!(read_one::<RelayMessage>(&bytes), message, "{name}");
    }
    golden.hex("HelloBody", &control::hello_body().encode_to_vec());
    golden.check();
}

//
#[test]
fn everything_between_nodes_is_written_down() {
    let mails = cluster::mails();
    let have: Vec<&str> = mails.iter().map(|(name, _)| &**name).collect();
    assert_eq!(have, MAIL_NAMES, "one example of each");
    let mut golden = Golden::new("cluster.txt", "What nodes say to each other, each with its length in front.");
    let hello = cluster::hello();
    golden.hex("NodeHello", &frame(&hello));
    assert_eq!(read_one::<NodeHello>(&frame(&hello)), hello);
    let [from, to] = [identity::relay_pin(), RelayPin([7; 32])];
    golden.hex("NodeHello, signed bytes", &hello.signing_input(&[0xa0; 32], &from, &to));
    let welcome = NodeWelcome { version: NODE_VERSION };
    golden.hex("NodeWelcome", &frame(&welcome));
    assert_eq!(read_one::<NodeWelcome>(&frame(&welcome)), welcome);
    let received = NodeReceived { datagrams: 300, objects: 7 };
    golden.hex("NodeReceived", &frame(&received));
    assert_eq!(read_one::<NodeReceived>(&frame(&received)), received);
    for (name, mail) in mails {
        let letter = Letter { shard: 2, mail: vec![mail] };
        golden.hex(&format!("Letter, {name}"), &frame(&letter));
        assert_eq!(decode_letter(&letter.encode_to_vec()).as_ref(), Ok(&letter), "{name}");
    }
    golden.check();
}

#[test]
fn every_enum_value_is_written_down() {
    let mut golden = Golden::new("enums.txt", "Values of the enums of the schema.");
    for (name, value) in control::enum_values() {
        golden.text(name, &value.to_string());
    }
    golden.check();
    let schema = include_str!("../schema/supernode.proto");
    let enums = schema.lines().filter(|line| line.starts_with("enum ")).count();
    assert_eq!(enums, 5, "a new enum must be added to the vectors");
}

//
#[test]
fn every_object_header_is_written_down() {
    let mut golden = Golden::new("headers.txt", "Headers of objects; the visible part is what the seal authenticates.");
    for (name, header) in object::datagrams() {
        let bytes = object::datagram_bytes(&header);
        golden.hex(&name, &bytes);
        assert_eq!(DatagramHeader::decode(&bytes), Ok((header, bytes.len())), "{name}");
    }
    for (name, header) in object::streams() {
        let bytes = object::stream_bytes(&header);
        golden.hex(&name, &bytes);
        assert_eq!(StreamHeader::decode(&bytes), Ok((header, bytes.len())), "{name}");
    }
    for (name, header) in object::stream_objects() {
        let bytes = object::stream_object_bytes(&header);
        golden.hex(&name, &bytes);
        assert_eq!(StreamObjectHeader::decode(&bytes), Ok((header, bytes.len())), "{name}");
    }
    for (name, visible) in object::visible_parts() {
        golden.hex(&name, &object::visible_bytes(&visible));
    }
    golden.check();
}

#[test]
fn everything_signed_is_written_down() {
    let now = identity::NOW_UNIX_S;
    let mut golden = Golden::new(
        "identity.txt",
        "Names, grants, what is signed, and the signatures by the secret keys 01 x 32 (identity), 02 x 32 (device), 03 x 32 (room), 05 x 32 (ticket) and 06 x 32 (room that stands).",
    );
    golden.text("identity, text", &identity::identity().to_text());
    golden.text("device, text", &identity::device().to_text());
    golden.text("join key, text", &identity::join_key().to_text());
    golden.hex("relay pin of \"the public key of the example relay\"", &identity::relay_pin().0);

    let delegation = identity::delegation();
    let input = Delegation::signing_input(&delegation.identity, &delegation.device, delegation.not_after_unix_s);
    golden.hex("delegation, signed bytes", &input);
    golden.hex("delegation", &delegation.to_bytes());
    assert_eq!(delegation.verify(now), Ok(()));

    for (name, ticket) in [
        ("ticket for a holder", identity::ticket_for_holder()),
        ("ticket with a key, for one relay", identity::ticket_with_key()),
    ] {
        golden.hex(&format!("{name}, signed bytes"), &ticket.signing_input());
        golden.hex(name, &ticket.to_bytes());
        golden.text(&format!("{name}, text"), &ticket.to_text());
        assert_eq!(ticket.verify(now), Ok(()), "{name}");
        assert_eq!(Ticket::from_text(&ticket.to_text()).as_ref(), Ok(&ticket), "{name}");
    }

    let revocation = identity::revocation();
    golden.hex("revocation, signed bytes", &revocation.signing_input());
    golden.hex("revocation", &revocation.to_bytes());
    assert_eq!(revocation.verify(), Ok(()));
    assert_eq!(Revocation::from_bytes(&revocation.to_bytes()).as_ref(), Ok(&revocation));

    let (ticket, presenter, binding) = (identity::ticket_with_key(), identity::presenter(), identity::binding());
    let sign = |input: &[u8]| identity::ticket_secret().sign(input).to_bytes();
    let input = present_signing_input(&ticket, &binding, &presenter.device);
    golden.hex("ticket shown to a relay, signed bytes", &input);
    golden.hex("ticket shown to a relay, proof", &sign(&input));
    assert_eq!(ticket.verify_presented(&presenter, &binding, &sign(&input)), Ok(()));
    let input = ring_signing_input(&ticket, &identity::room(), now, &presenter.device);
    golden.hex("ticket shown in a ring, signed bytes", &input);
    golden.hex("ticket shown in a ring, proof", &sign(&input));
    assert_eq!(ticket.verify_ring(&presenter, &identity::room(), now, &sign(&input)), Ok(()));

    let body = control::hello_body().encode_to_vec();
    golden.hex("hello, signed bytes", &hello_signing_input(&binding, &body));
    golden.hex("hello, signature", &identity::sign_hello(&body));
    assert_eq!(verify_hello(&identity::device(), &binding, &body, &identity::sign_hello(&body)), Ok(()));

    let (room, device) = (identity::room(), identity::device());
    golden.hex("join, signed bytes", &join_signing_input(&room, &binding, &device));
    golden.hex("join, proof", &identity::join_proof());
    assert_eq!(verify_join(&identity::join_key(), &room, &binding, &device, &identity::join_proof()), Ok(()));

    let (key, proof) = (identity::room_key(), identity::room_proof());
    golden.text("room key, text", &key.to_text());
    golden.hex("room that stands for it, name", &RoomId::standing(&key).0);
    golden.hex("room key, signed bytes", &room_signing_input(&binding, &device));
    golden.hex("room key, proof", &proof);
    assert_eq!(verify_room(&key, &binding, &device, &proof), Ok(()));

    for (name, binding) in [("host", identity::binding_by_host()), ("pin", identity::binding_by_pin())] {
        let ChannelBinding::RelayNonce { nonce, .. } = &binding else { panic!("by nonce") };
        golden.hex(&format!("nonce a0 x 32 and the relay's {name}, binding"), nonce.as_bytes());
        for (what, input) in identity::bound(&binding) {
            golden.hex(&format!("{what}, by nonce and {name}, signed bytes"), &input);
        }
    }

    let (epoch, digest) = identity::BEACON;
    golden.hex("beacon, signed bytes", &beacon_signing_input(&room, epoch, &digest));
    golden.hex("beacon, signature", &identity::sign_beacon());
    assert_eq!(verify_beacon(&device, &room, epoch, &digest, &identity::sign_beacon()), Ok(()));

    for (name, invite) in identity::invites() {
        golden.text(&format!("invite, {name}"), &invite.to_string());
        assert_eq!(invite.to_string().parse::<Invite>().as_ref(), Ok(&invite), "{name}");
    }
    golden.check();
}

//
#[test]
fn what_an_mls_message_shows_is_written_down() {
    let mut golden = Golden::new("mls.txt", "What an MLS PrivateMessage shows, around the six bytes \"sealed\".");
    for (name, commit) in [("commit", true), ("application message", false)] {
        let shown = Envelope { room: identity::room(), epoch: 300, commit };
        golden.hex(name, &shown.around(b"sealed"));
        assert_eq!(shown.check(&shown.around(b"sealed")), Ok(()), "{name}");
    }
    golden.check();
}

#[test]
fn every_close_code_is_written_down() {
    let mut golden = Golden::new("codes.txt", "Close codes: number, name, whose doing, when to connect again.");
    for (table, rows) in [("CloseCode", CloseCode::ALL), ("StreamCode", StreamCode::ALL)] {
        for row in rows {
            golden
                .text(&format!("{table} {:#04x}", row.code), &format!("{} {:?} {:?}", row.name, row.blame, row.retry));
        }
    }
    golden.check();
}

#[test]
fn every_limit_is_written_down() {
    let mut golden = Golden::new("limits.txt", "Bounds of the wire.");
    for limit in limits::ALL {
        golden.text(limit.name, &format!("{} {}", limit.value, limit.unit));
    }
    golden.check();
}

fn read_one<M: Message + Default>(bytes: &[u8]) -> M {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    let message = reader.next_message().expect("our own bytes").expect("a whole message");
    assert!(reader.next_message::<M>().expect("nothing is no error").is_none(), "one message and nothing after it");
    message
}

/// A file of `name = value` lines below a comment, compared as a whole.
struct Golden {
    path: PathBuf,
    text: String,
}

impl Golden {
    fn new(file: &str, title: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
        Self { path, text: format!("# {title}\n") }
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, &HEXLOWER.encode(bytes));
    }

    fn text(&mut self, name: &str, value: &str) {
        writeln!(self.text, "{name} = {value}").expect("a String takes everything");
    }

    fn check(self) {
        if env::var_os("SUPERNODE_BLESS").is_some() {
            fs::write(&self.path, &self.text).expect("the golden directory is writable");
        }
        let written = fs::read_to_string(&self.path)
            .unwrap_or_else(|error| panic!("{}: {error}: SUPERNODE_BLESS=1 writes it", self.path.display()));
        for (line, (have, want)) in self.text.lines().zip(written.lines()).enumerate() {
            assert_eq!(have, want, "{}:{}: code on the left, file on the right", self.path.display(), line + 1);
        }
        assert_eq!(self.text.len(), written.len(), "{}: one has lines the other has not", self.path.display());
    }
}
