"""Every screen, as it looks in dark, light and narrow, over conversations that are the same each time."""

from __future__ import annotations

import datetime
import os
import time
import types
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from localllm_tui.history.history import History
from localllm_tui.history.values import Stats
from localllm_tui.look.themes import DARK, LIGHT
from localllm_tui.options import ChatSettings
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.screens.server import ServerScreen
from localllm_tui.widgets import conversation_list
from localllm_tui.widgets.chart import Chart
from textual.widgets import Static

from localllm.api import LoadedModel, RunningRequest, Status
from tests.tui.host import MODEL, Host, chat_host, run
from tests.tui.snapshots import assert_snapshot, snapshot

THEN = 1_768_500_000.0
ANSWER = '''Here is a function that **adds one**.

```python
def add_one(number: int) -> int:
    """The next number."""
    return number + 1
```

| call | gives |
|---|---:|
| `add_one(1)` | 2 |
| `add_one(41)` | 42 |

1. Read it.
2. Use it: $x \\mapsto x + 1$.
'''
STATS = Stats(
    num_prompt_tokens=64, num_cached_tokens=40, num_output_tokens=120, prompt_s=0.2, decode_s=1.5, first_token_s=0.25,
    total_s=1.75,
)  # fmt: skip
STATUS = Status(
    loaded=(
        LoadedModel(MODEL, 7, 8192, 4, 8192, "CPU", 3, 1, bytes_by_device={"CPU": 180_000_000}, expires_in_s=240.0),
        LoadedModel("qwen3:0.6b", 8, 32768, 2, 40960, "CUDA0", bytes_by_device={"CUDA0": 620_000_000}, pinned=True),
    ),
    requests=(
        RunningRequest(MODEL, "chat", "running", 12.0, id="summary-1"),
        RunningRequest(MODEL, "chat", "running", 3.0),
        RunningRequest(MODEL, "completion", "queued", 1.0, id="batch-7", num_ahead=2, eta_s=9.0),
    ),
    num_active=3,
    num_places=128,
)


def fill(database: Path) -> int:
    """Conversations; the id of one with branches."""
    history = History(database)
    for title in ("Planning a week in Lisbon", "Why is the sky blue?"):
        other = history.new(model="qwen3:0.6b", title=title)
        history.add(other.id, None, "user", title, created=THEN)
    history.change(other.id, folder="Science")
    talk = history.new(model=MODEL, title="A function that adds one")
    asked = history.add(talk.id, None, "user", "Show me a function.", created=THEN)
    for content in ("An earlier answer.", ANSWER):
        answer = history.add(
            talk.id, asked.id, "assistant", content, model=MODEL, stats=STATS, created=THEN, reasoning="Which one?"
        )
    last = history.add(talk.id, answer.id, "user", "And one that subtracts?", created=THEN)
    history.add(talk.id, last.id, "assistant", "`number - 1` does.", model=MODEL, stats=STATS, created=THEN)
    history.close()
    return talk.id


class Then(datetime.datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Then:
        return cls.fromtimestamp(THEN + 7200, tz)


Step = Callable[[Host], Awaitable[None]]


def pressing(*keys: str) -> Step:
    async def step(host: Host) -> None:
        await host.pilot.press(*keys)

    return step


async def server(host: Host) -> None:
    """The server's screen, told what to say."""
    screen = ServerScreen(host.app.backend)
    await host.app.push_screen(screen)
    screen.workers.cancel_all()
    screen._url, screen._version = "http://127.0.0.1:11435", "0.1.0"
    screen.take(STATUS, at=0.0)
    await host.until(lambda: "qwen3" in str(screen.query_one("#server-models", Static).render()))
    screen.query_one(Chart).values = tuple(40 + 30 * (number % 7) / 6 for number in range(200))


async def settle(host: Host) -> None:
    """Until nothing changes on the screen any more."""
    seen, times = "", 0
    while times < 3:
        await host.pilot.pause(0.06)
        now = snapshot(host.app)
        seen, times = now, times + 1 if now == seen else 0


SCREENS: dict[str, Step] = {
    "chat": pressing(),
    "turn": pressing("ctrl+up"),
    "help": pressing("f1"),
    "palette": pressing("ctrl+p"),
    "search": pressing("ctrl+f", *"adds"),
    "models": pressing("f3"),
    "tree": pressing("f5"),
    "tools": pressing("f7"),
    "personas": pressing("f9"),
    "server": server,
}
LOOKS = {"dark": (DARK, 100), "light": (LIGHT, 100), "narrow": (DARK, 44)}


@pytest.fixture(autouse=True)
def same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LOCALLLM_HOME", "/nowhere/localllm")  # the path is seen
    monkeypatch.setattr(time, "time", lambda: THEN + 7200)
    then = types.SimpleNamespace(**{**vars(datetime), "datetime": Then})
    monkeypatch.setattr(conversation_list, "datetime", then)
    if hasattr(time, "tzset"):
        time.tzset()


@pytest.mark.skipif(os.name != "posix", reason="paths look otherwise on Windows")
@pytest.mark.parametrize("look", LOOKS)
def test_every_screen_looks_as_it_was_kept(look: str, tmp_path: Path) -> None:
    theme, columns = LOOKS[look]

    async def story() -> None:
        talk = fill(tmp_path / "chat.db")
        settings = ChatSettings(theme=theme)
        async with chat_host(tmp_path, settings=settings, size=(columns, 30), conversation=talk) as host:
            host.composer.query_one("PromptArea").cursor_blink = False  # type: ignore[attr-defined]
            differing = []
            for name, step in SCREENS.items():
                await step(host)
                await settle(host)
                try:
                    assert_snapshot(host.app, f"{name}-{look}")
                except AssertionError as exc:
                    differing.append(str(exc))
                while not isinstance(host.app.screen, ChatScreen):
                    await host.pilot.press("escape")
                    await host.pilot.pause()
                host.composer.focus()
                await host.pilot.pause()
            assert differing == []

    run(story())
