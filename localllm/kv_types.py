"""Which types a cache may have for a model: refuses by name what llama.cpp would refuse, or abort on, at load. Pure."""

from __future__ import annotations

from localllm.api import LoadOptions
from localllm.errors import InvalidRequestError
from localllm.model_shape import KV_TYPES, ModelFacts, kv_type_named

# Architectures for which llama.cpp turns flash attention off.
WITHOUT_FLASH = frozenset({"grok"})


def check_kv_types(model: ModelFacts, options: LoadOptions) -> None:
    """Raise InvalidRequestError where the cache types and flash attention asked for do not go together."""
    kv_types = {name: getattr(options, name) or "f16" for name in ("kv_type_k", "kv_type_v")}
    blocks = {name: kv_type_named(kv_type, name).block for name, kv_type in kv_types.items()}
    if model.is_mla and len(set(kv_types.values())) > 1:
        raise InvalidRequestError(
            f"{model.name} keeps keys and values as one, so both have one type",
            hint="set kv_type_k and kv_type_v to the same type",
            param="kv_type_v",
        )
    no_flash = model.architecture in WITHOUT_FLASH
    if no_flash and options.flash_attn:
        raise InvalidRequestError(f"{model.name} ({model.architecture}) has no flash attention", param="flash_attn")
    if blocks["kv_type_v"] > 1 and (no_flash or options.flash_attn is False):
        hint = "quantize the keys only (kv_type_k)"
        if not no_flash:
            hint += ", or leave flash attention on"
        raise InvalidRequestError(
            f"values of type {kv_types['kv_type_v']} need flash attention", hint=hint, param="kv_type_v"
        )
    for name, length in (("kv_type_k", model.key_length), ("kv_type_v", model.value_length)):
        block = blocks[name]
        if length % block and _attends(model):
            raise InvalidRequestError(
                f"{kv_types[name]} comes in blocks of {block}, {model.name} has heads of {length}",
                hint=f"one of {', '.join(name for name, each in KV_TYPES.items() if length % each.block == 0)}",
                param=name,
            )


def _attends(model: ModelFacts) -> bool:
    heads = model.num_heads_kv
    return bool(heads) if isinstance(heads, int) else any(heads)
