"""Conversations out to files and in from files, as a person asks for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from localllm_tui.screens.listed import ListedScreen
from textual import work

from localllm.errors import LocalLLMError

_ALL = "all"


class ExchangingScreen(ListedScreen):
    """Files are written and read in a thread."""

    def action_export(self, to: str = "") -> None:
        """Write the conversation to a file; `all FILE.json` writes every one. Asks for what is not said."""
        if to.split(maxsplit=1)[:1] == [_ALL]:
            self._export(None, to.strip().removeprefix(_ALL).strip())
        elif self.open.id:
            self._export(self.open.id, to.strip())
        else:
            self.say("There is nothing to export yet.")

    def export_conversation(self, id_: int, to: str = "") -> None:
        """See ListedScreen."""
        self._export(id_, to)

    @work(group="dialog", exclusive=True)
    async def _export(self, id_: int | None, to: str) -> None:
        from localllm_tui.exchange.exporting import all_ids, export_file

        try:
            to = to or await self._ask_where(id_) or ""
            if to:
                ids = all_ids(self.history) if id_ is None else (id_,)
                path = await asyncio.to_thread(export_file, self.history, ids, Path(to))
                self.say(f"Written to {path}")
        except LocalLLMError as exc:
            self.say_error(exc)

    async def _ask_where(self, id_: int | None) -> str | None:
        from localllm_tui.exchange.exporting import ENDINGS, free_name
        from localllm_tui.screens.pick import Choice, PickScreen
        from localllm_tui.screens.words import LineScreen

        ending: str | None = "json"
        title = "conversations"
        if id_ is not None:
            title = self.history.conversation(id_).title
            notes = {
                "md": "the branch that is open",
                "html": "the same, as a page",
                "json": "every branch, for keeping",
            }
            choices = [Choice(ending, name, notes[ending]) for ending, name in ENDINGS.items()]
            ending = await self.app.push_screen_wait(PickScreen("Export as", choices))
        if ending is None:
            return None
        return await self.app.push_screen_wait(LineScreen("Write to", free_name(title, ending, Path.cwd())))

    @work(group="dialog", exclusive=True)
    async def action_import(self, file: str = "") -> None:
        """Take in the conversations of a file."""
        from localllm_tui.exchange.importing import import_file
        from localllm_tui.screens.words import LineScreen

        if not file.strip():
            hint = "An export of localllm, ChatGPT or Open WebUI, or the database of Ollama's app"
            written = await self.app.push_screen_wait(LineScreen("File to import", hint=hint))
            file = written or ""
        if not file.strip():
            return
        try:
            done = await asyncio.to_thread(import_file, Path(file.strip()), self.history)
            self.say(done.words())
        except LocalLLMError as exc:
            self.say_error(exc)
        self.list_changed()
