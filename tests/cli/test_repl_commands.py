"""Slash commands and the loop, without a terminal: what each changes, and that nothing typed is lost."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from localllm.api import LoadOptions, Message, SamplingParams
from localllm.cli import repl_commands
from localllm.cli.conversation import Conversation
from localllm.cli.line_input import unclosed, unfenced
from localllm.cli.output import Output
from localllm.cli.repl import Repl
from localllm.config import Settings
from tests.cli.fake_backend import FakeBackend


class Typist:
    """A LineInput that types a list of messages and then leaves; remembers what was typed in for it."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = list(lines)
        self.defaults: list[str] = []

    async def read(self, default: str = "") -> str:
        self.defaults.append(default)
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)


class Session:
    """A REPL over the scripted Backend, run to its end."""

    def __init__(self, *lines: str, model: str = "smollm2:135m") -> None:
        self.typist = Typist(lines)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.talk = Conversation(model=model)
        self.backend = FakeBackend(Settings(), LoadOptions())
        self.repl = Repl(self.backend, Output(out=self.out, err=self.err), self.talk, self.typist)
        self.code = asyncio.run(self.repl.loop())


def test_turns_are_added_whole() -> None:
    session = Session("echo a", "echo b")
    assert session.code == 0
    assert [(m.role, m.content) for m in session.talk.messages] == [
        ("user", "echo a"),
        ("assistant", "a"),
        ("user", "echo b"),
        ("assistant", "b"),
    ]
    assert session.talk.num_answers == 2


def test_a_failed_question_stands_in_the_next_prompt() -> None:
    session = Session("echo a", "fail this", "echo b")
    assert session.typist.defaults == ["", "", "fail this", ""]
    assert "error: the engine died\nhint: ask again\n" in session.err.getvalue()
    assert [m.content for m in session.talk.messages] == ["echo a", "a", "echo b", "b"]


def test_an_answer_that_breaks_off_is_kept() -> None:
    session = Session("interrupted")
    assert [m.content for m in session.talk.messages] == ["interrupted", "half an ans"]
    assert session.out.getvalue().startswith("half an ans\n")


def test_thinking_is_kept_apart() -> None:
    assert Session("think").talk.messages[1].reasoning == "let me see\x1b[2J"


@pytest.mark.parametrize(
    ("typed", "params"),
    [
        ("/set temperature 0.5", SamplingParams(temperature=0.5)),
        ("/set top-k 5", SamplingParams(top_k=5)),
        ("/set ignore_eos on", SamplingParams(ignore_eos=True)),
        ("/set stop END", SamplingParams(stop=("END",))),
        ('/set stop ["A", "B C"]', SamplingParams(stop=("A", "B C"))),
        ('/set logit_bias {"5": -1.5}', SamplingParams(logit_bias={5: -1.5})),
    ],
)
def test_set_changes_sampling(typed: str, params: SamplingParams) -> None:
    assert Session(typed).talk.sampling == params
    name = typed.split()[1]
    assert Session(typed, f"/set {name} default").talk.sampling == SamplingParams()


def test_set_changes_the_rest() -> None:
    talk = Session("/set think off", "/set verbose on", "/set truncate oldest", "/set system be kind").talk
    assert (talk.think, talk.verbose, talk.truncate, talk.system) == (False, True, "oldest", "be kind")
    assert Session("/system x", "/system default").talk.system is None
    assert Session("/set think on", "/set think default").talk.think is None


