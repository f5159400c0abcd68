"""A client on aioquic: gets in honestly, then plays what is wrong at the level of QUIC, of TLS and of our own messages.

What aioquic would never send is put into its packets where they are sealed, so everything else about them is right.
The last line printed is a report as supernode-hostile reads it.
"""

import base64
import json
import os
import socket
import struct
import sys
import time
from urllib.parse import parse_qs, urlparse

from aioquic.buffer import BufferWriteError, encode_uint_var
from aioquic.quic import connection as quic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived
from aioquic.quic.packet import QuicProtocolVersion
from aioquic import tls
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALPN = "supernode/1"
PATIENCE_S = 2.0
# How long a relay has to say what it thinks of something wrong.
REACTION_S = 0.15
EXPORTER_LABEL = b"EXPORTER-supernode-1-session"

# ---- TLS exporter (RFC 8446 section 7.5), which aioquic lacks: its secret is derived when the one of application data is.

derive = tls.KeySchedule.derive_secret


def derive_both(schedule, label):
    if label == b"c ap traffic":
        schedule.exporter_secret = derive(schedule, b"exp master")
    return derive(schedule, label)


tls.KeySchedule.derive_secret = derive_both


def exporter(schedule):
    algorithm = schedule.algorithm

    def empty():
        return hashes.Hash(algorithm).finalize()

    size = algorithm.digest_size
    derived = tls.hkdf_expand_label(algorithm, schedule.exporter_secret, EXPORTER_LABEL, empty(), size)
    return tls.hkdf_expand_label(algorithm, derived, b"exporter", empty(), 32)


# ---- protobuf and what our messages sign


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def framed(message):
    return varint(len(message)) + message


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sha256(data):
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


class Person:
    def __init__(self):
        self.identity = Ed25519PrivateKey.generate()
        self.device = Ed25519PrivateKey.generate()

    def hello(self, door, exported, **wrong):
        not_after = struct.pack(">Q", int(time.time()) + 3600)
        names = public(self.identity) + public(self.device)
        signed = self.identity.sign(b"supernode/1 delegation\0" + names + not_after)
        delegation = wrong.get("delegation", b"\x01" + names + not_after + signed)
        token = wrong.get("token", door.token)
        version = wrong.get("version", 1)
        body = field(1, version) + field(2, version) + field(3, delegation) + field(4, token)
        body = wrong.get("body", body)
        signed = self.device.sign(b"supernode/1 hello\0" + door.pin + exported + sha256(body))
        signature = wrong.get("signature", signed)
        return framed(field(2, field(1, body) + field(2, signature)))


class Door:
    def __init__(self, link):
        parts = urlparse(link)
        query = parse_qs(parts.query)
        pin = query["pin"][0]
        self.pin = base64.urlsafe_b64decode(pin + "=" * (-len(pin) % 4))
        self.token = query.get("token", [""])[0].encode()
        self.address = (parts.hostname, parts.port)


# ---- a connection


class Quic(quic.QuicConnection):
    """aioquic's, whose transport parameters somebody may have changed."""

    change_parameters = None

    def _serialize_transport_parameters(self):
        right = super()._serialize_transport_parameters()
        return self.change_parameters(right) if self.change_parameters else right


class Client:
    def __init__(self, door, network=1, alpn=ALPN, versions=None, parameters=None):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn] if alpn else None)
        configuration.verify_mode = 0
        configuration.max_datagram_frame_size = 65535
        if versions:
            configuration.supported_versions = versions
            configuration.original_version = versions[0]
        self.quic = Quic(configuration=configuration)
        self.quic.change_parameters = parameters
        self.address = door.address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((f"127.5.0.{network}", 0))
        self.socket.setblocking(False)
        self.inject = b""
        self.received = b""
        self.ended = None
        self.quic.connect(door.address, now=time.monotonic())
        self.hook(tls.Epoch.ONE_RTT)

    def hook(self, epoch):
        pair = self.quic._cryptos[epoch]
        right = pair.encrypt_packet

        def encrypt(header, payload, number):
            extra, self.inject = self.inject, b""
            return right(header, payload + extra, number)

        pair.encrypt_packet = encrypt

    def turn(self):
        """Sends and receives what there is."""
        now = time.monotonic()
        timer = self.quic.get_timer()
        if timer is not None and timer <= now:
            self.quic.handle_timer(now)
        for data, _ in self.quic.datagrams_to_send(now):
            self.socket.sendto(data, self.address)
        try:
            while True:
                self.quic.receive_datagram(self.socket.recv(65536), self.address, time.monotonic())
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            self.ended = "the port is closed"
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived) and event.stream_id == 0:
                self.received += event.data
            if isinstance(event, ConnectionTerminated):
                self.ended = f"{event.error_code:#x} {event.reason_phrase}"

    def until(self, so, patience=PATIENCE_S):
        end = time.monotonic() + patience
        while not so() and self.ended is None and time.monotonic() < end:
            self.turn()
            time.sleep(0.001)
        return so()

    def handshake(self):
        return self.until(lambda: self.quic._handshake_confirmed or self.quic._handshake_complete)

    def exporter(self):
        return exporter(self.quic.tls.key_schedule)

    def say(self, data):
        self.quic.send_stream_data(0, data)

    def enter(self, door, **wrong):
        """Says Hello; whether a Welcome came: a message whose first field is of that number."""
        self.say(Person().hello(door, self.exporter(), **wrong))
        return self.until(lambda: self.welcome())

    def welcome(self):
        body = self.received[1:] if self.received[:1] < b"\x80" else self.received[2:]
        return body[:1] == b"\x12"

    def frames(self, raw):
        """Puts frames behind those of the next packet."""
        self.inject = raw
        self.quic.send_ping(0)
        try:
            self.until(lambda: False, REACTION_S)
        except BufferWriteError:
            pass

    def close(self):
        if self.ended is None:
            self.quic.close()
            self.turn()
        self.socket.close()


