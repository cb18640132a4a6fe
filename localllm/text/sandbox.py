"""Jinja with provenance: compiled templates whose text is marked, in an immutable sandbox with caps.

Owns the environment and the code generator, which differ from jinja's in what they emit for the template's own
strings and for operations that could lose marks or grow without end. Set up as Hugging Face transformers does, so that
the same templates render the same text. The only importer of jinja2 beside filters.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from localllm.text.filters import FILTERS, GLOBALS, to_text
from localllm.text.limits import Buffer, check_int_bits, check_width, measured, spend_chars
from localllm.text.segments import is_trusted, join, join_pieces, percent_format, replace, trusted

_STR_METHODS = frozenset(
    {"capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"}
    | {"isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower", "lstrip", "partition"}
    | {"removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines"}
    | {"startswith", "strip", "swapcase", "title", "upper"}
)
_LOOP_NAMES = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"}
    | {"previtem", "nextitem", "cycle", "changed"}
)
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _STR_METHODS),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (list, frozenset({"count", "index", "pop"})),
    (tuple, frozenset({"count", "index"})),
    (LoopContext, _LOOP_NAMES),
)
_CAPPED: dict[str, Callable[..., str]] = {"join": join, "replace": replace}


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks the assistant's text for training: only its body here."""

    tags = {"generation"}  # noqa: RUF012  jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class MarkingGenerator(CodeGenerator):
    """Emits the template's own strings as marked constants, and growing operations as capped calls."""

    environment: TemplateEnvironment

    def _make_finalize(self) -> CodeGenerator._FinalizeInfo:
        # Only text outside of tags is constant here: nothing of an expression is evaluated while compiling.
        return self._FinalizeInfo(None, None)

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return self._constant("".join(group))

    def _output_child_pre(self, *_: object) -> None:
        self.write("environment.text(")

    def _output_child_post(self, *_: object) -> None:
        self.write(")")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        if isinstance(node.value, str):
            self.write(self._constant(node.value))
        elif isinstance(node.value, int) and not isinstance(node.value, bool):
            check_int_bits(node.value.bit_length())
            self.write(repr(node.value))
        else:
            super().visit_Const(node, frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:  # noqa: ARG002
        self.write(self._constant(node.data))

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.write("environment.text(")
            self.visit(part, frame)
            self.write("), ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._visit_measured(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._visit_measured(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._visit_measured(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier, _: Frame) -> None:
        self.fail("autoescape has no meaning in a chat template", node.lineno)

    def buffer(self, frame: Frame) -> None:
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = environment.buffer()")

    def _visit_measured(self, visit: Callable[..., None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.measured(")
        visit(node, frame)
        self.write(")")

    def _constant(self, text: str) -> str:
        return f"environment.constants[{self.environment.add_constant(text)}]"


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """One model's templates are compiled and run in one of these.

    What a template may call: FILTERS, GLOBALS, its own macros, and the few methods listed here. All other attributes
    of all objects do not exist for it. Lists may grow and shrink, as Kimi's templates want it; nothing else changes.
    """

    code_generator_class = MarkingGenerator
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(join_pieces)
    text = staticmethod(to_text)
    measured = staticmethod(measured)
    buffer = Buffer

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, GenerationTag],
            optimized=False,
            cache_size=0,
        )
        self.constants: list[str] = []
        self.filters = dict(FILTERS)
        self.globals = dict(GLOBALS)
        self.binop_table = {"+": _add, "*": _multiply, "**": _power, "%": _remainder}

    def add_constant(self, text: str) -> int:
        """The index of `text`, marked, among the constants."""
        self.constants.append(trusted(text))
        return len(self.constants) - 1

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002
        if attr.startswith("_"):
            return False
        if isinstance(obj, Namespace):
            return True
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, str):
            return self._method_of_str(obj, attribute)
        if type(obj) is list and attribute == "append":
            return functools.partial(_append, obj)
        if isinstance(obj, dict) and attribute in obj and attribute not in _METHODS[1][1]:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, (tuple, list, dict)):
            return self.undefined(obj=obj, name=str(type(argument)))
        if isinstance(obj, str) and isinstance(argument, str):
            return self._method_of_str(obj, argument)
        return super().getitem(obj, argument)

    def _method_of_str(self, obj: str, name: str) -> Any:
        if name == "format":
            return functools.partial(self._format, obj)
        if name in _CAPPED:
            return functools.partial(_CAPPED[name], obj)
        if name == "format_map":
            return self.unsafe_undefined(obj, name)
        return super().getattr(obj, str(name))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Refuse at once: jinja's own answer prints as nothing, and a template that reaches out should not go on."""
        if isinstance(obj, dict):
            return self.undefined(obj=obj, name=attribute)
        raise SecurityError(f"{attribute!r} of {type(obj).__name__!r} is unsafe")

    def _format(self, form: str, *args: Any, **kwargs: Any) -> str:
        """`form.format(...)`: the form keeps its marks, `{}` those of its value."""
        formatter = SandboxedFormatter(self)
        mark = trusted if is_trusted(form) else str
        pieces: list[str] = []
        count = 0
        for literal, name, spec, conversion in formatter.parse(str.__str__(form)):
            pieces.append(mark(literal))
            if name is None:
                continue
            check_width("".join(filter(str.isdigit, spec or "")) or None)
            if "{" in (spec or ""):
                raise SecurityError("a format whose width is computed")
            numbered = name if name and name[0] not in ".[" else f"{count}{name}"
            count += numbered != name
            value, _ = formatter.get_field(numbered, args, kwargs)
            plain = not spec and conversion in (None, "s")
            value = value if plain else formatter.format_field(formatter.convert_field(value, conversion), spec or "")
            pieces.append(to_text(value))
        return join_pieces(pieces)


def _add(left: Any, right: Any) -> Any:
    total = left + right
    return measured(total) if isinstance(total, (list, tuple)) else _bounded(total)


def _append(items: list[Any], item: Any) -> None:
    items.append(item)
    measured(items)


def _multiply(left: Any, right: Any) -> Any:
    for one, times in ((left, right), (right, left)):
        if isinstance(one, (str, list, tuple)) and isinstance(times, int):
            spend_chars(len(one) * times)
            return measured(one * times)
    if isinstance(left, int) and isinstance(right, int):
        check_int_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        check_int_bits(left.bit_length() * abs(right))
    return left**right


def _remainder(left: Any, right: Any) -> Any:
    return percent_format(left, right) if isinstance(left, str) else left % right


def _bounded(value: Any) -> Any:
    if isinstance(value, int):
        check_int_bits(value.bit_length())
    elif isinstance(value, str):
        spend_chars(len(value))
    return value
