"""Keys: read from the classes that have them, changed by a person, and what is wrong with a change is said."""

from __future__ import annotations

from typing import ClassVar

import pytest
from localllm_tui.look import keymap
from textual.binding import Binding, BindingType
from textual.widget import Widget


class Lamp(Widget):
    """Stands in for a widget of the chat."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+l", "light", "Light it", id="lamp.light"),
        Binding("d,ctrl+d", "dark", "Put it out", id="lamp.dark"),
        Binding("x", "nothing", id="lamp.nothing"),
    ]


class OilLamp(Lamp):
    """Inherits its keys, and has one more."""

    BINDING_GROUP_TITLE = "At the oil lamp"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "refill", "Fill it up", id="lamp.refill")]


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keymap, "PACKAGE", __name__)


def test_a_place_has_the_bindings_that_are_described_and_a_title_in_words() -> None:
    place = keymap.place_of(Lamp, {})
    assert place is not None
    assert place.title == "Lamp"
    assert [binding.id for binding in place.bindings] == ["lamp.light", "lamp.dark"]


def test_places_follow_what_is_on_the_screen_and_inherit() -> None:
    places = keymap.places_of([OilLamp(), Lamp()], {})
    assert [place.title for place in places] == ["At the oil lamp", "Lamp"]
    assert [len(place.bindings) for place in places] == [1, 2]


def test_keys_of_a_person_are_the_ones_in_force() -> None:
    place = keymap.place_of(Lamp, {"lamp.light": "f9"})
    assert place is not None
    assert place.bindings[0].key == "f9"


def test_what_is_wrong_with_keys_is_said() -> None:
    owners = [Lamp, OilLamp]
    assert keymap.warnings({"lamp.light": "f9"}, owners) == []
    (unknown,) = keymap.warnings({"lamp.lihgt": "f9"}, owners)
    assert unknown == "keys: nothing is called 'lamp.lihgt'; did you mean 'lamp.light'?"
    (clash,) = keymap.warnings({"lamp.light": "d"}, owners)
    assert clash == "keys: d is both 'lamp.light' and 'lamp.dark'"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("ctrl+shift+k", "Ctrl+Shift+K"),
        ("d,ctrl+d", "d  Ctrl+D"),
        ("question_mark", "?"),
        ("shift+enter", "Shift+Enter"),
        ("f1", "F1"),
        ("pageup", "PgUp"),
    ],
)
def test_key_words(keys: str, words: str) -> None:
    assert keymap.key_words(keys) == words


def test_the_key_of_a_binding_is_the_persons_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keymap, "_declared_keys", {})
    assert keymap.key_of("lamp.dark", {}) == "d"
    assert keymap.key_of("lamp.dark", {"lamp.dark": "ctrl+x,f9"}) == "Ctrl+X"
    assert keymap.key_of("lamp.unknown", {}) == ""