def admitted(door):
    """Whether somebody honest gets in."""
    client = Client(door, network=200)
    try:
        return client.handshake() and client.enter(door)
    finally:
        client.close()


# ---- what is wrong

V = encode_uint_var
BIG = V(2**62 - 1)


def crypto(offset, data):
    return V(6) + V(offset) + V(len(data)) + data


FRAMES = {
    "a frame of no known type": V(0x21),
    "a known type in more bytes than it needs": b"\x40\x01",
    "a stream of the relay's that it has not opened": V(0x0A) + V(1) + V(1) + b"x",
    "a stream far above the limit": V(0x0A) + V(4 * 100_000) + V(1) + b"x",
    "stream bytes at the end of all numbers": V(0x0E) + V(0) + BIG + V(1) + b"x",
    "a stream that ends where it has already gone on": V(0x0F) + V(2) + V(10) + V(0) + V(0x0F) + V(2) + V(5) + V(0),
    "a reset of the relay's own stream": V(4) + V(3) + V(0) + V(0),
    "a reset that is longer than the window": V(4) + V(2) + V(0) + BIG,
    "a stop of a stream that only we send on": V(5) + V(3) + V(0),
    "more streams than there are numbers": V(0x12) + V(2**60 + 1),
    "a window for a stream that is not there": V(0x11) + V(3) + V(9),
    "a connection ID that retires more than there is": V(0x18) + V(5) + V(6) + b"\x08" + b"i" * 8 + b"t" * 16,
    "a connection ID of no bytes": V(0x18) + V(5) + V(0) + b"\x00" + b"t" * 16,
    "a connection ID of 21 bytes": V(0x18) + V(5) + V(0) + b"\x15" + b"i" * 21 + b"t" * 16,
    "one connection ID under two numbers": b"".join(
        V(0x18) + V(n) + V(0) + b"\x08" + b"i" * 8 + b"t" * 16 for n in (5, 6)
    ),
    "thirty connection IDs": b"".join(
        V(0x18) + V(n) + V(0) + b"\x08" + bytes([n] * 8) + bytes([n] * 16) for n in range(5, 35)
    ),
    "a connection ID given back that was never given": V(0x19) + V(1000),
    "an answer to no challenge": V(0x1B) + b"12345678",
    "a hundred challenges": (V(0x1A) + b"12345678") * 100,
    "the relay's own frame: handshake done": V(0x1E),
    "the relay's own frame: a token": V(7) + V(4) + b"abcd",
    "TLS's key update": crypto(0, b"\x18\x00\x00\x01\x00"),
    "TLS's junk": crypto(0, b"\xff" * 60),
    "TLS far ahead": crypto(100_000, b"x"),
    "TLS at the end of all numbers": crypto(2**62 - 1, b"x"),
    "an acknowledgement of what was never sent": V(2) + V(2**30) + V(0) + V(0) + V(0),
    "an acknowledgement below zero": V(2) + V(1) + V(0) + V(0) + V(5),
    "an acknowledgement of ranges that it lacks": V(2) + V(0) + V(0) + V(1000) + V(0),
    "a datagram of nothing": V(0x31) + V(0),
    "a datagram of our header, cut": V(0x31) + V(1) + b"\xc0",
    "a frame that is cut": V(0x0E) + b"\xc0",
    "a length beyond the packet": V(0x31) + V(9000),
    "an end that gives no reason": V(0x1C) + V(0) + V(0) + V(0),
    "an end whose reason is cut": V(0x1D) + V(0) + V(900),
    "blocked at the end of all numbers": V(0x14) + BIG + V(0x15) + V(0) + BIG + V(0x16) + V(2**60 + 1),
}


