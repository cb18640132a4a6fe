"""Pieces of Anthropic's JSON: usage, stop reasons, models, errors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from localllm.api import Finished, FinishReason, ModelInfo, Usage
from localllm.daemon.errors import Problem

_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "abort": "end_turn",
    "tool_calls": "tool_use",
    "deadline": "max_tokens",
    "runaway": "max_tokens",
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
# What asking again later helps against; anything else that is 503 here is a failure there.
_OVERLOADED = frozenset({"queue_full", "busy", "shutting_down"})


def status_of(problem: Problem) -> int:
    """The status that clients of this API know: 529 where the daemon has too much to do."""
    return 529 if problem.code in _OVERLOADED else problem.status


def error_body(problem: Problem) -> bytes:
    """An error in Anthropic's shape; `code`, `param`, `hint` and the counts of an over-long prompt are extra."""
    return msgspec.json.encode(error_value(problem))


def error_value(problem: Problem) -> dict[str, Any]:
    """An error, as a body and as an event of a stream."""
    status = status_of(problem)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error: dict[str, Any] = {"type": kind, "message": _message(problem), "code": problem.code}
    error |= {name: value for name in ("param", "hint") if (value := getattr(problem, name)) is not None}
    return {"type": "error", "error": error | problem.counts}


def _message(problem: Problem) -> str:
    """Clients look for these words to know that they should shorten the conversation."""
    counts = problem.counts
    if problem.code == "context_length_exceeded" and len(counts) == 2:
        return f"prompt is too long: {counts['num_prompt_tokens']} tokens > {counts['num_ctx']} maximum"
    return problem.message


def usage_value(usage: Usage) -> dict[str, Any]:
    """Tokens in Anthropic's words: those of the input that came from the cache are counted apart."""
    return {
        "input_tokens": usage.num_prompt_tokens - usage.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.num_reasoning_tokens},
    }


def stop_value(finished: Finished, has_calls: bool) -> dict[str, Any]:
    """Why the answer ended."""
    if finished.reason == "stop" and finished.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
    reason = "tool_use" if has_calls and finished.reason == "stop" else _REASONS[finished.reason]
    return {"stop_reason": reason, "stop_sequence": None}


def model_value(model: ModelInfo) -> dict[str, Any]:
    """A model of a listing."""
    return {"type": "model", "id": model.name, "display_name": model.name, "created_at": model.modified}


def model_page(models: Sequence[ModelInfo], limit: int, after: str | None, before: str | None) -> dict[str, Any]:
    """The part of a listing after one id, or before another."""
    names = [model.name for model in models]
    start = names.index(after) + 1 if after in names else 0
    stop = names.index(before) if before in names else len(names)
    part = models[max(start, stop - limit) : stop] if before in names else models[start : start + limit]
    return {
        "data": [model_value(model) for model in part],
        "has_more": len(part) < stop - start,
        "first_id": part[0].name if part else None,
        "last_id": part[-1].name if part else None,
    }
