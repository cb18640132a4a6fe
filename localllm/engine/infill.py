"""Filling in: the prompt that asks a model for what stands between two texts. Knows tokens, not text."""

from __future__ import annotations

from typing import NamedTuple

from localllm.errors import InvalidRequestError


class InfillTokens(NamedTuple):
    """The control tokens that begin the text before the gap, the text after it, and the answer.

    `bos` is what every prompt of this model begins with, where it does with anything.
    """

    before: int
    after: int
    middle: int
    bos: int | None = None


def infill_prompt(marks: InfillTokens | None, before: list[int], after: list[int]) -> list[int]:
    """Text before the gap, text after it, and then the answer: the order in which models of this kind were trained.

    Raises InvalidRequestError where the vocabulary has no tokens for it: `marks` is None.
    """
    if marks is None:
        hint = "take a model for code completion, or leave the suffix out"
        raise InvalidRequestError("this model cannot fill in: it has no tokens for that", hint=hint, param="suffix")
    bos = [] if marks.bos is None else [marks.bos]
    return [*bos, marks.before, *before, marks.after, *after, marks.middle]
