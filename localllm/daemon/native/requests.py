"""Bodies of the native API: the requests of `localllm.api` as JSON, checked as those of a client, not of a caller."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from localllm.api import (
    Adapter,
    ChatRequest,
    CompletionRequest,
    Control,
    EmbedRequest,
    GenerationRequest,
    JsonSchema,
    RerankRequest,
    SamplingParams,
)
from localllm.daemon.body import check_free_form
from localllm.daemon.dialect import Call
from localllm.errors import AdapterError, InvalidRequestError

MAX_MESSAGES = 4096
MAX_TOOLS = 512
MAX_INPUTS = 2048
_MAX_TOKENS = 1 << 20

R = TypeVar("R", ChatRequest, CompletionRequest, EmbedRequest, RerankRequest)
TokenIds = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=_MAX_TOKENS)]
ModelText = Annotated[str, Meta(min_length=1, max_length=512)]


class TokenizeBody(msgspec.Struct, frozen=True):
    """A text to be cut into tokens. With `parse_special` control tokens written out are taken as such."""

    text: str
    model: str | None = None
    parse_special: bool = False


class DetokenizeBody(msgspec.Struct, frozen=True):
    """Token ids to be turned into text."""

    tokens: TokenIds
    model: str | None = None


class ControlBody(msgspec.Struct, frozen=True):
    """What a running request, by the id its answer has, is told to do."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    control: Control


class LoadBody(msgspec.Struct, frozen=True):
    """A model to be brought into memory; the rest as in Backend.load."""

    model: ModelText
    keep_alive_s: float | None = None
    pin: bool | None = None
    num_ctx: int | None = None


class UnloadBody(msgspec.Struct, frozen=True):
    """A model to be taken out of memory."""

    model: ModelText


class PullBody(msgspec.Struct, frozen=True):
    """A model to be brought into the store."""

    model: ModelText


class ModelBody(msgspec.Struct, frozen=True):
    """A model by its name."""

    model: ModelText


class DetailsBody(msgspec.Struct, frozen=True):
    """A model by its name; with `tensors` each of them is told."""

    model: ModelText
    tensors: bool = False


class CopyBody(msgspec.Struct, frozen=True):
    """A second name for a model."""

    source: ModelText
    target: ModelText


class InfillBody(msgspec.Struct, frozen=True):
    """A text with a gap, to be filled in."""

    prefix: str
    suffix: str
    model: str | None = None
    sampling: SamplingParams = SamplingParams()
    keep_alive_s: float | None = None


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
B = TypeVar("B")


async def read(call: Call, kind: type[B]) -> B:
    """The body as a value of `kind`. Raises as Bodies.read_json does."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    value: B = await call.daemon.bodies.read_json(call.request, decoder)
    return value


async def read_request(call: Call, kind: type[R]) -> R:
    """A request of `localllm.api`, the default model filled in. Raises for what a client may not ask for."""
    request = await read(call, kind)
    if not request.model:
        request = msgspec.structs.replace(request, model=call.daemon.default_model)
    match request:
        case ChatRequest():
            _check_chat(request)
        case EmbedRequest(_, inputs):
            _check_count(len(inputs), MAX_INPUTS, "inputs")
        case RerankRequest(_, _, documents):
            _check_count(len(documents), MAX_INPUTS, "documents")
    if isinstance(request, GenerationRequest):
        _check_generation(request, any_file=call.daemon.any_file)
    return request


def _check_chat(request: ChatRequest) -> None:
    _check_count(len(request.messages), MAX_MESSAGES, "messages")
    _check_count(len(request.tools), MAX_TOOLS, "tools")
    for number, tool in enumerate(request.tools):
        check_free_form(tool.parameters, f"tools[{number}].parameters")
    check_free_form(request.template_args, "template_args")
    if "chat_template" in request.template_args:
        raise InvalidRequestError("the chat template is the model's own", param="template_args.chat_template")


def _check_generation(request: GenerationRequest, *, any_file: bool) -> None:
    if isinstance(request.constraint, JsonSchema):
        check_free_form(request.constraint.schema, "constraint.schema")
    if request.priority > 0:
        hint = "a client may only stand back, with a priority below 0"
        raise InvalidRequestError(f"priority is {request.priority}", hint=hint, param="priority")
    for adapter in request.adapters:
        if not any_file and not _is_plain(adapter):
            hint = "clients name adapters of the adapters' folder, not files"
            raise AdapterError(f"no adapter {adapter.path}", hint=hint)


def _is_plain(adapter: Adapter) -> bool:
    """Whether an adapter is named as one of the folder's, and not by a path."""
    path = adapter.path
    return path.replace("-", "").replace("_", "").replace(".", "").isalnum() and not path.lower().endswith(".gguf")


def _check_count(count: int, most: int, param: str) -> None:
    if count > most:
        raise InvalidRequestError(f"{count} {param}", hint=f"at most {most}", param=param)
