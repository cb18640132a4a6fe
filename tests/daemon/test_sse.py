"""Streams: what one client does to its own, and never to another's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncIterator

import pytest

from localllm.api import (
    ChatRequest,
    ChoiceFinished,
    Event,
    Finished,
    LoadOptions,
    Notice,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from localllm.config import Settings
from localllm.daemon import fanout
from localllm.daemon.sse import merged
from tests.daemon.serving import ScriptedBackend, raw_chat, read_all, serving, torrent

DONE = Finished("stop", Usage(num_prompt_tokens=1, num_output_tokens=2))


def receive(sock: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        piece = sock.recv(65536)
        assert piece, data[-500:]
        data += piece
    return data


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_client_that_hangs_up_ends_its_request(reset: bool) -> None:
    """F01: within 50 ms of the next step, streamed or not."""
    for stream in (True, False):
        with serving() as served:
            sock = served.begin("hang", stream=stream)
            if stream:
                receive(sock, b"waiting")
            assert served.backend.begun.wait(5)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            began = time.monotonic()
            sock.close()
            assert served.backend.closed.wait(5)
            assert time.monotonic() - began < 0.25
            assert served.ask("GET", "/api/localllm/queue").json["num_active"] == 0


def test_bytes_sent_behind_the_request_do_not_hide_that_the_client_is_gone() -> None:
    with serving() as served:
        sock = served.connect()
        sock.sendall(raw_chat("hang", stream=True) + b"more" * 100)
        receive(sock, b"waiting")
        sock.sendall(b"and more")
        sock.close()
        assert served.backend.closed.wait(2)


def test_a_client_that_reads_nothing_holds_little_and_is_dropped() -> None:
    """F03: a bounded amount of text is taken for it, others are served meanwhile, and in the end it is cut."""
    with serving(torrent(1000), stall_s=1.0, pending_bytes=64 * 1024) as served:
        with served.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(raw_chat("torrent", stream=True))
            receive(sock, b"xxxx")
            assert served.chat("echo hi").status == 200
            assert served.backend.closed.wait(5)
        # Kernel and transport buffers, and what is pending: 1 kB of text an event.
        assert served.backend.num_taken < 700
        assert served.is_alive()


def test_a_client_that_reads_slowly_gets_larger_pieces_and_all_of_the_text() -> None:
    with serving() as served, served.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(raw_chat("long 20000", stream=True))
        data = b""
        while b"[DONE]" not in data:
            time.sleep(0.002)
            data += sock.recv(2048)
    texts = [
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in data.decode().splitlines()
        if line.startswith("data: {")
    ]
    assert "".join(texts) == "x" * 20000
    assert len(data) < 200_000, "20,000 chunks of one character would be 4 MB"


def test_an_error_before_the_first_event_has_its_status() -> None:
    with serving() as served:
        assert served.chat("fail", stream=True).status == 503
        assert served.chat("echo hi", stream=True, model="absent").status == 404
        assert served.chat("bug", stream=True).status == 500


def test_an_error_in_the_middle_is_one_event_without_done() -> None:
    with serving() as served:
        answer = served.chat("interrupted", stream=True)
        assert answer.status == 200
        events = [line for line in answer.body.decode().splitlines() if line]
        assert json.loads(events[-1][6:])["error"]["code"] == "engine_crashed"
        assert b"half an ans" in answer.body
        assert b"[DONE]" not in answer.body
        assert answer.body.count(b'"error"') == 1


def test_a_quiet_stream_shows_signs_of_life() -> None:
    with serving(ping_s=0.1) as served, served.begin("hang", stream=True) as sock:
        data = receive(sock, b": ping\n\n")
        assert b"waiting" in data


def test_a_slow_load_shows_signs_of_life_before_the_first_word() -> None:
    class Loading(ScriptedBackend):
        async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
            await asyncio.sleep(0.5)
            async for event in super().chat(request):
                yield event

    with (
        serving(Loading(Settings(), LoadOptions()), ping_s=0.1) as served,
        served.begin("echo hi", stream=True) as sock,
    ):
        data = receive(sock, b"[DONE]")
        assert data.index(b"200 OK") < data.index(b": ping") < data.index(b'"hi"')


def test_what_comes_in_one_step_is_one_chunk() -> None:
    with serving() as served:
        chunks = served.chat("echo a b c d", stream=True).body.decode().split("\n\n")
        assert sum('"content":"a b c d"' in chunk for chunk in chunks) == 1


def test_an_end_while_streams_run_is_told_to_each() -> None:
    with contextlib.ExitStack() as sockets:
        with serving(drain_s=0.2) as served:
            streamed = sockets.enter_context(served.begin("hang", stream=True))
            receive(streamed, b"waiting")
            served.backend.begun.clear()
            plain = sockets.enter_context(served.begin("hang"))
            assert served.backend.begun.wait(5)
        rest = read_all(streamed)
        assert b'"code":"shutting_down"' in rest
        assert b"[DONE]" not in rest
        assert b"503 Service Unavailable" in read_all(plain)


# --- merging ----------------------------------------------------------------------------------------------------------


def logprob(text: str) -> TokenLogprob:
    return TokenLogprob(1, text.encode(), -1.0)


def test_merged_keeps_every_choice_its_order_and_kinds() -> None:
    events: list[Event] = [
        Notice("k", "m"),
        TextDelta("a", (logprob("a"),)),
        TextDelta("1", index=1),
        TextDelta("b", (logprob("b"),)),
        ReasoningDelta("r"),
        TextDelta("2", index=1),
        TextDelta("c"),
        ChoiceFinished(1, "stop"),
        DONE,
    ]
    assert merged(events) == [
        Notice("k", "m"),
        TextDelta("ab", (logprob("a"), logprob("b"))),
        TextDelta("12", index=1),
        ReasoningDelta("r"),
        TextDelta("c"),
        ChoiceFinished(1, "stop"),
        DONE,
    ]


def test_merged_loses_nothing_whatever_comes() -> None:
    chance = random.Random(7)
    for _ in range(300):
        kinds = (TextDelta, ReasoningDelta)
        events: list[Event] = [
            chance.choice(kinds)(chance.choice("abc"), index=chance.randrange(3))
            for _ in range(chance.randrange(1, 30))
        ]
        short = merged(list(events))
        for index in range(3):
            assert spoken(short, index) == spoken(events, index)
        assert merged(short) == short


def spoken(events: list[Event], index: int) -> list[tuple[str, str]]:
    """What choice `index` said, character by character."""
    return [
        (type(event).__name__, char)
        for event in events
        if isinstance(event, TextDelta | ReasoningDelta) and event.index == index
        for char in event.text
    ]


# --- several requests as one ------------------------------------------------------------------------------------------


async def stream(*events: Event, closed: list[str] | None = None, forever: bool = False) -> AsyncIterator[Event]:
    try:
        for event in events:
            await asyncio.sleep(0)
            yield event
        if forever:
            await asyncio.Event().wait()
    finally:
        if closed is not None:
            closed.append("closed")


def test_together_numbers_choices_and_adds_up() -> None:
    async def main() -> list[Event]:
        streams = [stream(TextDelta("a"), DONE), stream(TextDelta("b"), DONE)]
        return [event async for event in fanout.together(streams, 1)]

    events = asyncio.run(main())
    assert {(event.index, event.text) for event in events if isinstance(event, TextDelta)} == {(0, "a"), (1, "b")}
    assert {event.index for event in events if isinstance(event, ChoiceFinished)} == {0, 1}
    assert events[-1] == Finished("stop", Usage(num_prompt_tokens=2, num_output_tokens=4))
    assert sum(isinstance(event, Finished) for event in events) == 1


def test_together_ends_all_when_one_fails_or_the_reader_leaves() -> None:
    async def failing() -> AsyncIterator[Event]:
        yield TextDelta("a")
        raise ValueError("broken")

    async def main() -> tuple[list[str], list[str]]:
        failed: list[str] = []
        with pytest.raises(ValueError, match="broken"):
            async for _ in fanout.together([failing(), stream(TextDelta("b"), closed=failed, forever=True)], 1):
                pass
        left: list[str] = []
        events = fanout.together([stream(TextDelta("b"), closed=left, forever=True) for _ in range(2)], 1)
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
        return failed, left

    failed, left = asyncio.run(main())
    assert failed == ["closed"]
    assert len(left) >= 1
