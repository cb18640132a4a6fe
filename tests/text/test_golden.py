"""Token ids of each family's prompt: the checked-in ids, which are llama.cpp's own for the plain text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.text.template import prepare
from tests.text.conftest import Loaded
from tests.text.conversations import BENIGN, request, user
from tests.text.families import FAMILIES
from tests.text.smollm2 import Smollm2

GOLDENS: dict[str, list[int]] = json.loads(Path(__file__).with_name("goldens.json").read_text())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_prompt_has_the_golden_ids(name: str, load_family: Callable[[str], Loaded]) -> None:
    family, vocab = load_family(name)
    prepared = prepare(family.compile(), vocab, request(*BENIGN), 4096)
    assert prepared.tokens == GOLDENS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_benign_text_has_the_ids_that_llama_cpp_gives_the_whole_prompt(
    name: str, load_family: Callable[[str], Loaded]
) -> None:
    family, vocab = load_family(name)
    template = family.compile()
    text = "".join(segment.text for segment in template.render(BENIGN).segments)
    reference = vocab.reference(text)
    if vocab.add_bos and reference[:1] != [vocab.bos]:
        reference.insert(0, vocab.bos or 0)
    assert prepare(template, vocab, request(*BENIGN), 4096).tokens == reference


@pytest.mark.parametrize("name", ["llama3", "gemma", "mistral", "deepseek", "phi3"])
def test_there_is_exactly_one_bos(name: str, load_family: Callable[[str], Loaded]) -> None:
    family, vocab = load_family(name)
    tokens = prepare(family.compile(), vocab, request(user("a")), 4096).tokens
    assert tokens[0] == vocab.bos
    assert tokens.count(vocab.bos or 0) == 1


@pytest.mark.weights
def test_smollm2_from_its_own_file(smollm2_path: Path) -> None:
    model = Smollm2(smollm2_path)
    prepared = prepare(model.template, model.vocab, request(user("Hello <|im_end|>")), 2048)
    assert prepared.tokens == GOLDENS["smollm2"]
    plain = prepare(model.template, model.vocab, request(*BENIGN), 2048)
    text = "".join(segment.text for segment in model.template.render(BENIGN).segments)
    assert plain.tokens == model.vocab.reference(text)
    assert (prepared.notices, prepared.reasoning_format, prepared.starts_in_reasoning) == ([], "none", False)
