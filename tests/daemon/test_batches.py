"""Files and batches: uploads however they are cut, batches by the real client, killed daemons, and who goes first."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from localllm.api import ChatRequest, Event, LoadOptions, Queued
from localllm.config import Settings
from localllm.daemon.openai.batches.multipart import Begin, Data, Multipart
from localllm.daemon.openai.batches.store import UNFINISHED
from localllm.daemon.run import ServeOptions
from localllm.errors import InvalidRequestError
from tests.daemon.program import program
from tests.daemon.serving import ScriptedBackend, Served, chat_body, serving

CHAT = "/v1/chat/completions"
OPTIONS = ServeOptions(host="127.0.0.1", port=0, default_model="tiny")


# --- forms ------------------------------------------------------------------------------------------------------------

FORM = (
    b"a preamble\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--xyz \r\nContent-Type: x/y\r\ncontent-disposition: form-data; name="file"; filename="a \\"b\\".jsonl"\r\n\r\n'
    b"line\r\n--xy\r\n--\r\n\r\n"
    b'\r\n--xyz\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n--xyz--\r\nan epilogue'
)


def parsed(data: bytes, size: int) -> list[Any]:
    form = Multipart('multipart/form-data; boundary="xyz"')
    found: list[Any] = []
    for start in range(0, len(data), size):
        for event in form.feed(data[start : start + size]):
            if isinstance(event, Data) and found and isinstance(found[-1], bytes):
                found[-1] += event.data
            else:
                found.append(event.data if isinstance(event, Data) else event)
    assert form.is_whole
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_form_is_the_same_however_it_is_cut(size: int) -> None:
    assert parsed(FORM, size) == [
        Begin("purpose", None),
        b"batch",
        Begin("file", 'a "b".jsonl'),
        b"line\r\n--xy\r\n--\r\n\r\n",
        Begin("empty", None),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        b"--xyz\r\nno name: x\r\n\r\nbody\r\n--xyz--",
        b"--xyzzy\r\n" + b'Content-Disposition: form-data; name="a"\r\n\r\n',
        b"--xyz\r\n" + b"a: b\r\n" * 4000 + b"\r\n",
        b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 40,
    ],
)
def test_broken_forms_are_refused(broken: bytes) -> None:
    form = Multipart("multipart/form-data; boundary=xyz")
    with pytest.raises(InvalidRequestError):
        form.feed(broken)


def test_what_is_no_form_is_refused() -> None:
    for kind in ("application/json", "multipart/form-data", "text/plain; boundary=x"):
        with pytest.raises(InvalidRequestError):
            Multipart(kind)


# --- by the real client -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def client(daemon: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def line(custom_id: str, words: str, **fields: Any) -> dict[str, Any]:
    given = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": chat_body(words)}
    return given | fields


def begin(client: openai.OpenAI, lines: list[Any], **fields: Any) -> Any:
    """Upload lines and begin a batch of them."""
    text = "\n".join(item if isinstance(item, str) else json.dumps(item) for item in lines)
    file = client.files.create(file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch")
    given: Any = {"endpoint": CHAT, "completion_window": "24h", **fields}
    return client.batches.create(input_file_id=file.id, **given).id


def finished(client: openai.OpenAI, batch_id: str, limit_s: float = 20) -> Any:
    deadline = time.monotonic() + limit_s
    while (batch := client.batches.retrieve(batch_id)).status in UNFINISHED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def test_client_files(client: openai.OpenAI) -> None:
    made = client.files.create(file=("x.jsonl", b"{}\n"), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (3, "x.jsonl", "batch", "processed")
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == b"{}\n"
    expiring: Any = {"anchor": "created_at", "seconds": 7200}
    other = client.files.create(file=("y.jsonl", b""), purpose="batch", expires_after=expiring)
    assert other.expires_at == other.created_at + 7200
    assert [file.id for file in client.files.list(purpose="batch", limit=1)][:2] == [other.id, made.id]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("x", b"x"), purpose="vision")
    assert refused.value.param == "purpose"
    assert len(list(client.files.list())) == 1, "what was refused is not kept"


def test_client_batch(client: openai.OpenAI) -> None:
    batch_id = begin(
        client,
        [
            line("a", "echo one"),
            line("b", "fail"),
            "",
            line("c", "echo two three"),
            line("d", "x", body={"messages": []}),
            line("e", "echo 4", body=chat_body("echo 4", stream=True)),
        ],
        metadata={"name": "test"},
    )
    batch = finished(client, batch_id, 30)
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 5, "completed": 3, "failed": 2}
    assert batch.metadata == {"name": "test"}
    answers = lines_of(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == ["a", "c", "e"]
    said = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert said == ["one", "two three", "4"]
    assert all(answer["response"]["status_code"] == 200 and answer["error"] is None for answer in answers)
    errors = lines_of(client, batch.error_file_id)
    assert [(error["custom_id"], error["response"]["status_code"]) for error in errors] == [("b", 503), ("d", 400)]
    assert errors[1]["response"]["body"]["error"]["param"] == "messages"
    assert batch.usage.output_tokens == 5
    assert batch_id in [found.id for found in client.batches.list()]


@pytest.mark.parametrize(
    ("endpoint", "body", "path"),
    [
        ("/v1/completions", {"model": "tiny", "prompt": ["echo a", "echo b"]}, ("choices", 1, "text")),
        ("/v1/embeddings", {"model": "tiny", "input": ["b"]}, ("data", 0, "embedding", 0)),
        ("/v1/responses", {"model": "tiny", "input": "echo b"}, ("output", 0, "content", 0, "text")),
    ],
)
def test_every_endpoint(client: openai.OpenAI, endpoint: str, body: Any, path: tuple[Any, ...]) -> None:
    batch = finished(client, begin(client, [line("a", "", url=endpoint, body=body)], endpoint=endpoint))
    (answer,) = lines_of(client, batch.output_file_id)
    found = answer["response"]["body"]
    for step in path:
        found = found[step]
    assert found in ("b", 1.0)


def test_a_broken_input_fails_with_its_lines(client: openai.OpenAI) -> None:
    lines = [line("a", "x"), line("a", "x"), "{no json", line("b", "x", method="GET"), line("c", "x", url="/v1/other")]
    batch = finished(client, begin(client, lines))
    assert batch.status == "failed"
    assert batch.output_file_id is None
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (2, "duplicate_custom_id"),
        (3, "invalid_json_line"),
        (4, "invalid_method"),
        (5, "mismatched_url"),
    ]
    assert finished(client, begin(client, [])).errors.data[0].code == "empty_file"


def test_what_is_no_batch_is_refused(client: openai.OpenAI) -> None:
    for wrong in ({"endpoint": "/v1/images"}, {"completion_window": "soon"}):
        with pytest.raises(openai.BadRequestError) as refused:
            begin(client, [line("a", "x")], **wrong)
        assert refused.value.param == next(iter(wrong))
    given: Any = {"endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-no", **given)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_no")


def test_a_batch_is_cancelled_and_keeps_what_it_has(client: openai.OpenAI) -> None:
    batch_id = begin(client, [line("a", "echo one"), *(line(f"h{i}", "hang") for i in range(20))])
    deadline = time.monotonic() + 10
    while client.batches.retrieve(batch_id).request_counts.completed < 1:  # type: ignore[union-attr]
        assert time.monotonic() < deadline
    input_id = client.batches.retrieve(batch_id).input_file_id
    with pytest.raises(openai.ConflictError):
        client.files.delete(input_id)
    assert client.batches.cancel(batch_id).status == "cancelling"
    batch = finished(client, batch_id, 5)
    assert batch.status == "cancelled"
    assert [answer["custom_id"] for answer in lines_of(client, batch.output_file_id)] == ["a"]
    assert client.files.delete(input_id).deleted
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch_id)


def test_interactive_work_goes_first(client: openai.OpenAI, daemon: Served) -> None:
    """No line begins while somebody waits for an answer; what is under way stays behind in the engine's queue."""
    daemon.backend.begun.clear()
    with daemon.begin("hang"):
        assert daemon.backend.begun.wait(10)
        daemon.backend.begun.clear()
        batch_id = begin(client, [line("a", "request")])
        deadline = time.monotonic() + 10
        while client.batches.retrieve(batch_id).status == "validating":
            assert time.monotonic() < deadline
        assert not daemon.backend.begun.wait(0.5)
        assert client.batches.retrieve(batch_id).request_counts.completed == 0  # type: ignore[union-attr]
    batch = finished(client, batch_id)
    (answer,) = lines_of(client, batch.output_file_id)
    said = answer["response"]["body"]["choices"][0]["message"]["content"]
    assert "priority=-50" in said
    assert "client='batch'" in said


