"""The list of conversations in the chat: what is clicked and typed there happens."""

from __future__ import annotations

import time
from pathlib import Path

from localllm_tui.history.history import History
from localllm_tui.screens.pick import PickScreen
from localllm_tui.screens.search import SearchScreen
from localllm_tui.screens.words import LineScreen
from localllm_tui.widgets.conversation_list import ConversationList
from localllm_tui.widgets.sidebar import Sidebar
from textual.widgets import Input, OptionList

from tests.tui.host import Host, chat_host, run


def some(tmp_path: Path) -> tuple[int, int, int]:
    """Three conversations; the last has two branches."""
    history = History(tmp_path / "chat.db")
    made = []
    for number, title in enumerate(("Marmalade", "Lighthouse", "Haiku")):
        conversation = history.new(model="smollm2:135m", title=title)
        question = history.add(conversation.id, None, "user", f"question {number}")
        history.add(conversation.id, question.id, "assistant", f"buried treasure {number}")
        history.add(conversation.id, question.id, "assistant", f"another answer {number}")
        made.append(conversation.id)
    history.close()
    return made[0], made[1], made[2]


def drawn(host: Host) -> str:
    """The list as it is seen."""
    widget = host.screen.query_one(ConversationList)
    return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))


def test_conversations_are_opened_named_pinned_moved_and_deleted(tmp_path: Path) -> None:
    one, two, three = some(tmp_path)

    async def story() -> None:
        async with chat_host(tmp_path, conversation=three) as host:
            await host.until(lambda: "▌ Haiku" in drawn(host))
            await host.pilot.press("ctrl+o", "down", "enter")
            await host.until(lambda: host.screen.open.id == two and "▌ Lighthouse" in drawn(host))

            await host.pilot.press("ctrl+o", "r")
            await host.until(lambda: isinstance(host.app.screen, LineScreen))
            host.app.screen.query_one(Input).value = "Seamark"
            await host.pilot.press("enter")
            await host.until(lambda: "▌ Seamark" in drawn(host))
            assert host.history.conversation(two).titled_by == "person"

            await host.pilot.press("p")
            await host.until(lambda: drawn(host).startswith(" Pinned\n▌ Seamark"))

            await host.pilot.press("m")
            await host.until(lambda: isinstance(host.app.screen, PickScreen))
            await host.pilot.press(*"sea", "enter")
            await host.until(lambda: host.history.conversation(two).folder == "sea")
            assert host.screen.open.conversation.folder == "sea"

            await host.until(lambda: host.screen.query_one(ConversationList).has_focus)
            await host.pilot.press("d")
            await host.until(lambda: host.history.count() == 2 and "Seamark" not in drawn(host))
            assert host.screen.open.id != two
            await host.pilot.press("ctrl+o", "u")
            await host.until(lambda: "▌ Seamark" in drawn(host))
            await host.screen.run_command("move", "harbour")
            await host.until(lambda: host.history.conversation(two).folder == "harbour")

            await host.pilot.press("ctrl+o", "end", "o")
            await host.until(lambda: isinstance(host.app.screen, PickScreen))
            await host.pilot.press("down", "enter")
            await host.until(lambda: host.history.conversation(one).is_pinned)

            await host.pilot.press("n")
            await host.until(lambda: host.screen.open.id == 0)

    run(story())


def test_search_opens_the_turn_where_it_is(tmp_path: Path) -> None:
    one, _, three = some(tmp_path)

    async def story() -> None:
        async with chat_host(tmp_path, conversation=three) as host:
            await host.pilot.press("ctrl+f")
            await host.until(lambda: isinstance(host.app.screen, SearchScreen))
            await host.pilot.press(*"treasure 0")
            listed = host.app.screen.query_one(OptionList)
            await host.until(lambda: listed.option_count == 1)
            assert "buried treasure 0" in str(listed.get_option_at_index(0).prompt)
            await host.pilot.press("enter")
            await host.until(lambda: host.screen.open.id == one)
            await host.until(lambda: "buried treasure 0" in host.shown())
            assert host.screen.open.path[-1].content == "buried treasure 0", "on its own branch"
            await host.screen.run_command("search", "lighth")
            await host.until(lambda: isinstance(host.app.screen, SearchScreen))
            listed = host.app.screen.query_one(OptionList)
            await host.until(lambda: listed.option_count == 1)
            await host.pilot.press("escape")
            await host.until(lambda: host.app.screen is host.screen)

    run(story())


