"""The text of the prompt with the list of what may complete it: commands, their arguments, paths."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localllm_tui.options import ChatSettings
from localllm_tui.prompt import completing, listing, mentions
from localllm_tui.prompt.commands import CommandWords
from localllm_tui.prompt.completing import Completion
from localllm_tui.widgets.completion import CompletionList
from localllm_tui.widgets.prompt_area import PromptArea
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import TextArea


class PromptBox(Vertical):
    """A PromptArea whose SendAsked comes only when there is nothing left to be completed."""

    DEFAULT_CSS = "PromptBox { height: auto; }"

    @dataclass
    class Changed(Message):
        """The text is another one."""

    def __init__(
        self,
        settings: ChatSettings,
        folder: Path,
        commands: tuple[CommandWords, ...],
        argument_words: Mapping[str, Iterable[tuple[str, str]]],
    ) -> None:
        super().__init__()
        self._completions = CompletionList()
        self.area = PromptArea(self._completions, paste_chars=settings.paste_chars, has_vim=settings.vim)
        self._folder = folder
        self._commands = commands
        self._argument_words = argument_words
        self._dismissed: int | None = None

    def compose(self) -> ComposeResult:
        """What may be completed above the text."""
        yield self._completions
        yield self.area

    @on(TextArea.Changed)
    def _on_text(self, event: TextArea.Changed) -> None:
        event.stop()  # one that was caused in here would not go further up
        self.post_message(self.Changed())
        self._complete()

    @on(TextArea.SelectionChanged)
    def _on_cursor(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        if self._completions.is_open:
            self._complete()

    def _complete(self) -> None:
        """Offer what may complete the command or path before the cursor."""
        text, cursor = self.area.text, self.area.index
        found = completing.of_command(text, cursor, self._commands)
        for name, words in self._argument_words.items():
            found = found or completing.of_argument(text, cursor, name, words)
        if found or (mention := mentions.begun(text, cursor)) is None:
            self._offer(found)
        else:
            self._complete_path(mention)

    @work(exclusive=True, group="completion")
    async def _complete_path(self, mention: mentions.Mention) -> None:
        choices = await asyncio.to_thread(listing.choices, mention.pattern, self._folder)
        if mentions.begun(self.area.text, self.area.index) == mention:
            self._offer(completing.of_paths(mention, choices))

    def _offer(self, completions: tuple[Completion, ...]) -> None:
        start = completions[0].start if completions else None
        if start is None or start != self._dismissed:
            self._dismissed = None
            self._completions.show(completions)

    @on(PromptArea.Dismissed)
    def _on_dismissed(self, event: PromptArea.Dismissed) -> None:
        event.stop()
        mention = mentions.begun(self.area.text, self.area.index)
        self._dismissed = mention.start if mention is not None else 0

    @on(PromptArea.Accepted)
    def _on_accepted(self, event: PromptArea.Accepted) -> None:
        event.stop()
        completion = self._completions.current
        if completion is None:
            return
        typed = self.area.text[completion.start : completion.end]
        if event.sends and typed.strip() == completion.text.strip():
            self._completions.show(())
            self.post_message(PromptArea.SendAsked())
            return
        self._take(completion)
        if event.sends and completion.is_whole:
            self.post_message(PromptArea.SendAsked())

    @on(CompletionList.Chosen)
    def _on_chosen(self, event: CompletionList.Chosen) -> None:
        event.stop()
        self._take(event.completion)
        self.area.focus()

    def _take(self, completion: Completion) -> None:
        text = self.area.text
        before, after = text[: completion.start], text[completion.end :]
        added = completion.text.rstrip(" ") if after.startswith(" ") else completion.text
        self._completions.show(())
        self.area.change(before + added + after, len(before + added))
