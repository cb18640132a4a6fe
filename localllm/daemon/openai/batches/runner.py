"""Batches: the part of the daemon that works through batches, one after the other, while nobody else wants an answer.

Lines begin only while no other request is under way, and one that another request has to wait for is put back. Where
others leave no time at all, one line now and then takes its turn among them. What was answered is kept line by line, so
that a daemon that comes after this one goes on where it ended, however it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from localllm.daemon.context import Daemon
from localllm.daemon.errors import UNEXPECTED, Problem, problem_of
from localllm.daemon.guard import Caller
from localllm.daemon.openai.batches.files import Files
from localllm.daemon.openai.batches.lines import BEHIND, ENDPOINTS, IN_TURN, Asker, Line, answer, line_decoder
from localllm.daemon.openai.batches.store import UNFINISHED, Batch, BatchStore
from localllm.daemon.openai.database import Database
from localllm.daemon.openai.values import error_value
from localllm.errors import InvalidRequestError, LocalLLMError
from localllm.store.locks import HeldLock, try_lock

logger = logging.getLogger(__name__)
NUM_AT_ONCE = 4
MAX_LINES = 50_000
_MAX_ERRORS = 50
_LOOK_S = 0.05
_PATIENCE_S = 0.3
_LOCK_S = 5.0
_NUM_TRIES = 5
# A line that brings the engine down must not do so until nobody gets one.
_NUM_TRIES_CRASHED = 2


class Batches:
    """The work on all batches. Made once for a daemon; of several daemons with one state folder one works."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.files = daemon.part(Files)
        database = daemon.part(Database)
        self.store = BatchStore(database, self.files)
        self._has_work = database.is_there
        self._task: asyncio.Task[None] | None = None
        self._cancelled: set[str] = set()
        # Lines under way, by number: the last of them is put back first.
        self._lines: dict[int, asyncio.Task[None]] = {}
        # The one that takes its turn among others, and when a line last began or ended.
        self._favoured: int | None = None
        self._moved = time.monotonic()

    def go_on(self) -> None:
        """See to it that unfinished batches are worked on."""
        self._has_work = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    def resume(self) -> None:
        """Go on with what an earlier daemon left."""
        if self._has_work:
            self.go_on()

    def cancel(self, batch_id: str) -> None:
        """End the lines of a batch that was told to end; `go_on` does the rest."""
        self._cancelled.add(batch_id)
        self.go_on()

    async def close(self) -> None:
        """Stop; what is not answered stays for the next daemon."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        lock = await self._lock()
        try:
            while self._has_work:
                self._has_work = False
                while (found := await self.store.next_unfinished()) is not None:
                    try:
                        await self._do(*found)
                    except InvalidRequestError as error:
                        await self._fail(found[0]["id"], error.message)
                    except LocalLLMError as error:
                        logger.warning("batch %s waits: %s", found[0]["id"], error.message)
                        await asyncio.sleep(_LOCK_S)
        finally:
            lock.release()

    async def _lock(self) -> HeldLock:
        path = self._daemon.state_dir / "batches.lock"
        # Not in a thread: a lock that is taken while this task is cancelled would be nobody's to release.
        while (lock := try_lock(path)) is None:
            await asyncio.sleep(_LOCK_S)
        return lock

    async def _do(self, batch: Batch, owner: str) -> None:
        """Bring a batch a step further: check its input, answer its lines, or end it."""
        batch_id, now = batch["id"], int(time.time())
        if batch["status"] == "validating":
            num_lines, errors = await asyncio.to_thread(self._check, batch)
            if errors:
                found = {"object": "list", "data": errors}
                await self.store.change(batch_id, ("validating",), status="failed", failed_at=now, errors=found)
                return
            counts = {"total": num_lines, "completed": 0, "failed": 0}
            await self.store.change(
                batch_id, ("validating",), status="in_progress", in_progress_at=now, request_counts=counts
            )
        elif batch["status"] == "in_progress":
            expired = await self._answer_lines(batch, owner)
            fields = {"expired_at": int(time.time())} if expired else {}
            await self.store.change(
                batch_id, ("in_progress",), status="finalizing", finalizing_at=int(time.time()), **fields
            )
        else:
            ends = "cancelled" if batch["status"] == "cancelling" else "completed"
            ends = "expired" if ends == "completed" and batch.get("expired_at") else ends
            await self.store.finish(batch_id, owner, ends, now, _expires(batch, now))
            self._cancelled.discard(batch_id)

    async def _fail(self, batch_id: str, message: str) -> None:
        errors = {"object": "list", "data": [{"code": "input_lost", "message": message, "line": None, "param": None}]}
        await self.store.change(batch_id, UNFINISHED, status="failed", failed_at=int(time.time()), errors=errors)

    # --- lines ------------------------------------------------------------------------------------------------------

    def _check(self, batch: Batch) -> tuple[int, list[dict[str, Any]]]:
        """In a thread: how many lines the input has, and what is wrong with them."""
        errors: list[dict[str, Any]] = []
        seen: set[str] = set()
        num_lines = 0
        for number, raw in self._read(batch):
            num_lines += 1
            problem = self._problem(raw, batch["endpoint"], seen)
            if problem is not None:
                errors.append({"code": problem[0], "message": problem[1], "line": number, "param": problem[2]})
            if num_lines > MAX_LINES:
                errors.append({"code": "too_many_lines", "message": f"more than {MAX_LINES} lines", "line": number})
            if num_lines > MAX_LINES or len(errors) >= _MAX_ERRORS:
                break
        if not num_lines and not errors:
            errors.append({"code": "empty_file", "message": "the file has no lines", "line": None, "param": None})
        return num_lines, errors

    def _problem(self, raw: bytes, endpoint: str, seen: set[str]) -> tuple[str, str, str | None] | None:
        if len(raw) > self._daemon.limits.body_bytes:
            return "line_too_long", f"a line of more than {self._daemon.limits.body_bytes} bytes", None
        try:
            line = line_decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return "invalid_json_line", str(exc), None
        if line.method != "POST":
            return "invalid_method", f"the method is {line.method!r}, not POST", "method"
        if line.url != endpoint or line.url not in ENDPOINTS:
            return "mismatched_url", f"the url is {line.url!r}, the batch's endpoint {endpoint!r}", "url"
        if line.custom_id in seen:
            return "duplicate_custom_id", f"custom_id {line.custom_id!r} is there twice", "custom_id"
        seen.add(line.custom_id)
        return None

    def _read(self, batch: Batch) -> Iterator[tuple[int, bytes]]:
        """The lines of the input with their numbers; empty ones are none."""
        most = self._daemon.limits.body_bytes + 1
        try:
            with self.files.path(batch["input_file_id"]).open("rb") as file:
                number = 0
                while raw := file.readline(most):
                    number += 1
                    if raw.strip():
                        yield number, raw
                    if len(raw) == most:
                        return
        except OSError as exc:
            raise InvalidRequestError(f"the input cannot be read: {exc.strerror or exc}") from exc

    async def _answer_lines(self, batch: Batch, owner: str) -> bool:
        """Answer every line that has no answer. True: the batch's time was over first."""
        batch_id = batch["id"]
        answered = await self.store.answered(batch_id)
        lines = (found for found in self._read(batch) if found[0] not in answered)
        caller = Caller(owner, "batch", is_batch=True)
        watch = asyncio.create_task(self._make_way())
        put_back: list[tuple[int, bytes]] = []
        self._moved = time.monotonic()
        try:
            while batch_id not in self._cancelled:
                if time.time() > batch["expires_at"]:
                    await self._stop_lines()
                    await self._expire(batch_id, [*put_back, *lines])
                    return True
                is_favoured = self._others()
                if len(self._lines) >= NUM_AT_ONCE or (is_favoured and not self._is_due()):
                    await self._wait_a_moment()
                    continue
                found = put_back.pop() if put_back else await asyncio.to_thread(next, lines, None)
                if found is None:
                    if not self._lines:
                        return False
                    await self._wait_a_moment()
                    continue
                number, raw = found
                asker = Asker(self._daemon, caller, IN_TURN if is_favoured else BEHIND)
                task = asyncio.create_task(self._answer(batch_id, asker, number, raw))
                self._lines[number] = task
                self._moved = time.monotonic()
                if is_favoured:
                    self._favoured = number
                task.add_done_callback(functools.partial(self._ended, found, put_back))
            return False
        finally:
            watch.cancel()
            await self._stop_lines()

    def _ended(self, line: tuple[int, bytes], put_back: list[tuple[int, bytes]], task: asyncio.Task[None]) -> None:
        self._lines.pop(line[0], None)
        if self._favoured == line[0]:
            self._favoured = None
        if task.cancelled():
            put_back.append(line)
            return
        self._moved = time.monotonic()
        if task.exception() is not None:
            logger.error("a line of a batch failed", exc_info=task.exception())
            put_back.append(line)

    async def _wait_a_moment(self) -> None:
        if self._lines:
            await asyncio.wait(list(self._lines.values()), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_LOOK_S)

    async def _stop_lines(self) -> None:
        tasks = list(self._lines.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _others(self) -> bool:
        """Whether somebody else has a request under way."""
        return any(not job.in_batch for job in self._daemon.running.jobs())

    def _is_due(self) -> bool:
        """Whether others have taken all the time for so long that a line takes its turn among them."""
        waited_s = time.monotonic() - self._moved
        return self._favoured is None and waited_s >= self._daemon.limits.batch_floor_s

    async def _make_way(self) -> None:
        """Put lines back, the latest first, as long as another's request has to wait."""
        while True:
            await asyncio.sleep(_LOOK_S)
            late = time.monotonic() - _PATIENCE_S
            jobs = self._daemon.running.jobs()
            waits = [job for job in jobs if not job.in_batch and job.state in ("waiting", "queued")]
            lines = [number for number in self._lines if number != self._favoured]
            if lines and any(job.began < late for job in waits):
                self._lines[max(lines)].cancel()

    async def _answer(self, batch_id: str, asker: Asker, number: int, raw: bytes) -> None:
        line = line_decoder.decode(raw)
        status, body = await self._outcome(asker, line)
        is_error = status >= 400
        value = {
            "id": f"batch_req_{batch_id.removeprefix('batch_')}_{number}",
            "custom_id": line.custom_id,
            "response": {"status_code": status, "request_id": secrets.token_hex(12), "body": body},
            "error": None,
        }
        await self.store.add_lines(batch_id, [(number, is_error, msgspec.json.encode(value))])

    async def _outcome(self, asker: Asker, line: Line) -> tuple[int, dict[str, Any]]:
        """A line's answer; what asking again may help against is asked again, and for a place as often as it takes."""
        num_tries = 0
        while True:
            try:
                return 200, await answer(asker, line)
            except LocalLLMError as error:
                problem = problem_of(error)
                if problem.code == "shutting_down":
                    # Not this line's fault: the next daemon asks it again.
                    await asyncio.Event().wait()
                num_tries += problem.code != "queue_full"
                most = _NUM_TRIES_CRASHED if problem.code == "engine_crashed" else _NUM_TRIES
                if problem.status < 500 or not problem.retry or num_tries >= most:
                    return _failed(problem)
                await asyncio.sleep(min(problem.retry_after_s or 1.0, 60.0))
            except Exception:
                logger.exception("a line of a batch failed")
                return _failed(UNEXPECTED)

    async def _expire(self, batch_id: str, lines: list[tuple[int, bytes]]) -> None:
        error = {"code": "batch_expired", "message": "the batch's time was over before this line's turn"}
        rows = []
        for number, raw in lines:
            value = {
                "id": f"batch_req_{batch_id.removeprefix('batch_')}_{number}",
                "custom_id": line_decoder.decode(raw).custom_id,
                "response": None,
                "error": error,
            }
            rows.append((number, True, msgspec.json.encode(value)))
        await self.store.add_lines(batch_id, rows)


def _failed(problem: Problem) -> tuple[int, dict[str, Any]]:
    return problem.status, {"error": error_value(problem)}


def _expires(batch: Batch, now: int) -> int | None:
    with contextlib.suppress(KeyError, TypeError):
        return now + int(batch["output_expires_after"]["seconds"])
    return None
