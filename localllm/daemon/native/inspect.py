"""Routes of the request inspector: what was asked lately, exactly, and asking it again. Only with `serve --inspect`."""

from __future__ import annotations

from typing import Any

import msgspec

from localllm.api import ChatRequest, Event, Rendered
from localllm.daemon.dialect import EVENTS, MODEL, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import HttpError
from localllm.daemon.inspector import Inspected
from localllm.daemon.native.shapes import Inspection, Summaries
from localllm.daemon.native.values import EventsEncoder, json_reply
from localllm.daemon.sse import EventStream


async def list_requests(call: Call) -> Reply:
    """The last requests of this client, the latest first, without their texts."""
    return json_reply({"requests": [_summary(record) for record in _records(call)]})


async def show_request(call: Call) -> Reply:
    """One of them whole: the request, the prompt and its token ids, the sampler, the answer, the timings."""
    record = _find(call)
    rendered = await _rendered(call, record)
    finished = record.finished
    return json_reply(
        {
            **_summary(record),
            "request": record.request,
            "prompt": rendered.prompt,
            "tokens": rendered.tokens,
            "cached": [0, finished.usage.num_cached_tokens] if finished is not None else None,
            "sampler": record.sampler,
            "receipt": record.receipt,
            "text": "".join(record.text),
            "reasoning": "".join(record.reasoning),
        }
    )


async def replay_request(call: Call) -> Reply:
    """Ask one of them again, with the seed it had; answers with events."""
    record = _find(call)
    request = msgspec.structs.replace(record.request, sampling=record.sampler, request_id=None, receipt=True)
    events = call.daemon.run(request, call.caller)
    return EventStream(events, EventsEncoder(), call.daemon.limits, eager=True)


def _records(call: Call) -> list[Inspected]:
    inspector = call.daemon.inspector
    if inspector is None:
        raise HttpError(404, "inspector_off", "requests are not kept", hint="`localllm serve --inspect N` keeps N")
    return inspector.of(call.caller)


def _find(call: Call) -> Inspected:
    wanted = call.request.path_params["id"]
    for record in _records(call):
        if record.id == wanted:
            return record
    raise HttpError(404, "request_not_found", "no such request is kept", param="id")


def _summary(record: Inspected) -> dict[str, Any]:
    finished = record.finished
    return {
        "id": record.id,
        "at": record.at,
        "model": record.request.model,
        "kind": "chat" if isinstance(record.request, ChatRequest) else "completion",
        "state": record.state,
        "error": record.error,
        "reason": finished.reason if finished is not None else None,
        "usage": finished.usage if finished is not None else None,
        "timings": finished.timings if finished is not None else None,
    }


async def _rendered(call: Call, record: Inspected) -> Rendered:
    """The prompt as the model got it. Made when somebody looks: it is the same then."""
    request, backend = record.request, call.daemon.backend
    if isinstance(request, ChatRequest):
        return await backend.render(request)
    if isinstance(request.prompt, str):
        tokens = await backend.tokenize(request.model, request.prompt, parse_special=request.parse_special)
        return Rendered(request.prompt, tuple(tokens))
    return Rendered(await backend.detokenize(request.model, request.prompt), request.prompt)


ENDPOINTS = (
    Endpoint("GET", "/api/localllm/inspect", list_requests, returns=(Returns(Summaries),), fails=(404,)),
    Endpoint("GET", "/api/localllm/inspect/{id}", show_request, returns=(Returns(Inspection),), fails=MODEL),
    Endpoint(
        "POST",
        "/api/localllm/inspect/{id}/replay",
        replay_request,
        returns=(Returns(Event, EVENTS),),
        fails=MODEL,
    ),
)
