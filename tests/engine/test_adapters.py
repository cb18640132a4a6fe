"""LoRA adapters at load and per request, with tiny real models: they do what merging them into the weights does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.api import Adapter, CompletionRequest, Finished, SamplingParams, TextDelta, TokenLogprob
from localllm.binding import set_log
from localllm.engine.adapter_set import NO_ADAPTERS
from localllm.engine.adapters import MAX_LOADED, Adapters
from localllm.engine.llama import LlamaModel
from localllm.engine.process import EngineProcess
from localllm.errors import AdapterError
from localllm.store.gguf import read_gguf
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_adapters import merged, random_pairs, write_adapter
from tests.tiny_models import ARCHITECTURES, EXACT, Kind, tiny_tensors, write_tiny_model

TinyModel = Callable[..., Path]
Logprobs = list[TokenLogprob]
PROMPT = "the quick brown fox jumps over the lazy dog, and then"


def tiny_spec(path: Path, **changes: Any) -> Any:
    return spec_of(path, **{"num_ctx": 256, "num_cells": 1024, "num_batch": 128, **EXACT, **changes})


async def answer(engine: EngineProcess, *adapters: Adapter, prompt: str = PROMPT, **options: Any) -> Logprobs:
    """The tokens of a greedy answer with their log probabilities."""
    sampling = SamplingParams(temperature=0, max_tokens=24, logprobs=1, ignore_eos=True)
    request = CompletionRequest("tiny", prompt, sampling, adapters=adapters, **options)
    found: Logprobs = []
    async for event in engine.complete(request):
        if isinstance(event, TextDelta):
            found.extend(event.logprobs)
    assert len(found) >= 20
    return found


def tokens_of(logprobs: Logprobs) -> list[int]:
    return [entry.token for entry in logprobs]


def assert_same(one: Logprobs, other: Logprobs) -> None:
    assert tokens_of(one) == tokens_of(other)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=2e-3)


def adapter_files(folder: Path, count: int = 2) -> list[str]:
    weights = tiny_tensors("llama")
    return [str(write_adapter(folder / f"{n}.gguf", random_pairs(weights, seed=n), alpha=8.0)) for n in range(count)]


@pytest.mark.parametrize(
    ("kind", "at_load"), [("llama", True), ("moe", True), ("llama", False), ("moe", False), ("mamba", False)]
)
def test_an_adapter_does_what_merging_it_does(tiny_model: TinyModel, tmp_path: Path, kind: Kind, at_load: bool) -> None:
    weights = tiny_tensors(kind)
    names = (
        "attn_q.",
        "attn_output",
        "ffn_down",
        "ffn_up_exps",
        "ssm_in",
        "ssm_out",
        "output.weight",
    )
    pairs = random_pairs(weights, names=names)
    path = write_adapter(tmp_path / "a.gguf", pairs, architecture=ARCHITECTURES[kind], alpha=8.0)
    whole = write_tiny_model(tmp_path / "merged.gguf", kind, tensors=merged(weights, pairs, 0.5, 8.0))
    adapter = Adapter(str(path), 0.5)

    async def main() -> None:
        async with open_engine(tiny_spec(whole)) as engine:
            expected = await answer(engine)
        async with open_engine(tiny_spec(tiny_model(kind), adapters=(adapter,) if at_load else ())) as engine:
            assert_same(await answer(engine, *(() if at_load else (adapter,))), expected)
            plain = await answer(engine, Adapter(str(path), -0.5 if at_load else 0.0))
        async with open_engine(tiny_spec(tiny_model(kind))) as engine:
            base = await answer(engine)
        assert_same(plain, base)
        assert tokens_of(base) != tokens_of(expected)

    run(main)


def test_an_adapter_with_a_known_effect(tmp_path: Path) -> None:
    """One that likes a token the more, the larger the state's first number, which is never small: only that is said."""
    weights = tiny_tensors("llama")
    num_vocab, num_embd = weights["output.weight"].shape
    said = 65
    b = np.zeros((num_vocab, 2), np.float32)
    b[:, 0] = -1.0
    b[said, 0] = 1.0
    norm = np.zeros_like(weights["output_norm.weight"]) + np.eye(1, num_embd, dtype=np.float32)[0]
    biased = {**weights, "output_norm.weight": norm, "token_embd.weight": np.abs(weights["token_embd.weight"]) + 4}
    model = write_tiny_model(tmp_path / "biased.gguf", tensors=biased)
    a = np.zeros((2, num_embd), np.float32)
    a[0, 0] = 1000.0
    path = write_adapter(tmp_path / "a.gguf", {"output.weight": (a, b)})

    async def main() -> None:
        async with open_engine(tiny_spec(model)) as engine:
            assert set(tokens_of(await answer(engine, Adapter(str(path))))) == {said}
            assert set(tokens_of(await answer(engine))) != {said}

    run(main)


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_requests_with_different_adapters_at_once(tiny_model: TinyModel, tmp_path: Path, layout: str) -> None:
    """Seven requests in four sets on four slots: each gets what it gets alone, and none takes another's prefix."""
    one, two = adapter_files(tmp_path)
    sets = [(), (Adapter(one),), (Adapter(two),), (Adapter(one, 0.5), Adapter(two, 0.25)), (Adapter(one),), (), ()]
    spec = tiny_spec(tiny_model(), kv_layout=layout)

    async def main() -> None:
        alone = []
        for adapters in sets:
            async with open_engine(spec) as engine:
                alone.append(await answer(engine, *adapters))
        async with open_engine(spec) as engine:
            for _ in range(2):
                together = await asyncio.gather(*(answer(engine, *adapters) for adapters in sets))
                for mine, theirs in zip(together, alone, strict=True):
                    assert_same(mine, theirs)
        assert len({tuple(tokens_of(each)) for each in alone}) == 4

    run(main)


