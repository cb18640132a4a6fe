"""HttpTarget: any server that speaks OpenAI's chat completions. Owns no process; knows no workload."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from serving import sse
from serving.target import Answer, Call, Json, Mark, TargetError, failed_answer

DONE = b"[DONE]"


class HttpTarget:
    """A server at `url`, with or without `/v1`. `model` None: the first one it lists."""

    def __init__(
        self, name: str, url: str, *, model: str | None = None, api_key: str | None = None, request_s: float = 120.0
    ) -> None:
        self.name = name
        self.model = model
        self.notes: list[str] = []
        self._base = url.rstrip("/") if url.rstrip("/").endswith("/v1") else url.rstrip("/") + "/v1"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._request_s = request_s
        self._sends_ignore_eos = True

    async def open(self) -> None:
        """Find the model's name, and whether `ignore_eos` is accepted."""
        if self.model is None:
            self.model = await self._first_model()
        hello = Call(({"role": "user", "content": "hello"},), 4)
        answer = await self.ask(hello)
        if answer.failed and (answer.error or "").startswith(("HTTP 400", "HTTP 422")):
            self._sends_ignore_eos = False
            self.notes.append(f"{self.name} refuses ignore_eos: its answers may end earlier")
            answer = await self.ask(hello)
        if answer.failed:
            raise TargetError(f"{self.name} at {self._base} gives no answer: {answer.error or 'no text'}")

    async def close(self) -> None:
        """Nothing to end."""

    async def ask(self, call: Call, mark: Mark | None = None) -> Answer:
        """See Target.ask."""
        body = json.dumps(self._body(call)).encode()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._request_s):
                url = f"{self._base}/chat/completions"
                received = await sse.exchange("POST", url, body, self._headers, mark)
            return _read(began, time.perf_counter(), received)
        except TimeoutError:
            return failed_answer(began, time.perf_counter(), f"no end after {self._request_s:g} s")
        except (OSError, ValueError, IndexError) as error:
            return failed_answer(began, time.perf_counter(), f"{type(error).__name__}: {error}")
        finally:
            if mark is not None:
                mark.reached.set()

    def _body(self, call: Call) -> Json:
        body: Json = {
            "model": self.model,
            "messages": list(call.messages),
            "max_tokens": call.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if call.ignore_eos and self._sends_ignore_eos:
            body["ignore_eos"] = True
        if call.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": call.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if call.tools:
            body["tools"] = list(call.tools)
        return body

    async def _first_model(self) -> str:
        try:
            async with asyncio.timeout(self._request_s):
                received = await sse.exchange("GET", f"{self._base}/models", headers=self._headers)
            status, _, parts = received.split()
            if status != 200:
                raise TargetError(f"{self.name}: {self._base}/models answers HTTP {status}")
            return str(json.loads(b"".join(part for _, part in parts))["data"][0]["id"])
        except (OSError, TimeoutError) as error:
            raise TargetError(f"{self.name} at {self._base} is not reachable: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise TargetError(f"{self.name}: {self._base}/models lists no model; name one with URL#MODEL") from error


def _read(began: float, ended: float, received: sse.Received) -> Answer:
    """The Answer in a stream. Raises ValueError and ConnectionError for one that is malformed or was cut."""
    status, _, parts = received.split()
    if status != 200:
        text = b"".join(part for _, part in parts).decode("utf-8", "replace").strip()
        return failed_answer(began, ended, f"HTTP {status}: {text[:200]}")
    arrivals: list[float] = []
    texts: list[str] = []
    usage: Json = {}
    reason = None
    for at, data in sse.sse_data(parts):
        if data == DONE:
            break
        event = json.loads(data)
        if "error" in event:
            return failed_answer(began, ended, f"error in the stream: {str(event['error'])[:200]}")
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            reason = choice.get("finish_reason") or reason
            if (shown := _text_of(choice.get("delta") or {})) is not None:
                arrivals.append(at)
                texts.append(shown)
    if reason is None:
        return failed_answer(began, ended, "the stream ended without a finish_reason")
    return Answer(
        began,
        ended,
        tuple(arrivals),
        "".join(texts),
        num_prompt=int(usage.get("prompt_tokens") or 0),
        num_cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        num_output=int(usage.get("completion_tokens") or len(arrivals)),
        estimated=not usage.get("completion_tokens"),
    )


def _text_of(delta: dict[str, Any]) -> str | None:
    """What a delta shows: its text, or none for thinking and tool calls. None: nothing at all."""
    shows = any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls"))
    return str(delta.get("content") or "") if shows else None
