"""Mentions of files, globs with bounds, and files that are refused in words: on a real disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from localllm_tui.history.values import Attachment
from localllm_tui.prompt import attaching, files, listing
from localllm_tui.prompt.attaching import Holding
from localllm_tui.prompt.mentions import begun, mentions, spelled, without

from localllm.errors import UsageError


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("see @a.py", ["a.py"]),
        ("see @a.py, @b.py. And (@c/d.py)!", ["a.py", "b.py", "c/d.py"]),
        ('@"my notes.txt" is it', ["my notes.txt"]),
        (r"@my\ notes.txt is it", ["my notes.txt"]),
        ("@~/x.md @/etc/hosts @../up.md @..", ["~/x.md", "/etc/hosts", "../up.md", ".."]),
        ("@src/**/*.py @*.md", ["src/**/*.py", "*.md"]),
        ("what is in @a.py?", ["a.py"]),
        ("@pages/[id].tsx", ["pages/[id].tsx"]),
        ("ann@example.com or `@x` or \\@y or '@z'", []),
        ("code:\n```py\n@a.py\n```\n@b.py", ["b.py"]),
        ("```\n@never.py", []),
        ("@ alone, @@ twice", []),
        ("é @ü.txt", ["ü.txt"]),
    ],
)
def test_mentions(text: str, patterns: list[str]) -> None:
    found = mentions(text)
    assert [one.pattern for one in found] == patterns
    assert all(text[one.start] == "@" for one in found)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("@", ""),
        ("see @sr", "sr"),
        ('see @"my no', "my no"),
        ("@a b", None),
        ("a@b", None),
        ("```\n@x", None),
        ("", None),
    ],
)
def test_what_is_being_typed(text: str, pattern: str | None) -> None:
    found = begun(text, len(text))
    assert (found.pattern if found else None) == pattern


@pytest.mark.parametrize("name", ["a.py", "my notes.txt", "end.", "it's", "a(b).md", "[id].tsx", "a@b", "ü~.x"])
def test_a_name_spelled_as_a_mention_is_read_back(name: str) -> None:
    assert [one.pattern for one in mentions(f"see {spelled(name)} there")] == [name]


def test_a_mention_is_taken_out() -> None:
    assert without('see @a.py and @"b c".', "a.py") == 'see and @"b c".'
    assert without('see @a.py and @"b c".', "b c") == "see @a.py and ."
    assert without("@a.py", "a.py") == ""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Files of many kinds."""
    made: dict[str, bytes] = {
        "a.py": b"print('a')\r\n",
        "src/b.py": b"b\n",
        "src/deep/c.py": b"c\n",
        "src/logo.png": b"\x89PNG\r\n\x1a\n\x00\x01",
        "node_modules/x/d.py": b"d\n",
        "ignored/e.py": b"e\n",
        ".hidden/f.py": b"f\n",
        ".gitignore": b"# no\nignored/\n*.log\n",
        "utf16.txt": "grüße".encode("utf-16"),
        "bom.txt": b"\xef\xbb\xbfhi",
        "latin.txt": "Grüße aus Köln".encode("latin-1"),
        "paper.pdf": b"%PDF-1.7\n%\xe2\xe3",
        "doc.docx": b"PK\x03\x04rest",
        "zeros.bin": b"ab\x00cd",
        "noise.bin": bytes(range(128, 160)) * 20,
        "badmark.txt": b"\xff\xfea",
        "empty.txt": b"",
        "my notes.txt": b"notes",
        "[id].tsx": b"id",
    }
    for name, data in made.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("a.py", "print('a')\n", ""),
        ("utf16.txt", "grüße", "UTF-16"),
        ("bom.txt", "hi", ""),
        ("latin.txt", "Grüße aus Köln", "no UTF-8, read as Latin-1"),
        ("empty.txt", "", ""),
    ],
)
def test_text_in_many_encodings(project: Path, name: str, text: str, note: str) -> None:
    found = files.read_text(project / name)
    assert (found.text, found.note, found.num_bytes) == (text, note, (project / name).stat().st_size)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("src/logo.png", "logo.png is an image (PNG)"),
        ("paper.pdf", "paper.pdf is a PDF"),
        ("doc.docx", "an archive or an office document"),
        ("zeros.bin", "zeros.bin is a binary file"),
        ("noise.bin", "noise.bin is a binary file"),
        ("badmark.txt", "says it is UTF-16, and is not"),
        ("src", "src is a folder"),
        ("gone.txt", "is not there any more"),
    ],
)
def test_what_is_no_text_is_refused_in_words(project: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError) as failed:
        files.read_text(project / name)
    assert words in failed.value.message


def test_sizes_are_bounded(project: Path) -> None:
    (project / "big.txt").write_bytes(b"x" * 101)
    with pytest.raises(UsageError) as failed:
        files.read_text(project / "big.txt", max_bytes=100)
    assert (failed.value.message, failed.value.hint) == ("big.txt has 101 B", "files of up to 100 B can be attached")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or devices among files there")
