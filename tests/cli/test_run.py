"""`localllm run` with a prompt: what goes where, piped input, reasoning, JSON, notices."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli.running import COMMAND, localllm

MODEL = "smollm2:135m"


def test_the_answer_is_data_and_nothing_else_is() -> None:
    ran = localllm("run", MODEL, "echo hello world")
    assert (ran.stdout, ran.stderr) == ("hello world\n", "")


def test_piped_input_is_appended_to_the_prompt() -> None:
    ran = localllm("run", MODEL, "messages", "--system", "be brief", stdin="from a pipe")
    assert ran.stdout == "you said: messages\n\nfrom a pipe\n"
    alone = localllm("run", MODEL, stdin="echo only piped\n")
    assert alone.stdout == "only piped\n"


def test_the_system_prompt_and_flags_are_in_the_request() -> None:
    ran = localllm("run", MODEL, "request", "--system", "be brief", "--no-think", "--truncate", "oldest")
    assert "Message(role='system', content='be brief'" in ran.stdout
    assert "think=False, truncate='oldest'" in ran.stdout
    assert "think=None" in localllm("run", MODEL, "request").stdout


def test_the_default_model_answers_where_none_is_named() -> None:
    ran = localllm("run", stdin="request", env={"LOCALLLM_DEFAULT_MODEL": "tiny"})
    assert "ChatRequest(model='tiny'" in ran.stdout


def test_raw_asks_for_a_completion() -> None:
    assert localllm("run", MODEL, "request", "--raw").stdout.startswith("CompletionRequest(")


def test_thinking_is_no_data() -> None:
    ran = localllm("run", MODEL, "think echo")
    assert ran.stdout == "you said: think echo\n"
    assert "let me" not in ran.stderr


def test_notices_are_narration() -> None:
    ran = localllm("run", MODEL, "notice")
    assert ran.stderr == "note: 2 turns were dropped\n"
    assert localllm("run", MODEL, "notice", "--quiet").stderr == ""


def test_a_cut_answer_is_said() -> None:
    ran = localllm("run", MODEL, "cut off")
    assert ran.returncode == 0
    assert "the answer was cut after 7 tokens" in ran.stderr


def test_verbose_tells_what_was_measured_and_no_more() -> None:
    ran = localllm("run", MODEL, "echo a b c", "--verbose")
    assert ran.stdout == "a b c\n"
    assert ran.stderr.splitlines() == [
        "load      0.25 s, context 8192, CPU",
        "prompt    10 tokens, 4 cached, 60.0 tok/s in 0.10 s",
        "answer    5 tokens, 8.0 tok/s in 0.50 s",
    ]
    one = localllm("run", MODEL, "echo a", "--verbose")
    assert one.stderr.splitlines()[-1] == "answer    1 tokens"


def test_a_pull_is_told_in_lines_where_there_is_no_terminal() -> None:
    ran = localllm("run", "new", "echo hi")
    assert ran.stdout == "hi\n"
    first, second = ran.stderr.splitlines()
    assert first == "downloading new (1.0 kB)"
    assert second.startswith("downloaded new in ")


def test_json_is_one_document_with_every_key() -> None:
    ran = localllm("run", MODEL, "think so", "--json")
    document = json.loads(ran.stdout)
    assert document == {
        "model": MODEL,
        "content": "you said: think so",
        "reasoning": "let me see\x1b[2J",
        "tool_calls": [],
        "finish_reason": "stop",
        "stop": None,
        "usage": {
            "num_prompt_tokens": 10,
            "num_cached_tokens": 4,
            "num_output_tokens": 7,
            "num_reasoning_tokens": 0,
            "num_forced_tokens": 0,
            "num_drafted_tokens": 0,
            "num_accepted_tokens": 0,
        },
        "timings": {"queue_s": 0.0, "prompt_s": 0.1, "decode_s": 0.5},
        "notices": [],
        "logprobs": None,
    }
    called = json.loads(localllm("run", MODEL, "call", "--json").stdout)
    assert called["tool_calls"] == [{"id": "1", "name": "add", "arguments": '{"a":1}'}]


def test_a_failed_json_run_writes_no_document() -> None:
    ran = localllm("run", MODEL, "interrupted", "--json")
    assert (ran.returncode, ran.stdout) == (3, "")


def test_what_came_before_a_failure_is_shown() -> None:
    ran = localllm("run", MODEL, "interrupted")
    assert (ran.returncode, ran.stdout) == (3, "half an ans\n")


def test_a_pipe_gets_the_bytes_as_they_are() -> None:
    assert localllm("run", MODEL, "escape").stdout == "a\x1b]0;owned\x07b\r\nc\td\x9b2J\n".replace("\r\n", "\n")


@pytest.mark.parametrize("no_colour", [True, False])
def test_a_terminal_gets_no_orders_from_a_model(no_colour: bool) -> None:
    from tests.cli.terminal import Terminal

    env = {"NO_COLOR": "1"} if no_colour else {"NO_COLOR": ""}
    with Terminal([*COMMAND, "run", MODEL, "escape"], env) as terminal:
        assert terminal.wait() == 0
    assert terminal.raw == "a\\x1b]0;owned\\x07b\r\nc\td\\x9b2J\r\n"
    with Terminal([*COMMAND, "run", MODEL, "think so"], env) as terminal:
        assert terminal.wait() == 0
    assert terminal.text == "[thinking]\nlet me see\\x1b[2J\n[end of thinking]\n\nyou said: think so\n"
    assert ("\x1b[2mlet me " in terminal.raw) is not no_colour
    assert ("\x1b" in terminal.raw) is not no_colour


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_json_and_raw_need_a_prompt() -> None:
    from tests.cli.terminal import Terminal

    with Terminal([*COMMAND, "run", MODEL, "--json"]) as terminal:
        assert terminal.wait() == 2
    assert "error: --json, --raw and --receipt need a prompt" in terminal.text


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_pull_on_a_terminal_leaves_no_bar_behind() -> None:
    from tests.cli.terminal import Terminal

    with Terminal([*COMMAND, "run", "new", "echo hi"], {"COLUMNS": "40"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.text.endswith("hi\n")
