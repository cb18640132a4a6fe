"""The models: those that are here, and those one may have, each with whether it fits and how fast it would be.

Dismissed with the name of a model to talk with, or None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar

from localllm_tui.look.dressed import key_of
from localllm_tui.screens.confirm import ConfirmScreen
from localllm_tui.screens.model_about import about, about_typed
from localllm_tui.screens.model_rows import ModelEntry, entries_of, fit_words, matching, row, speed_words
from localllm_tui.screens.pull import Pulls
from localllm_tui.screens.pulls_shown import PullsShown
from localllm_tui.turns.turn import words
from localllm_tui.widgets.keys_foot import KeysFoot
from localllm_tui.widgets.model_list import Group, ModelList
from localllm_tui.widgets.quiet import QuietInput
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static

from localllm.api import Backend, LoadedModel, ModelInfo, Notice, Progress
from localllm.api.finder import HasFinder, Offer
from localllm.api.keeper import HasKeeper
from localllm.errors import LocalLLMError, ModelInUseError
from localllm.name import ModelName
from localllm.terminal_text import safe_line, safe_stream, size

# How often one looks which models are in memory.
LOOK_S = 2.0
_TYPED = "+ "  # before the id of the row for what was typed: no model's name has a space


class ModelsScreen(PullsShown):
    """`pulls` outlive this screen. `plain`: words for marks."""

    BINDING_GROUP_TITLE = "In the models"
    DEFAULT_CSS = """
    ModelsScreen #models-head { height: 1; padding: 0 2; margin: 1 0 0 0; }
    ModelsScreen #models-find { margin: 1 1; }
    ModelsScreen ModelList { width: 3fr; }
    ModelsScreen #models-about {
        width: 2fr; max-width: 72; padding: 0 2; border-left: solid $panel; scrollbar-gutter: stable;
    }
    ModelsScreen #models-note { height: auto; max-height: 4; padding: 0 2; color: $text-muted; }
    ModelsScreen KeysFoot { padding: 0 2; }
    ModelsScreen.-narrow #models-about { display: none; }
    ModelsScreen.-narrow #models-head { margin: 0; padding: 0 1; }
    ModelsScreen.-narrow #models-find { margin: 0; }
    ModelsScreen.-narrow KeysFoot { padding: 0 1; }
    ModelsScreen.-narrow ModelList { padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="models.back"),
        Binding("slash", "find", "Search", id="models.find"),
        Binding("p", "pull", "Fetch", id="models.pull"),
        Binding("space", "pause", "Pause or go on", id="models.pause"),
        Binding("d", "details", "Details", id="models.details"),
        Binding("l", "load", "Load", id="models.load"),
        Binding("u", "unload", "Unload", id="models.unload"),
        Binding("k", "pin", "Keep loaded", id="models.pin"),
        Binding("x,delete", "remove", "Delete", id="models.delete"),
        Binding("enter", "take", "Talk with it, or fetch it", id="models.take", show=False, priority=True),
        Binding("down", "to_list", "To the list", id="models.list", show=False),
    ]

    def __init__(self, backend: Callable[[], Awaitable[Backend]], pulls: Pulls, *, plain: bool = False) -> None:
        super().__init__(pulls)
        self._backend = backend
        self._plain = plain
        self._infos: list[ModelInfo] = []
        self._offers: dict[str, Offer] = {}
        self._loaded: list[LoadedModel] = []
        self._entries: tuple[ModelEntry, ...] = ()

    # --- what is seen -------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Search, list beside what is known of a model, pulls, keys."""
        yield Static(id="models-head", markup=False)
        yield QuietInput(placeholder="Search, or type a name to fetch: hf.co/owner/repo", id="models-find")
        with Horizontal():
            yield ModelList()
            with VerticalScroll(id="models-about", can_focus=False):
                yield Static(id="models-facts", markup=False)
        yield Vertical(id="models-pulls")
        yield Static(id="models-note", markup=False)
        yield KeysFoot(type(self))

    def on_mount(self) -> None:
        """What is known at once, then what takes a moment."""
        self._head("looking…")
        self.show_pulls()
        self.set_interval(LOOK_S, self._look)
        self.query_one(Input).focus()
        self.refresh_models()

    @work(exclusive=True, group="models")
    async def refresh_models(self) -> None:
        """Ask what is here, then what there is to be had."""
        try:
            backend = await self._backend()
            self._infos, self._loaded = await backend.list_models(), await backend.list_loaded()
            self.show_models()
            if not isinstance(backend, HasFinder):
                self.say("No catalogue here; a name can be typed all the same.")
                return
            self._offers |= {offer.name: offer for offer in await backend.finder.catalogue()}
            self.show_models()
        except LocalLLMError as exc:
            self._head("")
            self.say(words(exc))

    @work(exclusive=True, group="models-look")
    async def _look(self) -> None:
        """Which are in memory now."""
        try:
            loaded = await (await self._backend()).list_loaded()
        except LocalLLMError:
            return  # whoever asks for something is told
        if loaded != self._loaded:
            self._loaded = loaded
            self.show_models()

    def show_models(self) -> None:
        """The list, as far as it is known and looked for."""
        self._entries = entries_of(self._infos, self._offers.values(), self._loaded)
        query = self.query_one(Input).value.strip()
        found = matching(self._entries, query)
        here = [entry for entry in found if entry.is_installed]
        rest = [entry for entry in found if not entry.is_installed]
        groups = [Group("Installed", [self._row(entry) for entry in here])]
        groups.append(Group("To be had", [self._row(entry) for entry in rest]))
        if (name := _as_name(query)) is not None and all(entry.name != name for entry in self._entries):
            typed = Group("Fetch", [(_TYPED + name, lambda columns: [(safe_line(name)[:columns], "accent")])])
            groups.insert(0 if not found else len(groups), typed)
        self.query_one(ModelList).show(groups)
        total = sum(info.size_bytes for info in self._infos)
        self._head(f"{len(self._infos)} installed, {size(total)}" if self._infos else "none installed yet")
        self._about()

    def _row(self, entry: ModelEntry) -> tuple[str, Callable[[int], list[tuple[str, str]]]]:
        pull = self.pulls.get(entry.name)
        is_pulling = pull is not None and pull.state == "running"
        draw = partial(_draw, entry, is_pulling=is_pulling, plain=self._plain)
        return entry.name, draw

    def _head(self, text: str) -> None:
        self.query_one("#models-head", Static).update(Content.assemble(("Models", "bold"), f"   {text}"))

    def say(self, text: str) -> None:
        """A line below the list."""
        self.query_one("#models-note", Static).update(safe_stream(text))

    def _about(self) -> None:
        chosen = self.query_one(ModelList).chosen
        facts = self.query_one("#models-facts", Static)
        entry = self.entry
        if entry is not None:
            facts.update(about(entry, facts.container_size.width))
        else:
            facts.update(about_typed(chosen.removeprefix(_TYPED), key_of(self.app, "models.take")) if chosen else "")
        self.refresh_bindings()

    @property
    def entry(self) -> ModelEntry | None:
        """The model that is highlighted."""
        chosen = self.query_one(ModelList).chosen
        return next((entry for entry in self._entries if entry.name == chosen), None)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self._about()
        entry = self.entry
        if entry is not None and entry.offer is None:
            self._judge(entry.name)

    @work(exclusive=True, group="models-judge")
    async def _judge(self, name: str) -> None:
        """Fit and speed of a model that the catalogue does not have."""
        try:
            backend = await self._backend()
            if isinstance(backend, HasFinder):
                self._offers[name] = await backend.finder.offer(name)
                self.show_models()
        except LocalLLMError:
            return  # the facts simply do not have it

    # --- finding ------------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self) -> None:
        self.show_models()

    def action_take(self) -> None:
        """Enter, in the search or the list."""
        self._take(self.query_one(ModelList).chosen)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._take(event.option.id)

    def _take(self, chosen: str | None) -> None:
        """Enter: talk with what is here, fetch what is not."""
        entry = self.entry
        if entry is not None and entry.is_installed:
            self.dismiss(entry.name)
        elif chosen is not None:
            self.action_pull()

    def action_find(self) -> None:
        """Type."""
        self.query_one(Input).focus()

    def action_to_list(self) -> None:
        """From the search to what was found."""
        self.query_one(ModelList).focus()

    def action_leave(self) -> None:
        """From the list to the search that is not empty, else back."""
        find = self.query_one(Input)
        if find.value:
            find.value = ""
            find.focus()
        else:
            self.dismiss(None)

    # --- fetching -----------------------------------------------------------------------------------------------------

    def action_pull(self) -> None:
        """Fetch it: what was typed at once, a model of the list after a look at its size."""
        entry = self.entry
        if entry is None:
            chosen = self.query_one(ModelList).chosen
            if chosen is not None:
                self.fetch(chosen.removeprefix(_TYPED))
            return
        pull = self.pulls.get(entry.name)
        if pull is not None and pull.state in ("paused", "failed"):
            self.fetch(entry.name)
            return
        how_large = entry.size_words or "Its size is not known before"
        says = f"{how_large}\nFits: {fit_words(entry.fit)}\nSpeed: {speed_words(entry.speed, entry.fit)}"

        def answered(yes: bool | None) -> None:
            if yes:
                self.fetch(entry.name)

        self.app.push_screen(ConfirmScreen(f"Fetch {safe_line(entry.name)}?", says, yes="Fetch"), answered)

    def action_pause(self) -> None:
        """Let the pull of this model wait, or go on; without one of its own, the one that was begun last."""
        entry = self.entry
        pull = self.pulls.get(entry.name) if entry is not None else None
        pull = pull or next((one for one in reversed(self.pulls.all()) if one.state != "done"), None)
        if pull is not None:
            self.wish(pull.name, "pause" if pull.state == "running" else "resume")

    # --- what is here -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done with the model that is highlighted."""
        del parameters
        if action == "take":  # a button of a pull has this key for itself
            return isinstance(self.focused, Input | ModelList)
        if not self.is_mounted or action not in ("pull", "details", "load", "unload", "pin", "remove", "pause"):
            return True
        entry = self.entry
        is_here, is_loaded = entry is not None and entry.is_installed, entry is not None and entry.loaded is not None
        match action:
            case "pull":
                pull = self.pulls.get(entry.name) if entry is not None else None
                is_coming = pull is not None and pull.state == "running"
                return not is_here and not is_coming and self.query_one(ModelList).chosen is not None
            case "pause":
                return any(pull.state != "done" for pull in self.pulls.all())
            case "details":
                return entry is not None
            case "load":
                return is_here and not is_loaded
            case "unload":
                return is_loaded
        return is_here

    def action_details(self) -> None:
        """All that is known of it."""
        from localllm_tui.screens.model_details import ModelDetailsScreen

        if (entry := self.entry) is not None:
            self.app.push_screen(ModelDetailsScreen(self._backend, entry))

    def action_load(self) -> None:
        """Into memory."""
        if (entry := self.entry) is not None:
            self._load(entry.name, None)

    def action_pin(self) -> None:
        """Keep it in memory whatever comes, or no longer."""
        if (entry := self.entry) is not None:
            self._load(entry.name, entry.loaded is None or not entry.loaded.pinned)

    @work(group="models-load")
    async def _load(self, name: str, pin: bool | None) -> None:
        try:
            async for news in (await self._backend()).load(name, pin=pin):
                match news:
                    case Progress() if news.total:
                        self.say(f"loading {name} {news.done / news.total:.0%}")
                    case Notice():
                        self.notify(safe_stream(news.message), markup=False)
            done = {None: "is in memory", True: "stays in memory", False: "leaves when it is not asked"}[pin]
            self.say(f"{name} {done}")
        except LocalLLMError as exc:
            self.say(words(exc))
        self._look()

    @work(group="models-load")
    async def action_unload(self) -> None:
        """Out of memory, once it has answered what it was asked."""
        if (entry := self.entry) is None:
            return
        self.say(f"{entry.name} leaves memory")
        try:
            await (await self._backend()).unload(entry.name)
            self.say(f"{entry.name} left memory")
        except LocalLLMError as exc:
            self.say(words(exc))
        self._look()

    def action_remove(self) -> None:
        """Delete it, after a question."""
        if (entry := self.entry) is None or entry.info is None:
            return
        says = f"{size(entry.info.size_bytes)} on disk; bytes that another model shares stay."
        name = entry.name

        def answered(yes: bool | None) -> None:
            if yes:
                self._remove(name)

        self.app.push_screen(ConfirmScreen(f"Delete {safe_line(name)}?", says, yes="Delete"), answered)

    @work(group="models-remove")
    async def _remove(self, name: str) -> None:
        try:
            backend = await self._backend()
            if not isinstance(backend, HasKeeper):
                self.say("Models cannot be deleted from here.")
                return
            await backend.keeper.remove(name)
            self.say(f"{name} is deleted")
        except ModelInUseError as exc:
            self.say(f"{exc.message}\nunload it first (U), here or in the program that runs it")
        except LocalLLMError as exc:
            self.say(words(exc))
        self.refresh_models()


def _draw(entry: ModelEntry, columns: int, *, is_pulling: bool, plain: bool) -> list[tuple[str, str]]:
    return [(cell.text, cell.tone) for cell in row(entry, columns, is_pulling=is_pulling, plain=plain)]


def _as_name(query: str) -> str | None:
    """The canonical name of what was typed, where it could be pulled."""
    if not query or " " in query:
        return None
    try:
        return str(ModelName.parse(query))
    except LocalLLMError:
        return None
