"""What is written, in the whole chat: attachments in the request, sampling, personas and snippets, kept ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
from localllm_tui.history.values import Attachment
from localllm_tui.options import ChatSettings, Persona, load_chat_settings
from localllm_tui.screens.parameters import ParametersScreen
from localllm_tui.screens.persona import PersonaScreen
from localllm_tui.screens.preview import PreviewScreen
from localllm_tui.screens.snippets import SnippetScreen
from localllm_tui.widgets.attachment_chips import Chip
from localllm_tui.widgets.completion import CompletionList
from localllm_tui.widgets.quiet import QuietList
from textual import events

from tests.tui.host import Host, chat_host, run

SETTINGS = ChatSettings(
    snippets={"sum": "Sum up {what}."}, personas={"pirate": Persona("You are a pirate of {sea}.", {"sea": "the South"})}
)


def test_attachments_reach_the_model_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("print(1)\n")
    monkeypatch.chdir(tmp_path)

    async def story() -> None:
        async with chat_host(tmp_path, ["first"], ["second"], attached="piped\x1b") as host:
            await host.until(lambda: len(host.composer.query(Chip)) == 1)
            host.composer.query_one(Chip).focus()
            await host.pilot.press("enter")
            await host.until(lambda: isinstance(host.app.screen, PreviewScreen))
            await host.pilot.press("t")
            await host.until(lambda: not host.composer.query(Chip))
            assert host.composer.text == "piped\x1b"
            host.composer.text = ""
            host.composer.attach(Attachment("standard input", "piped\x1b"))
            await host.say("see @a.py")
            await host.until(lambda: "first" in host.shown())
            asked = host.backend.requests[0].messages[-1].content
            assert "a.py:\n```\nprint(1)\n```" in asked
            assert "piped\x1b" in asked
            assert asked.endswith("see @a.py")
            await host.until(lambda: not host.composer.query(Chip))
            host.composer.attach(Attachment("more", "12345"))
            await host.until(lambda: any("5 tokens" in str(chip.content) for chip in host.composer.query(Chip)))

    run(story())


def test_set_changes_how_the_next_answer_is_made(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            await host.say("/set temprature 1")
            await host.until(lambda: "did you mean 'temperature'?" in _told(host))
            assert host.composer.text == "/set temprature 1"
            host.composer.text = ""
            await host.say("/set temperature 0.25")
            await host.until(lambda: "temperature 0.25, from the next answer on" in _told(host))
            await host.say("hello")
            await host.until(lambda: host.backend.requests)
            assert host.backend.requests[0].sampling.temperature == 0.25

    run(story())


def test_personas_and_snippets_are_taken_by_name_or_picked(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, settings=SETTINGS) as host:
            await host.say("/persona pirate")
            await host.until(lambda: isinstance(host.app.screen, ParametersScreen))
            await host.pilot.press("enter")
            await host.until(lambda: host.screen.open.conversation.system == "You are a pirate of the South.")
            await host.pilot.press("f9")  # also from within the prompt
            await host.until(lambda: isinstance(host.app.screen, PersonaScreen))
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)
            host.composer.text = ""
            await host.pilot.press("alt+s")
            await host.until(lambda: isinstance(host.app.screen, SnippetScreen) and host.app.screen.query(QuietList))
            await host.pilot.press("enter")
            await host.until(lambda: isinstance(host.app.screen, ParametersScreen))
            await host.pilot.press("x", "enter")
            await host.until(lambda: host.composer.text == "Sum up x.")
            await host.pilot.press("enter")
            await host.until(lambda: host.backend.requests)
            assert [message.content for message in host.backend.requests[0].messages] == [
                "You are a pirate of the South.",
                "Sum up x.",
            ]

    run(story())


def test_a_prompt_is_kept_in_chat_toml_and_there_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_CONFIG", str(tmp_path / "config.toml"))
    file = tmp_path / "chat.toml"
    file.write_text("# mine\n")

    async def story() -> None:
        async with chat_host(tmp_path) as host:
            await host.say("/persona save empty")
            await host.until(lambda: "there is no text to be kept as empty" in _told(host))
            await host.say("/system Be {kind}.")
            await host.until(lambda: host.screen.open.conversation.system == "Be {kind}.")
            await host.say("/persona save kind")
            await host.until(lambda: f"kind is in {file}" in _told(host))
            await host.say("/system other")
            await host.until(lambda: host.screen.open.conversation.system == "other")
            host.composer.text = ""
            await host.pilot.press(*(key if key != " " else "space" for key in ["slash", *"persona ki"]))
            await host.until(lambda: host.composer.query_one(CompletionList).current)
            await host.pilot.press("enter", "enter")
            await host.until(lambda: host.screen.open.conversation.system == "Be {kind}.")

    run(story())
    assert file.read_text().startswith("# mine\n")
    assert list(load_chat_settings(file).personas) == ["kind"]


def test_vims_mode_is_seen_where_there_are_no_boxes(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path, settings=ChatSettings(vim=True, plain=True)) as host:
            await host.pilot.press("a", "escape")
            await host.until(lambda: "NORMAL" in host.app.export_screenshot())

    run(story())


def test_up_finds_what_was_sent_here_and_elsewhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            await host.say("one")
            await host.until(lambda: "You said: one" in host.shown())
            await host.say("two")
            await host.until(lambda: "You said: two" in host.shown())
            await host.pilot.press("ctrl+n")
            await host.until(lambda: not host.shown())
            await host.say("three")
            await host.until(lambda: "You said: three" in host.shown())
            found = []
            for _ in range(3):
                await host.pilot.press("up")
                found.append(host.composer.text)
            assert found == ["three", "two", "one"]

    run(story())


def _told(host: Host) -> str:
    return "\n".join(note.message for note in host.app._notifications)


def test_alt_and_a_letter_is_a_key_and_no_text_as_terminals_send_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with chat_host(tmp_path) as host:
            host.composer.focus()
            await host.pilot.press("a")
            host.app.post_message(events.Key("alt+s", "s"))
            await host.until(lambda: isinstance(host.app.screen, SnippetScreen))
            assert host.composer.text == "a"

    run(story())
