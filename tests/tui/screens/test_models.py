"""The models' screen: what is seen, found, fetched, paused, loaded and deleted there; also over a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.screens.model_details import ModelDetailsScreen
from localllm_tui.screens.models import ModelsScreen
from localllm_tui.screens.pick_model import PickModelScreen
from localllm_tui.screens.pull import Pulls
from localllm_tui.widgets.model_list import ModelList
from localllm_tui.widgets.model_picker import ModelPicker
from localllm_tui.widgets.pull_row import PullRow
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Button, Input, Static

from localllm.api import Backend, ModelInfo, Progress
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
from tests.tui.host import MODEL, ScriptedBackend, run, wait_until
from tests.tui.screens.dressed import NOTHING, Dressed
from tests.tui.screens.finding import FindingBackend, loaded

EVIL = "evil\x1b]0;owned\x07"


@dataclass
class Shown:
    """A screen over a Backend."""

    pilot: Pilot[Any]
    screen: Screen[Any]
    pulls: Pulls
    app: Dressed

    async def until(self, predicate: Callable[[], object]) -> None:
        await wait_until(self.pilot, predicate)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        find = self.screen.query_one(Input)
        find.focus()
        find.value = text
        await self.pilot.pause()

    async def choose(self, name: str) -> None:
        models = self.screen.query_one(ModelList)
        await self.until(lambda: name in self.ids())
        models.focus()
        models.highlighted = self.ids().index(name)
        await self.pilot.pause()

    def ids(self) -> list[str | None]:
        return [option.id for option in self.screen.query_one(ModelList).options]

    def names(self) -> list[str]:
        return [id_ for id_ in self.ids() if id_ is not None]

    def rows(self) -> list[str]:
        return [str(option.prompt) for option in self.screen.query_one(ModelList).options]

    def row(self, name: str) -> str:
        return self.rows()[self.ids().index(name)]

    def text(self, selector: str) -> str:
        return str(self.app.screen.query_one(selector, Static).render())

    def pull_text(self) -> str:
        return "\n".join(shown.text for shown in self.screen.query(PullRow))

    async def until_pull_says(self, words: str) -> None:
        await self.until(lambda: words in self.pull_text())

    async def press_button(self, label: str) -> None:
        def found() -> Button | None:
            buttons = self.app.screen.query(Button)
            return next((one for one in buttons if str(one.label) == label and one.display), None)

        await self.until(found)
        button = found()
        assert button is not None
        button.press()
        await self.pilot.pause()


@asynccontextmanager
async def models_screen(
    backend: Backend | Callable[[], Awaitable[Backend]], size: tuple[int, int] = (110, 32), *, plain: bool = False
) -> AsyncIterator[Shown]:
    async def made() -> Backend:
        return await backend() if callable(backend) else backend

    pulls = Pulls(made)
    screen = ModelsScreen(made, pulls, plain=plain)
    app = Dressed(screen)
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: "looking" not in str(screen.query_one("#models-head", Static).render()))
        yield Shown(pilot, screen, pulls, app)
        await pulls.close()


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_what_is_here_and_what_there_is_to_be_had() -> None:
    async def story() -> None:
        backend = FindingBackend()
        backend.loaded[MODEL] = loaded(MODEL)
        async with models_screen(backend, (140, 32)) as shown:
            await shown.until(lambda: len(shown.names()) == 4)
            assert shown.names() == ["qwen3:0.6b", MODEL, "qwen3:8b", "llama3.3:70b"]
            assert [row.strip() for row in shown.rows() if ":" not in row] == ["Installed", "To be had"]
            assert "2 installed, 495 MB" in shown.text("#models-head")
            own = shown.row(MODEL)
            assert all(words in own for words in ("●", "135M", "Q4_1", "98.4 MB", "142 tok/s", "in 180 MB"))
            offered = shown.row("qwen3:8b")
            assert all(words in offered for words in ("8.2B", "Q4_K_M", "5.0 GB", "~2.8 tok/s", "fits, 22k"))
            assert "over memory" in shown.row("llama3.3:70b")
            assert "tok/s" not in shown.row("llama3.3:70b")
            await shown.choose("qwen3:8b")
            about = shown.text("#models-facts").replace("\n            ", " ")
            assert "with 22,784 of 40,960 tokens of context: 12.0 GB of 16.0 GB on CPU, by its published size" in about
            assert f"about 2.8 tok/s, from {MODEL}, measured on this machine in answers" in about
            await shown.choose(MODEL)
            about = shown.text("#models-facts")
            assert "180 MB on CPU" in about
            assert "Apache" not in about.split("licence")[0]
            await shown.choose("qwen3:0.6b")
            await shown.until(lambda: "1.0 GB of 16.0 GB" in shown.text("#models-facts"))
            about = " ".join(shown.text("#models-facts").split())
            assert "localllm tune" in about, "nothing measured says how to get a figure"

    run(story())


def test_searching_as_one_types() -> None:
    async def story() -> None:
        async with models_screen(FindingBackend()) as shown:
            await shown.until(lambda: len(shown.names()) == 4)
            await shown.press(*"meta")
            await shown.until(lambda: shown.names() == ["llama3.3:70b", "+ meta"])
            await shown.press("escape")
            await shown.until(lambda: len(shown.names()) == 4)
            await shown.type("tools")
            await shown.until(lambda: shown.names()[0] == "qwen3:8b")
            await shown.press("escape", "escape")
            await shown.until(lambda: shown.app.result is None)

    run(story())


@pytest.mark.parametrize(("size", "plain"), [((110, 32), True), ((44, 20), False), ((20, 10), False)])
def test_any_size_will_do(size: tuple[int, int], plain: bool) -> None:
    async def story() -> None:
        backend = FindingBackend()
        backend.models.append(ModelInfo(EVIL, 5, "sha256:" + "11" * 32, "", "2026-01-01"))
        backend.loaded[MODEL] = loaded(MODEL)
        backend.steps["qwen3:8b"] = [[Progress("download", "q", 1, 9), DiskFullError("no room left", hint="make some")]]
        async with models_screen(backend, size, plain=plain) as shown:
            await shown.until(lambda: EVIL in shown.names())
            assert not any("\x1b" in row or "\x07" in row for row in shown.rows())
            await shown.choose(EVIL)
            assert "\x1b" not in shown.text("#models-facts")
            assert ("loaded" if plain else "●") in shown.row(MODEL)
            shown.pulls.start("qwen3:8b")
            await shown.until(lambda: "disk is full" in shown.pull_text() or "%" in shown.pull_text())
            await shown.choose(MODEL)
            await shown.press("d")
            await shown.until(lambda: isinstance(shown.app.screen, ModelDetailsScreen))
            await shown.press("right", "right", "escape")

    run(story())


def test_details_are_the_files_own_words() -> None:
    async def story() -> None:
        async with models_screen(FindingBackend()) as shown:
            await shown.choose(MODEL)
            await shown.press("d")
            await shown.until(lambda: "2 tensors: 1 Q6_K, 1 F32" in shown.text("#part-tensors"))
            assert "general.architecture  llama" in shown.text("#part-metadata")
            assert "tokenizer.ggml.tokens  (a long list)" in shown.text("#part-metadata")
            assert shown.text("#part-template") == "{{ messages }}\\x1b[2J"
            assert "\\x1b]0;owned" in shown.text("#part-licence")
            assert "smollm2:135m" in shown.text("#part-about")
            await shown.press("escape")
            await shown.choose("qwen3:8b")
            await shown.press("d")
            await shown.until(lambda: "not installed" in shown.text("#part-template"))
            assert "https://example.org/licence" in shown.text("#part-licence")

    run(story())


def test_a_backend_that_can_do_less_says_so() -> None:
    async def story() -> None:
        backend = ScriptedBackend()
        async with models_screen(backend) as shown:
            await shown.until(lambda: len(shown.names()) == 2)
            assert "No catalogue here" in shown.text("#models-note")
            await shown.choose(MODEL)
            await shown.press("x", "y")
            await shown.until(lambda: "cannot be deleted from here" in shown.text("#models-note"))
            await shown.press("d")
            await shown.until(lambda: "cannot be read from here" in shown.text("#part-metadata"))

    run(story())


def test_a_backend_that_fails_is_said_in_words() -> None:
    async def nobody() -> Backend:
        raise LocalLLMError("no daemon answers", hint="start one")

    async def story() -> None:
        async with models_screen(nobody) as shown:
            await shown.until(lambda: "no daemon answers" in shown.text("#models-note"))
            assert "start one" in shown.text("#models-note")
        backend = FindingBackend()
        backend.no_catalogue = LocalLLMError("the catalogue does not read")
        async with models_screen(backend) as shown:
            await shown.until(lambda: "does not read" in shown.text("#models-note"))
            assert len(shown.names()) == 2

    run(story())


# --- what is done -----------------------------------------------------------------------------------------------------


def test_a_model_that_is_here_is_taken() -> None:
    async def story() -> None:
        async with models_screen(FindingBackend()) as shown:
            assert shown.app.result is NOTHING
            await shown.choose(MODEL)
            assert await shown.pilot.click(ModelList, offset=(6, 1))
            await shown.until(lambda: shown.text("#models-facts").startswith("qwen3:0.6b"))
            assert shown.app.result is NOTHING, "a click looks first"
            assert await shown.pilot.click(ModelList, offset=(6, 1))
            await shown.until(lambda: shown.app.result == "qwen3:0.6b")

    run(story())


def test_loaded_pinned_unloaded_and_deleted() -> None:
    async def story() -> None:
        backend = FindingBackend()
        async with models_screen(backend) as shown:
            await shown.choose(MODEL)
            await shown.press("l")
            await shown.until(lambda: "●" in shown.row(MODEL))
            await shown.press("k")
            await shown.until(lambda: "pinned" in shown.text("#models-facts"))
            assert backend.pins == [(MODEL, None), (MODEL, True)]
            await shown.press("x")
            await shown.until(lambda: isinstance(shown.app.screen, ConfirmScreen))
            await shown.press("y")
            await shown.until(lambda: "is in use" in shown.text("#models-note"))
            assert "unload it first" in shown.text("#models-note")
            await shown.press("u")
            await shown.until(lambda: "●" not in shown.row(MODEL))
            await shown.press("delete")
            await shown.press_button("No")
            await shown.press("delete")
            await shown.press_button("Delete")
            await shown.until(lambda: "is deleted" in shown.text("#models-note"))
            await shown.until(lambda: [info.name for info in backend.models] == ["qwen3:0.6b"])
            await shown.until(lambda: shown.rows()[1:2] != [] and MODEL in shown.names()[1:])

    run(story())


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
            await shown.press("space")
            await shown.until(lambda: "paused at 50 B of 100 B" in shown.pull_text())
            assert backend.left == ["qwen3:8b"]
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


# --- the picker -------------------------------------------------------------------------------------------------------


def test_the_picker_finds_by_parts_of_a_name() -> None:
    async def story() -> None:
        backend = FindingBackend()
        backend.loaded["qwen3:0.6b"] = loaded("qwen3:0.6b")
        backend.models.append(ModelInfo("bge-m3", 1, "sha256:" + "33" * 32, "", "2026-01-01", capabilities=("embed",)))

        async def made() -> Backend:
            return backend

        screen = PickModelScreen(made, current=MODEL)
        app = Dressed(screen)
        async with app.run_test(size=(80, 24)) as pilot:
            picker = screen.query_one(ModelPicker)
            await wait_until(pilot, lambda: picker.names == [MODEL, "qwen3:0.6b"])
            await pilot.press(*"q06")
            await wait_until(pilot, lambda: picker.names == ["qwen3:0.6b"])
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.result == "qwen3:0.6b")
        left = Dressed(PickModelScreen(made, without=MODEL))
        async with left.run_test(size=(20, 10)) as pilot:
            await wait_until(pilot, lambda: left.screen.query_one(ModelPicker).names == ["qwen3:0.6b"])
            await pilot.press("down", "up", "escape")
            await wait_until(pilot, lambda: left.result is None)

    run(story())


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
