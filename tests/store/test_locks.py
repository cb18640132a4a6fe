"""Locks between real processes, and the store where locks do nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from localllm.store import locks
from localllm.store.locks import locked, locks_work, pid_alive, try_lock
from localllm.store.store import ModelStore
from tests.store.models import add_model, tiny

HOLD = """
import sys
from pathlib import Path
from localllm.store.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    first.release()
    second = try_lock(path)
    assert second is not None
    second.release(unlink=True)
    assert not path.exists()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert try_lock(path) is None
        assert pid_alive(child.pid)
        child.kill()
        child.wait()
    assert not pid_alive(child.pid)
    held = try_lock(path)
    assert held is not None
    held.release()


def test_waiting_ends_when_the_holder_lets_go_or_the_waiter_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    held = try_lock(path)
    assert held is not None

    class GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise GaveUpError

    with pytest.raises(GaveUpError), locked(path, on_wait=give_up):
        pass
    waiting = threading.Event()
    got = threading.Event()

    def wait() -> None:
        with locked(path, on_wait=waiting.set):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    assert not got.is_set()
    held.release(unlink=True)  # the waiter must notice that the file it opened is no longer the lock
    assert got.wait(10)
    thread.join()


def test_a_removed_lock_file_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    first = try_lock(path)
    assert first is not None
    path.unlink()
    second = try_lock(path)
    assert second is not None
    assert try_lock(path) is None
    first.release()
    second.release()


def test_whether_locks_work_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locks_work(tmp_path)
    monkeypatch.setattr(locks, "lock_fd", lambda _fd: True)
    assert not locks_work(tmp_path)
    assert list(tmp_path.iterdir()) == []


# Two processes bring the same model in at the same time. Each stops inside its partial file until both are there, which
# can only happen where locks do nothing; where they work the second waits, then finds the blob.
PULL = """
import sys, shutil
from pathlib import Path
from localllm.store import locks
from localllm.store.store import ModelStore
if sys.argv[3] == "no-op":
    locks.lock_fd = lambda fd: True
sys.path.insert(0, sys.argv[4])
from localllm.store.describe import describe
store, source = ModelStore(Path(sys.argv[1])), Path(sys.argv[2])
from localllm.store.manifest import Blob
digest, size = sys.argv[5], source.stat().st_size
print("start", flush=True)
sys.stdin.readline()
waited = []
with store.partial(digest, on_wait=lambda: waited or (waited.append(1), print("waiting", flush=True))) as part:
    if store.has_blob(digest, size):
        blob = Blob(digest, size, source.name)
        print("found", flush=True)
    else:
        with part.path.open("ab") as file:
            data = source.read_bytes()
            done = file.tell()
            file.write(data[done:done + 100])
            file.flush()
            print("inside", flush=True)
            sys.stdin.readline()
            file.write(data[done + 100:])
        blob = store.ingest(part.path, digest=None, filename=source.name)
        assert blob.digest == digest, "the file was mixed with another process's"
        print("fetched", flush=True)
store.add(describe("m", "test", [blob], [source]))
print("done", flush=True)
"""


def _pullers(tmp_path: Path, mode: str, digest: str, source: Path) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PULL, str(tmp_path / "store"), str(source), mode, str(Path.cwd()), digest]
    return [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]


def _say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def _hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _end(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        child.communicate()
        assert child.returncode == 0


def _blobs_are_right(tmp_path: Path, source: Path) -> None:
    store = ModelStore(tmp_path / "store")
    (manifest,) = store.list()
    assert [s.state for s in store.verify("m")] == ["ok"]
    assert store.paths(manifest)[0].read_bytes() == source.read_bytes()
    assert len(list((store.root / "blobs").iterdir())) == 1
    store.prune(min_age_s=0)
    assert list((store.root / "work").iterdir()) == []


def test_two_processes_share_one_download(tmp_path: Path) -> None:
    source = tiny(tmp_path)
    digest = ModelStore(tmp_path / "other").ingest(source, digest=None).digest
    first, second = children = _pullers(tmp_path, "real", digest, source)
    assert _hear(first) == _hear(second) == "start"
    _say(first)
    assert _hear(first) == "inside"
    _say(second)
    assert _hear(second) == "waiting"
    _say(first)
    assert [_hear(first), _hear(first)] == ["fetched", "done"]
    assert [_hear(second), _hear(second)] == ["found", "done"]
    _end(children)
    _blobs_are_right(tmp_path, source)


def test_two_processes_do_not_disturb_each_other_where_locks_do_nothing(tmp_path: Path) -> None:
    source = tiny(tmp_path)
    digest = ModelStore(tmp_path / "other").ingest(source, digest=None).digest
    first, second = children = _pullers(tmp_path, "no-op", digest, source)
    assert _hear(first) == _hear(second) == "start"
    for child in children:
        _say(child)
        assert _hear(child) == "inside"
    # A third one sweeps meanwhile, and must leave both alone.
    sweep = "import sys; from pathlib import Path; from localllm.store import locks; locks.lock_fd = lambda fd: True\n"
    sweep += "from localllm.store.store import ModelStore; ModelStore(Path(sys.argv[1])).prune(min_age_s=0)"
    subprocess.run([sys.executable, "-c", sweep, str(tmp_path / "store")], check=True)
    for child in children:
        _say(child)
        assert [_hear(child), _hear(child)] == ["fetched", "done"]
    _end(children)
    _blobs_are_right(tmp_path, source)


def test_the_first_of_two_dies_and_the_second_goes_on_from_its_bytes(tmp_path: Path) -> None:
    source = tiny(tmp_path)
    digest = ModelStore(tmp_path / "other").ingest(source, digest=None).digest
    first, second = children = _pullers(tmp_path, "real", digest, source)
    assert _hear(first) == _hear(second) == "start"
    _say(first)
    assert _hear(first) == "inside"
    _say(second)
    assert _hear(second) == "waiting"
    first.kill()
    first.communicate()
    assert _hear(second) == "inside"
    (busy,) = (tmp_path / "store" / "work").iterdir()
    assert (busy / "data").stat().st_size == 200  # 100 bytes of the first, 100 of its own
    _say(second)
    assert [_hear(second), _hear(second)] == ["fetched", "done"]
    _end(children[1:])
    _blobs_are_right(tmp_path, source)


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    source = tiny(tmp_path)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                add_model(ModelStore(store.root), f"m{number}-{turn % 2}", source)
                store.copy(f"m{number}-{turn % 2}", f"c{number}-{turn}")
                store.remove(f"c{number}-{turn}")
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store.list()) == 8
    assert all(s.state == "ok" for m in store.list() for s in store.verify(m.name))
