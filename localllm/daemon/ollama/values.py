"""Pieces of Ollama's JSON: names, numbers, details of models, errors. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from localllm.api import FinishReason, ModelInfo, Notice, Timings, TokenLogprob, ToolCall, Usage
from localllm.daemon.errors import Problem
from localllm.errors import InvalidRequestError

# The version of Ollama whose API document this dialect follows: clients decide by it what they may send.
API_VERSION = "0.33.0"

_REASONS: dict[FinishReason, str] = {"length": "length", "deadline": "length", "runaway": "length"}
_CAPABILITIES = {
    "chat": "completion",
    "complete": "completion",
    "fim": "insert",
    "tools": "tools",
    "thinking": "thinking",
    "vision": "vision",
    "embed": "embedding",
}
_SCALES = ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0))


def error_body(problem: Problem) -> bytes:
    """An error in Ollama's shape; the other fields are extra."""
    error: dict[str, Any] = {"error": problem.message, "code": problem.code}
    if problem.hint:
        error["hint"] = problem.hint
    if problem.param:
        error["param"] = problem.param
    return msgspec.json.encode(error | problem.counts)


def model_name(given: str | None, param: str = "model") -> str:
    """The name of a model without the tag that says nothing. Raises InvalidRequestError where there is none."""
    name = (given or "").strip()
    if not name:
        raise InvalidRequestError(f"{param} is required", param=param)
    return name.removesuffix(":latest") or name


def reason_word(reason: FinishReason) -> str:
    return _REASONS.get(reason, "stop")


def metrics_value(usage: Usage, timings: Timings, total_ns: int, load_ns: int) -> dict[str, Any]:
    """Tokens, and times in nanoseconds; all of them measured. `prompt_eval_count` counts cached tokens too."""
    value: dict[str, Any] = {
        "total_duration": total_ns,
        "load_duration": load_ns,
        "prompt_eval_count": usage.num_prompt_tokens,
        "prompt_eval_duration": _ns(timings.prompt_s),
        "eval_count": usage.num_output_tokens,
        "eval_duration": _ns(timings.decode_s),
    }
    if usage.num_cached_tokens:
        value["prompt_cached_count"] = usage.num_cached_tokens
    return value


def call_value(call: ToolCall, index: int) -> dict[str, Any] | None:
    """A tool call; its arguments are an object. None where the model wrote none."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return None
    if not isinstance(arguments, dict):
        return None
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def logprobs_value(logprobs: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Log probabilities of tokens and of their alternatives."""
    found = []
    for known in logprobs:
        entry = _token(known.text, known.logprob)
        if known.top:
            entry["top_logprobs"] = [_token(text, logprob) for _token_id, text, logprob in known.top]
        found.append(entry)
    return found


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    # JSON has no infinity.
    return {"token": text.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(text)}


def notices_value(notices: Iterable[Notice]) -> dict[str, Any]:
    """What a user should know, as an extra field; nothing where there is nothing."""
    found = [msgspec.to_builtins(notice) for notice in notices]
    return {"notices": found} if found else {}


def details_value(info: ModelInfo | None, parent: str = "") -> dict[str, Any]:
    """What kind of model it is."""
    family = (info and info.architecture) or ""
    return {
        "parent_model": parent,
        "format": "gguf",
        "family": family,
        "families": [family] if family else None,
        "parameter_size": size_text(info.num_params) if info and info.num_params else "",
        "quantization_level": (info and info.quant) or "",
    }


def capabilities_value(capabilities: Iterable[str]) -> list[str]:
    """What a model can do, in Ollama's words."""
    found: list[str] = []
    for name in capabilities:
        word = _CAPABILITIES.get(name, name)
        if word not in found:
            found.append(word)
    return found


def digest_value(digest: str) -> str:
    """A digest without the name of its function."""
    return digest.removeprefix("sha256:")


def size_text(count: int) -> str:
    """A number of parameters, such as 134.52M or 8.0B."""
    for scale, unit, num_decimals in _SCALES:
        if count >= scale:
            return f"{count / scale:.{num_decimals}f}{unit}"
    return str(count)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
