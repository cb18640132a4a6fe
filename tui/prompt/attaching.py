"""What hangs at a prompt: files that its text mentions, pastes, what was piped in; and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from localllm_tui.history.values import Attachment
from localllm_tui.prompt import listing
from localllm_tui.prompt.files import FileText, NotTextError, read_text
from localllm_tui.prompt.mentions import mentions

from localllm import terminal_text
from localllm.errors import UsageError
from localllm.terminal_text import safe_line

MAX_FILES = 100
MAX_TOTAL_BYTES = 4_000_000


class Holding(NamedTuple):
    """One chip: a mention with its files, or an attachment that is not in the text (`mention` is None).

    `problem` keeps it from being sent; `note` is only said. Neither files nor a problem: the mention is text.
    """

    name: str
    attachments: tuple[Attachment, ...] = ()
    mention: str | None = None
    num_bytes: int = 0
    note: str = ""
    problem: str = ""
    hint: str = ""

    @property
    def num_tokens(self) -> int | None:
        """Tokens of all its files, where each has been counted."""
        counts = [item.num_tokens for item in self.attachments]
        return None if None in counts or not counts else sum(count for count in counts if count is not None)


def of_attachment(attachment: Attachment) -> Holding:
    """A paste, or what was piped in."""
    return Holding(attachment.name, (attachment,), num_bytes=len(attachment.text.encode("utf-8", "replace")))


def of_text(text: str, folder: Path, held: Iterable[Attachment] = ()) -> tuple[Holding, ...]:
    """What the mentions in a text come to; reads the files, but for those that are `held` as they were once.

    Mentions of nothing that look like no path are left out.
    """
    holdings: list[Holding] = []
    seen, num_bytes = {Path(item.path) for item in held if item.path}, 0
    for pattern in dict.fromkeys(mention.pattern for mention in mentions(text)):
        holding = _mentioned(pattern, folder, seen, MAX_TOTAL_BYTES - num_bytes)
        if holding is not None:
            holdings.append(holding)
            num_bytes += holding.num_bytes
    return tuple(holdings)


def check(holdings: Iterable[Holding]) -> tuple[Attachment, ...]:
    """All attachments, as they are to be sent. Raises UsageError for the first that cannot be."""
    attachments: list[Attachment] = []
    for holding in holdings:
        if holding.problem:
            raise UsageError(holding.problem, hint=holding.hint or None)
        attachments += holding.attachments
    num_bytes = sum(len(item.text) for item in attachments)
    if num_bytes > 2 * MAX_TOTAL_BYTES:
        limit = terminal_text.size(2 * MAX_TOTAL_BYTES)
        raise UsageError(f"the attachments have {terminal_text.size(num_bytes)}", hint=f"together at most {limit}")
    return tuple(attachments)


def check_there(seen: Iterable[Holding], found: Iterable[Holding]) -> None:
    """Raise UsageError for the first mention that was `seen` as files and is none among what was `found` just now."""
    found = tuple(found)
    paths = {item.path for one in found for item in one.attachments}
    wrong = {one.mention for one in found if one.problem}
    for one in seen:
        if one.attachments and one.mention not in wrong and not paths & {item.path for item in one.attachments}:
            raise UsageError(f"{one.name} is not there any more", hint="take it out of the text, or bring it back")


def _mentioned(pattern: str, folder: Path, seen: set[Path], max_bytes: int) -> Holding | None:
    path = Path(os.path.normpath(listing.absolute(pattern, folder)))
    name = safe_line(pattern)
    if os.path.lexists(path):
        holding = _file(path, name, pattern, folder, max_bytes)
    elif listing.is_glob(pattern):
        holding = _glob(pattern, folder, seen, max_bytes)
    elif "/" in pattern or pattern.startswith("~") or " " in pattern:
        return Holding(name, mention=pattern, note="no such file; goes as text")
    else:
        return None
    if path in seen or not (holding.attachments or holding.problem or holding.note):
        return None
    seen.update(Path(item.path) for item in holding.attachments if item.path)
    return holding


def _file(path: Path, name: str, pattern: str, folder: Path, max_bytes: int) -> Holding:
    if path.is_dir():
        hint = f"@{safe_line(pattern.rstrip('/'))}/** takes the files in it"
        return Holding(name, mention=pattern, problem=f"{name} is a folder", hint=hint)
    try:
        found = read_text(path)
    except UsageError as exc:
        return Holding(name, mention=pattern, problem=exc.message, hint=exc.hint or "")
    if found.num_bytes > max_bytes:
        return Holding(name, mention=pattern, problem=_too_much(name), hint=_HINT_TOTAL)
    return Holding(name, (_attachment(found, folder),), pattern, found.num_bytes, found.note)


def _glob(pattern: str, folder: Path, seen: set[Path], max_bytes: int) -> Holding:
    name = safe_line(pattern)
    listed = listing.expand(pattern, folder, MAX_FILES)
    if listed.is_cut:
        problem = f"{name} takes more than {MAX_FILES} files, or too many folders"
        return Holding(name, mention=pattern, problem=problem, hint="a narrower pattern, such as one file ending")
    if not listed.files:
        return Holding(name, mention=pattern, note="matches no file; goes as text")
    attachments, left_out, num_bytes, notes = list[Attachment](), 0, 0, set[str]()
    for path in listed.files:
        if path in seen:
            continue
        try:
            found = read_text(path)
        except NotTextError:
            left_out += 1
            continue
        except UsageError as exc:
            return Holding(name, mention=pattern, problem=exc.message, hint=exc.hint or "")
        num_bytes += found.num_bytes
        if num_bytes > max_bytes:
            return Holding(name, mention=pattern, problem=_too_much(name), hint=_HINT_TOTAL)
        attachments.append(_attachment(found, folder))
        notes.update({found.note} - {""})
    if left_out:
        notes.add(f"{left_out} that {'is' if left_out == 1 else 'are'} no text left out")
    return Holding(name, tuple(attachments), pattern, num_bytes, ", ".join(sorted(notes)))


_HINT_TOTAL = f"files of {terminal_text.size(MAX_TOTAL_BYTES)} together can be attached"


def _too_much(name: str) -> str:
    return f"{name} is too much beside the other files"


def _attachment(found: FileText, folder: Path) -> Attachment:
    return Attachment(safe_line(listing.shown_path(found.path, folder)), found.text, str(found.path))