def test_a_narrow_terminal_shows_the_list_when_asked(tmp_path: Path) -> None:
    one, _, three = some(tmp_path)

    async def story() -> None:
        async with chat_host(tmp_path, conversation=three, size=(40, 20)) as host:
            sidebar = host.screen.query_one(Sidebar)
            assert not sidebar.display
            await host.pilot.press("ctrl+o")
            await host.until(lambda: sidebar.display and sidebar.size.width == 40)
            await host.pilot.press("escape")
            await host.until(lambda: not sidebar.display)
            await host.pilot.press("ctrl+o", "end", "enter")
            await host.until(lambda: host.screen.open.id == one)
            assert not sidebar.display
        async with chat_host(tmp_path, conversation=three, size=(100, 20)) as host:
            sidebar = host.screen.query_one(Sidebar)
            assert sidebar.display
            await host.pilot.press("ctrl+o", "ctrl+o")
            await host.until(lambda: not sidebar.display)
            await host.pilot.press("ctrl+o")
            await host.until(lambda: sidebar.display)

    run(story())


def test_ten_thousand_conversations_do_not_hold_up_the_first_frame(tmp_path: Path) -> None:
    history = History(tmp_path / "chat.db")
    with history._db.write() as connection:
        rows = ((str(number), f"title {number}", number, number) for number in range(10_000))
        connection.executemany(
            "INSERT INTO conversations (uid, title, titled_by, folder, is_pinned, model, system, created, updated)"
            " VALUES (?, ?, 'nobody', '', 0, 'm', '', ?, ?)",
            rows,
        )
    history.close()

    async def story() -> None:
        began = time.process_time()
        async with chat_host(tmp_path) as host:
            await host.until(lambda: host.screen.query_one(ConversationList)._rows.num_lines > 20_000)
            assert time.process_time() - began < 3.0
            assert "title 9999" in drawn(host)

    run(story())


def test_folders_are_as_they_were_left(tmp_path: Path) -> None:
    one, two, three = some(tmp_path)
    history = History(tmp_path / "chat.db")
    history.change(one, folder="Jam")
    history.change(two, folder="Sea: far *")
    history.close()

    async def turn(host: Host, folder: str) -> None:
        await host.until(lambda: folder in drawn(host))
        lines = drawn(host).splitlines()
        at = next(number for number, line in enumerate(lines) if folder in line)
        await host.pilot.click(ConversationList, offset=(5, at))

    async def story() -> None:
        async with chat_host(tmp_path, conversation=one) as host:
            await turn(host, "▾ Jam")  # where the open conversation is
            await turn(host, "▸ Sea: far *")
            await host.until(lambda: "▸ Jam" in drawn(host) and "▾ Sea: far *" in drawn(host))
            await host.until(lambda: host.history.folders_open() == {"Jam": False, "Sea: far *": True})
        async with chat_host(tmp_path, conversation=one) as host:
            await host.until(lambda: "▸ Jam" in drawn(host) and "▾ Sea: far *" in drawn(host))
            host.screen.show_conversation(three)
            await host.until(lambda: "▌ Haiku" in drawn(host))
            host.screen.show_conversation(one)
            await host.until(lambda: "▾ Jam" in drawn(host) and "▌   Marmalade" in drawn(host))
            host.history.change(two, folder="")
            host.history.set_folder_open("Jam", True)
            assert host.history.folders_open() == {"Jam": True}

    run(story())
