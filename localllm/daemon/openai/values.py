"""Pieces of OpenAI's JSON: usage, times, log probabilities, errors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from localllm.api import Finished, FinishReason, Notice, Timings, TokenLogprob, Usage
from localllm.daemon.errors import Problem

_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "abort": "stop",
    "tool_calls": "tool_calls",
    "deadline": "length",
    "runaway": "length",
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Head(msgspec.Struct, frozen=True):
    """What every chunk of an answer repeats. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


def error_body(problem: Problem) -> bytes:
    """An error in OpenAI's shape; `hint` and the counts of an over-long prompt are extra."""
    return msgspec.json.encode({"error": error_value(problem)})


def error_value(problem: Problem) -> dict[str, Any]:
    """The inside of an error."""
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    error: dict[str, Any] = {
        "message": problem.message,
        "type": kind,
        "param": problem.param,
        "code": problem.code,
    }
    if problem.hint:
        error["hint"] = problem.hint
    return error | problem.counts


def usage_value(usage: Usage) -> dict[str, Any]:
    """Tokens in OpenAI's words."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.num_reasoning_tokens,
            "accepted_prediction_tokens": usage.num_accepted_tokens,
            "rejected_prediction_tokens": usage.num_drafted_tokens - usage.num_accepted_tokens,
        },
    }


def timings_value(usage: Usage, timings: Timings) -> dict[str, Any]:
    """Times in llama.cpp's words, in milliseconds. `queue_ms` is extra."""
    num_computed = usage.num_prompt_tokens - usage.num_cached_tokens
    return {
        "cache_n": usage.num_cached_tokens,
        "prompt_n": num_computed,
        "prompt_ms": round(timings.prompt_s * 1e3, 3),
        "prompt_per_second": round(num_computed / timings.prompt_s, 3) if timings.prompt_s else 0.0,
        "predicted_n": usage.num_output_tokens,
        "predicted_ms": round(timings.decode_s * 1e3, 3),
        "predicted_per_second": round(usage.num_output_tokens / timings.decode_s, 3) if timings.decode_s else 0.0,
        "draft_n": usage.num_drafted_tokens,
        "draft_n_accepted": usage.num_accepted_tokens,
        "queue_ms": round(timings.queue_s * 1e3, 3),
    }


def tail_value(finished: Finished, notices: Sequence[Notice]) -> dict[str, Any]:
    """What is said at the end besides OpenAI's own fields: times, notices, and the receipt where there is one."""
    value: dict[str, Any] = {"timings": timings_value(finished.usage, finished.timings)}
    if notices:
        value["notices"] = notices
    if finished.receipt is not None:
        value["receipt"] = finished.receipt
    return value


def chat_logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities as chats have them."""
    content = []
    for known in logprobs:
        entry = _token(known.text, known.logprob)
        entry["top_logprobs"] = [_token(text, logprob) for _token_id, text, logprob in known.top]
        content.append(entry)
    return {"content": content, "refusal": None}


def unscored(echo: str, prompt_logprobs: Iterable[TokenLogprob]) -> str:
    """The part of an echoed prompt that has no log probability: its first token, which nothing comes before."""
    num_scored = sum(len(token_text(known.text)) for known in prompt_logprobs)
    return echo[: max(len(echo) - num_scored, 0)]


def completion_logprobs(logprobs: Iterable[TokenLogprob], start: int, lead: str = "") -> dict[str, Any]:
    """Log probabilities as completions have them, from character `start` on; `lead` is a token that has none."""
    tokens: list[str] = []
    values: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets: list[int] = []
    if lead:
        tokens, values, tops, offsets, start = [lead], [None], [None], [start], start + len(lead)
    for known in logprobs:
        text = token_text(known.text)
        tokens.append(text)
        values.append(_finite(known.logprob))
        tops.append({token_text(other): _finite(logprob) for _token_id, other, logprob in known.top})
        offsets.append(start)
        start += len(text)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token_text(text), "logprob": _finite(logprob), "bytes": list(text)}


def token_text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    """JSON has no infinity: a token that cannot be has the least value OpenAI gives."""
    return max(logprob, -9999.0)


def call_value(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def reason_word(reason: FinishReason, has_calls: bool) -> str:
    return "tool_calls" if has_calls and reason == "stop" else _REASONS[reason]