def parameter(number, value):
    return lambda right: right + V(number) + V(len(value)) + value


PARAMETERS = {
    "twice the same": parameter(1, V(1000)),
    "no known number": parameter(27 + 31 * 7, b"grease"),
    "a delay exponent of 21": parameter(0x0A, V(21)),
    "packets of 1,000 bytes": parameter(3, V(1000)),
    "one connection ID only": parameter(0x0E, V(1)),
    "an address to prefer": parameter(0x0D, b"\0" * 45),
    "a reset token": parameter(2, b"t" * 16),
    "the relay's original ID": parameter(0, b"i" * 8),
    "a Retry's ID": parameter(0x10, b"i" * 8),
    "a length beyond the end": lambda right: right + V(0x2B) + V(5000),
    "none": lambda right: b"",
    "junk": lambda right: b"\xff" * 90,
    "four thousand of no known number": lambda right: right + b"".join(V(27 + 31 * n) + V(0) for n in range(1, 300)),
}

CONTROL = {
    "junk": b"\xff" * 200,
    "a length of four bytes that go on": b"\xff\xff\xff\xff\xff",
    "a message above the bound": varint(70_000) + b"x" * 3000,
    "an empty message": framed(b""),
    "no protobuf": framed(b"\x07\x07\x07"),
    "a group that never ends": framed(b"\x0b" * 50),
    "a request before Hello": framed(field(1, 1) + field(12, field(1, b"r" * 16))),
    "an empty Hello": framed(field(2, b"")),
}

HELLOS = {
    "another version": {"version": 9},
    "no delegation": {"delegation": b""},
    "a delegation of junk": {"delegation": b"\x01" * 137},
    "no token": {"token": b""},
    "a token of junk": {"token": b"ey.ey.ey"},
    "a token that is too long": {"token": b"a" * 3000},
    "a token that is no text": {"token": b"\xff\xfe"},
    "no signature": {"signature": b""},
    "a signature of zeros": {"signature": b"\0" * 64},
    "a body of junk": {"body": b"\xff" * 100},
}


def variants(door):
    """Each thing that is wrong, as what plays it: whether the relay took it well enough to go on is not judged here."""

    def with_frames(raw):
        client = Client(door)
        if client.handshake():
            client.frames(raw)
        return client

    def with_parameters(change):
        client = Client(door, parameters=change)
        client.handshake()
        return client

    def with_control(raw):
        client = Client(door)
        if client.handshake():
            client.say(raw)
            client.until(lambda: False, REACTION_S)
        return client

    def with_hello(wrong):
        client = Client(door)
        if client.handshake() and client.enter(door, **wrong):
            raise AssertionError(f"a Welcome for a Hello with {sorted(wrong)}")
        return client

    def replayed(_):
        """A Hello that was signed for another connection."""
        first, second = Client(door), Client(door)
        if first.handshake() and second.handshake():
            second.say(Person().hello(door, first.exporter()))
            if second.until(second.welcome, REACTION_S):
                raise AssertionError("a Welcome for another connection's Hello")
        first.close()
        return second

    def dialled(how):
        client = Client(door, **how)
        if client.until(lambda: client.quic._handshake_complete, 0.3):
            raise AssertionError(f"a handshake with {how}")
        return client

    for table, play in ((FRAMES, with_frames), (PARAMETERS, with_parameters), (CONTROL, with_control), (HELLOS, with_hello)):
        for name, wrong in table.items():
            yield name, play, wrong
    yield "another connection's Hello", replayed, None
    yield "another protocol", dialled, {"alpn": "h3"}
    yield "no protocol", dialled, {"alpn": None}
    yield "version 2", dialled, {"versions": [QuicProtocolVersion.VERSION_2]}


def play_variants(door, seconds):
    """Every variant once at least, and again until the time is over."""
    end = time.monotonic() + seconds
    found = {"admitted": float(admitted(door)), "played": 0.0, "ended_by_relay": 0.0, "wrong": 0.0}
    while time.monotonic() < end or found["played"] == 0:
        for name, play, wrong in variants(door):
            try:
                client = play(wrong)
                found["ended_by_relay"] += float(client.ended is not None)
                client.close()
            except AssertionError as error:
                print(f"{name}: {error}", file=sys.stderr)
                found["wrong"] += 1
            found["played"] += 1
    found["admitted_after"] = float(admitted(door))
    return found


def main():
    target = json.loads(os.environ["SUPERNODE_HOSTILE_TARGET"])
    found = play_variants(Door(target["link"]), target["seconds"])
    print(json.dumps({"count": int(found["played"]), "unit": "variants", "found": found}))


if __name__ == "__main__":
    main()
