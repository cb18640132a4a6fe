"""The command palette: the slash commands and the keys of what is on the screen, from the tables that have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import NamedTuple

from localllm_tui.look.keymap import key_words, place_of
from localllm_tui.screens.commands import COMMANDS
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.dom import DOMNode


class Entry(NamedTuple):
    """A line of the palette."""

    title: str
    help: str
    run: Callable[[], Awaitable[object] | None]


class ChatCommands(Provider):
    """What may be done on the screen that the palette lies over. A turn's actions are there while one has the focus."""

    async def discover(self) -> Hits:
        """Everything."""
        for entry in self._entries():
            yield DiscoveryHit(entry.title, entry.run, help=entry.help)

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for entry in self._entries():
            if (score := matcher.match(entry.title)) > 0:
                yield Hit(score, matcher.highlight(entry.title), entry.run, help=entry.help)

    def _entries(self) -> Iterator[Entry]:
        done: set[str] = set()
        keys = self.app.keys_in_force if hasattr(self.app, "keys_in_force") else {}
        focused = self.screen.focused
        chain: list[DOMNode] = list(focused.ancestors_with_self) if focused is not None else [self.screen, self.app]
        bound = [
            (node, binding)
            for node in chain
            for owner in type(node).__mro__
            if issubclass(owner, DOMNode) and (place := place_of(owner, keys)) is not None
            for binding in place.bindings
        ]
        key_of = {binding.action: key_words(binding.key) for _, binding in reversed(bound)}
        for command in COMMANDS:
            if not command.hidden and not _needs_words(command.takes) and hasattr(self.screen, "run_command"):
                done.add(command.action)
                how = "   ".join(filter(None, (command.help, key_of.get(command.action, ""))))
                yield Entry(command.name.capitalize(), how, partial(self.screen.run_command, command.name))
        for node, binding in bound:
            if binding.action not in done and not binding.system:
                done.add(binding.action)
                run = partial(self.app.run_action, binding.action, node)
                yield Entry(binding.description, key_words(binding.key), run)
        for title, help_words, action, _ in self.app.get_system_commands(self.screen):
            yield Entry(title, help_words, action)


def _needs_words(takes: str) -> bool:
    return bool(takes) and not takes.startswith("[")