@pytest.mark.parametrize(
    ("typed", "error", "hint"),
    [
        ("/set temperature 1000", "temperature is 1000.0", "between 0 and 100"),
        ("/set temperature warm", "temperature cannot be 'warm'", "/set temperature default"),
        ("/set temprature 1", "nothing called 'temprature' to set", "did you mean 'temperature'?"),
        ("/set think maybe", "think cannot be 'maybe'", "one of on, off, default"),
        ("/set stop [", "stop is no valid JSON", "for example"),
        ("/save", "which file?", "/save FILE"),
        ("/load /no/such/file", "/no/such/file cannot be read", ""),
        ("/retry", "nothing was asked yet", ""),
        ("/model unreachable", "no source answered", "try again later"),
        ("/etc/passwd is what?", "no command /etc/passwd", "A space before it"),
    ],
)
def test_mistakes_are_told_and_change_nothing(typed: str, error: str, hint: str) -> None:
    session = Session(typed)
    assert f"error: {error}" in session.err.getvalue()
    assert hint in session.err.getvalue()
    assert session.talk.sampling == SamplingParams()
    assert (session.talk.model, session.talk.think, session.talk.messages) == ("smollm2:135m", None, [])


def test_what_is_no_command_is_kept_to_be_sent_as_text() -> None:
    session = Session("/etc/hosts is what?", " /etc/hosts is what?")
    assert session.typist.defaults[1] == " /etc/hosts is what?"
    assert session.talk.messages[0].content == " /etc/hosts is what?"


def test_showing_changes_nothing() -> None:
    session = Session("/set", "/set temperature", "/system", "/model", "/show", "/stats", "/help", "echo a", "/stats")
    shown = session.out.getvalue()
    assert "temperature default\n(no system prompt)\nsmollm2:135m\n" in shown
    assert "licence        apache-2.0" in shown
    assert "no answer yet" in shown
    assert "answer    1 tokens" in shown
    assert all(name in shown for name in repl_commands.COMMANDS)


def test_another_model_goes_on_with_the_conversation() -> None:
    session = Session("echo a", "/model tiny", "messages")
    assert session.backend.loaded == ["smollm2:135m", "tiny"]
    assert "note: the context is 512 tokens" in session.err.getvalue()
    assert session.talk.messages[-1].content == "user=echo a | assistant=a | user=messages"


def test_retry_asks_the_last_question_again() -> None:
    session = Session("echo a", "echo b", "/retry")
    assert [m.content for m in session.talk.messages] == ["echo a", "a", "echo b", "b"]
    assert session.talk.num_answers == 3


def test_save_and_load_give_the_same_conversation(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    first = Session("/system s", "/set seed 7", "think", f"/save {file}").talk
    second = Session(f"/load {file}").talk
    assert (second.system, second.sampling, second.messages) == (first.system, first.sampling, first.messages)
    assert second.messages[1].reasoning
    assert [path.name for path in tmp_path.glob("*.json*")] == ["talk.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"model": "m"}', '{"model": "m", "messages": [{"role": "king"}]}', "\x00"]
)
def test_a_file_that_is_no_conversation_changes_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    session = Session("echo a", f"/load {file}")
    assert "is no saved conversation" in session.err.getvalue()
    assert session.talk.messages[0] == Message("user", "echo a")


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    session = Session("echo a", f"/save {tmp_path / 'none' / 'talk.json'}")
    assert "cannot be written: No such file" in session.err.getvalue()
    (tmp_path / "is-a-folder").mkdir()
    session = Session("echo a", f"/save {tmp_path / 'is-a-folder'}")
    assert "cannot be written" in session.err.getvalue()
    assert not list(tmp_path.glob(".is-a-folder*"))


def test_leaving() -> None:
    for word in ("/bye", "/exit", "/quit", "/q"):
        session = Session(word, "echo never")
        assert session.code == 0
        assert session.talk.messages == []


@pytest.mark.parametrize(
    ("typed", "open_", "message"),
    [
        ("plain", False, "plain"),
        ('"""', True, None),
        ('"""a', True, None),
        ('"""a"""', False, "a"),
        ('"""\na\nb\n"""', False, "a\nb"),
        ('""""""', False, ""),
        ('say """ this', False, 'say """ this'),
    ],
)
def test_fences(typed: str, open_: bool, message: str | None) -> None:
    assert unclosed(typed) is open_
    if message is not None:
        assert unfenced(typed) == message
