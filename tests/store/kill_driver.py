# ruff: noqa: ARG002  (every action takes the same arguments)
"""Kills processes that change a store, at random moments and before every file operation, and checks what is left.

Run as a script, apart from pytest, because it forks. Prints one JSON line; a broken promise is an AssertionError.

    python tests/store/kill_driver.py WORKDIR random COUNT SEED [URL]
    python tests/store/kill_driver.py WORKDIR every STRIDE SEED [URL]
    python tests/store/kill_driver.py WORKDIR full STRIDE SEED [URL]    (the disk is full at that operation, no kill)

WORKDIR holds `sources/*.gguf`. URL serves one more file, for the action `pull`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

from localllm.errors import LocalLLMError, ModelInUseError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store import blobs
from localllm.store.adopt import adopt, find_adoptable
from localllm.store.describe import describe
from localllm.store.manifest import Blob, digest_stem
from localllm.store.store import ModelStore

Action = Callable[[str, Path], None]
Doom = Callable[["World", str, int], None]
NAMES = ("m0", "m1", "m2")


class World:
    """One store, the files that go into it, and another program's models beside it."""

    def __init__(self, workdir: Path, seed: int, url: str | None) -> None:
        self.workdir = workdir
        self.sources = sorted((workdir / "sources").glob("*.gguf"))
        self.home = workdir / "home"
        self.store = ModelStore(workdir / "store")
        self.random = random.Random(seed)
        self.url = url
        for i, source in enumerate(self.sources):
            theirs = self.home / ".lmstudio" / "models" / "a" / "b" / f"x{i}.gguf"
            theirs.parent.mkdir(parents=True, exist_ok=True)
            if not theirs.exists():
                shutil.copyfile(source, theirs)

    def add(self, name: str, source: Path) -> None:
        """As a pull does: a partial file that grows, ingest, add."""
        with self.store.partial(source.name) as part:
            data = source.read_bytes()
            with part.path.open("ab") as file:
                assert data.startswith(part.path.read_bytes()), "a partial file was mixed with another's"
                done = file.tell()
                for at in range(done, len(data), 20_000):
                    file.write(data[at : at + 20_000])
                    file.flush()
            self.publish(name, self.store.ingest(part.path, digest=None, filename=source.name))

    def add_staged(self, name: str, source: Path) -> None:
        with self.store.staging() as staging:
            shutil.copyfile(source, staging / source.name)
            self.publish(name, self.store.ingest(staging / source.name, digest=None))

    def add_copied(self, name: str, source: Path) -> None:
        self.publish(name, self.store.ingest(source, digest=None))

    def publish(self, name: str, blob: Blob) -> None:
        self.store.add(describe(name, "test", [blob], [self.store.blob_path(blob.digest)]))

    def remove(self, name: str, source: Path) -> None:
        with contextlib.suppress(ModelNotFoundError, ModelInUseError):
            self.store.remove(name)

    def copy(self, name: str, source: Path) -> None:
        with contextlib.suppress(LocalLLMError):
            self.store.copy(name, f"{name}-copy")
        with contextlib.suppress(ModelNotFoundError):
            self.store.remove(f"{name}-copy")

    def adopt_linked(self, name: str, source: Path) -> None:
        self._adopt(source)

    def adopt_referenced(self, name: str, source: Path) -> None:
        def reference(source: Path, target: Path) -> blobs.BlobKind:  # noqa: ARG001
            return "reference"

        with mock.patch.object(blobs, "_link", reference):
            self._adopt(source)

    def _adopt(self, source: Path) -> None:
        index = self.sources.index(source)
        items = {item.files[0].filename: item for item in find_adoptable({}, home=self.home, platform="darwin")}
        manifest = adopt(self.store, items[f"x{index}.gguf"])
        if self.random.random() < 0.5:
            self.store.remove(manifest.name)

    def lease(self, name: str, source: Path) -> None:
        with contextlib.suppress(ModelNotFoundError), self.store.lease(self.store.get(name)):
            self.remove(name, source)

    def prune(self, _name: str, source: Path) -> None:
        self.store.prune(min_age_s=0)

    def verify(self, name: str, source: Path) -> None:
        with contextlib.suppress(ModelNotFoundError):
            assert all(state.state != "corrupt" for state in self.store.verify(name))

    def pull(self, _name: str, source: Path) -> None:
        """The real pull, from a server of the test."""
        from localllm.store.pull import PullSettings, pull

        assert self.url is not None
        pull(
            ModelName.parse(self.url),
            self.store,
            settings=PullSettings(allow_hosts=("127.0.0.1",), part_bytes=30_000, connections=2),
        )
        if self.random.random() < 0.7:
            self.store.remove(str(ModelName.parse(self.url)))

    def actions(self) -> list[Action]:
        """What a process may do to the store."""
        known: list[Action] = [
            self.add,
            self.add,
            self.add_staged,
            self.add_copied,
            self.remove,
            self.remove,
            self.copy,
        ]
        known += [self.adopt_linked, self.adopt_referenced, self.lease, self.prune, self.verify]
        return known + ([self.pull, self.pull] if self.url else [])

    def loop(self) -> None:
        """Change the store until killed. An error other than one meant for a person is written down."""
        actions = self.actions()
        while True:
            with contextlib.suppress(LocalLLMError):
                self.random.choice(actions)(self.random.choice(NAMES), self.random.choice(self.sources))

    # -- what must hold

    def check(self, *, prune: bool) -> None:
        """After any kill: what is listed is whole, theirs is untouched, an add succeeds, prune leaves no orphan."""
        store = ModelStore(self.workdir / "store")
        for manifest in store.list():
            store.paths(manifest)
            states = [state.state for state in store.verify(manifest.name)]
            assert set(states) == {"ok"}, f"{manifest.name} is listed and {states}"
        for i, source in enumerate(self.sources):
            theirs = self.home / ".lmstudio" / "models" / "a" / "b" / f"x{i}.gguf"
            assert theirs.read_bytes() == source.read_bytes(), "another program's file was harmed"
        after = World(self.workdir, self.random.randrange(2**31), None)
        source = self.random.choice(self.sources)
        after.add("after", source)
        assert store.paths(store.get("after"))[0].read_bytes() == source.read_bytes()
        store.remove("after")
        if prune:
            self.check_pruned(store)

    def check_pruned(self, store: ModelStore) -> None:
        store.prune(min_age_s=0)
        needed = {digest_stem(blob.digest) for manifest in store.list() for blob in manifest.blobs}
        stored = {path.name for path in (store.root / "blobs").iterdir()}
        records = {path.stem for path in (store.root / "records").iterdir()}
        assert stored <= needed == records, f"{len(stored - needed)} blobs, {len(records ^ needed)} records are orphans"
        for directory in ("work", "leases"):
            left = list((store.root / directory).iterdir())
            assert left == [], f"left in {directory}: {left}"


