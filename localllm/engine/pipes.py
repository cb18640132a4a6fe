"""Frames from a child's stdout to the event loop.

Where the loop can watch a pipe it reads it itself: a thread in between costs two more wake-ups a token, on a small
machine taken from the cores that compute. On Windows, whose loop cannot watch such a pipe, a thread reads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import IO

from localllm.engine import frames

OnFrame = Callable[[frames.Answer], None]
OnEnd = Callable[[Exception | None], None]

# Small enough that Python's allocator keeps the buffer: asyncio's own 256 KiB is mapped and faulted in anew each time.
READ_BYTES = 1 << 16


def read_frames(loop: asyncio.AbstractEventLoop, stream: IO[bytes], on_frame: OnFrame, on_end: OnEnd) -> None:
    """Call `on_frame` for every frame, and once `on_end`, with the error that ended it if any; closes `stream`."""
    if sys.platform == "win32":
        threading.Thread(target=_read_in_thread, args=(loop, stream, on_frame, on_end), daemon=True).start()
        return
    data = bytearray()
    fd = stream.fileno()
    os.set_blocking(fd, False)

    def on_readable() -> None:
        failure: Exception | None = None
        try:
            more = os.read(fd, READ_BYTES)
            if more:
                data.extend(more)
                answers, used = frames.cut_answers(data)
                del data[:used]
                for answer in answers:
                    on_frame(answer)
                return
        except BlockingIOError:
            return
        except Exception as exc:
            failure = exc
        loop.remove_reader(fd)
        stream.close()
        on_end(failure)

    loop.add_reader(fd, on_readable)


def _read_in_thread(loop: asyncio.AbstractEventLoop, stream: IO[bytes], on_frame: OnFrame, on_end: OnEnd) -> None:
    failure: Exception | None = None
    try:
        with stream:
            while (frame := frames.read_answer(stream)) is not None:
                loop.call_soon_threadsafe(on_frame, frame)
    except Exception as exc:
        failure = exc
    if not loop.is_closed():
        loop.call_soon_threadsafe(on_end, failure)
