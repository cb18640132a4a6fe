"""The option tables cover the types they fill."""

from __future__ import annotations

import pytest

from localllm.api import LoadOptions, SamplingParams
from localllm.cli.app import build_command
from localllm.cli.options import LOADING, SAMPLING, load_options, sampling_params
from localllm.config import Settings
from localllm.errors import InvalidRequestError
from tests.cli.running import localllm


def test_every_sampling_parameter_is_an_option() -> None:
    assert set(SAMPLING) == set(SamplingParams.__struct_fields__)
    names = {param.name for param in build_command().commands["run"].params}
    assert set(SAMPLING) | set(LOADING) <= names


def test_loading_options_are_settings() -> None:
    # `kv_type` stands for the types of keys and values.
    assert set(LOADING) <= set(Settings.__struct_fields__) & {*LoadOptions.__struct_fields__, "kv_type"}
    options = load_options(Settings(num_ctx=5, device="cpu", num_gpu_layers=0, num_slots=3))
    assert options == LoadOptions(num_ctx=5, device="cpu", num_gpu_layers=0, num_slots=3, tuned=True)


def test_what_is_not_given_stays_open() -> None:
    assert sampling_params(dict.fromkeys(SAMPLING)) == SamplingParams()
    assert sampling_params({"ignore_eos": False, "stop": []}) == SamplingParams()
    assert sampling_params({"temperature": 0.0, "seed": 0}) == SamplingParams(temperature=0.0, seed=0)


def test_options_become_parameters() -> None:
    ran = localllm(
        *["run", "smollm2:135m", "sampling", "-t", "0.5", "--top-k", "3", "-n", "7", "--seed", "1", "--ignore-eos"],
        *["--stop", "A", "--stop", "B", "--logit-bias", "5=-1.5", "--repeat-penalty", "1.1"],
    )
    expected = SamplingParams(
        temperature=0.5,
        top_k=3,
        max_tokens=7,
        seed=1,
        ignore_eos=True,
        stop=("A", "B"),
        logit_bias={5: -1.5},
        repeat_penalty=1.1,
    )
    assert ran.stdout == f"{expected!r}\n"


def test_loading_options_reach_settings_and_engine() -> None:
    ran = localllm(
        "run", "smollm2:135m", "settings", "-c", "99", "--threads", "3", "--device", "cpu", "-ngl", "0", "--offline"
    )
    # One conversation takes one slot.
    assert (
        "LoadOptions(num_ctx=99, num_slots=1, num_batch=None, num_ubatch=None, num_threads=3, device='cpu'"
        in ran.stdout
    )
    assert "offline=True" in ran.stdout


def test_a_bad_bias_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="is not TOKEN=VALUE"):
        sampling_params({"logit_bias": ["x"]})
