#!/usr/bin/env python3
"""A page's way in by an HTTP/3 stack that shares nothing with the relay's (aioquic), as docs/PROTOCOL.md says (2.2 and 3).

Takes where the relay is (HOST:PORT) and its pin in base64; prints what became of each attempt, as JSON.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import struct
import sys
import time

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection, FrameType, encode_frame
from aioquic.h3.events import HeadersReceived, WebTransportStreamDataReceived, DatagramReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WAIT_S = 10


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def count(number, value):
    return varint(number << 3) + varint(value)


def frame(message):
    return varint(len(message)) + message


def fields(message):
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key, value = number(), None
        value = number()
        if key & 7 == 2:
            found[key >> 3] = message[at:at + value]
            at += value
        else:
            found[key >> 3] = value
    return found


def first_frame(come):
    length = shift = 0
    for at, byte in enumerate(come):
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            whole = come[at + 1:at + 1 + length]
            return fields(whole) if len(whole) == length else None
    return None


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Page(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.status, self.streams, self.closed, self.request_end = None, {}, None, b""
        self.control = None
        self.changed = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
        # aioquic takes what comes on a stream that the client has opened for HTTP's frames.
        if isinstance(event, StreamDataReceived) and event.stream_id == self.control:
            self.streams.setdefault(event.stream_id, bytearray()).extend(event.data)
            return self.changed.set()
        for happened in self.http.handle_event(event):
            if isinstance(happened, HeadersReceived):
                self.status = int(dict(happened.headers)[b":status"])
            elif isinstance(happened, WebTransportStreamDataReceived):
                self.streams.setdefault(happened.stream_id, bytearray()).extend(happened.data)
            elif hasattr(happened, "data") and not isinstance(happened, DatagramReceived):
                self.request_end += happened.data
        self.changed.set()

    async def until(self, is_so):
        async def wait():
            while not is_so():
                self.changed.clear()
                await self.changed.wait()
        await asyncio.wait_for(wait(), WAIT_S)

    def ask(self, host, **changed):
        headers = {":method": "CONNECT", ":scheme": "https", ":authority": host, ":path": "/supernode/1",
                   ":protocol": "webtransport"}
        headers.update({":" + name: value for name, value in changed.items()})
        stream = self._quic.get_next_available_stream_id()
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in headers.items() if value])
        self.transmit()
        return stream

    async def challenge(self):
        def found():
            messages = [first_frame(bytes(come)) for come in self.streams.values()]
            return next((fields(message[60]) for message in messages if message and 60 in message), None)
        await self.until(found)
        return found()


def dial(host):
    name, port = host.rsplit(":", 1)
    # A browser demands a certificate by its hash; here only what comes after the handshake is of interest.
    config = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE,
                               max_datagram_frame_size=65536)
    return connect(name, int(port), configuration=config, create_protocol=Page)


def hello(nonce, pin, spoil=False):
    identity, device = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    who, which = identity.public_key().public_bytes_raw(), device.public_key().public_bytes_raw()
    until = struct.pack(">Q", int(time.time()) + 3600)
    certified = identity.sign(b"supernode/1 delegation\0" + who + which + until)
    body = count(1, 1) + count(2, 1) + field(3, b"\x01" + who + which + until + certified)
    binding = sha256(b"supernode/1 nonce\0", nonce, b"\x01", pin)
    domain = b"supernode/1 hello\0" if spoil else b"supernode/1 hello, by nonce\0"
    return frame(field(2, field(1, body) + field(2, device.sign(domain + pin + binding + sha256(body)))))


async def come_in(host, pin, spoil=False):
    async with dial(host) as page:
        session = page.ask(host)
        await page.until(lambda: page.status is not None)
        challenge = await page.challenge()
        if challenge[2] != pin:
            return "another relay's pin"
        control = page.control = page.http.create_webtransport_stream(session)
        page._quic.send_stream_data(control, hello(challenge[1], pin, spoil))
        page.transmit()
        await page.until(lambda: first_frame(bytes(page.streams.get(control, b""))) or page.request_end)
        if page.request_end:
            kind, length, code = page.request_end[:2], page.request_end[2], page.request_end[3:7]
            return {"capsule": kind.hex(), "length": length, "code": int.from_bytes(code, "big")}
        welcome = fields(first_frame(bytes(page.streams[control]))[2])
        return {"version": welcome[1]}


async def refused(host, **changed):
    async with dial(host) as page:
        page.ask(host, **changed)
        await page.until(lambda: page.status is not None)
        return page.status


async def before_there_is_one(host):
    """A stream of a session that nobody has asked for."""
    async with dial(host) as page:
        page._quic.get_next_available_stream_id()
        page._quic.send_stream_data(4, b"\x40\x41\x00")
        page.transmit()
        await page.until(lambda: page.closed is not None)
        return page.closed


async def too_long(host):
    async with dial(host) as page:
        page._quic.send_stream_data(0, encode_frame(FrameType.HEADERS, bytes(12000)))
        page.transmit()
        await page.until(lambda: page.status is not None or page.closed is not None)
        return page.status or page.closed


async def main():
    host, pin = sys.argv[1], base64.b64decode(sys.argv[2])
    print(json.dumps({
        "in": await come_in(host, pin),
        "signed_for_an_exporter": await come_in(host, pin, spoil=True),
        "another_path": await refused(host, path="/supernode/2"),
        "another_method": await refused(host, method="POST"),
        "another_protocol": await refused(host, protocol="websocket"),
        "no_protocol": await refused(host, protocol=None),
        "before_there_is_one": await before_there_is_one(host),
        "too_long": await too_long(host),
    }))


asyncio.run(main())
