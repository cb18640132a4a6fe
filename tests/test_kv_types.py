"""Cache types that llama.cpp would refuse or abort on are refused by name, before a child is started."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from localllm.api import LoadOptions
from localllm.errors import InvalidRequestError
from localllm.kv_types import check_kv_types
from localllm.model_shape import KV_TYPES, ModelFacts

MODEL = ModelFacts(
    name="m",
    layer_bytes=(1,) * 4,
    num_ctx_train=4096,
    num_embd=512,
    num_ff=1024,
    num_vocab=1000,
    num_heads_kv=(2, 2, 0, 2),
    key_length=64,
    value_length=64,
    architecture="llama",
)


def check(options: dict[str, Any], **facts: Any) -> None:
    check_kv_types(msgspec.structs.replace(MODEL, **facts), LoadOptions(**options))


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_every_type_passes_with_flash_attention_left_open_or_on(kv_type: str) -> None:
    check({"kv_type_k": kv_type, "kv_type_v": kv_type})
    check({"kv_type_k": kv_type, "kv_type_v": kv_type, "flash_attn": True})


def test_quantized_keys_alone_need_no_flash_attention() -> None:
    check({"kv_type_k": "q8_0", "flash_attn": False})
    check({"kv_type_k": "q8_0"}, architecture="grok")


def test_a_model_without_attention_has_no_heads_to_divide() -> None:
    check({"kv_type_k": "q8_0"}, num_heads_kv=(0,) * 4, key_length=20)


@pytest.mark.parametrize(
    ("options", "facts", "says", "hint"),
    [
        ({"kv_type_k": "q3_7"}, {}, "q3_7 is no cache type", "f32, f16"),
        ({"kv_type_v": "Q8_0"}, {}, "Q8_0 is no cache type", "q8_0"),
        ({"kv_type_v": "q8_0", "flash_attn": False}, {}, "need flash attention", "leave flash attention on"),
        ({"kv_type_v": "q8_0"}, {"architecture": "grok"}, "need flash attention", "keys only"),
        ({"flash_attn": True}, {"architecture": "grok"}, "has no flash attention", None),
        ({"kv_type_k": "q8_0"}, {"is_mla": True}, "keys and values as one", "same type"),
        ({"kv_type_k": "q4_0", "kv_type_v": "q4_0"}, {"key_length": 80}, "blocks of 32, m has heads of 80", "bf16"),
        ({"kv_type_v": "q4_0"}, {"value_length": 80}, "heads of 80", "f16"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], facts: dict[str, Any], says: str, hint: str | None) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        check(options, **facts)
    assert hint is None or hint in (caught.value.hint or "")
