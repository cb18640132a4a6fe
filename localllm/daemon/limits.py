"""Every number that keeps one client from hurting another, in one place. Values only."""

from __future__ import annotations

import msgspec

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """Bounds of connections, requests and streams. Times in seconds from what their name says; sizes in bytes.

    A request's head must arrive within `header_s`. Its body may pause for `body_idle_s` and take `body_s` in all.
    All bodies being read at once take `all_bodies_bytes` at most. `pending_bytes` is what one stream may hold for a
    client that reads slowly; one that reads nothing for `stall_s` is dropped, one whose machine acknowledges nothing of
    what was sent for `vanish_s` is gone. `linger_s`: how long a refused client may go on sending, so that it gets to
    read why. `drain_s`: how long running answers may go on after SIGTERM. While others take all the time, one line of a
    batch is answered after every `batch_floor_s` without one.
    """

    header_s: float = 10.0
    body_idle_s: float = 30.0
    body_s: float = 120.0
    keep_alive_s: float = 15.0
    ping_s: float = 15.0
    stall_s: float = 60.0
    vanish_s: float = 25.0
    linger_s: float = 2.0
    drain_s: float = 30.0
    batch_floor_s: float = 15.0
    request_s: float = 1800.0
    header_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    num_headers: int = 100
    body_bytes: int = 32 * MIB
    all_bodies_bytes: int = 128 * MIB
    pending_bytes: int = 192 * 1024
    num_connections: int = 2048
    num_requests: int = 128
    num_requests_per_key: int = 32
    num_bad_keys: int = 20
