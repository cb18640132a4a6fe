"""Models on their way, through the screen: several at once, paused, failed, tried again; also over a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.widgets.pull_row import PullRow
from textual.widgets import Button, Static

from localllm.api import Backend, Progress
from localllm.client import Client
from localllm.config import Settings
from localllm.daemon.run import ServeOptions
from localllm.errors import (
    AccessDeniedError,
    DigestMismatchError,
    DiskFullError,
    DownloadError,
    LocalLLMError,
    ModelNotFoundError,
    OfflineError,
)
from localllm.service import Service
from tests.daemon.serving import serving
from tests.store.hub_server import HubServer, running_hub, stall
from tests.store.tiny_gguf import write_tiny_gguf
from tests.tui.host import MODEL, run
from tests.tui.screens.finding import FindingBackend
from tests.tui.screens.models_host import models_screen


def test_fetching_asks_first_with_the_figures() -> None:
    async def story() -> None:
        backend = FindingBackend()
        gate = asyncio.Event()
        backend.steps["qwen3:8b"] = [[Progress("download", "q", 10, 100), gate]]
        async with models_screen(backend) as shown:
            await shown.choose("qwen3:8b")
            await shown.press("enter")
            await shown.until(lambda: isinstance(shown.app.screen, ConfirmScreen))
            says = str(shown.app.screen.query_one(".words", Static).render())
            assert "5.0 GB" in says
            assert "12.0 GB of 16.0 GB" in says
            await shown.press("n")
            assert backend.pulled == []
            await shown.press("p", "y")
            await shown.until(lambda: "10 B of 100 B" in shown.pull_text())
            assert "10%" in shown.pull_text()
            gate.set()
            await shown.until(lambda: "installed" in shown.pull_text())
            await shown.until(lambda: shown.names().index("qwen3:8b") < 2)
            await shown.press_button("OK")
            await shown.until(lambda: not list(shown.screen.query(PullRow)))

    run(story())


def test_any_name_can_be_typed() -> None:
    async def story() -> None:
        backend = FindingBackend()
        async with models_screen(backend) as shown:
            await shown.until(lambda: len(shown.names()) == 4)
            await shown.type("hf.co/owner/repo:Q4_K_M")
            await shown.until(lambda: shown.names() == ["+ hf:owner/repo:Q4_K_M"])
            assert "Hugging Face" in shown.text("#models-facts")
            await shown.press("enter")
            await shown.until(lambda: backend.pulled == ["hf:owner/repo:Q4_K_M"])
            await shown.type("-rf /")
            assert shown.names() == []
            await shown.press("enter")
            assert len(backend.pulled) == 1

    run(story())


def test_several_pulls_pause_and_go_on_each_by_itself() -> None:
    async def story() -> None:
        backend = FindingBackend()
        wait = asyncio.Event()
        for name in ("qwen3:8b", "llama3.3:70b"):
            backend.steps[name] = [
                [Progress("download", name, 50, 100), wait],
                [Progress("download", name, 50, 100), Progress("download", name, 100, 100)],
            ]
        async with models_screen(backend) as shown:
            await shown.until(lambda: len(shown.names()) == 4)
            for name in ("qwen3:8b", "llama3.3:70b"):
                shown.pulls.start(name)
            await shown.until(lambda: shown.pull_text().count("50 B of 100 B") == 2)
            await shown.choose("qwen3:8b")
            assert "↓" in shown.row("qwen3:8b")
            await shown.press("space")
            await shown.until(lambda: "paused at 50 B of 100 B" in shown.pull_text())
            assert backend.left == ["qwen3:8b"]
            assert "↓" not in shown.row("qwen3:8b")
            assert shown.pull_text().count("paused") == 1
            await shown.press_button("Resume")
            await shown.until(lambda: "installed" in shown.pull_text())
            await shown.press_button("Pause")
            await shown.until(lambda: backend.left == ["qwen3:8b", "llama3.3:70b"])
            await shown.until(lambda: "paused" in shown.pull_text())
            await shown.choose("llama3.3:70b")
            await shown.press("p")
            await shown.until(lambda: shown.pull_text().count("installed") == 2)

    run(story())


FAILURES: list[tuple[LocalLLMError, str, str]] = [
    (
        OfflineError("x is not on this machine", hint="without --offline it is downloaded"),
        "network is off",
        "--offline",
    ),
    (DigestMismatchError("other bytes arrived"), "not the promised ones", "other bytes arrived"),
    (AccessDeniedError("the source says 401", hint="set HF_TOKEN"), "accept a licence", "HF_TOKEN"),
    (DiskFullError("no room", needed_bytes=9_000_000_000, free_bytes=1_000_000_000), "disk is full", "9.0 GB needed"),
    (ModelNotFoundError("no repository of that name"), "no such model", "no repository"),
    (DownloadError("nobody delivered", tried=["hf:a/b: 500", "ms:a/b: \x1b[2J"]), "no source delivered", "hf:a/b: 500"),
    (LocalLLMError("something else"), "could not be fetched", "something else"),
]


def test_failures_in_words_and_a_retry() -> None:
    async def story() -> None:
        backend = FindingBackend()
        async with models_screen(backend) as shown:
            for error, headline, words in FAILURES:
                backend.steps["qwen3:8b"] = [[error], [Progress("download", "q", 100, 100)]]
                shown.pulls.start("qwen3:8b")
                await shown.until_pull_says(headline)
                assert words in shown.pull_text()
                assert "\x1b" not in shown.pull_text()
                await shown.press_button("Retry")
                await shown.until(lambda: "installed" in shown.pull_text())
                assert words not in shown.pull_text()

    run(story())


def test_a_rate_is_measured_and_tells_how_long_still() -> None:
    from localllm_tui.screens.pull import Pull

    now = [0.0]
    pull = Pull("x", lambda: now[0])
    pull.take(Progress("download", "x", 40_000_000, 100_000_000))
    assert pull.bytes_per_s() is None, "nothing measured yet"
    now[0] = 2.0
    pull.take(Progress("download", "x", 60_000_000, 100_000_000))
    assert pull.bytes_per_s() == 10_000_000
    assert pull.seconds_left() == 4.0
    assert pull.words() == "60.0 MB of 100 MB  10.0 MB/s  4 s left"
    pull.take(Progress("verify", "x", 10_000_000, 100_000_000))
    assert pull.bytes_per_s() is None
    assert pull.words() == "checking 10.0 MB of 100 MB"
    pull.begin()
    assert pull.bytes_per_s() is None


# --- a real hub -------------------------------------------------------------------------------------------------------

FILE = f"/o/r/resolve/{'c' * 40}/m-Q8_0.gguf"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model of some hundred kilobytes, on a machine without other programs' models."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS", "LLAMA_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    data = write_tiny_gguf(tmp_path / "made" / "m.gguf", num_tensors=400, tokens=2000).read_bytes()
    with running_hub() as hub:
        digest = hub.add(FILE, data)
        sibling = {"rfilename": "m-Q8_0.gguf", "size": len(data), "lfs": {"sha256": digest, "size": len(data)}}
        hub.json("/api/models/o/r/revision/main", {"sha": "c" * 40, "siblings": [sibling], "tags": ["license:mit"]})
        yield hub


@pytest.mark.parametrize("over", ["service", "daemon"])
def test_over_a_real_hub_a_pull_pauses_and_goes_on_where_it_was(hub: HubServer, tmp_path: Path, over: str) -> None:
    """Real bytes over a real socket into a real store: what arrived before the pause is not fetched again."""
    data = hub.files[FILE].data
    sent = len(data) // 2
    hub.faults[FILE].append(stall(sent))
    service = Service(Settings(store_dir=tmp_path / "store", hf_endpoint=hub.url))

    async def story(backend: Backend) -> None:
        async with models_screen(backend) as shown:
            await shown.type("hf.co/o/r")
            await shown.press("enter")
            await shown.until(hub.reached.is_set)
            await shown.until(lambda: "Pause" in {str(button.label) for button in shown.screen.query(Button)})
            await shown.press_button("Pause")
            await shown.until(lambda: "paused" in shown.pull_text())
            assert await backend.list_models() == []
            hub.release.set()
            await shown.press_button("Resume")
            await shown.until(lambda: "installed" in shown.pull_text())
            await shown.type("")
            await shown.until(lambda: "hf:o/r" in shown.names())
            assert "1 installed" in shown.text("#models-head")
            await shown.choose("hf:o/r")
            await shown.press("d")
            await shown.until(lambda: "400 tensors" in shown.text("#part-tensors"))
            await shown.press("escape", "x", "y")
            await shown.until(lambda: "is deleted" in shown.text("#models-note"))
        await backend.close()

    if over == "service":
        run(story(service))
    else:
        with serving(service, ServeOptions(host="127.0.0.1", port=0, default_model=MODEL)) as daemon:
            run(story(Client(daemon.url)))
    starts = [
        int(seen.headers.get("range", "bytes=0-").split("=")[1].split("-")[0]) for seen in hub.seen if seen.path == FILE
    ]
    assert starts[0] == 0
    assert starts[-1] > 0, "it began anew"


def test_over_a_real_hub_wrong_bytes_are_said_and_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    good = hub.files[FILE].data
    hub.files[FILE].data = good[:-1] + bytes([good[-1] ^ 1])
    service = Service(Settings(store_dir=tmp_path / "store", hf_endpoint=hub.url))

    async def story() -> None:
        async with models_screen(service) as shown:
            await shown.type("hf:o/r")
            await shown.press("enter")
            await shown.until(lambda: "not the promised ones" in shown.pull_text())
            hub.files[FILE].data = good
            await shown.press_button("Retry")
            await shown.until(lambda: "installed" in shown.pull_text())
        await service.close()

    run(story())
