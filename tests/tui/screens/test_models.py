"""The models' screen: what is seen, found, loaded and deleted there; and the small list to pick one from."""

from __future__ import annotations

import pytest
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.screens.model_about import about_typed
from localllm_tui.screens.model_details import ModelDetailsScreen
from localllm_tui.screens.pick_model import PickedModel, PickModelScreen, pickable
from localllm_tui.widgets.model_list import ModelList

from localllm.api import Backend, ModelInfo, Progress
from localllm.errors import (
    DiskFullError,
    LocalLLMError,
)
from tests.tui.host import MODEL, ScriptedBackend, run, wait_until
from tests.tui.screens.dressed import NOTHING, Dressed
from tests.tui.screens.finding import FindingBackend, loaded
from tests.tui.screens.models_host import models_screen

EVIL = "evil\x1b]0;owned\x07"


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
            await wait_until(pilot, lambda: screen.names == [MODEL, "qwen3:0.6b"])
            await pilot.press(*"q06")
            await wait_until(pilot, lambda: screen.names == ["qwen3:0.6b"])
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.result == "qwen3:0.6b")
        other = PickModelScreen(made, without=MODEL)
        left = Dressed(other)
        async with left.run_test(size=(20, 10)) as pilot:
            await wait_until(pilot, lambda: other.names == ["qwen3:0.6b"])
            await pilot.press("down", "up", "escape")
            await wait_until(pilot, lambda: left.result is None)

    run(story())


def test_what_answers_and_what_is_loaded_can_be_picked_without_being_installed() -> None:
    embed = ModelInfo("bert", 1, "sha256:1", "store", "2026-01-01T00:00:00Z", capabilities=("embed",))
    found = pickable([embed], ["bert", "/models/b.gguf"], "./a.gguf")
    assert found == [PickedModel("./a.gguf", is_current=True), PickedModel("/models/b.gguf", is_loaded=True)]

    async def story() -> None:
        backend = FindingBackend()
        backend.loaded["/models/b.gguf"] = loaded("/models/b.gguf")

        async def made() -> Backend:
            return backend

        async def picked(screen: PickModelScreen, names: list[str]) -> list[str]:
            app = Dressed(screen)
            async with app.run_test(size=(80, 24)) as pilot:
                await wait_until(pilot, lambda: screen.names == names)
                rows = [str(row) for row in screen.rows()]
                await pilot.press("enter")
                await wait_until(pilot, lambda: app.result == names[0])
            return rows

        installed = ["qwen3:0.6b", MODEL]
        rows = await picked(PickModelScreen(made, current="./a.gguf"), ["./a.gguf", "/models/b.gguf", *installed])
        assert "a.gguf" in rows[0]
        assert rows[0].endswith("answers now")
        assert rows[1].endswith("loaded")
        await picked(PickModelScreen(made, without="/models/b.gguf"), installed)

    run(story())


def test_the_key_that_fetches_is_the_one_in_force() -> None:
    text = about_typed("hf.co/owner/repo", "F12").plain
    assert text.endswith(
        "F12 fetches it from Hugging Face: a repository and, after a colon, the quantization or the file."
    )
