"""The container of prefixes on disk: whole or not at all, private, bounded, shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localllm.engine.batch import Stored
from localllm.engine.prefix_files import ABANDONED_S, PrefixFiles, clear

STATE = bytes(range(256)) * 64


def files_at(root: Path, key: str = "k", max_bytes: int = 1 << 20) -> PrefixFiles:
    return PrefixFiles(root, key, max_bytes)


def put(files: PrefixFiles, tokens: list[int], state: bytes = STATE, scope: str = "") -> Stored:
    stored = Stored(tokens, scope)
    ok, _ = files.write(stored, state, lambda: None)
    assert ok
    return stored


def tokens_of(files: PrefixFiles) -> list[list[int]]:
    return [stored.tokens for stored in files.scan()]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def kv_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.kv"), key=lambda path: path.stat().st_mtime_ns)


def test_what_is_written_is_found_by_the_next_process_and_read_back(tmp_path: Path) -> None:
    put(files_at(tmp_path), [1, 2, 70_000], STATE, "adapter a")
    later = files_at(tmp_path)
    (stored,) = later.scan()
    assert (stored.tokens, stored.scope) == ([1, 2, 70_000], "adapter a")
    assert later.read(stored, bytearray) == STATE


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no permission bits")
    root = tmp_path / "prefixes"
    put(files_at(root), [1])
    assert [path.stat().st_mode & 0o777 for path in (root, root / "k", kv_files(root)[0])] == [0o700, 0o700, 0o600]


def test_another_key_sees_nothing(tmp_path: Path) -> None:
    put(files_at(tmp_path), [1])
    assert files_at(tmp_path, "other").scan() == []


def test_a_file_under_another_name_or_key_is_removed(tmp_path: Path) -> None:
    put(files_at(tmp_path), [1])
    path = kv_files(tmp_path)[0]
    (tmp_path / "other").mkdir()
    path.rename(tmp_path / "other" / path.name)
    assert files_at(tmp_path, "other").scan() == []
    assert kv_files(tmp_path) == []
    put(files_at(tmp_path), [1])
    path = kv_files(tmp_path)[0]
    path.rename(path.with_name("0" * 40 + ".kv"))
    assert files_at(tmp_path).scan() == []
    assert kv_files(tmp_path) == []


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    """Every byte counts: whichever changes, the prefix is not found, or is found and not read; never read wrong."""
    state = b"some state"
    put(files_at(tmp_path), [1, 2, 3], state)
    path = kv_files(tmp_path)[0]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        files = files_at(tmp_path)
        found = files.scan()
        assert [files.read(stored, bytearray) for stored in found] in ([], [None])
        assert not path.exists()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert files_at(tmp_path).scan() == []
        assert not path.exists()
    path.write_bytes(whole + b"x")
    assert files_at(tmp_path).scan() == []


def test_damage_after_the_scan_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    files = files_at(tmp_path)
    stored = put(files, [1, 2, 3])
    path = kv_files(tmp_path)[0]
    whole = path.read_bytes()
    for broken in (
        whole[:-40],
        whole[:-1] + b"?",
        b"",
        whole.replace(b"\x01\x00\x00\x00\x02", b"\x01\x00\x00\x00\x03"),
    ):
        path.write_bytes(broken)
        assert files.read(stored, bytearray) is None
        assert not path.exists()
    assert files.read(stored, bytearray) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("links need a right there")
    put(files_at(tmp_path / "a"), [1])
    path = kv_files(tmp_path)[0]
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    assert files_at(tmp_path / "a").scan() == []
    assert target.exists()


def test_the_least_recently_used_make_room_whoever_wrote_them(tmp_path: Path) -> None:
    one, other = files_at(tmp_path, "a", 60_000), files_at(tmp_path, "b", 60_000)
    first = put(one, [1])
    put(other, [2])
    third = put(one, [3])
    for seconds, path in zip((300, 200, 100), kv_files(tmp_path), strict=True):
        age(path, seconds)
    assert one.read(first, bytearray) == STATE  # used: now the other's is the oldest
    ok, lost = one.write(Stored([4], ""), STATE, lambda: None)
    assert (ok, lost) == (True, [])
    assert tokens_of(files_at(tmp_path, "b")) == []
    ok, lost = one.write(Stored([5], ""), STATE, lambda: None)
    assert (ok, lost) == (True, [third])
    assert tokens_of(files_at(tmp_path, "a")) == [[1], [4], [5]]
    assert sum(path.stat().st_size for path in kv_files(tmp_path)) <= 60_000


def test_what_is_larger_than_the_budget_drives_nothing_out(tmp_path: Path) -> None:
    files = files_at(tmp_path, max_bytes=20_000)
    put(files, [1])
    assert files.write(Stored([2], ""), bytes(30_000), lambda: None) == (False, [])
    assert tokens_of(files_at(tmp_path)) == [[1]]


def test_a_full_disk_is_given_up_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = files_at(tmp_path)
    monkeypatch.setattr("localllm.engine.prefix_files.free_bytes", lambda _path: 1000)
    for token in (1, 2, 3):
        assert files.write(Stored([token], ""), STATE, lambda: None) == (False, [])
    assert [record.message for record in caplog.records] == ["prefixes cannot be kept on disk: the disk is nearly full"]
    assert list(tmp_path.rglob("t-*")) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    files = files_at(tmp_path)

    def fail() -> None:
        raise OSError("no more")

    assert files.write(Stored([1], ""), STATE, fail) == (False, [])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    files = files_at(tmp_path / "file")
    assert files.scan() == []
    assert files.write(Stored([1], ""), STATE, lambda: None) == (False, [])
    assert files.read(Stored([1], ""), bytearray) is None
    assert clear(tmp_path / "file") == (0, 0)


WRITER = """
import sys
from pathlib import Path
from localllm.engine.batch import Stored
from localllm.engine.prefix_files import PrefixFiles
def pace():
    print("writing", flush=True)
    sys.stdin.readline()
PrefixFiles(Path(sys.argv[1]), "k", 1 << 30).write(Stored([1, 2], ""), bytes(8 << 20), pace)
"""


def start_writer(root: Path) -> subprocess.Popen[str]:
    """A process in the middle of a write."""
    command = [sys.executable, "-c", WRITER, str(root)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    with start_writer(tmp_path) as writer:
        writer.kill()
    (temp,) = tmp_path.rglob("t-*")
    assert files_at(tmp_path).scan() == []
    assert temp.exists()  # it might be about to be locked
    age(temp, 2 * ABANDONED_S)
    assert files_at(tmp_path).scan() == []
    assert not temp.exists()


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    with start_writer(tmp_path) as writer:
        (temp,) = tmp_path.rglob("t-*")
        age(temp, 2 * ABANDONED_S)
        put(files_at(tmp_path), [3])
        assert temp.exists()
        writer.communicate("\n\n")
    assert tokens_of(files_at(tmp_path)) == [[3], [1, 2]]


def test_clear_removes_all_and_says_how_much(tmp_path: Path) -> None:
    put(files_at(tmp_path), [1])
    put(files_at(tmp_path, "b"), [1])
    num_bytes = sum(path.stat().st_size for path in kv_files(tmp_path))
    assert clear(tmp_path, dry_run=True) == (2, num_bytes)
    assert len(kv_files(tmp_path)) == 2
    assert clear(tmp_path) == (2, num_bytes)
    assert list(tmp_path.iterdir()) == []
    assert clear(tmp_path / "missing") == (0, 0)
