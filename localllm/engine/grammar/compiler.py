"""GrammarCompiler: `api.Constraint` to a Grammar. Runs in the preparer's thread, never in the step loop.

Native code compiles on a thread with a stack and a deadline of its own; what it is given has passed the caps.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from localllm.api import Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex
from localllm.engine.grammar import gbnf, lark
from localllm.engine.grammar.json_schema import normalize
from localllm.engine.grammar.limits import (
    COMPILE_DEADLINE_S,
    MAX_BYTES,
    MAX_CHOICES,
    MAX_VALUE_BYTES,
    refuse,
    within,
)
from localllm.engine.grammar.matcher import LlgGrammar
from localllm.engine.grammar.options import with_options
from localllm.engine.grammar.reasoning import Reasoning
from localllm.engine.grammar.regexes import check_regex
from localllm.engine.grammar.vocabulary import Encode, llguidance_tokenizer
from localllm.engine.vocab import Vocab

T = TypeVar("T")

_STACK_BYTES = 64 * 2**20
_MAX_REASON_CHARS = 300
# What a lexer or a step may cost; far above what schemas of people need, and bounded in time and memory.
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 2_000_000,
    "step_lexer_fuel": 500_000,
    "step_max_items": 100_000,
    "max_lexer_states": 100_000,
    "verbose_errors": False,
}


class GrammarCompiler:
    """Compiles constraints for one vocabulary. `encode` makes token ids of plain text."""

    def __init__(self, vocab: Vocab, encode: Encode) -> None:
        self._num_tokens = vocab.num_tokens
        self._tokenizer = llguidance_tokenizer(vocab, encode)
        self._thread = _with_stack(_STACK_BYTES, lambda: ThreadPoolExecutor(1, "grammar"))

    def compile(self, constraint: Constraint, reasoning: Reasoning | None = None) -> LlgGrammar:
        """A grammar. Raises InvalidRequestError that names what cannot be enforced, and where."""
        source = json.dumps({"grammars": [_source(constraint)]}, ensure_ascii=False)
        future: Future[Any] = _with_stack(_STACK_BYTES, lambda: self._thread.submit(self._compile, source))
        try:
            native = future.result(COMPILE_DEADLINE_S)
        except FutureTimeoutError:
            future.cancel()
            refuse(f"a constraint that took more than {COMPILE_DEADLINE_S:g} s to compile", hint="make it simpler")
        return LlgGrammar(native, self._num_tokens, reasoning)

    def _compile(self, source: str) -> Any:
        import llguidance

        limits = llguidance.LLParserLimits(**_LIMITS)
        native = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=limits)
        mask = b"" if native.is_error() else native.compute_bitmask()
        if native.is_error():
            _explain(native.get_error())
        if not any(mask):
            refuse("a constraint that no answer satisfies")
        return native


def _source(constraint: Constraint) -> dict[str, Any]:
    """One grammar of llguidance's list."""
    match constraint:
        case JsonSchema(schema):
            return {"json_schema": with_options(normalize(schema))}
        case JsonObject():
            return {"json_schema": with_options({"type": "object"})}
        case Regex(pattern):
            check_regex(pattern)
            return {"lark_grammar": f"start: /{_slashed(pattern)}/"}
        case Choice(choices):
            return {"lark_grammar": "start: " + " | ".join(map(_quoted, _checked_choices(choices)))}
        case Lark(grammar):
            return {"lark_grammar": lark.checked(grammar)}
        case Gbnf(grammar):
            return {"lark_grammar": gbnf.to_lark(grammar)}


def _checked_choices(choices: tuple[str, ...]) -> tuple[str, ...]:
    within(len(choices), MAX_CHOICES, "too many choices")
    within(sum(len(choice.encode("utf-8", "replace")) for choice in choices), MAX_BYTES, "choices of too many bytes")
    for choice in choices:
        within(len(choice.encode("utf-8", "replace")), MAX_VALUE_BYTES, "a choice of too many bytes")
    if not any(choices):
        refuse("no choice that has any text", hint="give at least one")
    return choices


def _quoted(text: str) -> str:
    """A text as a Lark literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")


def _slashed(pattern: str) -> str:
    """A regular expression as it stands between Lark's slashes."""
    parts: list[str] = []
    is_escaped = False
    for char in pattern:
        parts.append("\\/" if char == "/" and not is_escaped else "\\n" if char == "\n" else char)
        is_escaped = char == "\\" and not is_escaped
    return "".join(parts)


def _explain(reason: str) -> None:
    """Raise llguidance's refusal as ours."""
    reason = reason.partition("<backtrace>")[0].strip()
    if "Unsatisfiable" in reason:
        refuse("a schema that no document satisfies", hint=reason[:_MAX_REASON_CHARS])
    refuse("a constraint that cannot be enforced", hint=reason[:_MAX_REASON_CHARS] or None)


def _with_stack(size: int, make: Callable[[], T]) -> T:
    """Call something that starts a thread, which gets a stack of this size."""
    before = threading.stack_size(size)
    try:
        return make()
    finally:
        threading.stack_size(before)
