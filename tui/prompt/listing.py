"""Folders, looked through with bounds: what a glob takes, what may complete a path. Follows no link to a folder."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Made by tools, large, and never what somebody wants to talk about.
_SKIPPED = frozenset(
    {"node_modules", "__pycache__", "venv", "env", "target", "dist", "build", "site-packages", "vendor"}
)
_GLOB = frozenset("*?")
MAX_ENTRIES = 20_000
MAX_DEPTH = 24


class PathChoice(NamedTuple):
    """A way to complete a path: what it becomes, and whether that is a folder."""

    pattern: str
    is_folder: bool = False


class Listed(NamedTuple):
    """Files found, sorted. `is_cut`: there were more, or more to look through, than the bounds allow."""

    files: tuple[Path, ...]
    is_cut: bool = False


class _Budget:
    """How many entries may still be looked at."""

    def __init__(self, num_entries: int) -> None:
        self.left = num_entries


def is_glob(pattern: str) -> bool:
    """Whether a pattern stands for any number of files."""
    return any(char in _GLOB for char in pattern)


def absolute(pattern: str, folder: Path) -> Path:
    """The path that is meant: `~` is home, anything else starts in `folder`."""
    try:
        return folder / Path(pattern).expanduser()
    except RuntimeError:  # no home folder
        return folder / pattern


def shown_path(path: Path, folder: Path) -> str:
    """A path as a person would write it: from `folder`, from home, else whole; with slashes everywhere."""
    for base, mark in ((folder, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return mark + path.relative_to(base).as_posix()
    return path.as_posix()


def expand(pattern: str, folder: Path, max_files: int, max_entries: int = MAX_ENTRIES) -> Listed:
    """The files a glob means. `**` is any number of folders; wildcards pass over hidden and ignored ones."""
    whole = absolute(pattern, folder)
    parts = [part for part in whole.parts[len(Path(whole.anchor).parts) :] if part != "."]
    if parts and parts[-1] == "**":
        parts.append("*")
    base = Path(whole.anchor)
    while len(parts) > 1 and not is_glob(parts[0]):
        base /= parts.pop(0)
    budget, files = _Budget(max_entries), set[Path]()
    ignored = ignored_names(folder)
    for path in _matches(base, parts, ignored, budget, 0):
        if len(files) == max_files and path not in files:
            return Listed(tuple(sorted(files)), is_cut=True)
        files.add(path)
    return Listed(tuple(sorted(files)), is_cut=budget.left <= 0)


def ignored_names(folder: Path) -> frozenset[str]:
    """Names of folders that are passed over: well-known ones, and plain names from `.gitignore`."""
    try:
        with (folder / ".gitignore").open("rb") as file:
            lines = file.read(100_000).decode("utf-8", "replace").splitlines()
    except OSError:
        return _SKIPPED
    named = (line.strip().strip("/") for line in lines if not line.startswith(("#", "!")))
    return _SKIPPED | {name for name in named if name and "/" not in name and not is_glob(name)}


def choices(begun: str, folder: Path, limit: int = 30, max_entries: int = 5_000) -> tuple[PathChoice, ...]:
    """What may complete `begun`: entries of the folder it names, then files further down that hold its letters."""
    cut = begun.rfind("/") + 1
    prefix, last = begun[:cut], begun[cut:]
    if is_glob(last):
        return ()
    base, ignored = absolute(prefix, folder), ignored_names(folder)
    entries = [entry for entry in _entries(base, _Budget(max_entries)) if _fits(entry.name, last, ignored)]
    entries.sort(key=lambda entry: (not entry.name.startswith(last), entry.name.lower()))
    found: list[PathChoice] = []
    for entry in entries:
        if (is_folder := _is_folder(entry)) or _is_file(entry):
            found.append(PathChoice(prefix + entry.name + "/" * is_folder, is_folder))
    if prefix and not last and found:
        found.insert(0, PathChoice(prefix + "**"))
    if len(last) >= 2 and len(found) < limit:
        deeper = _deeper(base, last, ignored, _Budget(max_entries))
        found += [PathChoice(prefix + below) for below in deeper[: limit - len(found)]]
    return tuple(found[:limit])


def _fits(name: str, last: str, ignored: frozenset[str]) -> bool:
    if last and name.startswith(last):
        return True
    return not name.startswith(".") and name not in ignored and last.lower() in name.lower()


def _deeper(base: Path, last: str, ignored: frozenset[str], budget: _Budget) -> list[str]:
    """Files below `base`, not in it, whose path holds the letters of `last` in order; first those whose name has it."""
    found: list[tuple[bool, int, str]] = []
    for path in _matches(base, ["**", "*"], ignored, budget, 0):
        below = path.relative_to(base).as_posix()
        letters = iter(below.lower())
        if "/" in below and all(letter in letters for letter in last.lower()):
            found.append((last.lower() not in path.name.lower(), len(below), below))
    return [below for _, _, below in sorted(found)]


def _matches(base: Path, parts: list[str], ignored: frozenset[str], budget: _Budget, depth: int) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        yield from _matches(base, rest, ignored, budget, depth)
    below: list[Path] = []
    for entry in _entries(base, budget):
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if part == "**" or rest:
            if _is_folder(entry) and entry.name not in ignored and (part == "**" or _named(entry.name, part)):
                below.append(base / entry.name)
        elif _named(entry.name, part) and _is_file(entry):
            yield base / entry.name
    for path in below if depth < MAX_DEPTH else ():
        yield from _matches(path, parts if part == "**" else rest, ignored, budget, depth + 1)


def _named(name: str, part: str) -> bool:
    # Brackets are part of many files' names, so they are no wildcards here.
    return fnmatch.fnmatchcase(name, part.replace("[", "[[]"))


def _entries(folder: Path, budget: _Budget) -> Iterator[os.DirEntry[str]]:
    """A folder's entries by name, as far as the budget goes; none where it cannot be read."""
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget.left -= 1
                if budget.left < 0:
                    break
                found.append(entry)
    except OSError:
        return iter(())
    return iter(sorted(found, key=lambda entry: entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
