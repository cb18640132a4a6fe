"""`localllm embed` and `localllm rerank`, over the scripted Backend: what goes in, and every form of what comes out."""

from __future__ import annotations

import json

import pytest

from tests.cli.running import localllm

MODEL = "smollm2:135m"


def test_a_vector_a_line_in_order() -> None:
    ran = localllm("embed", MODEL, "one two three", "four")
    assert (ran.returncode, ran.stdout) == (0, "[13, 3]\n[4, 1]\n"), ran.stderr


def test_texts_are_lines_of_input_where_none_are_named() -> None:
    ran = localllm("embed", MODEL, stdin="ab\r\n\n  \nc d\n")
    assert (ran.returncode, ran.stdout) == (0, "[2, 1]\n[3, 2]\n"), ran.stderr
    assert localllm("embed", MODEL, "named", stdin="not read\n").stdout == "[5, 1]\n"


def test_the_document_of_embed() -> None:
    ran = localllm("embed", MODEL, "a", "b c", "--truncate", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "model": MODEL,
        "num_dimensions": 2,
        "num_tokens": [1, 3],
        "num_truncated": 1,
        "embeddings": [[1.0, 1.0], [3.0, 2.0]],
    }
    assert "1 text too long" in ran.stderr


def test_the_best_document_first() -> None:
    ran = localllm("rerank", MODEL, "which?", "short", "the longest", "middling")
    assert ran.returncode == 0, ran.stderr
    head, *rows = ran.stdout.splitlines()
    assert head.split() == ["SCORE", "DOCUMENT"]
    assert [row.split(maxsplit=1) for row in rows] == [
        ["0.1100", "the longest"],
        ["0.0800", "middling"],
        ["0.0500", "short"],
    ]


def test_the_document_of_rerank() -> None:
    ran = localllm("rerank", MODEL, "which?", "--top-n", "1", "--json", "--quiet", stdin="ab\nabc\x1b[2J\n")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "model": MODEL,
        "is_probability": True,
        "num_tokens": 9,
        "num_truncated": 0,
        "results": [{"index": 1, "score": 0.07, "document": "abc\x1b[2J"}],
    }
    plain = localllm("rerank", MODEL, "which?", stdin="abc\x1b[2J\n")
    assert "\x1b" not in plain.stdout


@pytest.mark.parametrize("args", [("embed", MODEL), ("rerank", MODEL, "which?")])
def test_nothing_to_work_on_is_a_usage_error(args: tuple[str, ...]) -> None:
    ran = localllm(*args, stdin="\n \n")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "standard input" in ran.stderr


@pytest.mark.parametrize("option", [("--dimensions", "0"), ("--dimensions", "x")])
def test_wrong_options_are_usage_errors(option: tuple[str, str]) -> None:
    assert localllm("embed", MODEL, "a", *option).returncode == 2


def test_a_model_that_cannot_is_told_with_a_hint() -> None:
    ran = localllm("embed", MODEL, "fail")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-2:] == [
        "error: this model is not made for embeddings",
        "hint: use an embedding model",
    ]
