"""ToolCallParser: an answer's text cut into text and calls. Never a part of a call's markup as text; linear time.

A call goes out whole, or, where a grammar sees to its form (`eager`), as it arrives. What begins like a call and is
none is text, from its first character on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.parsers.calls import AnswerPiece, CallArguments, CallBegin, CallEnd
from localllm.text.parsers.tags import OutputParser, Piece, num_held
from localllm.text.tools.form import Reader, ToolFormat
from localllm.text.tools.source import MalformedCall, Reading, Source

_MAX_GAP_CHARS = 64


class CallSink:
    """Takes in what readers find; see form.Sink. `num_begun` counts the calls that were said."""

    def __init__(self, form: ToolFormat, out: list[AnswerPiece], source: Source, eager: bool) -> None:
        self._form = form
        self._out = out
        self._source = source
        self._eager = eager
        self._name = ""
        self._id: str | None = None
        self._parts: list[str] = []
        self.is_open = False
        self.num_begun = 0

    def begin(self, name: str, call_id: str | None = None) -> None:
        """See Sink.begin."""
        self._name, self._id = name, call_id
        self._parts.clear()
        if self._eager:
            self._begin(call_id)
            self.is_open = True

    def arguments(self, text: str) -> None:
        """See Sink.arguments."""
        if self._eager:
            self._out.append(CallArguments(text))
        else:
            self._parts.append(text)

    def end(self, call_id: str | None = None) -> None:
        """See Sink.end."""
        if not self._eager:
            self._begin(self._id or call_id)
            self._out.append(CallArguments("".join(self._parts)))
        self._out.append(CallEnd())
        self.is_open = False
        self._source.mark()

    def _begin(self, call_id: str | None) -> None:
        self._out.append(CallBegin(self._name, self._form.id_for(self._name, self.num_begun, call_id)))
        self.num_begun += 1

    def abandon(self) -> bool:
        """The call is none. True: its beginning was said already, so that it ends with what it has."""
        self._parts.clear()
        was_open, self.is_open = self.is_open, False
        if was_open:
            self._out.append(CallEnd())
        return was_open


class ToolCallParser:
    """Finds calls in text. `tools` are those the model knows of."""

    in_reasoning = False

    def __init__(self, form: ToolFormat, tools: Sequence[ToolSpec], *, eager: bool = False) -> None:
        self.wants_special = frozenset(form.special)
        self._form = form
        self._tools = tuple(tools)
        self._source = Source()
        self._out: list[AnswerPiece] = []
        self._sink = CallSink(form, self._out, self._source, eager)
        # Where a grammar sees to calls, it sees to those that begin as it wants them; nothing else is one.
        bound = (form.trigger,) if form.anywhere else ()
        self._openers = bound if eager else form.openers
        self._opener = re.compile("|".join(map(re.escape, self._openers)) or "(?!)")
        self._read_bare = None if eager and form.anywhere else form.read_bare
        self._gap = ""  # white space that belongs to the text, unless a call comes next
        self._work = self._main()
        self._run()

    def feed(self, text: str) -> list[AnswerPiece]:
        """The pieces that `text` completes; what may be part of a call is held back."""
        self._source.push(text)
        self._run()
        return self._take()

    def flush(self) -> list[AnswerPiece]:
        """What was held back. A call without its closing markup is one if its arguments are whole."""
        if not self._source.ended:
            self._source.ended = True
            self._run()
            if self._gap and not self._sink.num_begun:
                self._out.append(("text", self._gap))
            self._gap = ""
        return self._take()

    def _run(self) -> None:
        next(self._work, None)

    def _take(self) -> list[AnswerPiece]:
        taken, self._out[:] = joined(self._out), []
        return taken

    def _main(self) -> Reading[None]:
        yield
        if self._read_bare is not None:
            self._source.mark()
            yield from self._attempt(self._read_bare)
        while (yield from self._text()):
            self._source.mark()
            yield from self._attempt(self._form.read)

    def _attempt(self, read: Reader) -> Reading[None]:
        num_before = self._sink.num_begun
        try:
            yield from read(self._source, self._sink, self._tools)
        except MalformedCall:
            if not self._sink.abandon():
                if self._sink.num_begun > num_before:
                    self._gap = ""
                self._say(self._source.taken())
                return
        self._gap = ""

    def _text(self) -> Reading[bool]:
        """Pass text on up to the next opener; False at the end."""
        source = self._source
        while True:
            found = self._opener.search(source.text, source.at)
            if found is not None:
                self._say(source.text[source.at : found.start()])
                source.at = found.start()
                return True
            end = len(source.text)
            if not source.ended:
                end -= num_held(source.text[source.at :], self._openers)
            self._say(source.text[source.at : end])
            source.at = end
            if source.ended:
                return False
            yield

    def _say(self, text: str) -> None:
        if not text:
            return
        text = self._gap + text
        bare = text.rstrip()
        if len(text) - len(bare) > _MAX_GAP_CHARS:
            bare = text
        self._gap = text[len(bare) :]
        if bare:
            self._out.append(("text", bare))


class ReasoningAndCalls:
    """A reasoning parser, and a parser of calls for the text it leaves."""

    def __init__(self, reasoning: OutputParser, calls: ToolCallParser) -> None:
        self.wants_special = reasoning.wants_special | calls.wants_special
        self._reasoning = reasoning
        self._calls = calls

    @property
    def in_reasoning(self) -> bool:
        """Whether the model is thinking."""
        return self._reasoning.in_reasoning

    def feed(self, text: str) -> list[AnswerPiece]:
        """The pieces that `text` completes."""
        return self._sort(self._reasoning.feed(text))

    def flush(self) -> list[AnswerPiece]:
        """What was held back."""
        return [*self._sort(self._reasoning.flush()), *self._calls.flush()]

    def _sort(self, pieces: Sequence[Piece]) -> list[AnswerPiece]:
        sorted_: list[AnswerPiece] = []
        for piece in pieces:
            if piece[0] == "text":
                sorted_ += self._calls.feed(piece[1])
            else:
                sorted_.append(piece)
        return sorted_


def joined(pieces: Sequence[AnswerPiece]) -> list[AnswerPiece]:
    """The same with neighbours of a kind in one."""
    whole: list[AnswerPiece] = []
    for kind, group in itertools.groupby(pieces, _kind):
        if kind == "call":
            whole += group
            continue
        text = "".join(map(_text, group))
        said: Piece = ("reasoning", text) if kind == "reasoning" else ("text", text)
        whole.append(CallArguments(text) if kind == "arguments" else said)
    return whole


def _kind(piece: AnswerPiece) -> str:
    if isinstance(piece, CallArguments):
        return "arguments"
    return "call" if isinstance(piece, CallBegin | CallEnd) else piece[0]


def _text(piece: AnswerPiece) -> str:
    if isinstance(piece, CallArguments):
        return piece.text
    return "" if isinstance(piece, CallBegin | CallEnd) else piece[1]
