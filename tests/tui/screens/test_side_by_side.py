"""One question to two models: both stream at once, one goes on, both stay; and other models in mid-conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.history.values import Node
from localllm_tui.screens.models import ModelsScreen
from localllm_tui.screens.pick_model import PickModelScreen
from localllm_tui.screens.side_by_side import SideBySideScreen
from localllm_tui.widgets.answer_column import AnswerColumn
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.model_list import ModelList
from textual.widgets import Button, Static

from localllm.api import ChatRequest, LoadOptions, Progress, SamplingParams
from localllm.config import Settings
from localllm.errors import EngineCrashedError
from localllm.service import Service
from localllm.store.describe import describe
from tests.tui.host import MODEL, Host, Script, chat_host, run, wait_until
from tests.tui.screens.finding import FindingBackend

OTHER = "qwen3:0.6b"


def columns(host: Host) -> list[AnswerColumn]:
    return list(host.app.screen.query(AnswerColumn))


def figures(column: AnswerColumn) -> str:
    return str(column.query_one(GaugeBar).render())


def state(column: AnswerColumn) -> str | None:
    return None if column.node is None else column.node.state


def by_model(host: Host) -> dict[str, ChatRequest]:
    return {request.model: request for request in host.backend.requests}


async def ask_both(host: Host, text: str = "") -> None:
    """From the chat: F6, the other model picked from the list."""
    host.composer.text = text
    await host.pilot.pause()
    await host.pilot.press("f6")
    await host.until(lambda: isinstance(host.app.screen, PickModelScreen))
    picker = host.app.screen
    assert isinstance(picker, PickModelScreen)
    await host.until(lambda: picker.names == [OTHER])
    await host.pilot.press("enter")
    await host.until(lambda: isinstance(host.app.screen, SideBySideScreen) and len(columns(host)) == 2)


def children(host: Host, node: Node) -> list[Node]:
    return sorted(host.history.children(node.id), key=lambda child: child.id)


@pytest.mark.parametrize("size", [(110, 32), (40, 20), (20, 12)])
def test_both_stream_at_once_and_one_goes_on(tmp_path: Path, size: tuple[int, int]) -> None:
    async def story() -> None:
        gates = [asyncio.Event(), asyncio.Event()]
        scripts: list[Script] = [["left ", gates[0], "done"], ["right ", gates[1], "done"]]
        async with chat_host(tmp_path, *scripts, size=size) as host:
            await ask_both(host, "which is it?")
            await host.until(lambda: {column.text for column in columns(host)} == {"left ", "right "})
            assert set(by_model(host)) == {MODEL, OTHER}
            assert all(request.messages[-1].content == "which is it?" for request in host.backend.requests)
            assert "which is it?" in str(host.app.screen.query_one("#side-question", Static).render())
            gates[1].set()
            await host.until(lambda: columns(host)[1].text == "right done")
            assert columns(host)[0].text == "left "
            gates[0].set()
            await host.until(lambda: columns(host)[0].text == "left done")
            if size[0] >= 40:
                await host.until(lambda: all("tok/s" in figures(column) for column in columns(host)))
            question = host.screen.open.path[0]
            await host.pilot.press("tab", "c")
            await host.until(lambda: host.app.clipboard in ("left done", "right done"))
            await host.pilot.press("2")
            await host.until(lambda: host.app.screen is host.screen)
            first, second = children(host, question)
            assert [(n.model, n.content, n.state) for n in (first, second)] == [
                (MODEL, "left done", "complete"),
                (OTHER, "right done", "complete"),
            ]
            assert host.screen.open.path == (question, second)
            assert host.history.conversation(host.screen.open.id).model == OTHER
            assert host.composer.text == ""
            await host.say("and now?")
            await host.until(lambda: len(host.backend.requests) == 3 and not host.screen.open.is_busy)
            assert host.backend.requests[-1].model == OTHER
            assert [message.content for message in host.backend.requests[-1].messages][1] == "right done"

    run(story())


def test_the_last_question_is_asked_again_where_nothing_is_written(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["first"], ["again"], ["other"]) as host:
            await host.pilot.press("f6")
            await host.pilot.pause()
            assert host.app.screen is host.screen, "there is nothing to ask yet"
            await host.say("hello")
            await host.until(lambda: not host.screen.open.is_busy and "first" in host.shown())
            await ask_both(host)
            await host.until(lambda: {column.text for column in columns(host)} == {"again", "other"})
            button = host.app.screen.query_one("#keep-0", Button)
            button.press()
            await host.until(lambda: host.app.screen is host.screen)
            assert [node.content for node in children(host, host.screen.open.path[0])] == ["first", "again", "other"]
            assert host.screen.open.path[-1].content == "again"
            assert host.history.conversation(host.screen.open.id).model == MODEL

    run(story())


def test_escape_stops_first_and_then_leaves(tmp_path: Path) -> None:
    async def story() -> None:
        never = asyncio.Event()
        async with chat_host(tmp_path, ["one ", never], ["two ", never]) as host:
            await ask_both(host, "go")
            await host.until(lambda: all(column.text for column in columns(host)))
            await host.pilot.press("escape")
            await host.until(lambda: len(host.backend.ended) == 2)
            assert {state(column) for column in columns(host)} == {"stopped"}
            assert isinstance(host.app.screen, SideBySideScreen)
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)
            question, shown = host.screen.open.path
            assert shown.model == MODEL
            assert len(children(host, question)) == 2

    run(story())


def test_one_that_fails_leaves_the_other_alone(tmp_path: Path) -> None:
    async def story() -> None:
        script: list[Any] = [Progress("load", "x", 0.5, 1.0, "fraction"), EngineCrashedError("the engine died")]
        async with chat_host(tmp_path, script, ["fine"]) as host:
            await ask_both(host, "go")
            await host.until(lambda: columns(host)[1].text == "fine")
            await host.until(lambda: state(columns(host)[0]) == "failed")
            await host.pilot.press("2")
            await host.until(lambda: host.app.screen is host.screen)
            assert host.screen.open.path[-1].content == "fine"

    run(story())


def test_another_model_from_the_picker_and_from_the_models_screen(tmp_path: Path) -> None:
    async def story() -> None:
        backend = FindingBackend(["by the other"], ["by the first"])
        async with chat_host(tmp_path, backend=backend) as host:
            await host.pilot.press("f4")
            await host.until(lambda: isinstance(host.app.screen, PickModelScreen))
            await host.until(lambda: getattr(host.app.screen, "names", []) == [MODEL, OTHER])
            await host.pilot.press("down", "enter")
            await host.until(lambda: host.screen.open.wishes.model == OTHER)
            await host.say("who are you?")
            await host.until(lambda: "by the other" in host.shown())
            await host.until(lambda: not host.screen.open.is_busy)
            await host.pilot.press("f3")
            await host.until(lambda: isinstance(host.app.screen, ModelsScreen))
            models = host.app.screen.query_one(ModelList)

            def names() -> list[str | None]:
                return [option.id for option in models.options]

            await host.until(lambda: MODEL in names())
            models.focus()
            models.highlighted = names().index(MODEL)
            await host.pilot.press("enter")
            await host.until(lambda: host.screen.open.wishes.model == MODEL)
            await host.say("and you?")
            await host.until(lambda: "by the first" in host.shown())
            assert [request.model for request in backend.requests] == [OTHER, MODEL]
            assert [node.model for node in host.screen.open.path if node.role == "assistant"] == [OTHER, MODEL]

    run(story())


def test_a_pull_goes_on_while_one_talks_and_is_said_at_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        backend = FindingBackend(["hi there"])
        backend.steps["qwen3:8b"] = [[Progress("download", "q", 1, 2), gate]]
        async with chat_host(tmp_path, backend=backend) as host:
            host.screen.pulls.start("qwen3:8b")
            await host.say("hello")
            await host.until(lambda: "hi there" in host.shown())
            gate.set()
            await host.until(lambda: any("qwen3:8b is installed" in n.message for n in host.app._notifications))

    run(story())


@pytest.mark.weights
def test_two_real_models_answer_and_what_they_took_is_measured(tmp_path: Path, smollm2_path: Path) -> None:
    """Real engines, two of them: both answers stand below one question; the models' screen then knows a speed."""
    settings = Settings(store_dir=tmp_path / "store", offline=True)
    service = Service(settings, load_options=LoadOptions(num_ctx=512, num_slots=1, num_threads=1))
    blob = service.store.ingest(smollm2_path, digest=None, link=True)
    for name in (MODEL, OTHER):
        service.store.add(describe(name, "test", [blob], [smollm2_path]))

    async def story() -> None:
        sampling = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
        async with chat_host(tmp_path, backend=service, sampling=sampling) as host:
            await host.pilot.pause()
            await ask_both(host, "Count to twenty.")
            await wait_until(host.pilot, lambda: all(state(column) == "complete" for column in columns(host)), 60.0)
            texts = [column.text for column in columns(host)]
            assert texts[0] == texts[1], "the same weights, the same answer"
            assert all("tok/s" in figures(column) for column in columns(host))
            await host.pilot.press("1")
            await host.until(lambda: host.app.screen is host.screen)
            await host.say("Again.")
            await wait_until(host.pilot, lambda: len(host.screen.open.path) == 4 and not host.screen.open.is_busy, 60.0)
            offer = await service.finder.offer(MODEL)
            assert offer.speed is not None
            assert (offer.speed.basis, offer.speed.source) == ("measured", "answers")

    run(story(), 120.0)