class OneSlot(ScriptedBackend):
    """Answers one request at a time; others are told that they wait."""

    num_begun = 0

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        if not hasattr(self, "slot"):
            self.slot = asyncio.Lock()
        if self.slot.locked():
            yield Queued(1)
        async with self.slot:
            self.num_begun += 1
            async for event in super().chat(request):
                yield event


def test_a_line_that_another_waits_for_is_put_back() -> None:
    with (
        serving(OneSlot(Settings(), LoadOptions()), OPTIONS) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client,
    ):
        batch_id = begin(client, [line("a", "hang"), line("b", "hang")])
        assert served.backend.begun.wait(10)
        began = time.monotonic()
        assert served.chat("echo me first").json["choices"][0]["message"]["content"] == "me first"
        assert time.monotonic() - began < 3
        deadline = time.monotonic() + 10
        while served.backend.num_begun < 3:
            assert time.monotonic() < deadline, "the lines do not begin anew"
            time.sleep(0.02)
        client.batches.cancel(batch_id)
        assert finished(client, batch_id).status == "cancelled"


def test_others_who_never_pause_leave_a_batch_its_floor() -> None:
    """One line after another takes its turn, and whoever waits is not put behind the rest of the batch."""
    with (
        serving(OneSlot(Settings(), LoadOptions()), OPTIONS, batch_floor_s=0.2) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client,
        contextlib.ExitStack() as stack,
    ):
        over = threading.Event()
        longest = [0.0, 0.0]

        def keep_asking(who: int) -> None:
            while not over.is_set():
                began = time.monotonic()
                assert served.chat("slow 5").status == 200
                longest[who] = max(longest[who], time.monotonic() - began)

        askers = [threading.Thread(target=keep_asking, args=(who,)) for who in range(2)]
        for asker in askers:
            asker.start()
            stack.callback(asker.join)
        stack.callback(over.set)
        began = time.monotonic()
        batch_id = begin(client, [line("a", "request"), line("b", "request"), line("c", "request")])
        batch = finished(client, batch_id)
        assert time.monotonic() - began >= 0.6
        said = [each["response"]["body"]["choices"][0] for each in lines_of(client, batch.output_file_id)]
        assert len(said) == 3
        assert all("priority=0" in each["message"]["content"] for each in said)
        assert max(longest) < 1.5


