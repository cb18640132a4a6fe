"""Conversations and their trees in a real database."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from localllm_tui.history.errors import HistoryError
from localllm_tui.history.history import History
from localllm_tui.history.values import Attachment, Draft, Stats

from localllm.api import ToolCall


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "deep" / "chat.db")
    yield opened
    opened.close()


def test_what_persons_wrote_last_wherever_it_was(history: History) -> None:
    first, second, gone = (history.new(model="m") for _ in range(3))
    for at, (made, role, text) in enumerate(
        [
            (first, "user", "one"),
            (first, "assistant", "answer"),
            (second, "user", "two"),
            (gone, "user", "deleted"),
            (second, "user", "x" * 5000),
            (first, "user", "three"),
        ]
    ):
        assert role in {"user", "assistant"}, at
        history.add(made.id, None, "assistant" if role == "assistant" else "user", text)
    history.delete(gone.id)
    assert history.written() == ("one", "two", "three")
    assert history.written(limit=2) == ("two", "three")


def test_what_was_written_is_there_after_closing(tmp_path: Path) -> None:
    first = History(tmp_path / "chat.db")
    made = first.new(model="m", system="be brief", folder="work", title="A title")
    question = first.add(made.id, None, "user", "What?", attachments=(Attachment("a.txt", "text", "/a.txt", 3),))
    answer = first.add(
        made.id,
        question.id,
        "assistant",
        "That.",
        reasoning="hm",
        model="m",
        tool_calls=(ToolCall("1", "look", '{"at": 1}'),),
        stats=Stats(10, 5, 3, first_token_s=0.5),
    )
    tool = first.add(made.id, answer.id, "tool", "seen", tool_call_id="1", name="look")
    first.set_last_open(made.id)
    first.close()
    second = History(tmp_path / "chat.db")
    assert second.conversation(made.id).leaf == tool.id
    assert second.conversation(made.id).num_nodes == 3
    assert second.path(tool.id) == (question, answer, tool)
    assert second.last_open() == made.id
    assert second.interrupted() == ()
    second.close()


@pytest.mark.skipif(sys.platform == "win32", reason="rights of files are other ones there")
def test_only_its_owner_may_read_the_file(history: History) -> None:
    history.new(model="m")
    for file in history.file.parent.glob("chat.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_lists_show_pinned_ones_first_then_the_last_updated(history: History) -> None:
    one, two, three = (history.new(model="m", title=name, folder=folder) for name, folder in
                       (("one", ""), ("two", "work"), ("three", "work")))  # fmt: skip
    history.add(one.id, None, "user", "now")
    assert [c.title for c in history.conversations()] == ["one", "three", "two"]
    history.change(two.id, is_pinned=True)
    assert [c.title for c in history.conversations()] == ["two", "one", "three"]
    assert [c.title for c in history.conversations(folder="work")] == ["two", "three"]
    assert [c.title for c in history.conversations(folder="")] == ["one"]
    assert [c.title for c in history.conversations(limit=1, offset=2)] == ["three"]
    assert history.folders() == ("work",)
    assert history.count() == 3
    assert history.conversation(two.id).updated == two.updated, "pinning is no change of what was said"
    assert history.change(three.id, title="drei", titled_by="person", folder="").title == "drei"
    with pytest.raises(HistoryError, match="no conversation"):
        history.change(99, title="x")
    with pytest.raises(HistoryError, match="number"):
        history.conversation(10**30)
    with pytest.raises(TypeError, match="updated"):
        history.change(one.id, updated=1.0)


def test_deleting_can_be_undone(history: History) -> None:
    made = history.new(model="m", title="gone")
    node = history.add(made.id, None, "user", "needle")
    history.set_last_open(made.id)
    history.delete(made.id)
    assert history.conversations() == ()
    assert history.count() == 0
    assert history.search("needle") == ()
    assert history.last_open() is None
    with pytest.raises(HistoryError):
        history.conversation(made.id)
    assert history.undelete(made.id).leaf == node.id
    assert [hit.node for hit in history.search("needle")] == [node.id]


def test_walking_to_a_sibling_lands_where_one_was_last(history: History) -> None:
    made = history.new(model="m")
    top = history.add(made.id, None, "user", "q")
    first = history.add(made.id, top.id, "assistant", "a1")
    under_first = history.add(made.id, first.id, "user", "q1")
    beside = history.add(made.id, first.id, "user", "q1 edited")
    second = history.add(made.id, top.id, "assistant", "a2")
    assert [node.id for node in history.siblings(second.id)] == [first.id, second.id]
    assert [node.id for node in history.children(first.id)] == [under_first.id, beside.id]
    assert history.newest_leaf(first.id) == beside.id
    assert history.newest_leaf(top.id) == second.id
    history.change(made.id, leaf=under_first.id)
    assert history.newest_leaf(top.id) == under_first.id
    assert history.newest_leaf(second.id) == second.id
    # A turn added where nobody is opens its way too.
    deep = history.add(made.id, beside.id, "assistant", "a3")
    assert history.newest_leaf(top.id) == deep.id
    assert [node.content for node in history.path(deep.id)] == ["q", "a1", "q1 edited", "a3"]
    assert [node.id for node in history.tree(made.id)] == sorted(node.id for node in history.tree(made.id))
    again = history.add(made.id, None, "user", "q edited")
    assert [node.id for node in history.siblings(top.id)] == [top.id, again.id]


def test_a_turn_stays_in_its_conversation(history: History) -> None:
    mine, other = history.new(model="m"), history.new(model="m")
    node = history.add(mine.id, None, "user", "q")
    with pytest.raises(HistoryError, match="none of conversation"):
        history.add(other.id, node.id, "assistant", "a")
    with pytest.raises(HistoryError, match="none of conversation"):
        history.change(other.id, leaf=node.id)
    with pytest.raises(HistoryError, match="no conversation"):
        history.add(99, None, "user", "q")
    assert history.conversation(other.id).leaf is None


def test_a_branch_is_a_conversation_of_its_own(history: History) -> None:
    made = history.new(model="m", system="s", folder="work", title="T")
    top = history.add(made.id, None, "user", "q")
    answer = history.add(made.id, top.id, "assistant", "a", reasoning="r", stats=Stats(1, 2, 3))
    history.add(made.id, answer.id, "user", "more")
    branch = history.branch(answer.id)
    copies = history.path(branch.leaf or 0)
    assert [(c.role, c.content, c.reasoning, c.stats, c.created) for c in copies] == [
        (o.role, o.content, o.reasoning, o.stats, o.created) for o in (top, answer)
    ]
    assert (branch.title, branch.system, branch.folder, branch.num_nodes) == ("T (branch)", "s", "work", 2)
    history.update(copies[1].id, content="changed")
    assert history.node(answer.id).content == "a"
    assert history.branch(answer.id, title="named").titled_by == "person"


def test_a_deep_conversation_is_read_and_purged(history: History) -> None:
    made = history.new(model="m")
    parent = None
    for number in range(1500):
        parent = history.add(made.id, parent, "user", f"turn {number}").id
    assert parent is not None
    assert len(history.path(parent)) == 1500
    assert history.newest_leaf(history.path(parent)[0].id) == parent


def test_drafts_are_kept_by_conversation(history: History) -> None:
    made = history.new(model="m")
    draft = Draft("half a thought", (Attachment("a", "b"),), edits=7)
    history.save_draft(0, draft)
    history.save_draft(made.id, Draft("other"))
    assert history.draft(0) == draft
    assert history.draft(made.id) == Draft("other")
    history.save_draft(0, Draft())
    assert history.draft(0) == Draft()


def test_text_that_is_no_text_is_kept_as_far_as_it_is(history: History) -> None:
    made = history.new(model="m", title="lone \ud800 surrogate")
    node = history.add(made.id, None, "user", "nul \0 and \udfff", attachments=(Attachment("a\ud800", "b"),))
    assert node.content == "nul \0 and ?"
    assert node.attachments[0].name == "a?"
    assert history.conversation(made.id).title == "lone ? surrogate"
    history.update(node.id, content="x")
    assert history.search("nul") == ()


def test_many_threads_use_one_history(history: History) -> None:
    made = [history.new(model="m") for _ in range(4)]
    failed: list[BaseException] = []

    def work(conversation: int) -> None:
        try:
            parent = None
            for number in range(40):
                parent = history.add(conversation, parent, "user", f"needle {number}").id
                history.update(parent, content=f"needle {number} more")
                history.search("needle")
                history.conversations()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(one.id,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [history.conversation(one.id).num_nodes for one in made] == [40] * 4
    assert len(history.search("more", limit=1000)) == 4 * 3


def test_a_closed_history_says_so(tmp_path: Path) -> None:
    history = History(tmp_path / "chat.db")
    history.close()
    history.close()
    with pytest.raises(HistoryError, match="closed"):
        history.count()
