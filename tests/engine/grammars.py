"""A real vocabulary without its weights, and matchers over it: what grammar tests share."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localllm.api import Constraint
from localllm.binding import C, set_log
from localllm.engine.constraint import Matcher
from localllm.engine.constraints import Constraints
from localllm.engine.vocab import Vocab
from localllm.text.tokens import Encoder


@functools.cache
def load_vocab(path: Path) -> Vocab:
    """The vocabulary of a model file; kept for the whole run."""
    set_log(None)
    C.llama_backend_init()
    params = C.llama_model_default_params()
    params.vocab_only = True
    handle = C.llama_model_load_from_file(str(path).encode(), params)
    assert handle
    return Vocab(handle)


@functools.cache
def constraints_of(vocab: Vocab) -> Constraints:
    """Compiles constraints over a vocabulary."""
    encoder = Encoder(vocab, "")
    return Constraints(vocab, lambda segments: encoder.encode(segments, add_bos=False))


def matcher_of(vocab: Vocab, constraint: Constraint) -> Matcher:
    """A matcher at its beginning."""
    return constraints_of(vocab).compile(constraint).begin()


def accepts(vocab: Vocab, constraint: Constraint, text: str) -> bool:
    """Whether a text, in the model's own tokens, is a whole answer."""
    matcher = matcher_of(vocab, constraint)
    for token in vocab.tokenize(text):
        if not matcher.allows(token):
            return False
        matcher.advance(token)
    return matcher.complete or any(matcher.allows(token) for token in vocab.end_tokens)


@functools.cache
def closing_tokens(vocab: Vocab) -> npt.NDArray[np.bool_]:
    """Which tokens are short and begin with what closes a text, a list or an object."""
    pieces = (vocab.raw_piece(token) for token in range(vocab.num_tokens))
    return np.array([piece[:1] in (b'"', b"}", b"]", b",") and len(piece) < 4 for piece in pieces])


def walk(vocab: Vocab, matcher: Matcher, rng: random.Random, max_tokens: int = 120) -> str | None:
    """A random answer; None where it found no end. Short tokens that close something come more often."""
    ends = list(vocab.end_tokens)
    text = b""
    for _ in range(max_tokens):
        text += b"".join(map(vocab.piece, matcher.forced()))
        allowed = matcher.allowed()
        can_end = matcher.complete or bool(allowed[ends].any())
        allowed[ends] = False
        if can_end and (matcher.complete or not allowed.any() or rng.random() < 0.5):
            assert matcher.failure is None
            return text.decode("utf-8")
        closing = np.flatnonzero(allowed & closing_tokens(vocab))
        ids = closing if len(closing) and rng.random() < 0.6 else np.flatnonzero(allowed)
        assert len(ids), f"a dead end after {text!r}"
        token = int(ids[rng.randrange(len(ids))])
        matcher.advance(token)
        text += vocab.piece(token)
    return None
