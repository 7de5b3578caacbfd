"""Reads the picture number of the workshop clip (tests/footage/barcode.json), and speaks WHIP and WHEP over HTTP.

Owns: what both clients of tests/tests/gateways.rs share. Each prints one JSON line for whatever happens.
Never: WebRTC; that is aiortc's and GStreamer's own.
"""

import json
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

LOCK = threading.Lock()


def say(**what):
    with LOCK:
        print(json.dumps(what), flush=True)


def number(grey, stride):
    """The number in the corner of a grey 1280x720 picture; None where the code does not check."""

    def cell(n):
        x, y = 16 + n % 10 * 16 + 4, 672 + n // 10 * 16 + 4
        return int(sum(sum(grey[(y + dy) * stride + x : (y + dy) * stride + x + 8]) for dy in range(8)) // 64 > 128)

    bits = [cell(n) for n in range(20)]
    crc = 0b1111
    for bit in bits[2:14]:
        crc = (crc << 1 & 0b1111) ^ ((crc >> 3) ^ bit) * 0b0011
    value = lambda some: int("".join(map(str, some)), 2)
    fits = bits[:2] == [1, 0] and bits[18:] == [0, 1] and value(bits[14:18]) == crc
    return value(bits[2:14]) if fits else None


def post(address, token, offer):
    """The answer and the address of what was made."""
    request = urllib.request.Request(address, offer.encode(), method="POST")
    request.add_header("Content-Type", "application/sdp")
    request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request) as reply:
            resource = urllib.parse.urljoin(address, reply.headers["Location"])
            say(status=reply.status, etag=reply.headers["ETag"], resource=resource)
            return reply.read().decode(), resource
    except urllib.error.HTTPError as e:
        say(status=e.code, error=e.read().decode())
        # Other threads would keep the program running.
        os._exit(1)


def delete(resource, token):
    request = urllib.request.Request(resource, method="DELETE")
    request.add_header("Authorization", "Bearer " + token)
    with urllib.request.urlopen(request) as reply:
        say(deleted=reply.status)


def until_told(stop):
    """Calls `stop` when the test closes our input or writes a line."""

    def wait():
        sys.stdin.readline()
        stop()

    threading.Thread(target=wait, daemon=True).start()
