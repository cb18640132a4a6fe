"""Constraints: what requests are bound to, compiled for one model. llguidance is loaded with the first of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from localllm.api import Constraint
from localllm.engine.constraint import Grammar
from localllm.engine.vocab import Vocab
from localllm.text.parsers import ReasoningFormat
from localllm.text.segments import Segment

if TYPE_CHECKING:
    from localllm.engine.grammar.compiler import GrammarCompiler
    from localllm.engine.grammar.reasoning import Reasoning

_LINE_ENDS = ("\n", "\n\n")


class Constraints:
    """Compiles constraints over a vocabulary. `encode` makes token ids of segments."""

    def __init__(self, vocab: Vocab, encode: Callable[[list[Segment]], list[int]]) -> None:
        self._vocab = vocab
        self._encode = encode
        self._compiler: GrammarCompiler | None = None

    def compile(self, constraint: Constraint, form: ReasoningFormat | None = None, *, is_open: bool = False) -> Grammar:
        """A grammar, which begins behind the reasoning where there is some; `is_open`: the prompt ends inside it.

        Without `form` the answer begins at once. Raises InvalidRequestError.
        """
        if self._compiler is None:
            from localllm.engine.grammar.compiler import GrammarCompiler

            self._compiler = GrammarCompiler(self._vocab, lambda text: self._encode([Segment(text, False)]))
        return self._compiler.compile(constraint, self._reasoning(form, is_open))

    def _reasoning(self, form: ReasoningFormat | None, is_open: bool) -> Reasoning | None:
        from localllm.engine.grammar.reasoning import reasoning_of

        if form is None or not form.end:
            return None
        opener = self._encode([Segment(form.start, True)])
        line_ends = [self._encode([Segment(text, False)]) for text in _LINE_ENDS]
        return reasoning_of(self._vocab, form, opener, line_ends, is_open=is_open)
