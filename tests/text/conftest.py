"""Each family's vocabulary, written and loaded once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from tests.text.families import FAMILIES, Family
from tests.text.vocabs import LlamaVocab

Loaded = tuple[Family, LlamaVocab]


@pytest.fixture(autouse=True)
def no_gc_callbacks() -> Iterator[None]:
    """A library's callback of the collector may be what an interrupt meets. It is sent again then, but Python warns."""
    held = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = held


@pytest.fixture(scope="session")
def load_family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Loaded]]:
    """A family's record and vocabulary, by name."""
    loaded: dict[str, LlamaVocab] = {}

    def load(name: str) -> Loaded:
        if name not in loaded:
            loaded[name] = FAMILIES[name].load(tmp_path_factory.mktemp(name))
        return FAMILIES[name], loaded[name]

    yield load
    for vocab in loaded.values():
        vocab.close()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, load_family: Callable[[str], Loaded]) -> Loaded:
    """Every family in turn."""
    return load_family(request.param)


@pytest.fixture
def chatml(load_family: Callable[[str], Loaded]) -> LlamaVocab:
    """The vocabulary of ChatML."""
    return load_family("chatml")[1]


@pytest.fixture
def gemma(load_family: Callable[[str], Loaded]) -> Loaded:
    """Gemma's record and vocabulary."""
    return load_family("gemma")


@pytest.fixture
def deepseek(load_family: Callable[[str], Loaded]) -> Loaded:
    """DeepSeek's record and vocabulary."""
    return load_family("deepseek")
