"""Near the end of the context: a person is asked, each answer does what it says, and nothing is cut in silence."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from localllm_tui.history.values import Draft
from localllm_tui.screens.limit import LimitScreen
from localllm_tui.screens.under_way import UnderWay
from textual.widgets import OptionList

from tests.tui.host import MODEL, Host, Script, chat_host, run

OLD = "o" * 300


async def near_the_limit(host: Host, *, num_ctx: int = 1000) -> None:
    """Three turns of 300 tokens, answers of one, in a context of `num_ctx`; the model is loaded."""
    host.backend.num_ctx = host.backend.num_ctx_train = 100_000
    for num_turns in (2, 4, 6):
        host.screen.submit(Draft(OLD))
        await host.until(partial(_has_ended, host, num_turns))
    host.backend.loaded.clear()
    host.backend.num_ctx = num_ctx
    async for _ in host.backend.load(MODEL):
        pass


def _has_ended(host: Host, num_turns: int) -> bool:
    return len(host.screen.open.path) == num_turns and not host.screen.open.is_busy


async def asked(host: Host, text: str = "more") -> OptionList:
    await host.say(text)
    await host.until(lambda: isinstance(host.app.screen, LimitScreen))
    await host.pilot.pause()
    return host.app.screen.query_one(OptionList)


async def choose(host: Host, choice: str) -> None:
    await host.pilot.pause()
    options = host.app.screen.query_one(OptionList)
    options.highlighted = options.get_option_index(choice)
    await host.pilot.press("enter")


THREE: tuple[Script, ...] = (["A"], ["B"], ["C"])


def test_it_may_be_sent_or_edited(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, *THREE, ["D"]) as host:
            await near_the_limit(host)
            options = await asked(host)
            assert [option.id for option in options.options] == ["send", "summarise", "oldest", "larger", "edit"]
            assert not any(option.disabled for option in options.options)
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)
            assert host.composer.text == "more"
            assert len(host.screen.open.path) == 6
            await host.pilot.press("!", "enter")
            await host.until(lambda: isinstance(host.app.screen, LimitScreen))
            await choose(host, "send")
            await host.until(lambda: [node.content for node in host.screen.open.path[-2:]] == ["more!", "D"])

    run(story())


def test_the_oldest_turns_are_left_out_by_request_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, *THREE, ["D"], ["E"]) as host:
            await near_the_limit(host, num_ctx=800)
            await asked(host)
            await choose(host, "oldest")
            await host.until(lambda: host.screen.open.path[-1].content == "D")
            assert [request.truncate for request in host.backend.requests] == ["error"] * 3 + ["oldest"]
            await host.until(lambda: not host.screen.open.is_busy)
            await host.say("again")
            await host.until(lambda: host.screen.open.path[-1].content == "E")
            assert host.backend.requests[-1].truncate == "oldest"

    run(story())


def test_older_turns_are_summarised_into_another_branch(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, *THREE, ["one"], ["all of it, short"], ["D"]) as host:
            await near_the_limit(host)
            before = host.screen.open.path
            await asked(host)
            await choose(host, "summarise")
            await host.until(lambda: host.screen.open.path[-1].content == "D")
            head, *rest = host.screen.open.path
            assert (head.role, head.content.endswith("all of it, short")) == ("system", True)
            assert [node.content for node in rest] == [OLD, "B", OLD, "C", "more", "D"]
            host.screen.open.walk(head, -1)
            assert host.screen.open.path == before

    run(story())


def test_the_model_is_loaded_with_more_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, *THREE, ["D"]) as host:
            await near_the_limit(host)
            await asked(host)
            await choose(host, "larger")
            await host.until(lambda: host.screen.open.path[-1].content == "D")
            assert host.backend.loaded[MODEL].num_ctx == 2048

    run(story())


def test_what_cannot_be_done_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            host.backend.num_ctx = host.backend.num_ctx_train = 100
            async for _ in host.backend.load(MODEL):
                pass
            options = await asked(host, "x" * 200)
            disabled = {option.id for option in options.options if option.disabled}
            assert disabled == {"summarise", "oldest", "larger"}
            assert "made for 100 tokens" in str(options.get_option("larger").prompt)
            assert "send" not in {option.id for option in options.options}
            await host.pilot.resize_terminal(20, 12)
            await host.pilot.pause()

    run(story())


@pytest.mark.parametrize("choice", ["oldest", "summarise"])
def test_a_model_that_was_not_loaded_refuses_and_the_person_is_asked_then(tmp_path: Path, choice: str) -> None:
    async def story() -> None:
        scripts: list[Script] = [["one"], ["two"], ["in short"], ["D"]] if choice == "summarise" else [["D"]]
        async with chat_host(tmp_path, *THREE, *scripts) as host:
            await near_the_limit(host, num_ctx=905)
            host.backend.loaded.clear()
            host.screen.submit(Draft("more"))
            await host.until(lambda: isinstance(host.app.screen, LimitScreen))
            failed = host.screen.open.path[-1]
            assert failed.state == "failed"
            await choose(host, choice)
            await host.until(lambda: host.screen.open.path[-1].content == "D")
            if choice == "oldest":
                assert host.screen.open.path[-1].id == failed.id

    run(story())


def test_a_summary_may_be_broken_off(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, *THREE, ["half a summary", asyncio.Event()]) as host:
            await near_the_limit(host)
            before = host.screen.open.path
            await asked(host)
            await choose(host, "summarise")
            await host.until(lambda: isinstance(host.app.screen, UnderWay))
            await host.until(lambda: len(host.backend.requests) == 4)
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)
            assert host.screen.open.path == before
            assert host.composer.text == "more"
            await host.until(lambda: host.backend.ended)

    run(story())


async def waiting(host: Host, gate: asyncio.Event) -> None:
    """A message waits behind an answer, and there is little room for it."""
    await near_the_limit(host, num_ctx=1000)
    host.screen.open.send(Draft("short"))
    await host.until(lambda: host.screen.open.is_busy and host.screen.open.now()[-1].content == "D")
    await host.say("more")
    await host.until(lambda: host.screen.open.waiting is not None)
    gate.set()


def test_a_message_that_waited_is_asked_about_too(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, *THREE, ["D", gate], ["E"]) as host:
            await waiting(host, gate)
            await host.until(lambda: isinstance(host.app.screen, LimitScreen))
            assert len(host.backend.requests) == 4
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)
            assert host.composer.text == "more"
            assert host.screen.open.waiting is None
            await asked(host)
            await choose(host, "oldest")
            await host.until(lambda: [node.content for node in host.screen.open.path[-2:]] == ["more", "E"])

    run(story())


def test_a_message_that_waited_goes_out_as_the_person_chooses(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, *THREE, ["D", gate], ["E"]) as host:
            await waiting(host, gate)
            await host.until(lambda: isinstance(host.app.screen, LimitScreen))
            await choose(host, "oldest")
            await host.until(lambda: [node.content for node in host.screen.open.path[-2:]] == ["more", "E"])
            assert host.backend.requests[-1].truncate == "oldest"
            assert host.history.draft(host.screen.open.id) == Draft()

    run(story())


def test_nobody_is_asked_about_a_conversation_they_do_not_see(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, *THREE, ["D", gate]) as host:
            await waiting(host, asyncio.Event())
            first = host.screen.open
            await host.pilot.press("ctrl+n")
            gate.set()
            await host.until(lambda: not first.is_busy and not first.is_due)
            assert host.app.screen is host.screen
            assert len(host.backend.requests) == 4
            host.screen.show_conversation(first.id)
            await host.until(lambda: host.composer.text == "more")

    run(story())
