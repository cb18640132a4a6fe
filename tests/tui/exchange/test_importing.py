"""Files of other programs, read; small ones made here, in the shapes those programs write."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.exchange import importing
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.importing import import_file
from localllm_tui.history.history import History
from localllm_tui.history.values import Node


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "chat.db")
    yield opened
    opened.close()


def written(tmp_path: Path, value: Any, name: str = "export.json") -> Path:
    """A file with that JSON."""
    file = tmp_path / name
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def message(role: str, text: str | None, **fields: Any) -> dict[str, Any]:
    """A message as ChatGPT writes it."""
    content = fields.pop("content", {"content_type": "text", "parts": [text]})
    author = {"role": role, "name": fields.pop("name", None), "metadata": {}}
    return {"id": "x", "author": author, "create_time": 1_700_000_100.5, "content": content, "weight": 1.0, **fields}


def chatgpt(**fields: Any) -> dict[str, Any]:
    """A conversation of ChatGPT's: a question with two answers; the second thought first, and called a tool."""
    mapping: dict[str, Any] = {
        "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
        "sys": {"message": message("system", ""), "parent": "root", "children": ["q"]},
        "q": {"message": message("user", "What is 2+2?"), "parent": "sys", "children": ["a1", "t"]},
        "a1": {"message": message("assistant", "5", metadata={"model_slug": "gpt-4"}), "parent": "q", "children": []},
        "t": {
            "message": message(
                "assistant",
                None,
                content={"content_type": "thoughts", "thoughts": [{"summary": "Sum", "content": "2 and 2"}]},
            ),
            "parent": "q",
            "children": ["c"],
        },
        "c": {
            "message": message(
                "assistant", None, content={"content_type": "code", "text": "print(2+2)"}, recipient="python"
            ),
            "parent": "t",
            "children": ["r"],
        },
        "r": {
            "message": message("tool", None, content={"content_type": "execution_output", "text": "4"}, name="python"),
            "parent": "c",
            "children": ["a2"],
        },
        "a2": {
            "message": message("assistant", "It is 4.", metadata={"model_slug": "o3"}, recipient="all"),
            "parent": "r",
            "children": ["p"],
        },
        "p": {
            "message": message(
                "user",
                None,
                content={"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "See?"]},
            ),
            "parent": "a2",
            "children": [],
        },
    }
    return {
        "title": "Sums",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_200.0,
        "mapping": mapping,
        "current_node": "p",
        "conversation_id": "uuid-1",
        "moderation_results": [],
        **fields,
    }


def brief(nodes: tuple[Node, ...]) -> list[tuple[str, str]]:
    """Who said what."""
    return [(node.role, node.content) for node in nodes]


def test_chatgpt(tmp_path: Path, history: History) -> None:
    file = written(tmp_path, [chatgpt(), chatgpt(id="uuid-2", conversation_id=None, title=None, is_starred=True)])
    done = import_file(file, history)
    assert done.words() == "2 imported"
    first = history.conversation(done.conversations[0])
    assert (first.title, first.titled_by, first.model) == ("Sums", "model", "o3")
    assert (first.created, first.updated) == (1_700_000_000.0, 1_700_000_200.0)
    path = history.path(first.leaf or 0)
    assert brief(path) == [
        ("user", "What is 2+2?"),
        ("assistant", ""),
        ("tool", "4"),
        ("assistant", "It is 4."),
        ("user", "[a picture, not in the export]\n\nSee?"),
    ]
    assert path[1].reasoning == "Sum\n2 and 2"
    assert path[1].tool_calls[0].name == "python"
    assert json.loads(path[1].tool_calls[0].arguments) == {"input": "print(2+2)"}
    assert path[2].tool_call_id == path[1].tool_calls[0].id
    assert brief(history.siblings(path[1].id)) == [("assistant", "5"), ("assistant", "")]
    assert history.siblings(path[1].id)[0].model == "gpt-4"
    assert history.conversation(done.conversations[1]).is_pinned
    assert {hit.conversation.id for hit in history.search("print")} == set(done.conversations)
    assert import_file(file, history).words() == "0 imported, 2 were here already"
    assert history.count() == 2


def test_chatgpts_zip(tmp_path: Path, history: History) -> None:
    file = tmp_path / "export.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.html", "<html>")
        archive.writestr("folder/conversations.json", json.dumps([chatgpt()]))
    assert import_file(file, history).words() == "1 imported"
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("other.json", "[]")
    with pytest.raises(ExchangeError, match=r"holds no conversations\.json"):
        import_file(tmp_path / "none.zip", history)


