"""ToolFormat: how a family of models writes its calls, and the shape they are made of. Values, and writing calls."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from localllm.api import ToolCall, ToolSpec
from localllm.text.tools.source import Reading, Source


class Sink(Protocol):
    """Where readers put calls."""

    def begin(self, name: str, call_id: str | None = None) -> None:
        """A call of this name."""
        ...

    def arguments(self, text: str) -> None:
        """More of its arguments' JSON."""
        ...

    def end(self, call_id: str | None = None) -> None:
        """The call is whole; what follows may go wrong without it. `call_id` where that came late."""
        ...


class Tags(NamedTuple):
    """Arguments between tags: `begin` key `middle` value `before` `close` `after`. `before` may be missing.

    `middle_json` stands in place of `middle` before a value that is no text, where that differs.
    """

    begin: str
    middle: str
    before: str
    close: str
    after: str
    middle_json: str = ""


class Shape(NamedTuple):
    """The text of calls: `open`, then each as `begin` name `middle` arguments `end`, `separator` between, `close`.

    "{n}" stands for the call's number. `name_in_json`: the name stands in a JSON string.
    """

    begin: str
    middle: str
    end: str
    open: str = ""
    separator: str = "\n"
    close: str = ""
    arguments: Tags | Literal["json", "gemma"] = "json"
    name_in_json: bool = False


Reader = Callable[[Source, Sink, Sequence[ToolSpec]], Reading[None]]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family writes calls.

    `marks`: a template that holds all of them is of this format. `openers` begin calls anywhere in an answer, and
    `read` reads from there. `read_bare` reads calls that an answer begins with and nothing marks. `special`: texts of
    tokens that readers must see. `trigger` is what begins a call for a grammar; without `anywhere` only at the start of
    an answer. `one_call`: the template takes one call a turn. `own_id` is how the family's call ids have to look, and
    `new_id(name, number)` makes
    one, `id_from(given, name, number)` one for an id of somebody else's.
    """

    name: str
    marks: tuple[str, ...]
    shape: Shape
    trigger: str
    openers: tuple[str, ...]
    read: Reader
    special: tuple[str, ...] = ()
    read_bare: Reader | None = None
    anywhere: bool = True
    one_call: bool = False
    own_id: re.Pattern[str] | None = None
    new_id: Callable[[str, int], str] | None = None
    id_from: Callable[[str, str, int], str] | None = None
    is_harmony: bool = False

    def id_for(self, name: str, number: int, given: str | None) -> str:
        """The id of an answer's call: the one `given` where it has the family's form, else one that has."""
        if given and self.own_id is not None and self.own_id.fullmatch(given):
            return given
        return self.new_id(name, number) if self.new_id is not None else f"call_{secrets.token_hex(12)}"

    def id_of(self, given: str, name: str, number: int) -> str:
        """A client's id in the family's form, always the same one."""
        if self.own_id is None or self.own_id.fullmatch(given):
            return given
        if self.id_from is not None:
            return self.id_from(given, name, number)
        return given

    def write(self, calls: Sequence[ToolCall]) -> str:
        """Calls as the family writes them, for templates that leave that to others."""
        shape = self.shape
        written = [self._write_one(call, number) for number, call in enumerate(calls)]
        return shape.open + shape.separator.join(written) + shape.close

    def _write_one(self, call: ToolCall, number: int) -> str:
        shape = self.shape
        name = json.dumps(call.name, ensure_ascii=False)[1:-1] if shape.name_in_json else call.name
        begin, middle = (part.replace("{n}", str(number)) for part in (shape.begin, shape.middle))
        return begin + name + middle + write_arguments(shape.arguments, call.arguments) + shape.end


def write_arguments(how: Tags | Literal["json", "gemma"], text: str) -> str:
    """Arguments, which are JSON text, as a family writes them. What is no object stays as it is."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if how == "json" or not isinstance(values, dict):
        return text
    if how == "gemma":
        from localllm.text.tools.gemma import gemma_text

        return gemma_text(values)
    parts = []
    for key, value in values.items():
        is_text = isinstance(value, str)
        middle = how.middle if is_text or not how.middle_json else how.middle_json
        written = value if is_text else json.dumps(value, ensure_ascii=False)
        parts.append(f"{how.begin}{key}{middle}{written}{how.before}{how.close}{how.after}")
    return "".join(parts)
