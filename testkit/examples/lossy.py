"""A path that loses packets and takes its time, for kernels without netem. In a network namespace of its own (unshare -n), as
root: what is sent to 10.9.0.2 comes back as if 10.9.0.2 had sent it to 10.9.0.1, so who listens at 10.9.0.1 is reached by
10.9.0.2, UDP and TCP alike. Runs the command behind --, and ends with it."""

import argparse
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", type=float, default=1, help="of all packets, each way, per cent")
    parser.add_argument("--delay-ms", type=float, default=20, help="of each packet, each way")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"lossy", IFF_TUN | IFF_NO_PI))
    for command in ["link set lo up", "addr add 10.9.0.1/24 dev lossy", "link set lossy up mtu 1500 txqueuelen 5000"]:
        subprocess.run(["ip", *command.split()], check=True)
    child = subprocess.Popen(arguments.command)
    waiting, number, passed, lost = [], 0, 0, 0
    dice = random.Random(1)
    while child.poll() is None:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            try:
                os.write(tun, heapq.heappop(waiting)[2])
            except BlockingIOError:
                lost += 1
        patience = min(0.2, waiting[0][0] - now) if waiting else 0.2
        if not select.select([tun], [], [], max(0, patience))[0]:
            continue
        for _ in range(64):
            try:
                packet = bytearray(os.read(tun, 65536))
            except BlockingIOError:
                break
            if packet[0] >> 4 != 4:
                continue
            passed += 1
            if dice.random() * 100 < arguments.loss:
                lost += 1
                continue
            # Exchanged, the two leave every checksum as it was.
            packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
            number += 1
            heapq.heappush(waiting, (time.monotonic() + arguments.delay_ms / 1000, number, bytes(packet)))
    print(f"{passed} packets, {lost} lost", file=sys.stderr)
    sys.exit(child.returncode)


main()
