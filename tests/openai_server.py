"""A small OpenAI-compatible server with known delays, over real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Behaviour:
    """How it answers. Times in seconds; a prompt of over `long_words` words holds all streams up for `stall_s`.

    `answers` are the texts of schema-bound answers, in the order of the requests. Of the chats, those whose number
    (from 0) is in `refused` get HTTP 500, in `cut` half a stream, in `endless` a stream that stands still.
    """

    first_s: float = 0.05
    gap_s: float = 0.01
    long_words: int = 1500
    stall_s: float = 0.0
    answers: tuple[str, ...] = ()
    refused: frozenset[int] = frozenset()
    cut: frozenset[int] = frozenset()
    endless: frozenset[int] = frozenset()
    refuses_ignore_eos: bool = False
    takes_tools: bool = False


@dataclass
class FakeServer:
    """The running server: its address, and the bodies of all chats it got."""

    url: str
    chats: list[Json] = field(default_factory=list)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[FakeServer]:
    """Run a server until the end of the block."""
    started: list[FakeServer] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        handler = _Handler(behaviour)
        server = await asyncio.start_server(handler.connection, "127.0.0.1", 0)
        handler.fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.append(handler.fake)
        ready.set()
        await stop.wait()
        server.close()
        await handler.end()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait(10)
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


class _Handler:
    def __init__(self, behaviour: Behaviour) -> None:
        self.fake = FakeServer("")
        self._behaviour = behaviour
        self._free = asyncio.Event()
        self._free.set()
        self._num_bound = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0
            )
            body = await reader.readexactly(length)
            if "/models" in head.split()[1]:
                self._send(writer, 200, {"data": [{"id": "fake"}]})
            else:
                await self._chat(writer, json.loads(body))
            await writer.drain()
        writer.close()
        self._connections.discard(task)

    async def end(self) -> None:
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _send(self, writer: asyncio.StreamWriter, status: int, value: Json) -> None:
        data = json.dumps(value).encode()
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    async def _chat(self, writer: asyncio.StreamWriter, body: Json) -> None:
        how, number = self._behaviour, len(self.fake.chats)
        self.fake.chats.append(body)
        if number in how.refused or (how.refuses_ignore_eos and "ignore_eos" in body):
            self._send(writer, 500 if number in how.refused else 400, {"error": {"message": "no"}})
            return
        num_words = sum(len(str(message["content"]).split()) for message in body["messages"])
        num_words += 200 * len(body.get("tools", ())) * how.takes_tools
        pieces = ["word "] * body["max_tokens"]
        if "response_format" in body:
            answer = how.answers[self._num_bound % len(how.answers)]
            self._num_bound += 1
            pieces = [answer[at : at + 4] for at in range(0, len(answer), 4)]
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        _event(writer, {"choices": [{"delta": {"role": "assistant", "content": None}}]})
        await asyncio.sleep(how.first_s)
        if num_words > how.long_words:
            self._free.clear()
            await asyncio.sleep(how.stall_s)
            self._free.set()
        for at, piece in enumerate(pieces):
            await self._free.wait()
            _event(writer, {"choices": [{"delta": {"content": piece}}]})
            await writer.drain()
            if number in how.cut and at == len(pieces) // 2:
                return
            if number in how.endless:
                await asyncio.Event().wait()
            if at < len(pieces) - 1:
                await asyncio.sleep(how.gap_s)
        _event(writer, {"choices": [{"delta": {}, "finish_reason": "length"}]})
        _event(writer, {"choices": [], "usage": {"prompt_tokens": num_words, "completion_tokens": len(pieces)}})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")


def _event(writer: asyncio.StreamWriter, value: Json) -> None:
    _chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
