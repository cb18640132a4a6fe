"""The filters and globals a chat template may use, with marks kept and sizes capped.

Owns the list: what is not in FILTERS or GLOBALS does not exist for a template. Imported by sandbox.py only.
"""

from __future__ import annotations

import datetime
import html
import json
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

import jinja2.filters
from jinja2 import TemplateRuntimeError, Undefined
from jinja2.sandbox import SandboxedEnvironment, safe_range
from jinja2.utils import Namespace, pass_environment

from localllm.text.limits import LimitExceeded, check_width, measured, spend_chars
from localllm.text.messages import JsonText
from localllm.text.segments import join, percent_format, remark, replace


def to_text(value: Any) -> str:
    """What `{{ value }}` prints: a string as it is with its marks, all else unmarked."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, JsonText):
        measured(value)
    return str(value)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Hugging Face's `tojson`: plain JSON, nothing escaped for HTML. The result is data."""
    check_width(len(indent) if isinstance(indent, str) else indent)
    held = list(value) if isinstance(value, GeneratorType) else value
    text = json.dumps(
        measured(held), ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    spend_chars(len(text))
    return text


class RefusedByTemplate(TemplateRuntimeError):
    """What the template said in `raise_exception`."""


def raise_exception(message: object) -> None:
    """The template's own refusal."""
    raise RefusedByTemplate(str(message))


def strftime_now(form: str) -> str:
    """The local time."""
    check_width(len(form))
    return datetime.datetime.now().strftime(str(form))


def _join(
    environment: SandboxedEnvironment, value: Iterable[Any], d: Any = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return join(to_text(d), map(to_text, value))


def _indent(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    check_width(len(width) if isinstance(width, str) else width)
    margin = width if isinstance(width, str) else " " * width
    text = to_text(s)
    lines = text.splitlines() or [""]
    if text.endswith("\n"):
        lines.append("")
    indented = [margin + line if (first if index == 0 else blank or line) else line for index, line in enumerate(lines)]
    return join("\n", indented)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    check_width(abs(precision))
    return jinja2.filters.do_round(value, precision, method)  # type: ignore[arg-type]


def _sum(
    environment: SandboxedEnvironment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0
) -> Any:
    if attribute is not None:
        iterable = map(jinja2.filters.make_attrgetter(environment, attribute), iterable)
    numbers = [start, *iterable]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError("sum: only numbers")
    return sum(numbers)


def _case(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: remark(to_text(value), change(to_text(value)))


def _list(value: Iterable[Any]) -> list[Any]:
    return measured(list(value))


def _finite(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, its input made a measured list first: a sort or a group must not run away inside C."""
    takes_environment = getattr(filter_, "jinja_pass_arg", None) is not None

    @pass_environment
    def wrapper(environment: SandboxedEnvironment, value: Any, *args: Any, **kwargs: Any) -> Any:
        held = measured(value) if isinstance(value, (str, dict, list, tuple, Undefined)) else _list(value)
        return filter_(environment, held, *args, **kwargs) if takes_environment else filter_(held, *args, **kwargs)

    return wrapper


def _namespace(*args: Any, **kwargs: Any) -> Namespace:
    return Namespace(*args, **kwargs)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return measured(dict(*args, **kwargs))


def _range(*args: int) -> range:
    try:
        return safe_range(*args)
    except OverflowError as exc:
        raise LimitExceeded("a range of more than 100000 numbers") from exc


def _of_jinja(*names: str) -> dict[str, Callable[..., Any]]:
    return {name: jinja2.filters.FILTERS[name] for name in names}


FILTERS: dict[str, Callable[..., Any]] = {
    **_of_jinja("abs", "count", "d", "default", "float", "int", "items", "length", "map", "reject", "rejectattr"),
    **_of_jinja("select", "selectattr", "first"),
    **{
        name: _finite(jinja2.filters.FILTERS[name])
        for name in ("dictsort", "groupby", "last", "max", "min", "reverse", "sort", "unique")
    },
    "capitalize": _case(str.capitalize),
    "e": lambda value: html.escape(to_text(value)),
    "escape": lambda value: html.escape(to_text(value)),
    "format": lambda form, *args, **kwargs: percent_format(to_text(form), kwargs or args),
    "indent": _indent,
    "join": _finite(pass_environment(_join)),
    "list": _list,
    "lower": _case(str.lower),
    "replace": lambda value, old, new, count=-1: replace(to_text(value), to_text(old), to_text(new), count),
    "round": _round,
    "safe": to_text,
    "string": to_text,
    "sum": _finite(pass_environment(_sum)),
    "title": _case(jinja2.filters.do_title),
    "tojson": to_json,
    "trim": lambda value, chars=None: to_text(value).strip(chars),
    "upper": _case(str.upper),
}
GLOBALS: dict[str, Callable[..., Any]] = {
    "dict": _dict,
    "namespace": _namespace,
    "raise_exception": raise_exception,
    "range": _range,
    "strftime_now": strftime_now,
}
