"""A program: how long a daemon keeps a stream whose client's network is gone. Prints the seconds.

To be run in a network of its own (`unshare --user --map-root-user --net`), whose loopback it takes down: no FIN, no
RST, no packet. Arguments: `vanish_s` and `ping_s` of Limits.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import time

from tests.daemon.serving import serving

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def set_loopback(*, up: bool) -> None:
    """Take the network of this process up or down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        (flags,) = struct.unpack_from("16xh", fcntl.ioctl(sock, _GET_FLAGS, struct.pack("16s16x", b"lo")))
        flags = flags | _UP if up else flags & ~_UP
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags))


def main(vanish_s: float, ping_s: float) -> None:
    """Stream, vanish, wait."""
    set_loopback(up=True)
    with serving(vanish_s=vanish_s, ping_s=ping_s) as served:
        sock = served.begin("hang", stream=True)
        assert b"200 OK" in sock.recv(4096)
        began = time.monotonic()
        set_loopback(up=False)
        assert served.backend.closed.wait(90), "it is still there"
        print(time.monotonic() - began)
        assert not served.server.num_connections
        set_loopback(up=True)
        sock.close()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
