"""Transfer: the bytes of one file on their way. Owns ranges in parallel, resume, stalls, retries and restarts.

The caller's thread waits, reports and cancels; workers fetch parts. A worker owns its part until that is complete, and
writes only under the lock and while nobody has stopped or restarted the transfer. Does not judge the bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from localllm.errors import AccessDeniedError, DownloadError, ModelNotFoundError
from localllm.store import ranges
from localllm.store.addresses import origin_of
from localllm.store.files import check_free, create_private, os_errors
from localllm.store.pull_settings import PullSettings
from localllm.store.ranges import Part, State
from localllm.store.sources.remote import RemoteFile
from localllm.store.web import LinkError, Reply, Web

log = logging.getLogger(__name__)

_BUSY = (408, 425, 429, 500, 502, 503, 504)
_SAVE_BYTES = 64 << 20
_PROGRESS_BYTES = 1 << 20
_REPORT_S = 0.1
_MAX_RESTARTS = 3
_MAX_FILE_BYTES = 1 << 44


class _RetryError(Exception):
    """Try the same part again; not before `wait_s`, where the server said so."""

    def __init__(self, why: str, *, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class _StaleError(Exception):
    """The part is no longer wanted: the transfer has stopped or begun anew."""


def check_cancelled(cancelled: threading.Event) -> None:
    """Raise concurrent.futures.CancelledError once the event is set."""
    if cancelled.is_set():
        from concurrent.futures import CancelledError

        raise CancelledError("the download was cancelled")


class Transfer:
    """Fills `path` with the bytes of `file`; good for one `run`."""

    def __init__(
        self, file: RemoteFile, path: Path, web: Web, settings: PullSettings, cancelled: threading.Event
    ) -> None:
        self._file = file
        self._path = path
        self._web = web
        self._settings = settings
        self._cancelled = cancelled
        self._changed = threading.Condition()
        self._halt = threading.Event()
        self._replies: dict[int, Reply] = {}
        self._error: BaseException | None = None
        self._num_workers = 0
        self._num_restarts = 0
        self._contacted = False
        self._unsaved = 0
        # What is known of the file; begun anew when that turns out wrong.
        self._epoch = 0
        self._parts: list[Part] = []
        self._pending: deque[Part] = deque()
        self._size: int | None = None
        self._validator: str | None = None
        self._final_url: str | None = None
        self._in_ranges = False  # the server has answered a range rightly
        self._no_ranges = False  # it has answered one wrongly: ask for the whole

    def run(self, on_bytes: Callable[[int, int | None], None] | None = None) -> bool:
        """Fetch what is missing; True when bytes of an earlier run were used. Errors as `download` names them."""
        resumed = self._load()
        if not self._path.exists():
            create_private(self._path).close()
        if not self._parts:
            self._begin_parts()
        if self._pending:
            self._start_worker()
            try:
                self._wait(on_bytes)
            finally:
                self._stop()
            if self._error is not None:
                raise self._error
        assert all(part.complete for part in self._parts), "a part was lost"
        self._trim()
        return resumed

    # -- the caller's thread

    def _wait(self, on_bytes: Callable[[int, int | None], None] | None) -> None:
        told = None
        while True:
            with self._changed:
                if self._num_workers and self._error is None:
                    self._changed.wait(_REPORT_S)
                ended = self._num_workers == 0 or self._error is not None
                room = self._settings.connections - self._num_workers
                more = min(room, len(self._pending)) if self._in_ranges and not ended else 0
                state = self._done(), self._size
            if state != told and on_bytes is not None:
                told = state
                on_bytes(*state)
            if ended:
                return
            check_cancelled(self._cancelled)
            for _ in range(more):
                self._start_worker()

    def _start_worker(self) -> None:
        with self._changed:
            self._num_workers += 1
        threading.Thread(target=self._work, name="download", daemon=True).start()

    def _stop(self) -> None:
        """End the workers; after this none writes any more. What arrived is remembered."""
        self._halt.set()
        with self._changed:
            for reply in self._replies.values():
                reply.interrupt()
            with contextlib.suppress(OSError):
                self._save()

    def _trim(self) -> None:
        """Cut off what an earlier, longer try left behind the end."""
        assert self._size is not None
        with self._path.open("r+b") as data:
            data.truncate(self._size)

    # -- workers

    def _work(self) -> None:
        try:
            while (part := self._take()) is not None:
                with contextlib.suppress(_StaleError):
                    self._fetch(part)
        except BaseException as exc:
            with self._changed:
                self._error = self._error or exc
        finally:
            with self._changed:
                self._num_workers -= 1
                self._changed.notify_all()

    def _take(self) -> Part | None:
        with self._changed:
            if self._halt.is_set() or self._error is not None or not self._pending:
                return None
            return self._pending.popleft()

    def _fetch(self, part: Part) -> None:
        while not part.complete:
            before = part.pos
            try:
                self._attempt(part)
                if not part.complete and not (self._in_ranges and part.pos > before):
                    raise _RetryError(f"{origin_of(self._file.url).host} ended early")
            except LinkError as exc:
                if exc.connecting and not self._contacted:
                    raise DownloadError(str(exc), hint="is this machine online?") from exc
                self._pause(part, exc, None)
            except _RetryError as exc:
                self._pause(part, exc, exc.wait_s)

    def _attempt(self, part: Part) -> None:
        with self._changed:
            self._check_wanted(part)
            if part.end is None:
                part.pos = 0
            url, whole = self._final_url or self._file.url, self._no_ranges
        last = (part.end or self._part_bytes(self._file.size_bytes)) - 1
        headers = {} if whole else {"Range": f"bytes={part.pos}-{last}"}
        secrets = dict(self._file.secrets)
        with self._web.get(url, headers=headers, secrets=secrets, home=self._file.url) as reply:
            with self._changed:
                self._check_wanted(part)
                self._contacted = True
                self._replies[threading.get_ident()] = reply
            try:
                if reply.status == 206 and not whole:
                    self._accept_range(reply, part, last)
                elif reply.status == 200:
                    self._accept_whole(reply, part)
                else:
                    self._refuse(reply, part)
                self._receive(reply, part)
            finally:
                with self._changed:
                    self._replies.pop(threading.get_ident(), None)

    def _accept_range(self, reply: Reply, part: Part, last: int) -> None:
        """Part of the file: the right part, of the right file?"""
        found, validator = reply.content_range(), reply.validator()
        with self._changed:
            self._check_wanted(part)
            if found is None or found[0] != part.pos or not found[0] <= found[1] <= min(last, found[2] - 1):
                self._begin_anew("the server sends other ranges than asked for", no_ranges=True)
            total = found[2]
            if part.end is None:
                # This worker goes on with what it asked for, and got; the rest is for all.
                self._learn(total)
                part.end = found[1] + 1
                self._pending = deque(ranges.plan(part.end, total, self._part_bytes(total), self._epoch))
                self._parts = [part, *self._pending]
            elif total != self._size or (validator and self._validator and validator != self._validator):
                self._begin_anew("the file has changed at its source")
            self._validator = self._validator or validator
            self._final_url = reply.url
            self._in_ranges = True
            self._changed.notify_all()

    def _accept_whole(self, reply: Reply, part: Part) -> None:
        """All of the file in one piece, whatever was asked for: this worker takes it alone."""
        total = reply.content_length()
        with self._changed:
            self._check_wanted(part)
            if len(self._parts) != 1 or self._parts[0] is not part:
                self._forget("the server sends the whole file")
            self._in_ranges = False
            self._pending.clear()
            self._parts = [part]
            part.start = part.pos = 0
            part.epoch = self._epoch
            part.end = self._file.size_bytes if total is None else total
            if part.end is not None:
                self._learn(part.end)
            self._final_url = reply.url

    def _receive(self, reply: Reply, part: Part) -> None:
        encoding = reply.header("content-encoding") or "identity"
        if encoding.lower() != "identity":
            raise DownloadError(f"{origin_of(reply.url).host} sends {self._file.filename} as {encoding}")
        limit = _MAX_FILE_BYTES if part.end is None else part.end
        with self._path.open("r+b", buffering=0) as data:
            data.seek(part.pos)
            for chunk in reply.raw():
                if part.pos + len(chunk) > limit:
                    raise DownloadError(f"{origin_of(reply.url).host} sends more of {self._file.filename} than it said")
                with self._changed:
                    self._check_wanted(part)
                    with os_errors(f"write {self._path}", self._path.parent):
                        _write_all(data.write, chunk)
                        part.pos += len(chunk)
                        self._unsaved += len(chunk)
                        if self._unsaved >= _SAVE_BYTES:
                            self._save()
        with self._changed:
            if part.end is None:
                self._check_wanted(part)
                part.end = self._size = part.pos

    def _refuse(self, reply: Reply, part: Part) -> NoReturn:
        """Raise what a status means that carries no file."""
        host, name = origin_of(reply.url).host, self._file.filename
        if reply.status in (206, 416):
            with self._changed:
                self._check_wanted(part)
                self._begin_anew("the server knows no such range", no_ranges=True)
        if reply.status in _BUSY:
            raise _RetryError(f"{host} answers {reply.status}", wait_s=reply.retry_after_s())
        if origin_of(reply.url) != origin_of(self._file.url):
            # Addresses that redirects give run out; the next try asks at home for a new one.
            raise _RetryError(f"{host} answers {reply.status}")
        if reply.status in (401, 403):
            hint = self._file.access_hint or "it wants a login, which localllm has none for"
            raise AccessDeniedError(f"{host} refuses {name} ({reply.status})", hint=hint, status=reply.status)
        if reply.status in (404, 410):
            raise ModelNotFoundError(f"{host} has no {name}", name=name)
        raise DownloadError(f"{host} answers {reply.status} for {name}", status=reply.status)

    def _pause(self, part: Part, why: Exception, wait_s: float | None) -> None:
        """Count a failure and wait before the next try; DownloadError when it was the last."""
        settings = self._settings
        with self._changed:
            self._check_wanted(part)
            self._final_url = None
            if part.pos >= part.best + _PROGRESS_BYTES:
                part.failures = 0
            part.failures += 1
            part.best = max(part.best, part.pos)
        if part.failures >= settings.max_tries:
            hint = "what arrived is kept: the same command goes on from there" if self._in_ranges else "try again later"
            raise DownloadError(f"{why} ({part.failures} tries)", hint=hint) from why
        if wait_s is not None and wait_s > settings.max_wait_s:
            raise DownloadError(f"{why}: it wants {wait_s:.0f} s of peace", hint="try again then", retry_after_s=wait_s)
        delay = min(settings.backoff_s * 2 ** (part.failures - 1), settings.max_wait_s) * random.uniform(0.5, 1.0)
        delay = max(delay, wait_s or 0.0)
        log.info("%s: %s; next try in %.1f s", self._file.filename, why, delay)
        self._halt.wait(delay)

    # -- what is known of the file; all but the first two are called with the lock held

    def _load(self) -> bool:
        directory = self._path.parent
        state = ranges.load(directory, self._path)
        if state is None or not ranges.fits(state, self._file):
            ranges.forget(directory)
            self._path.unlink(missing_ok=True)
            return False
        self._size = state.size_bytes
        self._validator = state.validator if state.url == self._file.url else None
        self._parts = ranges.split([Part(*part) for part in state.parts], self._part_bytes(state.size_bytes))
        self._pending = deque(part for part in self._parts if not part.complete)
        check_free(directory, self._size - self._done())
        return self._done() > 0

    def _begin_parts(self) -> None:
        """One part of unknown end: its first answer tells the size, and whether the server knows ranges."""
        self._parts = [Part(0, 0, None, epoch=self._epoch)]
        self._pending = deque(self._parts)

    def _begin_anew(self, why: str, *, no_ranges: bool = False) -> NoReturn:
        """Drop everything known and ask again; always raises, _StaleError or (too often) DownloadError."""
        self._forget(why)
        self._no_ranges = self._no_ranges or no_ranges
        self._begin_parts()
        raise _StaleError

    def _forget(self, why: str) -> None:
        log.info("%s begins anew: %s", self._file.filename, why)
        self._num_restarts += 1
        if self._num_restarts > _MAX_RESTARTS:
            raise DownloadError(f"{self._file.filename}: {why}, again and again", hint="try again later")
        self._epoch += 1
        self._parts, self._size, self._validator = [], None, None
        self._final_url, self._in_ranges = None, False
        self._pending.clear()
        ranges.forget(self._path.parent)

    def _learn(self, total: int) -> None:
        promised = self._file.size_bytes
        if promised is not None and total != promised:
            raise DownloadError(f"{self._file.filename} has {total} bytes at its source, {promised} were promised")
        if total > _MAX_FILE_BYTES:
            raise DownloadError(f"{self._file.filename} is said to have {total} bytes")
        check_free(self._path.parent, total)
        self._size = total

    def _check_wanted(self, part: Part) -> None:
        if self._halt.is_set() or self._error is not None or part.epoch != self._epoch:
            raise _StaleError

    def _part_bytes(self, total: int | None) -> int:
        limit = self._settings.part_bytes
        return limit if total is None else max(min(limit, -(-total // self._settings.connections)), 1)

    def _done(self) -> int:
        return sum(part.pos - part.start for part in self._parts)

    def _save(self) -> None:
        self._unsaved = 0
        if self._size is None or not self._in_ranges:
            return
        if self._file.sha256 is None:
            # No digest would tell later that the system lost bytes it had already taken.
            with self._path.open("r+b") as data:
                os.fsync(data.fileno())
        parts = tuple((p.start, p.pos, p.end) for p in self._parts if p.end is not None)
        state = State(self._file.url, self._size, self._validator, self._file.sha256, parts)
        ranges.save(self._path.parent, state)


def _write_all(write: Callable[[bytes], int | None], chunk: bytes) -> None:
    done = write(chunk) or 0
    while done < len(chunk):
        done += write(chunk[done:]) or 0
