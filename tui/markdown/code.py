"""Code in colours: tokens of a lexer to pieces, line by line. What still grows is not coloured anew for each piece."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from localllm_tui.markdown.cells import joined
from localllm_tui.markdown.values import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pygments.lexer import Lexer

CodeLine = tuple[Piece, ...]
State = tuple[str, ...]

# Beyond this, code is not coloured: a lexer takes about a second for a megabyte.
_MAX_CHARS = 200_000
_MAX_LINE = 2_000
# How many whole lines a growing block is coloured again for each new one: what spans more is right once it is closed.
_OVERLAP = 12


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    """The lexer of a language; None: none is known."""
    if not language or len(language) > 40:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False, tabsize=4)
    except ClassNotFound:
        return None


@cache
def _looks() -> dict[Any, str]:
    """A few kinds of words stand out, all else is text: half-written code has no errors."""
    from pygments.token import Comment, Generic, Keyword, Literal, Name, Operator, String

    return {
        Comment: "italic $foreground-muted",
        Keyword: "$primary",
        Keyword.Constant: "$text-warning",
        Operator.Word: "$primary",
        String: "$text-success",
        String.Doc: "italic $foreground-muted",
        Literal.Number: "$text-warning",
        Name.Function: "bold",
        Name.Class: "bold",
        Name.Decorator: "$text-warning",
        Name.Tag: "$primary",
        Name.Attribute: "$text-warning",
        Name.Builtin.Pseudo: "italic",
        Name.Variable.Magic: "italic",
        Generic.Heading: "bold",
        Generic.Inserted: "$text-success",
        Generic.Deleted: "$text-error",
        Generic.Emph: "italic",
        Generic.Strong: "bold",
        Generic.Prompt: "$foreground-muted",
        Generic.Output: "$foreground-muted",
    }


@lru_cache(maxsize=512)
def _style(token_type: Any) -> str:
    looks = _looks()
    while token_type is not None:
        if (style := looks.get(token_type)) is not None:
            return style
        token_type = token_type.parent
    return ""


def highlight(text: str, language: str) -> tuple[CodeLine, ...]:
    """All lines of `text`, coloured; plain where the language is not known."""
    text = joined(text.expandtabs(4))
    lexer = _lexer(language.lower())
    if lexer is None or len(text) > _MAX_CHARS or any(len(line) > _MAX_LINE for line in text.split("\n")):
        return tuple((Piece(line),) if line else () for line in text.split("\n"))
    return tuple(_lines(lexer.get_tokens(text)))


def _lines(tokens: Iterable[tuple[Any, str]]) -> list[CodeLine]:
    """Tokens by lines; neighbours of one look are one piece."""
    lines: list[CodeLine] = []
    line: list[Piece] = []
    for kind, value in tokens:
        style = _style(kind)
        parts = value.split("\n")
        for part in parts[:-1]:
            _add(line, part, style)
            lines.append(tuple(line))
            line = []
        _add(line, parts[-1], style)
    lines.append(tuple(line))
    return lines


def _add(line: list[Piece], text: str, style: str) -> None:
    if not text:
        return
    if line and (line[-1].style == style or text.isspace()):
        line[-1] = Piece(line[-1].text + text, line[-1].style)
    else:
        line.append(Piece(text, style))


class GrowingCode:
    """The lines of a block whose end has not come. Whole lines are coloured once, from the state the lexer was in."""

    def __init__(self, language: str) -> None:
        self._lexer = _lexer(language.lower())
        self._text: list[str] = []
        self._lines: list[CodeLine] = []
        self._states: list[State | None] = [("root",)]

    def show(self, lines: list[str]) -> tuple[list[CodeLine], int]:
        """The block is these lines now, the last not whole: all of them, and the first that is another than before.

        Whole lines do not change between calls; there may be more.
        """
        first = num_old = len(self._text)
        whole = [joined(line.expandtabs(4)) for line in lines[num_old:-1]]
        if whole:
            first = self._start(num_old)
            del self._lines[first:]
            self._text.extend(whole)
            self._colour(first)
        last = joined(lines[-1].expandtabs(4)) if lines else ""
        tail = self._colour_line(last)
        return [*self._lines, tail], first

    def _start(self, num_old: int) -> int:
        """The line to colour again from."""
        if self._lexer is None:
            return num_old
        for index in range(max(0, num_old - _OVERLAP), -1, -1):
            if self._states[index] is not None:
                return index
        return 0

    def _colour(self, first: int) -> None:
        text = "\n".join(self._text[first:]) + "\n"
        if self._lexer is None:
            self._lines.extend((Piece(line),) if line else () for line in self._text[first:])
            self._states.extend([None] * (len(self._text) + 1 - len(self._states)))
            return
        tokens, states = lex(self._lexer, text, self._states[first] or ("root",))
        del self._states[first + 1 :]
        self._states.extend(states)
        self._lines.extend(_lines(tokens)[:-1])

    def _colour_line(self, line: str) -> CodeLine:
        state = self._states[len(self._text)] if len(self._states) > len(self._text) else None
        if not line:
            return ()
        if self._lexer is None or state is None or len(line) > _MAX_LINE:
            return (Piece(line),)
        tokens, _ = lex(self._lexer, line, state)
        return _lines(tokens)[0]


def lex(lexer: Lexer, text: str, state: State) -> tuple[list[tuple[Any, str]], list[State | None]]:
    """Tokens of whole lines of `text` from a state on, and the state after each line (None: inside of a token).

    Lexers that are more than a table of rules have no such state; each text is lexed from its start.
    """
    from pygments.lexer import RegexLexer

    if not isinstance(lexer, RegexLexer) or type(lexer).get_tokens_unprocessed is not RegexLexer.get_tokens_unprocessed:
        return list(lexer.get_tokens(text)), [("root",)] * text.count("\n")
    return _lex_rules(lexer, text, state)


def _lex_rules(lexer: Any, text: str, state: State) -> tuple[list[tuple[Any, str]], list[State | None]]:
    """RegexLexer's loop, which does not tell the state it ends in."""
    from pygments.token import Error, Whitespace, _TokenType

    tables = lexer._tokens
    stack = list(state)
    found: list[tuple[Any, str]] = []
    states: list[State | None] = []
    position = 0
    while position < len(text):
        for matches, action, new_state in tables[stack[-1]]:
            match = matches(text, position)
            if match is None:
                continue
            if action is not None:
                if type(action) is _TokenType:
                    found.append((action, match.group()))
                else:
                    found.extend((kind, value) for _, kind, value in action(lexer, match))
            _move(stack, new_state)
            _note(states, text, position, match.end(), tuple(stack))
            position = match.end()
            break
        else:
            if text[position] == "\n":
                stack = ["root"]
                found.append((Whitespace, "\n"))
            else:
                found.append((Error, text[position]))
            _note(states, text, position, position + 1, tuple(stack))
            position += 1
    return found, states


def _note(states: list[State | None], text: str, start: int, end: int, stack: State) -> None:
    """Keep the state after each line that ends here."""
    num_ends = text.count("\n", start, end)
    if num_ends:
        states.extend([None] * (num_ends - 1))
        states.append(stack if text[end - 1] == "\n" else None)


def _move(stack: list[str], new_state: Any) -> None:
    match new_state:
        case None:
            pass
        case tuple():
            for state in new_state:
                _move(stack, state)
        case "#pop":
            if len(stack) > 1:
                stack.pop()
        case "#push":
            stack.append(stack[-1])
        case int():
            if abs(new_state) >= len(stack):
                del stack[1:]
            else:
                del stack[new_state:]
        case _:
            stack.append(new_state)
