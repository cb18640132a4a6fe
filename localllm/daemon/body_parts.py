"""How many parts a JSON body has, told without decoding it. Pure.

Decoding takes everybody's time, as one thread serves all, and an empty list takes 30 times its bytes in memory. So what
has more parts than anybody means is refused at the first of them that is too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from localllm.errors import InvalidRequestError

MAX_CONTAINERS, MAX_STRINGS, MAX_VALUES = 100_000, 200_000, 1_000_000
_SMALL_BYTES = 256 * 1024
_PIECE_BYTES = 1 << 20
# A string without escapes; also one that does not end here.
_STRING = re.compile(rb'"[^"]*+"?')

# Objects and lists, strings, commas.
Counts = tuple[int, int, int]


def check_parts(body: bytes) -> None:
    """Raise InvalidRequestError for JSON of too many objects, lists, strings or values."""
    if len(body) <= _SMALL_BYTES or _excess(_at_most(body)) is None:
        return
    # Long texts have commas and brackets, too: now those in strings are told apart.
    excess = _excess(_exactly(body))
    if excess is not None:
        raise InvalidRequestError(f"the JSON has more than {excess}")


def _excess(pieces: Iterable[Counts]) -> str | None:
    """Of what there is too much, as soon as there is."""
    containers = strings = commas = 0
    for piece in pieces:
        containers, strings, commas = containers + piece[0], strings + piece[1], commas + piece[2]
        if containers > MAX_CONTAINERS:
            return f"{MAX_CONTAINERS} objects and lists"
        if strings > MAX_STRINGS:
            return f"{MAX_STRINGS} strings"
        if commas > MAX_VALUES:
            return f"{MAX_VALUES} values"
    return None


def _at_most(body: bytes) -> Iterator[Counts]:
    """Bounds that are quickly had: what stands in strings is counted, too, and each string as one or two."""
    for start in range(0, len(body), _PIECE_BYTES):
        piece = body[start : start + _PIECE_BYTES]
        num_strings = piece.count(b'"') - piece.count(b'\\"')
        yield piece.count(b"{") + piece.count(b"["), num_strings, piece.count(b",")


def _exactly(body: bytes) -> Iterator[Counts]:
    start, in_string = 0, False
    while start < len(body):
        end = start + _PIECE_BYTES
        piece = body[start:end]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            # What is escaped belongs to the same piece.
            end += 1
            piece = body[start:end]
        start = end
        piece = b'"' * in_string + piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        is_open = piece.count(b'"') % 2 == 1
        plain, num_strings = _STRING.subn(b"", piece)
        yield plain.count(b"{") + plain.count(b"["), num_strings - in_string, plain.count(b",")
        in_string = is_open
