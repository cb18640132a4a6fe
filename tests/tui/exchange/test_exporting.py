"""Conversations in files: JSON comes back as it was, Markdown and HTML show the branch and run nothing."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.exporting import all_ids, export_file, free_name
from localllm_tui.exchange.importing import import_file
from localllm_tui.history.history import History
from localllm_tui.history.values import Attachment, Node, Stats

from localllm.api import ToolCall


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "chat.db")
    yield opened
    opened.close()


NASTY = "<script>alert(1)</script> ![x](http://evil.example/x.png) [y](javascript:alert(1)) \x1b[31m `a` **bold**"


def conversation(history: History) -> int:
    """One with branches, everything set, and text that would do harm."""
    made = history.new(model="smollm2:135m", title="A <b>title</b> \x1b]0;x\x07", system="be <i>", folder="work")
    question = history.add(made.id, None, "user", NASTY, attachments=(Attachment("a<.py", "```\nx\n```", "/a", 3),))
    call = history.add(
        made.id,
        question.id,
        "assistant",
        "",
        reasoning="first\nthen </details>",
        model="m<",
        tool_calls=(ToolCall("1", "look<", '{"a": "<"}'),),
        stats=Stats(1, 2, 3, first_token_s=0.5),
    )
    tool = history.add(made.id, call.id, "tool", "<seen>", tool_call_id="1", name="look")
    history.add(made.id, tool.id, "assistant", f"{NASTY}\n\n| a | b |\n|---|---|\n| 1 | 2 |", state="stopped")
    other = history.add(made.id, question.id, "assistant", "other", state="failed", error="gone <away>")
    history.change(made.id, leaf=tool.id + 1)
    assert other.id == tool.id + 2
    return made.id


def shape(nodes: tuple[Node, ...]) -> list[dict[str, Any]]:
    """Turns, with ids counted from the first."""
    first = nodes[0].id
    rows = []
    for node in nodes:
        fields = {name: getattr(node, name) for name in Node.__struct_fields__ if name != "conversation"}
        fields["id"] -= first
        fields["parent"] = None if node.parent is None else node.parent - first
        rows.append(fields)
    return rows


def test_json_comes_back_as_it_was(tmp_path: Path, history: History) -> None:
    id_ = conversation(history)
    history.change(id_, is_pinned=True)
    history.new(model="m", title="empty")
    file = export_file(history, all_ids(history), tmp_path / "all.json")
    json.loads(file.read_text())
    other = History(tmp_path / "other.db")
    done = import_file(file, other)
    assert done.words() == "2 imported"
    there = next(one for one in other.conversations() if one.is_pinned)
    here = history.conversation(id_)
    assert shape(other.tree(there.id)) == shape(history.tree(id_))
    for name in ("title", "titled_by", "folder", "is_pinned", "model", "system", "created", "updated", "num_nodes"):
        assert getattr(there, name) == getattr(here, name), name
    assert len(other.path(there.leaf or 0)) == len(history.path(here.leaf or 0)) == 4
    other.close()
    assert import_file(file, history).words() == "0 imported, 2 were here already"


class Page(html.parser.HTMLParser):
    """What a browser would make of a file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [f"{name}={value}" for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_shows_everything_and_runs_nothing(tmp_path: Path, history: History) -> None:
    file = export_file(history, [conversation(history)], tmp_path / "page.html")
    page = Page(file.read_text(encoding="utf-8"))
    assert not {"script", "img", "iframe", "object", "link", "b", "i", "seen"} & set(page.tags)
    assert not [value for value in page.values if value.lower().startswith(("href=javascript", "src=", "on"))]
    assert any("default-src 'none'" in value for value in page.values)
    for part in (
        "<script>alert(1)</script>",
        "A <b>title</b>",
        "a<.py",
        "look<",
        "<seen>",
        "then </details>",
        "Stopped",
    ):
        assert part in page.text, part
    assert "other" not in page.text, "the open branch alone"
    assert {"table", "strong", "code"} <= set(page.tags)
    assert "\x1b" not in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_markdown_reads_well_and_closes_what_it_opens(tmp_path: Path, history: History) -> None:
    text = export_file(history, [conversation(history)], tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.startswith("# A <b>title</b>")
    assert "## You" in text
    assert "## m<" in text
    assert "````\n```\nx\n```\n````" in text
    assert "> *Thinking*\n>\n> first\n> then" in text
    assert "*Stopped*" in text
    assert "\x1b" not in text
    assert text.endswith("\n")


def test_nothing_is_overwritten_and_nothing_left_half(tmp_path: Path, history: History) -> None:
    id_ = conversation(history)
    file = tmp_path / "x.md"
    file.write_text("mine")
    for path, ids, words in (
        (file, [id_], "exists"),
        (tmp_path / "x.pdf", [id_], "says no format"),
        (tmp_path / "none" / "x.md", [id_], "cannot be written"),
        (tmp_path / "two.md", [id_, id_], "one conversation"),
        (tmp_path / "gone.json", [id_, 999], "no conversation"),
        (tmp_path / ("x" * 300 + ".md"), [id_], "cannot be written"),
    ):
        with pytest.raises(Exception, match=words) as exc:
            export_file(history, ids, path)
        assert isinstance(exc.value, ExchangeError) or words == "no conversation"
    assert file.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("chat.db")} == {"x.md"}


def test_names_of_files(tmp_path: Path) -> None:
    assert free_name("Über: Käse / Brot?", "md", tmp_path) == "über-käse-brot.md"
    assert free_name("../../etc", "md", tmp_path) == "etc.md"
    assert free_name("", "json", tmp_path) == "conversation.json"
    (tmp_path / "a.md").write_text("")
    assert free_name("a", "md", tmp_path) == "a-2.md"