def test_a_conversation_that_went_on_is_taken_in_beside_the_old(tmp_path: Path, history: History) -> None:
    import_file(written(tmp_path, [chatgpt()]), history)
    longer = chatgpt()
    longer["mapping"]["more"] = {"message": message("assistant", "Yes."), "parent": "p", "children": []}
    longer["current_node"] = "more"
    file = written(tmp_path, [longer])
    assert import_file(file, history).words() == "1 imported"
    assert import_file(file, history).words() == "0 imported, 1 were here already"
    history.delete(history.conversations()[0].id)
    assert import_file(file, history).words() == "1 imported", "one that was deleted comes back"
    assert history.count() == 2


def test_open_webui(tmp_path: Path, history: History) -> None:
    thought = (
        '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n'
        "&gt; a\n> b\n</details>\n"
    )
    answer = {"parentId": "1", "childrenIds": [], "role": "assistant"}
    messages: dict[str, dict[str, Any]] = {
        "1": {"id": "1", "parentId": None, "childrenIds": ["2", "3"], "role": "user", "content": "Kites?"},
        "2": {"id": "2", "content": "No.", "model": "llama3:8b", **answer},
        "3": {"id": "3", "content": thought + "Yes.", "model": "qwen3", **answer},
    }
    messages["1"] |= {"files": [{"type": "file", "name": "k.txt", "file": {"data": {"content": "string"}}}]}
    inner: dict[str, Any] = {"title": "Kites", "models": ["llama3:8b"], "params": {"system": "be brief"}}
    inner |= {"history": {"messages": messages, "currentId": "3"}, "messages": []}
    chat = {"id": "w1", "user_id": "u", "title": "Kites", "chat": inner, "pinned": True, "updated_at": 1_700_000_009}
    flat_messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    linear = {"id": "w2", "chat": {"title": "Flat", "messages": flat_messages, "timestamp": 1_700_000_000_123}}
    file = written(tmp_path, [chat, linear])
    done = import_file(file, history)
    assert done.words() == "2 imported"
    kites = history.conversation(done.conversations[0])
    assert (kites.title, kites.system, kites.model, kites.is_pinned) == ("Kites", "be brief", "llama3:8b", True)
    path = history.path(kites.leaf or 0)
    assert brief(path) == [("user", "Kites?"), ("assistant", "Yes.")]
    assert path[0].attachments[0].text == "string"
    assert (path[1].reasoning, path[1].model) == ("a\nb", "qwen3")
    assert len(history.siblings(path[1].id)) == 2
    flat = history.conversation(done.conversations[1])
    assert brief(history.path(flat.leaf or 0)) == [("user", "hi"), ("assistant", "ho")]
    assert flat.created == pytest.approx(1_700_000_000.123)
    assert import_file(file, history).words() == "0 imported, 2 were here already"


def test_a_list_of_messages(tmp_path: Path, history: History) -> None:
    look = {"name": "look", "arguments": {"at": "sky"}}
    body = {
        "model": "llama3.2",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url"}]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"function": look}]},
            {"role": "tool", "content": "blue", "tool_name": "look"},
            {"role": "assistant", "content": "Fair."},
        ],
    }
    done = import_file(written(tmp_path, body), history)
    made = history.conversation(done.conversations[0])
    path = history.path(made.leaf or 0)
    assert (made.system, made.model) == ("be kind", "llama3.2")
    assert brief(path) == [
        ("user", "Weather?\n\n[image_url, not imported]"), ("assistant", ""), ("tool", "blue"), ("assistant", "Fair."),
    ]  # fmt: skip
    assert path[1].reasoning == "hm"
    assert path[2].tool_call_id == path[1].tool_calls[0].id
    assert import_file(written(tmp_path, [body]), history).words() == "0 imported, 1 were here already"