def test_a_prefix_is_reused_within_a_set_only(tiny_model: TinyModel, tmp_path: Path) -> None:
    (path,) = adapter_files(tmp_path, count=1)

    async def cached(engine: EngineProcess, *adapters: Adapter) -> int:
        sampling = SamplingParams(temperature=0, max_tokens=2)
        async for event in engine.complete(CompletionRequest("tiny", PROMPT * 4, sampling, adapters=adapters)):
            last = event
        assert isinstance(last, Finished)
        return last.usage.num_cached_tokens

    async def main() -> None:
        async with open_engine(tiny_spec(tiny_model())) as engine:
            assert await cached(engine) == 0
            assert await cached(engine, Adapter(path)) == 0
            assert await cached(engine, Adapter(path, 0.5)) == 0
            assert await cached(engine, Adapter(path)) > 100
            assert await cached(engine) > 100
            # The same adapter, said in two parts.
            assert await cached(engine, Adapter(path, 0.25), Adapter(path, 0.75)) > 100

    run(main)


def test_an_adapter_that_does_not_fit_is_a_named_error_and_the_engine_lives(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    pairs = random_pairs(tiny_tensors("llama"))
    other = str(write_adapter(tmp_path / "other.gguf", pairs, architecture="gemma3"))
    (fitting,) = adapter_files(tmp_path, count=1)

    async def main() -> None:
        async with open_engine(tiny_spec(tiny_model())) as engine:
            before = await answer(engine, Adapter(fitting))
            for bad, says in [
                (Adapter(other), "for gemma3"),
                (Adapter(str(tmp_path / "gone.gguf")), "cannot be read"),
                (Adapter(fitting, float("nan")), "scale"),
                (Adapter(fitting, 1e9), "scale"),
            ]:
                with pytest.raises(AdapterError, match=says):
                    await answer(engine, bad)
            assert_same(await answer(engine, Adapter(fitting)), before)
        with pytest.raises(AdapterError, match="for gemma3"):
            async with open_engine(tiny_spec(tiny_model(), adapters=(Adapter(other),))):
                pass

    run(main)


@pytest.mark.weights
def test_an_adapter_on_real_quantized_weights(smollm2_path: Path, tmp_path: Path) -> None:
    """Scale 0 is the model itself; two adapters at once give what each gives alone, but for rounding."""
    targets = [
        tensor for tensor in read_gguf(smollm2_path).tensors if tensor.name.endswith(("attn_q.weight", "ffn_up.weight"))
    ]
    paths = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        pairs = {
            tensor.name: (
                rng.normal(0, 0.06, (4, tensor.shape[0])).astype(np.float32),
                rng.normal(0, 0.06, (tensor.shape[1], 4)).astype(np.float32),
            )
            for tensor in targets
        }
        paths.append(str(write_adapter(tmp_path / f"{seed}.gguf", pairs)))

    async def main() -> None:
        async with open_engine(spec_of(smollm2_path)) as engine:
            base = await answer(engine, prompt="The capital of France is")
            off = await answer(engine, Adapter(paths[0], 0.0), prompt="The capital of France is")
            alone = [await answer(engine, Adapter(path), prompt="Once upon a time") for path in paths]
        async with open_engine(spec_of(smollm2_path)) as engine:
            streams = (answer(engine, Adapter(path), prompt="Once upon a time") for path in paths)
            together = await asyncio.gather(*streams)
        assert_same(off, base)
        assert tokens_of(alone[0]) != tokens_of(alone[1])
        for mine, theirs in zip(together, alone, strict=True):
            assert_same(mine, theirs)

    run(main)


# --- the adapters of one model --------------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_model: TinyModel) -> Any:
    set_log(None)
    loaded = LlamaModel(tiny_spec(tiny_model()), lambda _fraction: True)
    yield loaded
    loaded.close()


@pytest.fixture
def adapters(model: LlamaModel) -> Adapters:
    return model.adapters


def test_a_file_is_loaded_once_by_its_bytes(adapters: Adapters, tmp_path: Path) -> None:
    one, two = adapter_files(tmp_path)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(Path(one).read_bytes())
    first = adapters.together([Adapter(one)])
    assert adapters.together([Adapter(str(copy))]).handles == first.handles
    assert adapters.num_loaded == 1
    assert (
        adapters.together([Adapter(one), Adapter(two, 2.0)]).key
        == adapters.together([Adapter(two, 2.0), Adapter(one)]).key
    )
    # What lies under the name now counts, not what lay there.
    copy.write_bytes(Path(two).read_bytes())
    assert adapters.together([Adapter(str(copy))]).key == adapters.together([Adapter(two)]).key
    assert adapters.together([Adapter(one, 0.0)]) is NO_ADAPTERS
    assert adapters.together([Adapter(one, 0.5), Adapter(one, -0.5)]) is NO_ADAPTERS


def test_no_more_than_so_many_stay_loaded(adapters: Adapters, tmp_path: Path) -> None:
    files = adapter_files(tmp_path, count=MAX_LOADED + 3)
    held = adapters.together([Adapter(files[0])])
    for path in files[1:]:
        adapters.together([Adapter(path)])
    assert adapters.num_loaded == MAX_LOADED
    assert adapters.together([Adapter(files[0])]).handles == held.handles, "what is in use stays"
    sets = [adapters.together([Adapter(path)]) for path in files[:MAX_LOADED]]
    with pytest.raises(AdapterError, match="are in use"):
        adapters.together([Adapter(files[-1])])
    sets.pop()
    adapters.together([Adapter(files[-1])])
