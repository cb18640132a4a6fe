"""`/set`: what is set, and setting it. Pure; the words are those of the REPL."""

from __future__ import annotations

from typing import NamedTuple

from localllm import sampling_words
from localllm.api import SamplingParams


class SetResult(NamedTuple):
    """What `/set` came to: parameters as they are from now on, and what to tell the person."""

    sampling: SamplingParams
    words: str


def names() -> tuple[tuple[str, str], ...]:
    """What may be set, with its meaning, for completion."""
    return tuple(sampling_words.MEANINGS.items())


def obey(argument: str, sampling: SamplingParams) -> SetResult:
    """`/set`, `/set NAME`, `/set NAME VALUE` or `/set NAME=VALUE`. Raises UsageError."""
    name, _, value = argument.strip().replace("=", " ", 1).partition(" ")
    name, value = name.replace("-", "_").lower(), value.strip()
    if not name:
        given = sampling_words.given(sampling)
        words = "\n".join(f"{name} {value}" for name, value in given)
        return SetResult(sampling, words or "All sampling is left to the model. /set temperature 0.7 changes it.")
    if not value:
        sampling_words.with_value(sampling, name, "default")  # for its words, where there is no such name
        meaning = sampling_words.MEANINGS[name]
        return SetResult(sampling, f"{name} {sampling_words.shown(getattr(sampling, name))}\n{meaning}")
    changed = sampling_words.with_value(sampling, name, value)
    words = f"{name} {sampling_words.shown(getattr(changed, name))}, from the next answer on"
    return SetResult(changed, "\n".join(filter(None, (words, sampling_words.warning(changed, name)))))
