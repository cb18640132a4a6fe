"""Sampling in words: every parameter has some, and a typed value becomes one or is refused in words."""

from __future__ import annotations

import pytest

from localllm.api import SamplingParams
from localllm.errors import LocalLLMError
from localllm.sampling_words import MEANINGS, given, warning, with_value


def test_every_parameter_has_a_meaning() -> None:
    assert set(MEANINGS) == set(SamplingParams.__struct_fields__)


def test_values_are_taken_and_taken_back() -> None:
    params = with_value(with_value(SamplingParams(), "temperature", "0.5"), "ignore_eos", "on")
    assert given(params) == [("temperature", "0.5"), ("ignore_eos", "on")]
    assert with_value(with_value(params, "temperature", "default"), "ignore_eos", "default") == SamplingParams()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temprature", "1", "did you mean 'temperature'?"),
        ("sistem", "1", "did you mean 'system'?"),
        ("top_p", "2", "top_p lies between 0 and 1"),
        ("seed", "lucky", "takes it back"),
        ("logit_bias", "{", "for example"),
    ],
)
def test_what_cannot_be_set_is_said(name: str, value: str, words: str) -> None:
    with pytest.raises(LocalLLMError) as failed:
        with_value(SamplingParams(), name, value, others=["system"])
    assert words in (failed.value.hint or "")


@pytest.mark.parametrize(
    ("name", "value", "is_odd"),
    [("temperature", 9, True), ("temperature", 2, False), ("repeat_penalty", 40, True), ("top_k", 9000, False)],
)
def test_a_value_that_is_legal_but_seldom_meant_is_said(name: str, value: float, is_odd: bool) -> None:
    said = warning(with_value(SamplingParams(), name, str(value)), name)
    assert bool(said) == is_odd
    assert not is_odd or (name in said and str(value) in said)
    assert warning(SamplingParams(), name) == ""
