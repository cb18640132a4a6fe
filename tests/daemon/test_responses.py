"""OpenAI's responses: golden files both ways, streams by the real client, what is kept and what runs on."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from localllm.daemon.context import Daemon
from localllm.daemon.errors import HttpError, Problem
from localllm.daemon.openai.database import Database
from localllm.daemon.openai.responses.store import ResponseStore, Stored
from localllm.daemon.run import ServeOptions
from tests.daemon.responses_cases import EVENTS, GOLDENS, answer_goldens, make_transcript, request_goldens
from tests.daemon.serving import Served, serving

OPTIONS = ServeOptions(host="127.0.0.1", port=0, default_model="tiny")


@pytest.mark.parametrize(("kind", "made"), [("requests", request_goldens), ("answers", answer_goldens)])
def test_translation_is_as_in_the_golden_files(kind: str, made: Any) -> None:
    wanted = json.loads((GOLDENS / f"responses_{kind}.json").read_text(encoding="utf-8"))
    found = made()
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert value == wanted[name], name


@pytest.mark.parametrize("name", EVENTS)
def test_events_are_in_order_and_add_up_to_the_response(name: str) -> None:
    """What the deltas say is what each done event and the response say; every part that began ends."""
    transcript = make_transcript(name)
    lines = [piece for event in EVENTS[name] for piece in transcript.take(event)]
    assert lines == transcript.log
    values = [json.loads(line.decode().split("data: ", 1)[1]) for line in lines]
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    kinds = [value["type"] for value in values]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert values[-1]["response"] == json.loads(json.dumps(transcript.response))
    said: dict[Any, str] = {}
    for value in values:
        if value["type"].endswith(".delta"):
            said[value["output_index"]] = said.get(value["output_index"], "") + value["delta"]
        if value["type"].endswith((".text.done", "_text.done")):
            assert value["text"] == said[value["output_index"]]
    for number, item in enumerate(transcript.response["output"]):
        parts = item.get("content") or item.get("summary") or [{"text": item.get("arguments")}]
        assert "".join(part["text"] for part in parts) == said.get(number, "")
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done")
    assert len(transcript.response["output"]) == kinds.count("response.output_item.done")


def test_a_failure_is_said_once_also_after_the_end() -> None:
    transcript = make_transcript("text")
    transcript.take(EVENTS["text"][2])
    first = transcript.fail(Problem(503, "engine_crashed", "it died"))
    assert first[-1].startswith(b"event: response.failed")
    assert transcript.fail(Problem(503, "engine_crashed", "it died")) == []
    assert transcript.response["output"][0]["status"] == "incomplete"


# --- over HTTP, by the real client ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def client(daemon: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_client_create_and_go_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="echo hello there", metadata={"a": "b"})
    assert first.output_text == "hello there"
    assert first.status == "completed"
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 4
    again = client.responses.create(
        model="tiny", input="messages", previous_response_id=first.id, instructions="Be brief."
    )
    assert again.output_text == "system=Be brief. | user=echo hello there | assistant=hello there | user=messages"
    items = client.responses.input_items.list(again.id, order="asc", limit=2)
    assert len(list(items)) == 3, "both pages"
    got = client.responses.retrieve(first.id)
    assert got.output_text == first.output_text
    assert got.metadata == {"a": "b"}
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="tiny", input="x", previous_response_id=again.id)


def test_client_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tiny", input="think a b") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "you said: think a b"
    assert [item.type for item in final.output] == ["reasoning", "message"]


def test_client_tools(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}}
    with client.responses.stream(model="tiny", input="call", tools=[tool]) as stream:
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"a": 1}


def test_client_structured_output(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}}
    answer = client.responses.create(model="tiny", input="request", text=form)
    assert "constraint=JsonSchema(schema={'type': 'object'})" in answer.output_text


def test_a_stored_stream_can_be_had_again(client: openai.OpenAI) -> None:
    whole = list(client.responses.create(model="tiny", input="echo a b c", stream=True))
    first = whole[0]
    assert first.type == "response.created"
    again = list(client.responses.retrieve(first.response.id, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in whole]
    rest = list(client.responses.retrieve(first.response.id, stream=True, starting_after=4))
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in whole[5:]]
    plain = client.responses.create(model="tiny", input="echo a")
    with pytest.raises(openai.BadRequestError):
        client.responses.retrieve(plain.id, stream=True)


def test_what_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    made = client.responses.create(model="tiny", input="echo a", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_background_response_is_cancelled(client: openai.OpenAI, daemon: Served) -> None:
    made = client.responses.create(model="tiny", input="hang", background=True)
    assert made.status in ("queued", "in_progress")
    assert client.responses.retrieve(made.id).status == "in_progress"
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="tiny", input="x", previous_response_id=made.id)
    daemon.backend.closed.clear()
    assert client.responses.cancel(made.id).status == "cancelled"
    assert daemon.backend.closed.wait(5)
    got = client.responses.retrieve(made.id)
    assert got.status == "cancelled"
    assert got.output_text == "waiting"
    assert client.responses.cancel(made.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(client.responses.create(model="tiny", input="echo a").id)


def test_a_background_stream_goes_on_without_its_client(client: openai.OpenAI) -> None:
    """A page that is reloaded asks for the rest of its answer."""
    stream = client.responses.create(model="tiny", input="slow", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if len(seen) == 8:
            break
    stream.close()
    created = seen[0]
    assert created.type == "response.created"
    rest = client.responses.retrieve(created.response.id, stream=True, starting_after=seen[-1].sequence_number)
    more = [next(iter(rest)) for _ in range(3)]
    assert [event.sequence_number for event in more] == [8, 9, 10]
    rest.close()
    assert client.responses.cancel(created.response.id).status == "cancelled"
    replayed = list(client.responses.retrieve(created.response.id, stream=True))
    assert [event.to_dict() for event in replayed[:8]] == [event.to_dict() for event in seen]


def test_a_client_that_hangs_up_ends_its_response(daemon: Served, client: openai.OpenAI) -> None:
    """F01: what is not in the background goes with its client; what it said by then is kept."""
    daemon.backend.closed.clear()
    stream = client.responses.create(model="tiny", input="hang", stream=True)
    created = next(iter(stream))
    assert created.type == "response.created"
    stream.close()
    assert daemon.backend.closed.wait(5)
    deadline = time.monotonic() + 5
    while client.responses.retrieve(created.response.id).status == "in_progress":
        assert time.monotonic() < deadline
    assert client.responses.retrieve(created.response.id).status == "cancelled"


def test_failures(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="tiny", input="fail")
    events = list(client.responses.create(model="tiny", input="interrupted", stream=True))
    failed = events[-1]
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert "died midway" in failed.response.error.message
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert client.responses.retrieve(failed.response.id).status == "failed"
    background = client.responses.create(model="tiny", input="fail", background=True)
    deadline = time.monotonic() + 5
    while (got := client.responses.retrieve(background.id)).status != "failed":
        assert time.monotonic() < deadline
    assert got.error is not None
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="tiny", input=[])


def test_references_to_items(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="echo hello")
    given: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "messages"}]
    assert client.responses.create(model="tiny", input=given).output_text == "assistant=hello | user=messages"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="tiny", input=[{"type": "item_reference", "id": "msg_no_0"}])


def test_input_tokens(client: openai.OpenAI) -> None:
    made = client.responses.create(model="tiny", input="echo a")
    counted = client.responses.input_tokens.count(model="tiny", input="hello", previous_response_id=made.id)
    assert counted.input_tokens == len("user: echo a\nassistant: a\nuser: hello\n")


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_responses_survive_the_daemon_and_only_their_owner_sees_them(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("me = 0123456789abcdef0123\nyou = 0123456789abcdef4567\n")
    keys.chmod(0o600)
    options = msgspec.structs.replace(OPTIONS, key_file=keys, state_dir=tmp_path / "state")
    mine, yours = {"x_api_key": "0123456789abcdef0123"}, {"x_api_key": "0123456789abcdef4567"}
    with serving(None, options) as served:
        made = served.ask("POST", "/v1/responses", {"model": "tiny", "input": "echo a"}, **mine).json
        left = served.ask("POST", "/v1/responses", {"model": "tiny", "input": "hang", "background": True}, **mine).json
        assert served.ask("GET", f"/v1/responses/{left['id']}", **yours).status == 404
    with serving(None, options) as served:
        path = f"/v1/responses/{made['id']}"
        assert served.ask("GET", path, **mine).json["output"] == made["output"]
        assert served.ask("GET", path, **yours).status == 404
        assert served.ask("DELETE", path, **yours).status == 404
        ended = served.ask("GET", f"/v1/responses/{left['id']}", **mine).json
        assert ended["status"] == "failed"
        assert ended["error"]["type"] == "shutting_down"
    if os.name == "posix":
        for file in (tmp_path / "state").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def stored(number: int, status: str = "completed", text: str = "") -> Stored:
    response = {"id": f"resp_{number}", "status": status, "output": [], "text": text}
    return Stored(f"resp_{number}", "", time.time() + number, None, response, [])


@pytest.fixture
def database(tmp_path: Path) -> Database:
    from localllm.api import LoadOptions
    from localllm.config import Settings
    from tests.cli.fake_backend import FakeBackend

    return Database(Daemon(FakeBackend(Settings(), LoadOptions()), default_model="tiny", state_dir=tmp_path))


async def ids_in(database: Database) -> set[str]:
    return {row[0] for row in await database.run(lambda db: db.execute("SELECT id FROM responses").fetchall())}


def test_the_oldest_make_room(database: Database) -> None:
    async def main() -> None:
        store = ResponseStore(database, max_responses=10, max_bytes=20_000)
        for number in range(25):
            await store.put(stored(number))
        kept = await ids_in(database)
        assert len(kept) <= 10
        assert "resp_24" in kept
        assert "resp_0" not in kept
        await store.put(stored(30, text="x" * 15_000))
        await store.put(stored(31, text="x" * 15_000))
        assert "resp_31" in await ids_in(database)
        assert "resp_30" not in await ids_in(database)
        await database.close()

    run(main())


def test_what_was_under_way_when_a_daemon_was_killed_has_failed(database: Database) -> None:
    async def main() -> None:
        await ResponseStore(database).put(stored(1, "in_progress"))
        got = await ResponseStore(database).get("resp_1", "")
        assert got.response["status"] == "failed"
        with pytest.raises(HttpError):
            await ResponseStore(database).get("resp_2", "")
        await database.close()

    run(main())


def test_a_file_that_is_no_database_is_a_named_error(database: Database) -> None:
    from localllm.errors import StoreError

    database.path.write_bytes(b"nonsense" * 1000)

    async def main() -> None:
        with pytest.raises(StoreError, match="cannot be used"):
            await ResponseStore(database).get("resp_1", "")
        await database.close()

    run(main())


def run(main: Any) -> None:
    import asyncio

    asyncio.run(main)
