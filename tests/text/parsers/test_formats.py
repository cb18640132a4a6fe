"""Every reasoning format: what is reasoning, what is text, at any cut of the stream."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from localllm.text.parsers import FORMATS, ReasoningFormat, parser_for, reasoning_format_in, reasoning_format_of
from localllm.text.segments import Segment

TAGGED = [form for form in FORMATS if form.start and form.name != "harmony"]


def split(name: str, chunks: list[str], *, opened: bool = False) -> tuple[str, str]:
    """(reasoning, text) of an answer that arrives in chunks."""
    parser = parser_for(name, starts_in_reasoning=opened)
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + parser.flush()
    assert all(text for _, text in pieces)
    reasoning = "".join(text for kind, text in pieces if kind == "reasoning")
    return reasoning, "".join(text for kind, text in pieces if kind == "text")


def ways_to_cut(whole: str) -> list[list[str]]:
    rng = random.Random(whole)
    ways = [[whole], list(whole)]
    for _ in range(20):
        cuts = sorted({0, len(whole), *(rng.randrange(len(whole) + 1) for _ in range(6))})
        ways.append([whole[a:b] for a, b in itertools.pairwise(cuts)])
    return ways


def check(name: str, whole: str, expected: tuple[str, str], *, opened: bool = False) -> None:
    for chunks in ways_to_cut(whole):
        assert split(name, chunks, opened=opened) == expected, chunks


@pytest.mark.parametrize("form", TAGGED, ids=lambda form: form.name)
def test_reasoning_then_answer(form: ReasoningFormat) -> None:
    name, start, end = form.name, form.start, form.end
    check(
        name,
        f"{start}\nHm < 3 </thi\n\nso.\n{end}\n\nThe answer: <b>.\n",
        ("Hm < 3 </thi\n\nso.", "The answer: <b>.\n"),
    )
    check(name, f"\n\n {start}Hm{end}Yes", ("Hm", "Yes"))
    check(name, f"\nHm\n{end}\n\nYes", ("Hm", "Yes"), opened=True)
    check(name, f"{start}\nHm{end}Yes", ("Hm", "Yes"), opened=True)
    check(name, f"{start}\n\n{end}\n\nYes", ("", "Yes"))
    check(name, f"{start}never closed {end[:-1]}", (f"never closed {end[:-1]}", ""))
    check(name, "never closed", ("never closed", ""), opened=True)


@pytest.mark.parametrize("form", [form for form in FORMATS if form.name != "harmony"], ids=lambda form: form.name)
def test_an_answer_without_reasoning_is_whole(form: ReasoningFormat) -> None:
    name = form.name
    for text in (
        "Plain.",
        "\n\nTwo newlines",
        "  def f():\n    <",
        "<",
        "[",
        "a <x> b",
        "< think >",
        " " * 100 + "a",
        " \n",
    ):
        check(name, text, ("", text))


def test_tags_further_on_are_text() -> None:
    check("think", "Use <think>x</think> so.", ("", "Use <think>x</think> so."))
    check("think", "<think>a</think>b<think>c</think>", ("a", "b<think>c</think>"))
    check("think", "a</think>b", ("", "a</think>b"))


@pytest.mark.parametrize(
    ("name", "whole", "expected"),
    [
        ("cohere", "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", ("a", "b")),
        ("cohere", "<|START_RESPONSE|>b < c<|END_RESPONSE|>", ("", "b < c")),
        ("granite", "<think>a</think><response>\nb</response>", ("a", "b")),
        ("hunyuan", "<think>\na\n</think>\n<answer>\nb\n</answer>", ("a", "b\n")),
        ("solar", "<|think|>a<|end|><|begin|>assistant<|content|>b<|end|>", ("a", "b")),
        ("apriel", "Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb[END FINAL RESPONSE]", ("a", "b")),
        ("gemma", "<|channel>thought\na\n<channel|>b", ("a", "b")),
        (
            "harmony",
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            ("a", "b"),
        ),
        ("harmony", "<|channel|>final<|message|>b < | c", ("", "b < | c")),
        (
            "harmony",
            "<|channel|>commentary<|message|>p<|end|><|start|>assistant<|channel|>final<|message|>b",
            ("", "pb"),
        ),
        ("harmony", "<|channel|>analysis<|message|>cut", ("cut", "")),
        ("harmony", "<|channel|>ana", ("", "")),
        ("harmony", "plain text, no header", ("", "plain text, no header")),
        ("harmony", " total nonsense", ("", " total nonsense")),
        ("harmony", "<|channel|>" + "x" * 300, ("", "<|channel|>" + "x" * 300)),
    ],
)
def test_formats_of_their_own(name: str, whole: str, expected: tuple[str, str]) -> None:
    check(name, whole, expected)


def test_harmony_that_goes_on_with_opened_reasoning() -> None:
    check("harmony", "a<|end|><|start|>assistant<|channel|>final<|message|>b", ("a", "b"), opened=True)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_little_is_held_back(form: ReasoningFormat) -> None:
    name = form.name
    for opened in (False, True):
        parser = parser_for(name, starts_in_reasoning=opened)
        given = shown = 0
        for _ in range(300):
            for chunk in ("abc ", "<", "x[", "\n", "<|"):
                given += len(chunk)
                shown += sum(len(text) for _, text in parser.feed(chunk))
                assert given - shown <= 48


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("filler", ["<", "<|", "<think>", "</think", "\n", " ", "<|channel|>", "<|end|>", "[", "a"])
def test_time_is_linear(form: ReasoningFormat, filler: str) -> None:
    name = form.name
    text = filler * (65536 // len(filler))
    for opened in (False, True):
        for size in (4, 65536):
            parser = parser_for(name, starts_in_reasoning=opened)
            started = time.monotonic()
            for start in range(0, len(text), size):
                parser.feed(text[start : start + size])
            parser.flush()
            assert time.monotonic() - started < 2.0


def test_in_reasoning_follows_the_stream() -> None:
    for name, opening, closing in [
        ("think", "<think>a", "</think>b"),
        ("harmony", "<|channel|>analysis<|message|>a", "<|end|><|start|>assistant<|channel|>final<|message|>b"),
    ]:
        parser = parser_for(name)
        assert not parser.in_reasoning
        parser.feed(opening)
        assert parser.in_reasoning
        parser.feed(closing)
        assert not parser.in_reasoning
    assert parser_for("think", starts_in_reasoning=True).in_reasoning
    assert not parser_for("none", starts_in_reasoning=True).in_reasoning


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ '<think>\n' }}", "think"),
        ("{% if '</think>' in content %}", "think"),
        ("<seed:think>", "seed"),
        ("[THINK]", "mistral"),
        ("<|channel|>analysis<|message|>", "harmony"),
        ("<|think|> '<|channel>thought\n' <channel|>", "gemma"),
        ("<|START_THINKING|>", "cohere"),
        ("between <think></think> and <response></response>", "granite"),
        ("<think> <tool_response><response>", "think"),
        ("<|im_start|>", "none"),
        ("", "none"),
    ],
)
def test_the_template_tells_the_format(source: str, name: str) -> None:
    assert reasoning_format_of(source).name == name


def test_the_vocabulary_tells_the_format() -> None:
    assert reasoning_format_in(frozenset({"<think>", "</think>", "<x>"})).name == "think"
    assert reasoning_format_in(frozenset({"[THINK]", "[/THINK]"})).name == "mistral"
    assert reasoning_format_in(frozenset({"<think>"})).name == "none"


def test_names_are_unique_and_each_has_a_parser() -> None:
    names = [form.name for form in FORMATS]
    assert len(set(names)) == len(names)
    for name in names:
        assert all(isinstance(token, str) and token for token in parser_for(name).wants_special)
    with pytest.raises(KeyError):
        parser_for("nope")


def test_only_the_templates_own_text_opens_the_reasoning() -> None:
    form = reasoning_format_of("<think>")
    assert form.is_opened_by([Segment("a", False), Segment("<|x|><think>\n", True)])
    assert not form.is_opened_by([Segment("<think>\n", False)])
    assert not form.is_opened_by([Segment("<think>\n\n</think>\n\n", True)])
    assert not form.is_opened_by([])