def ollama_database(file: Path) -> None:
    """The tables of Ollama's app that hold chats, with a little in them."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript("""
        CREATE TABLE chats (id TEXT PRIMARY KEY, title TEXT NOT NULL DEFAULT '', created_at TIMESTAMP NOT NULL);
        CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
            thinking TEXT NOT NULL DEFAULT '', model_name TEXT, created_at TIMESTAMP NOT NULL, tool_result TEXT);
        CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, message_id INTEGER NOT NULL, type TEXT NOT NULL,
            function_name TEXT NOT NULL, function_arguments TEXT NOT NULL, function_result TEXT);
        CREATE TABLE attachments (id INTEGER PRIMARY KEY, message_id INTEGER NOT NULL, filename TEXT, data BLOB);
        INSERT INTO chats VALUES ('c1', 'Tides', '2025-08-01 10:00:00.123456789+02:00'), ('c2', '', '2025-08-02');
        INSERT INTO messages VALUES (1, 'c1', 'user', 'When?', '', NULL, '2025-08-01 08:00:01', NULL),
            (2, 'c1', 'assistant', '', 'look it up', 'gpt-oss:20b', '2025-08-01 08:00:02', NULL),
            (3, 'c1', 'assistant', 'At noon.', '', 'gpt-oss:20b', '2025-08-01 08:00:03', NULL);
        INSERT INTO tool_calls VALUES (1, 2, 'function', 'tide', '{"at": "x"}', 'noon');
        INSERT INTO attachments VALUES (1, 1, 'map.txt', 'north'), (2, 1, 'map.png', x'89504eff');
    """)
    connection.close()


def test_ollamas_app(tmp_path: Path, history: History) -> None:
    file = tmp_path / "db.sqlite"
    ollama_database(file)
    before = file.read_bytes()
    done = import_file(file, history)
    assert done.words() == "1 imported", "a chat without messages is none"
    made = history.conversation(done.conversations[0])
    path = history.path(made.leaf or 0)
    assert (made.title, made.model) == ("Tides", "gpt-oss:20b")
    assert made.created == pytest.approx(1_754_035_200.123456)
    assert brief(path) == [("user", "When?"), ("assistant", ""), ("tool", "noon"), ("assistant", "At noon.")]
    assert path[1].reasoning == "look it up"
    assert path[2].tool_call_id == path[1].tool_calls[0].id
    assert [(one.name, one.text) for one in path[0].attachments] == [
        ("map.txt", "north"), ("map.png", "[4 bytes that are no text, not imported]"),
    ]  # fmt: skip
    assert file.read_bytes() == before
    assert import_file(file, history).num_known == 1
    with pytest.raises(ExchangeError, match="no chats of Ollama"):
        import_file(history.file, history)


def test_what_cannot_be_read_is_said_and_the_rest_taken_in(tmp_path: Path, history: History) -> None:
    circle = chatgpt(conversation_id="circle")
    circle["mapping"]["q"]["parent"] = "p"
    empty = chatgpt(conversation_id="empty", mapping={})
    deep = json.loads("[" * 200 + "]" * 200)
    file = written(tmp_path, [circle, chatgpt(), empty, {"mapping": 7}, {"other": 1}, 5, None, {"messages": [deep]}])
    done = import_file(file, history)
    assert (len(done.conversations), done.num_unread) == (1, 7)
    assert "circle" in done.words()
    assert history.count() == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", b"[", b"{}", b"[]]", b"\xff\xfe", b"PK\x03\x04 no archive", b"SQLite format 3\x00 but none",
     b"[" * 100_000, b'{"a":' * 100_000, b'{"format": "localllm conversations", "version": 99}',
     b'{"format": "localllm conversations", "version": 1, "conversations": [{"uid": 3}]}'],
    ids=lambda content: content[:12].decode("latin-1"),
)  # fmt: skip
def test_a_file_that_holds_nothing_is_refused_in_words(tmp_path: Path, history: History, content: bytes) -> None:
    file = tmp_path / "export"
    file.write_bytes(content)
    with pytest.raises(ExchangeError) as exc:
        import_file(file, history)
    assert str(file) in exc.value.message
    assert history.count() == 0


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path, history: History) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ExchangeError, match="cannot be read"):
            import_file(path, history)


def test_sizes_are_bounded(tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_BYTES", 2**20)
    big = tmp_path / "big.json"
    big.write_bytes(b" " * (2**20 + 1))
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", b" " * 50_000_000)
    for file in (big, bomb):
        with pytest.raises(ExchangeError, match="larger than 1 MiB"):
            import_file(file, history)
    monkeypatch.setattr(importing, "MAX_CONVERSATIONS", 2)
    with pytest.raises(ExchangeError, match="more than 2"):
        import_file(written(tmp_path, [1, 2, 3]), history)


def test_an_import_that_breaks_off_leaves_nothing(tmp_path: Path, history: History) -> None:
    with history._db.write() as connection:
        connection.execute(
            "CREATE TEMP TRIGGER stop BEFORE INSERT ON main.conversations WHEN NEW.title = 'stop'"
            " BEGIN SELECT RAISE(ABORT, 'stopped'); END"
        )
    file = written(tmp_path, [chatgpt(), chatgpt(conversation_id="x", title="stop")])
    with pytest.raises(Exception, match="stopped"):
        import_file(file, history)
    assert history.count() == 0
    assert history.search("sums") == ()


def test_files_that_were_changed_anyhow_never_do_more_than_fail(tmp_path: Path, history: History) -> None:
    rng = random.Random(5)
    good = json.dumps([chatgpt(), chatgpt(conversation_id="2")]).encode()
    file = tmp_path / "fuzzed.json"
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 30)] = bytes(rng.choices(b'{}[]":,0nulltrue\\\xff', k=rng.randint(0, 6)))
        file.write_bytes(data)
        with contextlib.suppress(ExchangeError):
            import_file(file, history)
    assert all(history.path(one.leaf or 0) for one in history.conversations())
