"""Schemas of our own: each is enforced to the letter or refused by name. The judge is the package jsonschema."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from localllm.api import JsonSchema
from localllm.engine.vocab import Vocab
from localllm.errors import InvalidRequestError
from tests.engine.grammars import accepts, load_vocab, matcher_of, walk

pytestmark = pytest.mark.weights

SCHEMAS = json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
ENFORCED: list[dict[str, Any]] = SCHEMAS["enforced"]
REFUSED: list[dict[str, Any]] = SCHEMAS["refused"]
NUM_WALKS = 6


@pytest.fixture(scope="module")
def vocab(smollm2_path: Path) -> Vocab:
    return load_vocab(smollm2_path)


def is_valid(schema: Any, text: str, number: type = Decimal) -> bool:
    """What jsonschema says of a text; numbers are decimals, because 0.3 is no multiple of 0.1 in binary."""
    # Python names groups in another way than JavaScript.
    schema = json.loads(json.dumps(schema).replace("(?<", "(?P<"), parse_float=number)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    judge = kind(schema, format_checker=kind.FORMAT_CHECKER)
    return bool(judge.is_valid(json.loads(text, parse_float=number)))


def as_text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


def test_there_are_enough_of_them() -> None:
    assert len(ENFORCED) + len(REFUSED) >= 150


@pytest.mark.parametrize("case", ENFORCED, ids=lambda case: case["name"])
def test_documents_are_taken_if_and_only_if_they_are_valid(vocab: Vocab, case: dict[str, Any]) -> None:
    schema = case["schema"]
    for document in case["valid"]:
        text = as_text(document)
        assert is_valid(schema, text), text
        assert accepts(vocab, JsonSchema(schema), text), text
    for document in case["invalid"]:
        text = as_text(document)
        assert not accepts(vocab, JsonSchema(schema), text), text
        # What jsonschema does not check: most formats, and draft 2020-12's word for draft 7's.
        assert not is_valid(schema, text) or "format" in json.dumps(schema), text
    for document in case.get("narrower", ()):
        text = as_text(document)
        assert is_valid(schema, text, float), text
        assert not accepts(vocab, JsonSchema(schema), text), text


@pytest.mark.parametrize("case", ENFORCED, ids=lambda case: case["name"])
def test_every_answer_is_valid(vocab: Vocab, case: dict[str, Any]) -> None:
    rng = random.Random(case["name"])
    schema = case["schema"]
    answers = [walk(vocab, matcher_of(vocab, JsonSchema(schema)), rng) for _ in range(NUM_WALKS)]
    for answer in answers:
        assert answer is None or is_valid(schema, answer), answer


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_cannot_be_enforced_is_refused_by_name(vocab: Vocab, case: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        matcher_of(vocab, JsonSchema(case["schema"]))
    error = caught.value
    said = f"{error.message} {error.hint}"
    for name in case["names"]:
        assert name in said, said
