"""The daemon over the real Service, a real child and real weights, asked by the real client and by raw sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from localllm.client import Client
from tests.daemon.program import REAL, Program, program
from tests.daemon.serving import raw_chat, read_all

pytestmark = pytest.mark.weights

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "size"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model under a name that ends in .gguf."""
    path = tmp_path_factory.mktemp("model") / "smol.gguf"
    try:
        os.link(smollm2_path, path)
    except OSError:
        shutil.copyfile(smollm2_path, path)
    return str(path)


@pytest.fixture(scope="module")
def daemon(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A daemon with the model in memory and one slot."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LOCALLLM_HOME", str(tmp_path_factory.mktemp("home")))
    try:
        with serve(model) as running:
            yield running
    finally:
        patch.undo()


def serve(model: str) -> Any:
    return program("--preload", model, "--ctx", "1024", "--slots", "1", command=REAL)


@pytest.fixture
def client(daemon: Program) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def user(words: str) -> Any:
    return [{"role": "user", "content": words}]


def test_chat_whole_and_streamed_say_the_same(client: openai.OpenAI, model: str) -> None:
    fields: Any = {"model": model, "messages": user("Name two colours."), "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**fields, seed=1)
    text = whole.choices[0].message.content
    assert text
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 24
    stream = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens, "the prompt was computed twice"


def test_logprobs_stops_and_lengths(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=user("Count to five."), temperature=0, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    assert len(content) == 4
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in content)
    assert "".join(entry.token for entry in content).startswith(answer.choices[0].message.content or "-")
    stopped = client.completions.create(model=model, prompt="1, 2, 3, 4,", temperature=0, max_tokens=40, stop=" 7")
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == " 5, 6,"


def test_an_answer_bound_to_a_schema(client: openai.OpenAI, model: str) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "town", "strict": True, "schema": SCHEMA}}
    for seed in range(2):
        answer = client.chat.completions.create(
            model=model, messages=user("Describe a town."), seed=seed, max_tokens=60, response_format=form
        )
        made = json.loads(answer.choices[0].message.content or "")
        assert set(made) == {"city", "size"}
        assert made["size"] in range(10)


def test_echo_with_logprobs_scores_the_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="The sky is blue", echo=True, logprobs=1, max_tokens=1)
    scored = answer.choices[0].logprobs
    assert scored is not None
    assert "".join(scored.tokens or []) == answer.choices[0].text
    assert answer.choices[0].text.startswith("The sky is blue")
    assert scored.token_logprobs is not None
    assert scored.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in scored.token_logprobs[1:])


def test_two_answers_of_one_request(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=user("Say a word."), n=2, max_tokens=6, seed=3, stream=True
    )
    said = {0: "", 1: ""}
    for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert all(said.values())


def test_a_running_answer_can_be_told_to_stop(client: openai.OpenAI, daemon: Program, model: str) -> None:
    stream = client.completions.create(
        model=model, prompt="1, 2, 3,", max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    first = next(stream)
    told = client.post(
        f"{daemon.url}/api/localllm/control", body={"id": first.id, "control": "stop"}, cast_to=dict[str, str]
    )
    assert told == {"id": first.id, "control": "stop"}
    rest = list(stream)
    assert len(rest) < 400
    assert rest[-1].choices[0].finish_reason == "stop"


def test_several_prompts_are_several_choices(client: openai.OpenAI, model: str) -> None:
    prompts = ["One, two,", "A, B,"]
    answer = client.completions.create(model=model, prompt=prompts, temperature=0, max_tokens=4, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.text.startswith(prompt) for choice, prompt in zip(answer.choices, prompts, strict=True))


def test_an_over_long_prompt_is_a_400_with_both_counts(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=model, messages=user("word " * 2000))
    assert refused.value.code == "context_length_exceeded"
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["num_ctx"] == 1024
    assert refused.value.body["num_prompt_tokens"] > 1024


def test_what_the_child_refuses_is_the_clients_error(client: openai.OpenAI, model: str) -> None:
    """T20: an input that only the engine can judge is a 400, and the child lives."""
    for form in ({"grammar": "root ::= " + "(" * 60_000}, {"guided_regex": "(?=a)"}, {"logit_bias": {"2000000": 1}}):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=model, messages=user("x"), max_tokens=4, extra_body=form)


def open_stream(daemon: Program, model: str, **fields: Any) -> socket.socket:
    """A raw stream of an endless answer, its first word received."""
    sock = begin_stream(daemon, model, **fields)
    data = b""
    while b'"content":"' not in data.replace(b'"content":""', b""):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return sock


def begin_stream(daemon: Program, model: str, **fields: Any) -> socket.socket:
    """The same, nothing received."""
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    fields = {"max_tokens": 900, "ignore_eos": True, **fields}
    sock.sendall(raw_chat("Tell a story.", model=model, stream=True, **fields))
    return sock


def seconds_to_first_word(daemon: Program, model: str) -> float:
    began = time.monotonic()
    with open_stream(daemon, model, max_tokens=1):
        return time.monotonic() - began