def start(world: World, seed: int) -> Killable:
    """A process that changes the store until killed."""
    return _Forked(world, seed) if hasattr(os, "fork") else _Spawned(world, seed)


class Killable:
    def kill(self) -> None:
        raise NotImplementedError


class _Forked(Killable):
    def __init__(self, world: World, seed: int) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            in_child(lambda: World(world.workdir, seed, world.url).loop())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_killed(self.pid)


class _Spawned(Killable):
    def __init__(self, world: World, seed: int) -> None:
        command = [
            sys.executable,
            __file__,
            str(world.workdir),
            "loop",
            "0",
            str(seed),
            *([world.url] if world.url else []),
        ]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        self.child.stdout.readline()

    def kill(self) -> None:
        assert self.child.poll() is None, "the child ended by itself"
        self.child.kill()
        self.child.wait()


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child and end it there; 3 says that it failed."""
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def wait_killed(pid: int) -> bool:
    """True when the child was killed, False when it had finished; an error in it is ours."""
    _, status = os.waitpid(pid, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the child failed, see above"
    return os.WIFSIGNALED(status)


def kill_at_random(world: World, count: int) -> dict[str, object]:
    """`count` kills; of every three one process runs alone and two run together."""
    kills = 0
    while kills < count:
        number = 1 + (kills % 3 != 0)
        children = [start(world, world.random.randrange(2**31)) for _ in range(number)]
        with contextlib.ExitStack() as killed:
            for child in children:
                killed.callback(_kill_later, child, world.random.expovariate(1 / 0.03))
        kills += number
        world.check(prune=kills % 2 == 0)
    world.check(prune=True)
    return {"kills": kills}


def _kill_later(child: Killable, after_s: float) -> None:
    time.sleep(after_s)
    child.kill()


def kill_everywhere(world: World, stride: int, doom: Doom) -> dict[str, object]:
    """For each action `doom` at its 1st, (1+stride)th, ... file operation, until it runs to its end."""
    kills: Counter[str] = Counter()
    for action in dict.fromkeys(action.__name__ for action in world.actions()):
        at = 1 + world.random.randrange(stride)
        while True:
            world.add_copied("m0", world.sources[0])
            world.add_copied("m1", world.sources[1])
            pid = os.fork()
            if pid == 0:
                in_child(lambda action=action, at=at: doom(world, action, at))  # type: ignore[misc]
            killed = wait_killed(pid)
            world.check(prune=at % 2 == 0)
            if not killed:
                break
            kills[action] += 1
            at += stride
    return {"kills": sum(kills.values()), **kills}


def _die_at(world: World, action: str, at: int) -> None:
    _at_operation(world, at, lambda: os.kill(os.getpid(), signal.SIGKILL), lambda _event: True)
    getattr(world, action)("m1", world.sources[2])


def _full_at(world: World, action: str, at: int) -> None:
    """The disk is full at one operation: only an error for a person may come out. Killed where it was reached."""
    reached = False

    def refuse() -> None:
        nonlocal reached
        reached = True
        raise OSError(errno.ENOSPC, "No space left on device", str(world.store.root))

    _at_operation(world, at, refuse, {"open", "os.mkdir", "os.rename", "os.link"}.__contains__)
    with contextlib.suppress(LocalLLMError):
        getattr(world, action)("m1", world.sources[2])
    left = [path.name for path in (world.store.root / "work").iterdir() if not path.name.startswith("p-")]
    assert left == [], f"not given back: {left}"
    if reached:
        os.kill(os.getpid(), signal.SIGKILL)


_READING = ("os.listdir", "os.scandir", "glob.glob")


def _at_operation(world: World, at: int, act: Callable[[], None], counts: Callable[[str], bool]) -> None:
    left, store = at, str(world.store.root)

    def count(event: str, args: tuple[object, ...]) -> None:
        """Python tells of each operation before it is done."""
        nonlocal left
        if not args or not str(args[0]).startswith(store) or event in _READING or not counts(event):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        left -= 1
        if left == 0:
            act()

    sys.addaudithook(count)


@contextlib.contextmanager
def warnings_fail() -> Iterator[None]:
    """A warning in the log of a check means that something was left half done."""

    checker = os.getpid()

    class Fail(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Two processes at work may well see each other's changes; the checks run alone.
            if os.getpid() == checker:
                raise AssertionError(f"logged: {record.getMessage()}")

    logging.getLogger("localllm").addHandler(Fail(logging.WARNING))
    yield


def main(workdir: str, mode: str, count: str, seed: str, url: str | None = None) -> None:
    # Nothing of the machine's own models is looked at, and nothing is imported after a fork.
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(Path(workdir) / "nobody")
    if url is not None:
        import localllm.store.here
        import localllm.store.pull
        import localllm.store.web  # noqa: F401
    world = World(Path(workdir), int(seed), url)
    if mode == "loop":
        print("ready", flush=True)
        world.loop()
    with warnings_fail():
        if mode == "random":
            report = kill_at_random(world, int(count))
        else:
            report = kill_everywhere(world, int(count), _full_at if mode == "full" else _die_at)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