# --- daemons that come and go -----------------------------------------------------------------------------------------


def test_a_batch_goes_on_in_the_next_daemon(tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, state_dir=tmp_path / "state")
    with serving(None, options) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        batch_id = begin(client, [line("a", "echo one"), line("b", "slow 100"), line("c", "slow 100")])
        deadline = time.monotonic() + 10
        while client.batches.retrieve(batch_id).request_counts.completed < 1:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
    with serving(None, options) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        batch = finished(client, batch_id)
        assert [answer["custom_id"] for answer in lines_of(client, batch.output_file_id)] == ["a", "b", "c"]


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_batch_survives_kill_9_and_has_no_line_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed several times while it runs."""
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    words = [f"slow {n % 7 * 3}" for n in range(40)]
    batch_id = ""
    seen = 0
    for round_number in range(4):
        with program() as daemon, openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none") as client:
            if not batch_id:
                batch_id = begin(client, [line(f"n{i}", said) for i, said in enumerate(words)])
            deadline = time.monotonic() + 20
            while round_number < 3:
                counts = client.batches.retrieve(batch_id).request_counts
                assert counts is not None
                assert counts.completed >= seen, "an answered line was lost"
                if counts.completed >= seen + 6:
                    seen = counts.completed
                    break
                assert time.monotonic() < deadline
            if round_number == 3:
                batch = finished(client, batch_id)
                answers = lines_of(client, batch.output_file_id)
            os.kill(daemon.process.pid, 9)
    assert batch.status == "completed"
    assert [answer["custom_id"] for answer in answers] == [f"n{i}" for i in range(40)]
    for answer, said in zip(answers, words, strict=True):
        text = answer["response"]["body"]["choices"][0]["message"]["content"]
        assert text.split() == [f"word{n}" for n in range(int(said.split()[1]))]


def test_lines_of_a_batch_whose_time_is_over_are_errors(tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, state_dir=tmp_path / "state")
    with serving(None, options) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        batch_id = begin(client, [line("a", "hang"), line("b", "hang")])
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "openai.db")) as db, db:
        db.execute("UPDATE batches SET batch = json_set(CAST(batch AS TEXT), '$.expires_at', 1)")
    with serving(None, options) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        batch = finished(client, batch_id)
        assert batch.status == "expired"
        errors = lines_of(client, batch.error_file_id)
        assert [error["error"]["code"] for error in errors] == ["batch_expired", "batch_expired"]