def test_pipes_devices_and_unreadable_files_are_never_waited_for(project: Path) -> None:
    os.mkfifo(project / "pipe")
    (project / "turning").symlink_to("turning")
    (project / "zero").symlink_to("/dev/zero")
    (project / "locked.txt").write_text("x")
    (project / "locked.txt").chmod(0)
    words = {"pipe": "pipe is a pipe", "zero": "zero is a device", "turning": "cannot be read: Too many levels"}
    if os.geteuid():
        words["locked.txt"] = "locked.txt cannot be read: Permission denied"
    for name, message in words.items():
        (holding,) = attaching.of_text(f"@{name}", project)
        assert message in holding.problem
    assert listing.expand("*", project, 100).files  # and the pipe is not among them
    assert project / "pipe" not in listing.expand("*", project, 100).files


def names(holding: Holding) -> list[str]:
    return [item.name for item in holding.attachments]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "src/b.py", "src/deep/c.py"]),
        ("src/**", ["src/b.py", "src/deep/c.py"]),
        ("src/*/c.*", ["src/deep/c.py"]),
        ("node_modules/**", ["node_modules/x/d.py"]),
        (".hidden/*.py", [".hidden/f.py"]),
        ("*/b.py", ["src/b.py"]),
        ("src/../?.py", ["a.py"]),
        ("[id].tsx", ["[id].tsx"]),
        ("[*.tsx", ["[id].tsx"]),
    ],
)
def test_globs(project: Path, pattern: str, found: list[str]) -> None:
    (holding,) = attaching.of_text(f"@{pattern}", project)
    assert [Path(item.path or "").resolve() for item in holding.attachments] == [
        (project / one).resolve() for one in found
    ]


def test_what_a_glob_leaves_out_is_said(project: Path) -> None:
    (holding,) = attaching.of_text("@src/**", project)
    assert holding.note == "1 that is no text left out"
    assert holding.num_bytes == 4
    assert attaching.check([holding]) == holding.attachments


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders_are_not_followed(project: Path) -> None:
    (project / "src" / "loop").symlink_to(project)
    (project / "src" / "link.py").symlink_to(project / "a.py")
    (holding,) = attaching.of_text("@src/**/*.py", project)
    assert names(holding) == ["src/b.py", "src/deep/c.py", "src/link.py"]


def test_globs_are_bounded(tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number}.txt").write_text("x")
    (holding,) = attaching.of_text("@*.txt", tmp_path)
    assert "more than 100 files" in holding.problem
    with pytest.raises(UsageError):
        attaching.check([holding])
    assert listing.expand("**/*.none", tmp_path, 100, max_entries=50).is_cut


def test_all_together_are_bounded(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 900_000)
    found = attaching.of_text("@0.txt @1.txt @2.txt @3.txt @4.txt", tmp_path)
    assert [bool(one.problem) for one in found] == [False] * 4 + [True]
    (whole,) = attaching.of_text("@*.txt", tmp_path)
    assert "too much" in whole.problem


def test_a_file_is_attached_once_and_what_is_no_file_is_text(project: Path) -> None:
    found = attaching.of_text("@a.py @./a.py @*.py @nobody @types/node @pytest.fixture @*.zip", project)
    assert [(one.name, len(one.attachments), one.note) for one in found] == [
        ("a.py", 1, ""),
        ("types/node", 0, "no such file; goes as text"),
        ("*.zip", 0, "matches no file; goes as text"),
    ]
    assert len(attaching.check(found)) == 1
    held = [Attachment("a.py", "as it was", str(project / "a.py"))]
    assert attaching.of_text("@a.py", project, held) == ()


def test_paths_are_shown_as_a_person_writes_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project / "home"
    (home / "work").mkdir(parents=True)
    (home / "x.md").write_text("x")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert [names(one) for one in attaching.of_text("@~/x.md", home / "work")] == [["~/x.md"]]
    assert [names(one) for one in attaching.of_text("@a.py", project)] == [["a.py"]]


def test_file_names_give_no_orders(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no such names there")
    (tmp_path / "a\x1b[2Jb.txt").write_text("x")
    (holding,) = attaching.of_text("@a*", tmp_path)
    assert names(holding) == ["a\\x1b[2Jb.txt"]


@pytest.mark.parametrize(
    ("begun_", "found"),
    [
        ("", ["[id].tsx", "a.py", "src/"]),
        ("s", ["src/"]),
        ("src/", ["src/**", "src/b.py", "src/deep/"]),
        ("c.py", ["src/deep/c.py"]),
        (".h", [".hidden/"]),
        ("node", ["node_modules/"]),
        ("MY", ["my notes.txt"]),
        ("src/*", []),
        ("nothing/", []),
    ],
)
def test_completions_of_paths(project: Path, begun_: str, found: list[str]) -> None:
    choices = [choice.pattern for choice in listing.choices(begun_, project)]
    assert [one for one in choices if one in found] == found
    assert not any("node_modules" in one or "ignored" in one for one in choices if begun_ != "node")
    assert bool(choices) == bool(found)
