"""Search over titles, texts, reasoning and attachments; what was typed is never an error."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.search import query
from localllm_tui.history.snippets import Wanted
from localllm_tui.history.values import Attachment, Hit

from localllm.api import ToolCall


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "chat.db")
    yield opened
    opened.close()


def shown(hit: Hit) -> str:
    """A snippet with what was found in brackets."""
    return "".join(f"[{piece}]" if is_found else piece for piece, is_found in hit.snippet)


def test_everything_of_a_turn_is_found(history: History) -> None:
    made = history.new(model="m", title="About Käse")
    node = history.add(
        made.id,
        None,
        "assistant",
        "All about quantization and read_file.",
        reasoning="ponder ÉCLAIR",
        attachments=(Attachment("notes.md", 'a "haystack"\nwith a needle'),),
        tool_calls=(ToolCall("1", "weather", '{"city": "Timbuktu"}'),),
    )
    for typed in (
        *("quant", "QUANTIZATION", "about quant", '"about quantization"', "read_file", "eclair", "needle", "notes"),
        *("haystack", "timbuktu", "needle quant"),
    ):
        assert [hit.node for hit in history.search(typed)] == [node.id], typed
    assert [hit.node for hit in history.search("kase")] == [None]
    assert history.search('"quant"') == (), "in quotes a word is whole"
    assert history.search("quant missing") == ()
    assert shown(history.search("quant")[0]).startswith("All about [quantization] and")
    assert shown(history.search("kase")[0]) == "About [Käse]"
    assert "with a [needle]" in shown(history.search("needle")[0])


def test_scripts_without_spaces_are_found_anywhere(history: History) -> None:
    made = history.new(model="m", title="东京天气")
    node = history.add(made.id, None, "user", "机器学习模型的量化方法。カタカナとひらがな。สวัสดีครับ 한국어 문장입니다")
    for typed in ("学习", "量化方法", "模", "カタ", "ひらがな", "สวัส", "한국"):
        assert [hit.node for hit in history.search(typed)] == [node.id], typed
    assert history.search("学机") == ()
    assert shown(history.search("学习")[0]).startswith("机器[学习]模型")
    assert [hit.node for hit in history.search("天气")] == [None]


def test_what_changes_is_found_as_it_is_now(history: History) -> None:
    made = history.new(model="m", title="first")
    node = history.add(made.id, None, "assistant", "alpha", state="streaming")
    assert history.search("alpha") == (), "what is being written is found once it is written"
    history.update(node.id, content="alpha beta")
    history.update(node.id, content="alpha beta gamma", state="complete")
    assert [hit.node for hit in history.search("beta")] == [node.id]
    history.update(node.id, content="delta")
    assert history.search("gamma") == ()
    assert [hit.node for hit in history.search("delta")] == [node.id]
    history.update(node.id, state="streaming")
    assert history.search("delta") == ()
    history.update(node.id, state="failed", error="gone")
    assert [hit.node for hit in history.search("delta")] == [node.id]
    history.change(made.id, title="second")
    assert history.search("first") == ()
    assert len(history.search("second")) == 1


def test_titles_come_first_then_the_newest_and_no_conversation_fills_the_list(history: History) -> None:
    old = history.new(model="m", title="old")
    parent = None
    for _ in range(6):
        parent = history.add(old.id, parent, "user", "whale").id
    titled = history.new(model="m", title="whale watching")
    new = history.new(model="m", title="new")
    last = history.add(new.id, None, "user", "a whale")
    hits = history.search("whale")
    assert hits[0].conversation.id == titled.id
    assert hits[1].node == last.id
    assert [hit.conversation.id for hit in hits[2:]] == [old.id] * 3
    assert len(history.search("whale", limit=2)) == 2


def test_any_text_is_a_legal_query(history: History) -> None:
    made = history.new(model="m")
    history.add(made.id, None, "user", 'NEAR(a b) AND "x" OR * ^ col: {y} -z')
    for typed in (
        '"',
        '""',
        "*",
        "a*",
        "NEAR(",
        "a AND",
        "OR",
        "col:x",
        "{",
        "^a",
        "-z",
        "(((",
        "a\0b",
        "'; DROP",
        "\ud800",
        "+",
    ):
        history.search(typed)
    rng = random.Random(3)
    for _ in range(300):
        history.search("".join(rng.choices(string.printable + "é学\u0301\u202e", k=rng.randint(1, 12))))
    assert query("  ") is None
    assert query("+-*/") is None


def test_snippets_are_short_whatever_the_text() -> None:
    for text in ("x " * 200_000 + "needle" + " y" * 200_000, "é" * 400_000, "needle" * 100_000, "\n\n needle \n\n"):
        pieces = Wanted([("needle", True)]).snippet(text)
        assert sum(len(piece) for piece, _ in pieces) < 1000 or text.startswith("needle")
        assert all("\n" not in piece for piece, _ in pieces)
    assert Wanted([("ss", True)]).snippet("İİ Straße sst")[-1] == ("sst", True)
