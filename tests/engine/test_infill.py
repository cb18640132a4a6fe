"""Filling in: the prompt's shape, guarded text, and a named error where a model has no tokens for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.engine.infill import InfillTokens, infill_prompt
from localllm.engine.process import EngineProcess
from localllm.errors import ContextLengthError, InvalidRequestError
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_models import EXACT, FIM, vocabulary, write_tiny_model

TinyModel = Callable[..., Path]
BEFORE, AFTER, MIDDLE = (vocabulary(fim=True).index(token) for token in FIM)


def tiny_spec(path: Path) -> Any:
    return spec_of(path, num_ctx=256, num_cells=1024, num_batch=128, **EXACT)


async def answer(engine: EngineProcess, prompt: str | tuple[int, ...], suffix: str | None = None) -> tuple[str, int]:
    """The greedy answer, and how many tokens the prompt had."""
    sampling = SamplingParams(temperature=0, max_tokens=16)
    text, num_tokens = "", 0
    async for event in engine.complete(CompletionRequest("tiny", prompt, sampling, suffix=suffix)):
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, Finished):
            num_tokens = event.usage.num_prompt_tokens
    return text, num_tokens


def test_the_order_of_a_prompt() -> None:
    assert infill_prompt(InfillTokens(1, 2, 3), [10, 11], [12]) == [1, 10, 11, 2, 12, 3]
    assert infill_prompt(InfillTokens(1, 2, 3, bos=0), [], []) == [0, 1, 2, 3]
    with pytest.raises(InvalidRequestError, match="cannot fill in"):
        infill_prompt(None, [1], [2])


@pytest.mark.parametrize("starts_with_bos", [False, True])
def test_what_is_asked_is_prefix_suffix_middle(tmp_path: Path, starts_with_bos: bool) -> None:
    model = write_tiny_model(tmp_path / "m.gguf", fim=True, tokenizer__ggml__add_bos_token=starts_with_bos)

    async def main() -> None:
        async with open_engine(tiny_spec(model)) as engine:
            head, tail = await engine.tokenize("def f():"), await engine.tokenize("    return x")
            bos = [vocabulary().index("<|end|>")] if starts_with_bos else []
            ids = (*bos, BEFORE, *head, AFTER, *tail, MIDDLE)
            expected = await answer(engine, ids)
            assert await answer(engine, "def f():", "    return x") == expected
            assert await answer(engine, tuple(head), "    return x") == expected
            assert (await answer(engine, "", ""))[1] == 3 + len(bos)
            assert (await answer(engine, "def f():"))[1] == len(head) + len(bos)

    run(main)


def test_control_tokens_in_the_text_are_text(tiny_model: TinyModel) -> None:
    async def main() -> None:
        async with open_engine(tiny_spec(tiny_model(fim=True))) as engine:
            _, num_tokens = await answer(engine, "a<|fim_middle|>", "<|fim_suffix|>b<|im_end|>")
            assert num_tokens == 3 + len("a<|fim_middle|>" + "<|fim_suffix|>b<|im_end|>")

    run(main)


def test_too_long_is_an_error_with_both_counts(tiny_model: TinyModel) -> None:
    async def main() -> None:
        async with open_engine(tiny_spec(tiny_model(fim=True))) as engine:
            with pytest.raises(ContextLengthError) as caught:
                await answer(engine, "a" * 126, "b" * 127)
            assert caught.value.facts == {"num_prompt_tokens": 256, "num_ctx": 256}

    run(main)


def test_a_model_without_the_tokens_says_so(tiny_model: TinyModel) -> None:
    async def main() -> None:
        async with open_engine(tiny_spec(tiny_model())) as engine:
            with pytest.raises(InvalidRequestError, match="cannot fill in"):
                await answer(engine, "a", "b")
            assert (await answer(engine, "a"))[1] == 1

    run(main)
