"""Slash commands as typed, and what completes them."""

from __future__ import annotations

import pytest
from localllm_tui.prompt import completing, sampling
from localllm_tui.prompt.commands import CommandWords, Typed, parse

from localllm.api import SamplingParams
from localllm.errors import LocalLLMError, UsageError

COMMANDS = (
    CommandWords("new", help="Begin"),
    CommandWords("set", "[NAME [VALUE]]", "Sampling"),
    CommandWords("snippet", "[NAME]", "Insert"),
    CommandWords("exit", hidden=True),
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("hello", "hello"),
        ("  hello /new", "  hello /new"),
        ("/new", Typed("new", "")),
        (" /NEW \n", Typed("new", "")),
        ("/set temperature 0.5", Typed("set", "temperature 0.5")),
        ("/set\ntwo\nlines", Typed("set", "two\nlines")),
        ("/exit", Typed("exit", "")),
        ("//etc/hosts", "/etc/hosts"),
        ("//", "/"),
    ],
)
def test_parse(text: str, parsed: object) -> None:
    assert parse(text, COMMANDS) == parsed


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("/nwe", "no command /nwe", "did you mean /new?"),
        ("/etc/hosts is what?", "no command /etc/hosts", "// at the start"),
        ("/", "no command /", "a lone / lists the commands"),
        ("/set:x", "no command /set:x", "did you mean /set?"),
    ],
)
def test_unknown_commands_are_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as failed:
        parse(text, COMMANDS)
    assert failed.value.message == message
    assert hint in (failed.value.hint or "")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("/", ["/new", "/set [NAME [VALUE]]", "/snippet [NAME]"]),
        ("/s", ["/set [NAME [VALUE]]", "/snippet [NAME]"]),
        ("/ni", ["/snippet [NAME]"]),
        ("/pp", ["/snippet [NAME]"]),
        ("/ex", []),
        ("//s", []),
        ("a /s", []),
        ("/set ", []),
    ],
)
def test_completions(text: str, labels: list[str]) -> None:
    assert [one.label for one in completing.of_command(text, len(text), COMMANDS)] == labels


def test_arguments_are_completed_too() -> None:
    found = completing.of_argument("/set pen", 8, "set", sampling.names())
    assert [one.label for one in found][:2] == ["dry_penalty_last_n", "repeat_penalty"]
    assert (found[0].start, found[0].end) == (5, 8)
    assert completing.of_argument("/set seed 1", 11, "set", sampling.names()) == ()
    assert completing.of_argument("/set", 4, "set", sampling.names()) == ()


def test_set_shows_and_changes() -> None:
    first = sampling.obey("temperature 0.7", SamplingParams())
    assert first == (SamplingParams(temperature=0.7), "temperature 0.7, from the next answer on")
    both = sampling.obey("Top-K=5", first.sampling).sampling
    assert sampling.obey("", both) == (both, "temperature 0.7\ntop_k 5")
    assert sampling.obey("top_k", both).words.startswith("top_k 5\nChoose among")
    assert "left to the model" in sampling.obey("", SamplingParams()).words
    high = sampling.obey("temperature 9", both)
    assert high.sampling.temperature == 9
    assert high.words.endswith("\ntemperature is usually between 0 and 2: at 9 answers may make no sense.")
    for wrong in ("temprature", "temprature 1", "temperature hot", "temperature 101", "top_p 3"):
        with pytest.raises(LocalLLMError):
            sampling.obey(wrong, both)
