"""The chat screen: what is typed is sent, answered, kept; and what else a person does in a conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from localllm_tui.history.values import Draft
from localllm_tui.options import ChatSettings
from localllm_tui.screens import attention
from localllm_tui.screens.words import LineScreen, TextScreen
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.head_line import HeadLine
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.note_line import NoteLine
from localllm_tui.widgets.prompt_area import PromptArea
from localllm_tui.widgets.transcript import Transcript
from localllm_tui.widgets.turn_head import TurnHead
from localllm_tui.widgets.welcome import Welcome
from textual.widgets import Input, TextArea

from localllm.api import Progress, Queued
from localllm.errors import EngineCrashedError
from tests.tui.host import Host, chat_host, run

CODE = "Here:\n\n```python\nprint(1)\n```\n"


def said(host: Host) -> list[str]:
    return [node.content for node in host.screen.open.path]


async def answered(host: Host) -> None:
    await host.until(
        lambda: not host.screen.open.is_busy and any(node.role == "assistant" for node in host.screen.open.path[-1:])
    )
    await host.pilot.pause()


def notices(host: Host) -> str:
    return "\n".join(notice.message for notice in host.app._notifications)


def test_a_message_is_sent_streamed_and_kept(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, ["Hello", gate, " there"]) as host:
            assert host.screen.query_one(Welcome).display
            host.backend.title = "A greeting"
            await host.say("hi")
            await host.until(lambda: "Hello" in host.shown())
            assert host.composer.text == ""
            assert not host.screen.query_one(Welcome).display
            [user, answer] = host.screen.open.path
            assert (user.role, user.content, answer.state) == ("user", "hi", "streaming")
            gate.set()
            await answered(host)
            kept = host.history.node(answer.id)
            assert (kept.content, kept.state) == ("Hello there", "complete")
            assert kept.stats is not None
            assert kept.stats.num_output_tokens == len("Hello there")
            await host.until(lambda: host.screen.query_one(HeadLine).title == "A greeting")

    run(story())


def test_typing_is_never_blocked_and_a_message_waits(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, ["one", gate], ["two"]) as host:
            await host.say("first")
            await host.until(lambda: "one" in host.shown())
            await host.pilot.press(*"typed")
            assert host.composer.text == "typed"
            await host.pilot.press("enter")
            await host.until(lambda: host.screen.query_one(NoteLine).display)
            assert host.composer.text == ""
            assert host.history.draft(host.screen.open.id).text == "typed"
            await host.pilot.press("alt+up")
            await host.until(lambda: host.composer.text == "typed")
            assert not host.screen.query_one(NoteLine).display
            await host.pilot.press("enter")
            await host.until(lambda: host.screen.open.waiting is not None)
            gate.set()
            await host.until(lambda: said(host) == ["first", "one", "typed", "two"])
            await answered(host)
            assert host.history.draft(host.screen.open.id) == Draft()

    run(story())


def test_escape_stops_and_what_waited_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["half", asyncio.Event()], [" done"]) as host:
            await host.say("first")
            await host.until(lambda: "half" in host.shown())
            await host.say("second")
            await host.until(lambda: host.screen.open.waiting is not None)
            await host.pilot.press("escape")
            await host.until(lambda: host.composer.text == "second")
            assert host.screen.open.path[-1].state == "stopped"
            assert host.backend.ended
            await host.pilot.press("alt+g")
            await host.until(lambda: said(host) == ["first", "half done"])

    run(story())


def test_edit_regenerate_walk_branch(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["A"], ["B"], ["C"]) as host:
            await host.say("one")
            await answered(host)
            await host.pilot.press("ctrl+r")
            await host.until(lambda: said(host) == ["one", "B"])
            await answered(host)
            transcript = host.screen.query_one(Transcript)
            views = list(transcript.query(MessageView))
            views[-1].post_message(MessageView.SiblingAsked(views[-1].node, -1))
            await host.until(lambda: said(host) == ["one", "A"])
            view = transcript.query(MessageView).first()
            view.post_message(MessageView.EditAsked(view.node))
            await host.until(lambda: host.composer.text == "one")
            assert host.composer.draft.edits == view.node.id
            assert host.screen.query_one(NoteLine).display
            await host.pilot.press("escape")
            await host.until(lambda: host.composer.draft == Draft())
            view.post_message(MessageView.EditAsked(view.node))
            await host.until(lambda: host.composer.text == "one")
            host.composer.text = "two"
            await host.pilot.press("enter")
            await host.until(lambda: said(host) == ["two", "C"])
            await answered(host)
            first = host.screen.open.id
            await host.screen.run_command("branch")
            await host.until(lambda: host.screen.open.id != first)
            assert said(host) == ["two", "C"]
            assert host.history.count() == 2

    run(story())


def test_a_draft_and_the_place_are_there_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["A"], ["B"]) as host:
            await host.say("one")
            await answered(host)
            await host.pilot.press("ctrl+r")
            await host.until(lambda: said(host) == ["one", "B"])
            await answered(host)
            await host.pilot.press("ctrl+n")
            await host.until(lambda: host.screen.open.id == 0)
            await host.pilot.press(*"new")
            host.screen.show_conversation(host.history.conversations()[0].id)
            await host.pilot.press(*"unsent")
            await host.pilot.press("ctrl+q")
        async with chat_host(tmp_path) as again:
            assert said(again) == ["one", "B"]
            assert "B" in again.shown()
            assert again.composer.text == "unsent"
            await again.pilot.press("ctrl+n")
            await again.until(lambda: again.composer.text == "new")

    run(story())


def test_leaving_with_an_answer_under_way_keeps_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["half", asyncio.Event()]) as host:
            await host.say("one")
            await host.until(lambda: "half" in host.shown())
        assert host.backend.is_closed
        async with chat_host(tmp_path) as again:
            assert said(again) == ["one", "half"]
            assert again.screen.open.path[-1].state == "stopped"

    run(story())


def test_it_goes_on_while_one_looks_at_another_conversation(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, ["half ", gate, "whole"], ["other"]) as host:
            await host.say("one")
            await host.until(lambda: "half" in host.shown())
            first = host.screen.open.id
            await host.say("waits")
            await host.until(lambda: host.screen.open.waiting is not None)
            await host.pilot.press(*"typed")
            await host.pilot.press("ctrl+n")
            await host.until(lambda: host.screen.open.id == 0)
            host.screen.show_conversation(first)
            await host.until(lambda: "half" in host.shown())
            assert host.composer.text == "typed"
            await host.pilot.press("ctrl+n")
            gate.set()
            await host.until(lambda: len(host.history.path(host.history.conversation(first).leaf or 0)) == 4)
            await host.until(lambda: "An answer is there: one" in notices(host))
            assert host.history.draft(first).text == "typed"

    run(story())


def test_errors_are_words_and_leave_a_way_on(tmp_path: Path) -> None:
    async def story() -> None:
        died = EngineCrashedError("the engine died\x1b[2J", hint="ask again")
        async with chat_host(tmp_path, ["half", died], ["whole"], model="nobody:1b") as host:
            await host.say("one")
            await answered(host)
            failed = host.screen.open.path[-1]
            assert (failed.state, failed.error) == ("failed", "no model nobody:1b\n`localllm search` lists some")
            await host.screen.run_command("model", "smollm2:135m")
            await host.pilot.press("ctrl+r")
            await host.until(lambda: said(host) == ["one", "half"])
            await answered(host)
            assert host.screen.open.path[-1].id == failed.id
            assert host.screen.open.path[-1].error == "the engine died\x1b[2J\nask again"
            assert "\x1b" not in host.app.export_screenshot()
            await host.pilot.press("ctrl+r")
            await host.until(lambda: said(host) == ["one", "whole"])
            assert host.screen.open.path[-1].model == "smollm2:135m"

    run(story())


def test_a_full_disk_is_said_once_and_the_text_stays_in_the_prompt(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["A"]) as host:
            with host.history._db.write() as connection:
                num_pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count = {num_pages}")
            host.backend.num_ctx, text = 1_000_000, "x" * 200_000
            host.composer.show(Draft(text))
            host.screen.submit(Draft(text))
            await host.until(lambda: "no room left" in notices(host))
            assert host.composer.draft.text == text
            with host.history._db.write() as connection:
                connection.execute("PRAGMA max_page_count = 1000000")
            host.screen.submit(Draft(text))
            await answered(host)
            assert said(host) == [text, "A"]

    run(story())


def test_figures_of_queue_load_and_context(tmp_path: Path) -> None:
    async def story() -> None:
        first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
        load = Progress("load", "smollm2:135m", 0.5, 1.0, "fraction")
        async with chat_host(tmp_path, [load, first, Queued(2, 14.0), second, "A", third]) as host:
            line = host.screen.query_one(GaugeBar)
            await host.say("one")
            await host.until(lambda: line.gauges.progress == load)
            assert "50%" in str(line.render())
            first.set()
            await host.until(lambda: "2 ahead, about 14 s" in str(line.render()))
            second.set()
            await host.until(lambda: "answering" in str(line.render()))
            third.set()
            await host.until(lambda: "4 / 8,192 tokens" in str(line.render()))
            await host.pilot.press(*"hello")
            await host.until(lambda: "9 / 8,192 tokens" in str(line.render()))
            for columns in (20, 40, 60):
                await host.pilot.resize_terminal(columns, 12)
                await host.pilot.pause()
                assert line.size.width <= columns

    run(story())


def test_title_system_prompt_delete_and_undo(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["A"], ["B"]) as host:
            await host.screen.run_command("system")
            await host.until(lambda: isinstance(host.app.screen, TextScreen))
            host.app.screen.query_one(TextArea).text = "be brief"
            await host.pilot.press("ctrl+s")
            await host.until(lambda: host.screen.open.conversation.system == "be brief")
            await host.say("one")
            await answered(host)
            assert host.backend.requests[0].messages[0].content == "be brief"
            await host.screen.run_command("title", "Mine")
            await host.until(lambda: host.history.conversations()[0].title == "Mine")
            id_ = host.screen.open.id
            await host.screen.run_command("delete")
            await host.until(lambda: host.screen.open.id == 0)
            assert host.history.count() == 0
            await host.screen.run_command("undo")
            await host.until(lambda: host.screen.open.id == id_)
            assert said(host) == ["one", "A"]
            await host.screen.run_command("nonsense")
            await host.until(lambda: "There is no command nonsense." in notices(host))

    run(story())


def test_text_is_copied_and_code_is_saved_without_overwriting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSH_CONNECTION", "none of this machine's tools")
    (tmp_path / "code.py").write_text("mine", encoding="utf-8")

    async def story() -> None:
        async with chat_host(tmp_path, [CODE]) as host:
            await host.say("one")
            await answered(host)
            await host.screen.run_command("copy")
            await host.until(lambda: host.app.clipboard == CODE)
            view = list(host.screen.query(MessageView))[-1]
            view.post_message(MessageView.CopyCodeAsked(view.node, 0))
            await host.until(lambda: host.app.clipboard.strip() == "print(1)")
            view.post_message(MessageView.SaveCodeAsked(view.node, 0))
            await host.until(lambda: isinstance(host.app.screen, LineScreen))
            field = host.app.screen.query_one(Input)
            assert field.value == "code-2.py"
            field.value = "code.py"
            await host.pilot.press("enter")
            await host.until(lambda: host.app.screen.query_one(Input) is not field)
            await host.pilot.press(*["backspace"] * 7, *"new.py", "enter")
            await host.until((tmp_path / "new.py").exists)
            assert (tmp_path / "new.py").read_text(encoding="utf-8") == "print(1)\n"
            assert (tmp_path / "code.py").read_text(encoding="utf-8") == "mine"

    run(story())


def test_a_person_who_looks_elsewhere_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(attention, "call", lambda _app, words: called.append(words))

    async def story() -> None:
        async with chat_host(tmp_path, ["A"], ["B"], settings=ChatSettings(notify_after_s=0.0)) as host:
            await host.say("one")
            await answered(host)
            assert called == []
            host.app.app_focus = False
            host.screen.submit(Draft("two"))
            await host.until(lambda: called == ["An answer is there: one"])

    run(story())


def test_twenty_columns_and_every_command_do_no_harm(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, [CODE], size=(20, 8)) as host:
            await host.say("one")
            await answered(host)
            await host.pilot.resize_terminal(8, 4)
            await host.pilot.pause()
            await host.pilot.resize_terminal(100, 30)
            await host.until(lambda: "print(1)" in host.shown())

    run(story())


def test_what_is_unfinished_says_so_and_a_click_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        died = EngineCrashedError("the engine died")
        async with chat_host(tmp_path, [died], ["half", asyncio.Event()], [" whole"]) as host:
            note = host.screen.query_one(NoteLine)
            await host.say("one")
            await host.until(lambda: note.display and "Ctrl+R tries again" in str(note.render()))
            await host.pilot.click(NoteLine)
            await host.until(lambda: said(host) == ["one", "half"] or host.screen.open.now()[-1].content == "half")
            assert not note.display
            await host.pilot.press("escape")
            await host.until(lambda: "Alt+G goes on" in str(note.render()) and note.display)
            await host.pilot.click(NoteLine)
            await host.until(lambda: said(host) == ["one", "half whole"])
            await host.until(lambda: not note.display)

    run(story())


def test_thinking_is_asked_for_or_not(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, ["A"], ["B"]) as host:
            await host.screen.run_command("think", "off")
            await host.say("one")
            await answered(host)
            await host.screen.run_command("think", "auto")
            await host.say("two")
            await host.until(lambda: said(host) == ["one", "A", "two", "B"])
            assert [request.think for request in host.backend.requests] == [False, None]
            await host.screen.run_command("think", "maybe")
            await host.until(lambda: "Thinking: auto. It is on, off or auto." in notices(host))
            await host.screen.run_command("answer")
            await host.until(lambda: "The model does not think just now." in notices(host))

    run(story())


def test_hints_name_the_keys_that_the_person_has(tmp_path: Path) -> None:
    keys = {"composer.send": "f12", "composer.newline": "enter", "app.help": "f10", "chat.takeback": "ctrl+y"}
    keys |= {"chat.regenerate": "f11", "chat.stop": "alt+x"}

    async def story() -> None:
        async with chat_host(
            tmp_path, [EngineCrashedError("gone")], ["A", asyncio.Event()], settings=ChatSettings(keys=keys)
        ) as host:
            note = host.screen.query_one(NoteLine)
            assert "F12 sends · Enter new line" in str(host.composer.query_one(PromptArea).placeholder)
            assert "F10   shows the keys" in str(host.screen.query_one(Welcome).render())
            host.screen.submit(Draft("one"))
            await host.until(lambda: "F11 tries again" in str(note.render()))
            await host.pilot.press("f11")
            await host.until(lambda: host.screen.open.now()[-1].content == "A")
            host.screen.submit(Draft("two"))
            await host.until(lambda: "Ctrl+Y takes it back" in str(note.render()))
            await host.pilot.press("alt+x")
            await host.until(lambda: "F11 answers again" in str(note.render()))

    run(story())


def test_a_model_that_is_a_file_is_called_by_the_files_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, model="/a/long/path/smol.gguf") as host:
            head = host.screen.query_one(HeadLine)
            assert str(head.render()).endswith(" smol.gguf")
            assert str(head.tooltip) == "/a/long/path/smol.gguf"
            await host.say("one")
            await answered(host)
            turn = host.screen.query(TurnHead).last()
            await host.until(lambda: str(turn.render()).startswith("smol.gguf"))
            assert str(turn.tooltip) == "/a/long/path/smol.gguf"

    run(story())