def test_a_client_that_hangs_up_frees_the_only_slot(daemon: Program, model: str) -> None:
    """F01: the next request does not wait for the 900 tokens of the one before."""
    alone_s = min(seconds_to_first_word(daemon, model) for _ in range(3))
    sock = open_stream(daemon, model)
    sock.close()
    assert seconds_to_first_word(daemon, model) < alone_s + 0.5


def child_of(daemon: Program, model: str) -> int:
    loaded = json.loads(daemon.get("/api/localllm/props").read())["loaded"]
    return int(next(one["pid"] for one in loaded if one["name"] == model))


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_killed_child_is_one_error_event_and_hurts_nobody_else(model: str, tmp_path: Path) -> None:
    """F09: told within a second; another model's stream is whole; served again within a load and 2 s; same daemon."""
    other = str(tmp_path / "other.gguf")
    Path(other).symlink_to(model)
    with program("--preload", model, "--preload", other, "--ctx", "512", "--slots", "1", command=REAL) as daemon:
        asked: dict[str, Any] = {"max_tokens": 120, "temperature": 0}
        seconds_to_first_word(daemon, model)  # preloaded by then
        asyncio.run(Client(daemon.url).unload(model))
        with begin_stream(daemon, other, **asked) as sock:
            loading_s = seconds_to_first_word(daemon, model)  # with its child's start, beside another stream
            alone = text_of(read_until(sock, lambda data: b"[DONE]" in data))
        with begin_stream(daemon, other, **asked) as undisturbed, open_stream(daemon, model) as struck:
            killed = child_of(daemon, model)
            began = time.monotonic()
            os.kill(killed, signal.SIGKILL)
            rest = read_until(struck, lambda data: data.endswith(b"0\r\n\r\n"))
            assert time.monotonic() - began < 1.0
            assert rest.count(b'"error"') == 1
            assert b"engine_crashed" in rest
            assert b"[DONE]" not in rest
            began = time.monotonic()
            seconds_to_first_word(daemon, model)
            again_s = time.monotonic() - began
            assert text_of(read_until(undisturbed, lambda data: b"[DONE]" in data)) == alone
        assert child_of(daemon, model) != killed
        assert again_s <= loading_s + 2.0
        assert daemon.process.poll() is None


def text_of(data: bytes) -> str:
    """The words of a stream."""
    lines = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b'data: {"id"')]
    return "".join(choice["delta"].get("content") or "" for line in lines for choice in line["choices"])


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
def test_a_child_that_hangs_is_ended_within_30_s(model: str) -> None:
    """F18, with the patience that users have; with a shorter one: tests/test_pool_real."""
    with serve(model) as daemon, open_stream(daemon, model) as sock:
        stopped = child_of(daemon, model)
        began = time.monotonic()
        os.kill(stopped, signal.SIGSTOP)
        rest = read_until(sock, lambda data: data.endswith(b"0\r\n\r\n"))
        assert time.monotonic() - began < 30.0
        assert rest.count(b'"error"') == 1
        assert b"hung" in rest
        seconds_to_first_word(daemon, model)
        assert child_of(daemon, model) != stopped


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP")
def test_answers_are_the_same_under_a_hundred_reloads(model: str) -> None:
    """F07 with a model: to the byte, at temperature 0."""
    asked: dict[str, Any] = {"max_tokens": 150, "temperature": 0}
    with serve(model) as daemon:
        with begin_stream(daemon, model, **asked) as sock:
            alone = text_of(read_until(sock, lambda data: b"[DONE]" in data))
        with begin_stream(daemon, model, **asked) as sock:
            for _ in range(100):
                daemon.process.send_signal(signal.SIGHUP)
                time.sleep(0.005)
            assert text_of(read_until(sock, lambda data: b"[DONE]" in data)) == alone


def read_until(sock: socket.socket, is_end: Callable[[bytes], bool]) -> bytes:
    data = b""
    while not is_end(data):
        piece = sock.recv(65536)
        assert piece, data[-300:]
        data += piece
    return data


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_a_drain_finishes_the_answer_and_ends_the_child(model: str) -> None:
    """F08: what runs comes whole; nothing is left behind."""
    with serve(model) as daemon, open_stream(daemon, model, max_tokens=60) as sock:
        child = child_of(daemon, model)
        daemon.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" in read_all(sock)
        assert daemon.end() == 0
        deadline = time.monotonic() + 2
        while is_running(child):
            assert time.monotonic() < deadline, "the engine child outlived the daemon"
            time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_event_of_a_message_says_what_the_prompt_took(daemon: Program, model: str) -> None:
    """Anthropic's clients read the prompt's size from there."""
    body: dict[str, Any] = {"model": model, "messages": user("Name two colours."), "max_tokens": 4}
    counted = post(daemon, "/v1/messages/count_tokens", {"model": model, "messages": user("Name two colours.")})
    lines = post(daemon, "/v1/messages", body | {"stream": True}).splitlines()
    values = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
    first, last = values[0]["message"]["usage"], values[-2]["usage"]
    names = ("input_tokens", "cache_read_input_tokens")
    assert [first[name] for name in names] == [last[name] for name in names]
    assert sum(first[name] for name in names) == json.loads(counted)["input_tokens"]


def post(daemon: Program, path: str, body: dict[str, Any]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})
    got = connection.getresponse()
    answer = got.read()
    connection.close()
    assert got.status == 200, answer
    return answer
