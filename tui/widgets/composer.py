"""The prompt: where a person writes. It says what was written in a message and sends nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from localllm_tui.history.values import Attachment, Draft
from localllm_tui.options import ChatSettings
from localllm_tui.prompt import attaching, commands, mentions
from localllm_tui.prompt.attached import Attached
from localllm_tui.prompt.attaching import Holding
from localllm_tui.prompt.commands import CommandWords
from localllm_tui.widgets.attachment_chips import AttachmentChips, Chip
from localllm_tui.widgets.prompt_area import PromptArea
from localllm_tui.widgets.prompt_box import PromptBox
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer

from localllm.errors import LocalLLMError

CountTokens = Callable[[str], Awaitable[int | None]]
CHANGED_S = 1 / 3
SCAN_S = 0.2
# A second Enter within this time is a key that was held, not another message.
HELD_S = 0.3


class Composer(Vertical):
    """Text, attachments and completion. Files are looked for from `folder`; `commands` are those that `/` offers.

    `argument_words`: what may stand behind a command's name, with its meaning.
    `count_tokens` counts a text in the background; it gives None where no model is loaded that could.
    """

    BINDING_GROUP_TITLE = "The prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+a", "attachments", "To what is attached", id="composer.attachments", show=False),
    ]
    DEFAULT_CSS = "Composer { height: auto; }"

    @dataclass
    class Submitted(Message):
        """The person wants this sent. What was written stays in the composer until `clear_sent`."""

        text: str
        attachments: tuple[Attachment, ...] = ()

    @dataclass
    class Changed(Message):
        """The draft is another one now; posted at most every third of a second, and when the composer is left.

        A screen that shows another draft meanwhile asks `draft` for the one that is there.
        """

        draft: Draft

    @dataclass
    class Command(Message):
        """A slash command, its name without the slash. The composer is empty by then; `put_back` fills it again."""

        name: str
        argument: str

    @dataclass
    class PreviewAsked(Message):
        """The person wants to see what is attached; `settle` does what they then ask for."""

        holding: Holding

    def __init__(
        self,
        settings: ChatSettings | None = None,
        *,
        commands: tuple[CommandWords, ...] = (),
        argument_words: Mapping[str, Iterable[tuple[str, str]]] | None = None,
        folder: Path | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or ChatSettings()
        self.commands = commands
        self.folder = folder or Path.cwd()
        self.count_tokens = count_tokens
        self._chips = AttachmentChips()
        self.argument_words = dict(argument_words or {})
        self._box = PromptBox(self.settings, self.folder, commands, self.argument_words)
        self._area = self._box.area
        self._edits: int | None = None
        self._attached = Attached()
        self._scanned: tuple[str, ...] = ()
        self._submitted: tuple[str, tuple[Holding, ...], float] | None = None
        self._is_sending = False
        self._num_shown = 0
        self._reported = Draft()
        self._counted_for: str | None = None
        self._changed_timer: Timer | None = None
        self._scan_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """What is attached above the text."""
        yield self._chips
        yield self._box

    # --- what a screen asks of it ---------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """What is written."""
        return self._area.text

    @text.setter
    def text(self, text: str) -> None:
        self._area.change(text, len(text))

    @property
    def draft(self) -> Draft:
        """What is written and attached, as it is this moment; a screen saves it when it leaves."""
        return Draft(self.text, self._attached.attachments, self._edits)

    @property
    def as_sent(self) -> Draft:
        """The same with the files that the text mentions, as they were when they were looked at."""
        attachments = tuple(item for one in self._attached.all for item in one.attachments)
        return Draft(self.text, attachments, self._edits)

    async def whole(self) -> Draft:
        """What would be sent, its files read now. Raises UsageError for one that cannot be."""
        held, found = self._attached.held, await self._read(self.text)
        return Draft(self.text, attaching.check(self._attached.counted((*held, *found))), self._edits)

    def show(self, draft: Draft) -> None:
        """Another draft; what was written before is gone, so its draft has to be saved first."""
        self._attached.load(draft.attachments)
        self._num_shown += 1
        self._scanned = ()
        self._edits, self._reported, self._submitted = draft.edits, draft, None
        self._area.load_text(draft.text)
        self._area.move_cursor(self._area.document.end)
        self._rescan()
        self._show_chips()

    def show_sent(self, texts: tuple[str, ...]) -> None:
        """What up and down walk through: what was sent, the newest last."""
        self._area.sent = type(self._area.sent)(texts)

    def clear_sent(self) -> None:
        """What was submitted has been taken: empty, but for what was typed since."""
        text, held, _ = self._submitted or (self.text, self._attached.held, 0.0)
        self._area.sent.add(text)
        self._submitted, self._edits = None, None
        self._attached.remove(held)
        self._area.change(left := self.text.removeprefix(text), len(left))
        self._rescan()
        self._show_chips()
        self.flush()

    def put_back(self, text: str) -> None:
        """What failed comes back, before what has been written since."""
        if self.text != text:
            self.text = f"{text}\n{self.text}" if self.text else text

    def insert(self, text: str) -> None:
        """Text at the cursor: a snippet."""
        self._area.replace(text, *self._area.selection, maintain_selection_offset=False)

    def attach(self, attachment: Attachment) -> None:
        """One more attachment, such as what was piped in."""
        self._attached.add(attachment)
        self._show_chips()
        self._change_soon()

    def count_for(self, model: str | None) -> None:
        """The model that is in memory (None: none is): what is attached is counted for it."""
        if model != self._counted_for:
            self._counted_for = model
            self._attached.forget_counts()
            self._show_chips()

    def settle(self, holding: Holding, what: str) -> None:
        """What is attached is taken out ("remove") or becomes text ("text"); then on with writing."""
        if what in {"remove", "text"}:
            self._let_go(holding)
        if what == "text":
            self.insert("\n\n".join(item.text for item in holding.attachments))
        self.focus()

    def flush(self) -> None:
        """Say how the draft stands, if that has not been said."""
        if self._changed_timer is not None:
            self._changed_timer.stop()
            self._changed_timer = None
        if (draft := self.draft) != self._reported:
            self._reported = draft
            self.post_message(self.Changed(draft))

    def focus(self, scroll_visible: bool = True) -> Composer:
        """Where to type."""
        self._area.focus(scroll_visible)
        return self

    # --- typing ---------------------------------------------------------------------------------------------------

    @on(PromptBox.Changed)
    def _on_text(self, event: PromptBox.Changed) -> None:
        event.stop()
        self._change_soon()
        if self._scan_timer is None and (self._scanned or "@" in self.text):
            self._scan_timer = self.set_timer(SCAN_S, self._rescan)

    @on(events.DescendantBlur)
    def _on_left(self) -> None:
        self.flush()

    def _change_soon(self) -> None:
        if self._changed_timer is None:
            self._changed_timer = self.set_timer(CHANGED_S, self.flush)

    # --- attachments ----------------------------------------------------------------------------------------------

    def _rescan(self) -> None:
        """Look again at what the text mentions, unless it is the same as before."""
        if self._scan_timer is not None:
            self._scan_timer.stop()
            self._scan_timer = None
        typed = mentions.begun(self.text, self._area.index)
        found = [one for one in mentions.mentions(self.text) if typed is None or one.start != typed.start]
        patterns = tuple(dict.fromkeys(one.pattern for one in found))
        if patterns != self._scanned:
            self._scanned = patterns
            if patterns:
                self._scan(" ".join(map(mentions.spelled, patterns)))
            else:
                self.workers.cancel_group(self, "mentions")
                self._attached.mentioned = ()
                self._show_chips()

    @work(exclusive=True, group="mentions")
    async def _scan(self, text: str) -> None:
        self._attached.mentioned = await self._read(text)
        self._show_chips()
        self.post_message(self.Changed(self.draft))  # what would be sent is more now, or less

    async def _read(self, text: str) -> tuple[Holding, ...]:
        """The files that a text mentions, as they are now."""
        return await asyncio.to_thread(attaching.of_text, text, self.folder, self._attached.attachments)

    def _show_chips(self) -> None:
        self._chips.show(self._attached.all)
        if self.count_tokens is not None and self._attached.uncounted():
            self._count(self.count_tokens)

    @work(exclusive=True, group="count")
    async def _count(self, count_tokens: CountTokens) -> None:
        for item in self._attached.uncounted():
            try:
                number = await count_tokens(item.text)
            except LocalLLMError:
                return  # sending says what is wrong with the model; a count is only a help
            if number is None:
                return
            self._attached.count(item.text, number)
        self._show_chips()

    @on(PromptArea.Pasted)
    def _on_pasted(self, event: PromptArea.Pasted) -> None:
        event.stop()
        self._attached.add_paste(event.text)
        self._show_chips()
        self._change_soon()

    @on(Chip.Asked)
    def _on_chip(self, event: Chip.Asked) -> None:
        event.stop()
        holding = event.holding
        if event.what == "preview":
            if holding.attachments:
                self.post_message(self.PreviewAsked(holding))
            else:
                words = ". ".join(part for part in (holding.problem, holding.hint, holding.note) if part)
                self.app.notify(words, title=holding.name, severity="warning", markup=False)
        else:
            self.settle(holding, event.what)

    def action_attachments(self) -> None:
        """Among the chips."""
        for chip in self.query(Chip):
            chip.focus()
            break

    def _let_go(self, holding: Holding) -> None:
        self._attached.remove([holding])
        if holding.mention is not None:
            text = mentions.without(self.text, holding.mention)
            self._area.change(text, min(self._area.index, len(text)))
        self._show_chips()
        self._change_soon()

    # --- sending --------------------------------------------------------------------------------------------------

    @on(PromptArea.SendAsked)
    def _on_send_asked(self, event: PromptArea.SendAsked) -> None:
        event.stop()
        self._send()

    def _send(self) -> None:
        text = self.text
        if self._is_sending or not (text.strip() or self._attached.held):
            return
        try:
            parsed = commands.parse(text, self.commands)
        except LocalLLMError as exc:
            self._say(exc)
            return
        if isinstance(parsed, commands.Typed):
            self._area.sent.add(text.strip())
            self._area.change("", 0)
            self.flush()
            self.post_message(self.Command(parsed.name, parsed.argument))
            return
        last, held = self._submitted, self._attached.held
        if last is not None and last[:2] == (text, held) and time.monotonic() - last[2] < HELD_S:
            return
        if mentions.mentions(parsed):
            self._is_sending = True
            self._send_with_files(text, parsed)
        else:
            self._submit(text, parsed, held)

    @work(group="send")
    async def _send_with_files(self, text: str, parsed: str) -> None:
        """Read the files as they are now, and send them with the text."""
        held, shown = self._attached.held, self._num_shown
        try:
            found = await self._read(parsed)
            if shown == self._num_shown:  # else another conversation is here, and this text is kept as its draft
                self._submit(text, parsed, held, found)
        finally:
            self._is_sending = False

    def _submit(self, text: str, parsed: str, held: tuple[Holding, ...], found: tuple[Holding, ...] = ()) -> None:
        mentioned = {one.pattern for one in mentions.mentions(parsed)}
        try:
            attaching.check_there((one for one in self._attached.mentioned if one.mention in mentioned), found)
            attachments = attaching.check(self._attached.counted((*held, *found)))
        except LocalLLMError as exc:
            self._say(exc)
            return
        self._submitted = (text, held, time.monotonic())
        self.flush()
        self.post_message(self.Submitted(parsed, attachments))

    def _say(self, exc: LocalLLMError) -> None:
        words = f"{exc.message}\n{exc.hint}" if exc.hint else exc.message
        self.app.notify(words, severity="error", markup=False)

    # --- the editor -----------------------------------------------------------------------------------------------

    @on(PromptArea.EditorAsked)
    def _on_editor_asked(self, event: PromptArea.EditorAsked) -> None:
        event.stop()
        self._edit_outside()

    @work(exclusive=True, group="editor")
    async def _edit_outside(self) -> None:
        from localllm_tui.widgets.outside_editor import edit_outside

        before = self.text
        try:
            text = await edit_outside(self.app, before)
        except LocalLLMError as exc:
            self._say(exc)
        else:
            if text != before:
                self._area.change(text, len(text))
        self.focus()
