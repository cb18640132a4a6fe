"""Opening: versions, other programs' files, damage, rights, locks, a full disk; and what is tidied up."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import pytest
from localllm_tui.history import bundles, migrations
from localllm_tui.history.errors import HistoryError, is_damaged
from localllm_tui.history.history import History
from localllm_tui.history.salvage import salvage, set_aside
from localllm_tui.history.values import Bundle, Conversation, Node


def raw(file: Path) -> contextlib.closing[sqlite3.Connection]:
    """The file without the History around it."""
    return contextlib.closing(sqlite3.connect(file, isolation_level=None))


def some(file: Path, num_turns: int = 3) -> int:
    """A database with one conversation."""
    history = History(file)
    made = history.new(model="m", title="kept")
    parent = None
    for number in range(num_turns):
        parent = history.add(made.id, parent, "user", f"turn {number} " + "text " * 200).id
    history.close()
    return made.id


def kind(exc: pytest.ExceptionInfo[HistoryError]) -> str:
    """Which trouble it is; all of them tell a way on."""
    assert exc.value.hint or exc.value.facts["kind"] == "foreign"
    return str(exc.value.facts["kind"])


def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    some(file)
    with raw(file) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = file.read_bytes()
    with pytest.raises(HistoryError, match="newer localllm") as exc:
        History(file)
    assert kind(exc) == "newer"
    assert file.read_bytes() == before


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    with raw(file) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = file.read_bytes()
    with pytest.raises(HistoryError, match="another program") as exc:
        History(file)
    assert kind(exc) == "foreign"
    assert file.read_bytes() == before


def test_a_step_of_the_migrations_happens_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chat.db"
    made = some(file)
    good = ("ALTER TABLE conversations ADD COLUMN colour TEXT",)
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, (*good, "NO SUCH STATEMENT")))
    with pytest.raises(HistoryError):
        History(file)
    with raw(file) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert "colour" not in {row[1] for row in connection.execute("PRAGMA table_info(conversations)")}
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS[:-1], good))
    history = History(file)
    assert history.conversation(made).title == "kept"
    history.close()
    with raw(file) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    file.write_bytes(b"this is no database, however long it may be. " * 100)
    with pytest.raises(HistoryError, match="damaged") as exc:
        History(file)
    assert kind(exc) == "damaged"
    assert is_damaged(exc.value)
    kept = set_aside(file)
    assert kept.read_bytes().startswith(b"this is no database")
    history = History(file)
    assert history.count() == 0
    history.close()


def test_what_can_be_read_of_a_damaged_file_is_carried_over(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    history = History(file)
    for number in range(60):
        made = history.new(model="m", title=f"title {number}")
        history.add(made.id, None, "user", f"turn {number} " + "text " * 400)
    history.close()
    data = bytearray(file.read_bytes())
    page = data.index(b"turn 30 ") // 4096
    data[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    file.write_bytes(data)
    kept = set_aside(file)
    history = History(file)
    taken = salvage(kept, history)
    assert len(taken.conversations) == 60
    whole = [one for one in history.conversations() if one.num_nodes == 1]
    assert 40 <= len(whole) < 60
    assert history.path(whole[0].leaf or 0)[0].content.startswith("turn")
    history.close()


def test_a_locked_file_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chat.db"
    some(file)
    monkeypatch.setattr("localllm_tui.history.database._WAIT_S", 0.05)
    history = History(file)
    with raw(file) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked") as exc:
            history.new(model="m")
        assert kind(exc) == "locked"
        assert history.count() == 1, "reading goes on"
        other.execute("ROLLBACK")
    history.new(model="m")
    history.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="whoever may do everything writes anyway")
def test_a_file_without_rights_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    some(file)
    file.chmod(0o400)
    with pytest.raises(HistoryError) as exc:
        History(file)
    assert kind(exc) in ("read-only", "unusable")


def test_a_place_that_is_no_folder_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError) as exc:
        History(tmp_path / "file" / "chat.db")
    assert kind(exc) == "unusable"
    (tmp_path / "chat.db").mkdir()
    with pytest.raises(HistoryError) as exc:
        History(tmp_path / "chat.db")
    assert kind(exc) == "unusable"


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    made = some(file)
    history = History(file)
    leaf = history.conversation(made).leaf or 0
    with history._db.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # SQLite's own limit gives the error that a full disk gives.
    history._db._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HistoryError, match="no room left") as exc:
        history.update(leaf, content="much " * 100_000)
    assert kind(exc) == "full"
    assert history.node(leaf).content.startswith("turn 2")
    history._db._writer.execute("PRAGMA max_page_count = 1000000")
    assert len(history.update(leaf, content="much " * 100_000).content) == 500_000
    history.close()


def test_what_was_deleted_long_ago_is_gone_for_good(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    old, young = some(file, num_turns=1200), some(file)
    with raw(file) as connection:
        for id_, days in ((old, 31), (young, 29)):
            connection.execute("UPDATE conversations SET deleted = ? WHERE id = ?", (time.time() - days * 86_400, id_))
    history = History(file)
    with pytest.raises(HistoryError):
        history.undelete(old)
    assert history.undelete(young).title == "kept"
    assert {hit.conversation.id for hit in history.search("turn")} == {young}
    history.close()
    with raw(file) as connection:
        assert connection.execute("SELECT count(*) FROM nodes").fetchone() == (3,)


def test_a_killed_import_leaves_nothing_for_long(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    given = (Bundle("b", Conversation(0, title="half"), (Node(1, 0, None, "user", "there"),)),)
    history = History(file)
    with history._db.write() as connection:
        bundles.take(connection, given, -(time.time() - 4000))
        bundles.take(connection, (Bundle("c", given[0].conversation, given[0].nodes),), -time.time())
    history.close()
    history = History(file)
    assert history.count() == 0
    assert history.search("there") == ()
    with raw(file) as connection:
        assert connection.execute("SELECT uid FROM conversations").fetchall() == [("c",)], "one may be under way"
    assert len(history.take_in([Bundle("c", given[0].conversation, given[0].nodes)]).conversations) == 1
    assert [hit.conversation.title for hit in history.search("there")] == ["half"]
    history.close()


def test_an_index_left_behind_by_a_killed_import_catches_up(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    history = History(file)
    with history._db.write() as connection:
        given = (
            Bundle(f"b{number}", Conversation(0, title=f"t{number}"), (Node(1, 0, None, "user", f"word{number}"),))
            for number in range(700)
        )
        bundles.reveal(connection, bundles.take(connection, given, -time.time()).conversations)
    history.close()
    history = History(file)
    history._indexer.join() if history._indexer else None
    assert len(history.search("word699")) == 1
    assert len(history.search("t350")) == 1
    with raw(file) as connection:
        assert connection.execute("SELECT count(*) FROM unindexed").fetchone() == (0,)
    history.close()
