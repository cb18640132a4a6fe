"""Keys: which bindings there are, where they hold, and what a person changed in chat.toml. Draws nothing.

Everything is read from the `BINDINGS` that the chat's own classes declare, so that help, palette and the check of a
person's keys never say what the app does not do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from textual.binding import Binding
from textual.dom import DOMNode

PACKAGE = "localllm_tui"
EVERYWHERE = "Everywhere"


@dataclass(frozen=True)
class Place:
    """Where some bindings hold, with the bindings, each with the keys that are in force."""

    title: str
    owner: type[DOMNode]
    bindings: tuple[Binding, ...]


def place_of(owner: type[DOMNode], keys: Mapping[str, str]) -> Place | None:
    """The bindings that a class of ours declares; None where there are none, or where it is somebody else's."""
    declared = owner.__dict__.get("BINDINGS", ())
    if not owner.__module__.startswith(PACKAGE) or not declared:
        return None
    bindings = (item if isinstance(item, Binding) else Binding(*item) for item in declared)
    in_force = tuple(_with_keys(binding, keys) for binding in bindings if binding.description)
    return Place(title_of(owner), owner, in_force) if in_force else None


def places_of(nodes: Iterable[DOMNode], keys: Mapping[str, str]) -> tuple[Place, ...]:
    """The places of what is on the screen, in the order of `nodes`, each once; those of one title are one."""
    places: dict[str, Place] = {}
    seen: set[type] = set()
    for node in nodes:
        for owner in type(node).__mro__:
            if owner in seen or not issubclass(owner, DOMNode):
                continue
            seen.add(owner)
            if (place := place_of(owner, keys)) is None:
                continue
            if (first := places.get(place.title)) is not None:
                place = replace(first, bindings=first.bindings + place.bindings)
            places[place.title] = place
    return tuple(places.values())


def title_of(owner: type[DOMNode]) -> str:
    """What a place is called: `BINDING_GROUP_TITLE`, else the class's name in words."""
    title = owner.__dict__.get("BINDING_GROUP_TITLE")
    if title:
        return str(title)
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in owner.__name__)
    return words.strip().capitalize()


def warnings(keys: Mapping[str, str], owners: Iterable[type[DOMNode]]) -> list[str]:
    """What is wrong with a person's keys, in words: ids that do not exist, and keys that do two things in one place."""
    owners = list(owners)
    known = {binding.id: binding for owner in owners for binding in _declared(owner) if binding.id}
    found = []
    for unknown in (name for name in keys if name not in known):
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
        found.append(f"keys: nothing is called {unknown!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for owner in owners:
        users: dict[str, str] = {}
        for binding in _declared(owner):
            in_force = _with_keys(binding, keys)
            for key in in_force.key.split(","):
                name = binding.id or binding.action
                other = users.setdefault(key.strip(), name)
                if other != name and {other, name} & keys.keys():
                    found.append(f"keys: {key.strip()} is both {other!r} and {name!r}")
    return found


def all_owners() -> list[type[DOMNode]]:
    """Every class of the chat that can have bindings, also those that are loaded late. Takes a moment."""
    import importlib
    import pkgutil

    package = importlib.import_module(PACKAGE)
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if module.name.startswith((f"{PACKAGE}.screens", f"{PACKAGE}.widgets", f"{PACKAGE}.app")):
            importlib.import_module(module.name)
    return list(_owners())


def key_of(binding_id: str, keys: Mapping[str, str]) -> str:
    """The first key of a binding, as a person reads it; empty where none of the classes in use has that id."""
    if binding_id not in keys and binding_id not in _declared_keys:
        _declared_keys.update((one.id, one.key) for owner in _owners() for one in _declared(owner) if one.id)
    return key_words(keys.get(binding_id, _declared_keys.get(binding_id, "")), 1)


_declared_keys: dict[str, str] = {}


def _owners() -> list[type[DOMNode]]:
    """The classes of the chat that are loaded."""
    found: list[type[DOMNode]] = []
    todo: list[type[DOMNode]] = [DOMNode]
    while todo:
        owner = todo.pop()
        todo.extend(owner.__subclasses__())
        if owner.__module__.startswith(PACKAGE) and owner not in found:
            found.append(owner)
    return found


def key_words(keys: str, at_most: int | None = None) -> str:
    """Keys as a person reads them: `ctrl+shift+k` is `Ctrl+Shift+K`; several stand beside each other."""
    return "  ".join(_one_key(key.strip()) for key in keys.split(",")[:at_most] if key.strip())


_NAMES = {
    "question_mark": "?", "slash": "/", "backslash": "\\", "comma": ",", "full_stop": ".", "left_square_bracket": "[",
    "right_square_bracket": "]", "minus": "-", "plus": "+", "equals_sign": "=", "escape": "Esc", "pageup": "PgUp",
    "pagedown": "PgDn", "up": "↑", "down": "↓", "left": "←", "right": "→", "less_than_sign": "<", "colon": ":",
    "greater_than_sign": ">", "enter": "Enter", "space": "Space", "tab": "Tab", "delete": "Del", "backspace": "⌫",
}  # fmt: skip


def _one_key(key: str) -> str:
    *held, last = key.split("+")
    if last in _NAMES:
        word = _NAMES[last]
    elif len(last) > 1:
        word = last.capitalize()
    else:
        word = last.upper() if held else last
    return "+".join([*(part.capitalize() for part in held), word])


def _declared(owner: type[DOMNode]) -> Iterable[Binding]:
    for item in owner.__dict__.get("BINDINGS", ()):
        yield item if isinstance(item, Binding) else Binding(*item)


def _with_keys(binding: Binding, keys: Mapping[str, str]) -> Binding:
    return binding if binding.id is None else replace(binding, key=keys.get(binding.id, binding.key))
