"""What a front end asks for."""

from __future__ import annotations

from typing import Any, Literal

from localllm.api.constraints import Constraint, check_constraint
from localllm.api.messages import Message, ToolChoice, ToolSpec
from localllm.api.sampling import SamplingParams
from localllm.api.value import Value
from localllm.errors import InvalidRequestError

Truncate = Literal["error", "oldest"]


class Adapter(Value, frozen=True):
    """A LoRA adapter: a GGUF file, or the name of one in the adapters' folder, applied with `scale`."""

    path: str
    scale: float = 1.0


class LoadOptions(Value, frozen=True):
    """How a model is loaded. None means: chosen for this machine.

    `num_ctx`: tokens of context a request may use. `num_slots`: sequences that run at once (1 to 256).
    `num_batch`: tokens of one step; `num_ubatch`: of one pass through the graph.
    `device`: "cpu", "auto", or a ggml device name such as "CUDA0". `num_gpu_layers` -1: all.
    `kv_layout`: "unified" shares one pool of cells, "streams" gives every sequence its own.
    `kv_type_k`, `kv_type_v`: ggml types of the cache ("f16", "q8_0", "q4_0" and so on); a quantized V needs flash
    attention. `adapters` are applied to every request; `draft_model` names a small model of the same vocabulary.
    `prefix_disk_bytes` bounds the prefixes kept on disk (0: none). `num_threads_batch` computes prompts and steps of
    several sequences (default: `num_threads`). `tuned`: whether what `localllm tune` found fills what is left open.
    """

    num_ctx: int | None = None
    num_slots: int | None = None
    num_batch: int | None = None
    num_ubatch: int | None = None
    num_threads: int | None = None
    device: str | None = None
    num_gpu_layers: int | None = None
    kv_layout: Literal["unified", "streams"] | None = None
    kv_type_k: str | None = None
    kv_type_v: str | None = None
    flash_attn: bool | None = None
    use_mmap: bool = True
    adapters: tuple[Adapter, ...] = ()
    draft_model: str | None = None
    prefix_disk_bytes: int | None = None
    num_threads_batch: int | None = None
    tuned: bool | None = None


class GenerationRequest(Value, frozen=True, kw_only=True):
    """What chats and raw completions have in common.

    `request_id` names the request for `Backend.control`; unnamed ones get a name of their own.
    `constraint` bounds the answer's form; reasoning before it is free. `n` answers share one prefill.
    `adapters` come on top of those the model was loaded with.
    `speculate`: True drafts tokens where that pays, False never, None where a draft model or layers of the model's own
    are loaded; what is chosen is the target model's either way.
    `prompt_logprobs`: alternatives per prompt token (0: only the token's own; None: none).
    `reasoning_budget`: tokens of thinking before the model is made to answer (0: none, None: no bound).
    `deterministic` computes the request in a batch shape of its own, so that a seed gives the same bytes whatever else
    runs; slower. `receipt` asks for a Receipt with the answer, `prompt_usage` for a PromptUsage before it.
    Requests queue by `priority` (higher first), then turn about between `client`s. After `deadline_s` seconds the
    request ends with what it has. `end_runaway` ends an answer that repeats itself for ever.
    `keep_alive_s`: how long the model stays in memory once idle; 0: not at all, negative: for ever, None: as it was.
    """

    request_id: str | None = None
    constraint: Constraint | None = None
    n: int = 1
    adapters: tuple[Adapter, ...] = ()
    speculate: bool | None = None
    prompt_logprobs: int | None = None
    reasoning_budget: int | None = None
    deterministic: bool = False
    receipt: bool = False
    prompt_usage: bool = False
    priority: int = 0
    client: str = ""
    deadline_s: float | None = None
    end_runaway: bool = False
    keep_alive_s: float | None = None


class ChatRequest(GenerationRequest, frozen=True):
    """Messages to be answered by `model`.

    `think`: None leaves reasoning to the model's template, False asks it not to. `truncate="oldest"` drops the oldest
    turns of an over-long conversation and reports it as a Notice; the default is a ContextLengthError.
    `template_args` are extra variables for the chat template.
    Without `parallel_tool_calls` an answer has one call at most.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    think: bool | None = None
    truncate: Truncate = "error"
    template_args: dict[str, Any] = {}


class CompletionRequest(GenerationRequest, frozen=True):
    """Raw text (or token ids) to be continued by `model`; no chat template.

    Special-token text in a `str` prompt is read as ordinary text unless `parse_special` is set. With `suffix` the model
    fills in what stands between the two (FIM): a named error where its vocabulary has no tokens for that.
    """

    model: str
    prompt: str | tuple[int, ...]
    sampling: SamplingParams = SamplingParams()
    parse_special: bool = False
    suffix: str | None = None


MAX_ANSWERS = 64
MAX_CLIENT_CHARS = 256
MAX_PRIORITY = 100


def check_generation(request: GenerationRequest) -> None:
    """Raise InvalidRequestError for the first field out of range that chats and completions share."""
    bounds: dict[str, tuple[float, float]] = {
        "n": (1, MAX_ANSWERS),
        "prompt_logprobs": (0, 20),
        "reasoning_budget": (0, 2**31 - 1),
        "priority": (-MAX_PRIORITY, MAX_PRIORITY),
        "deadline_s": (0.0, 1e9),
    }
    for name, (low, high) in bounds.items():
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            raise InvalidRequestError(
                f"{name} is {value}", hint=f"{name} lies between {low:g} and {high:g}", param=name
            )
    if request.constraint is not None:
        check_constraint(request.constraint)
    if request.deadline_s == 0:
        raise InvalidRequestError("deadline_s is 0", hint="give it some time", param="deadline_s")
    if len(request.client) > MAX_CLIENT_CHARS:
        hint = f"at most {MAX_CLIENT_CHARS} characters"
        raise InvalidRequestError(f"a client name of {len(request.client)} characters", hint=hint, param="client")


class EmbedRequest(Value, frozen=True):
    """Texts (or token ids) to be turned into vectors by `model`, batched.

    Vectors have length 1 unless `normalize` is False. `dimensions` keeps the first ones, for models trained to be cut.
    `truncate` drops the end of an input that is too long, and says so; the default is a ContextLengthError.
    `pooling` overrides the model's own ("mean", "cls", "last"). `keep_alive_s` as in GenerationRequest.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    normalize: bool = True
    dimensions: int | None = None
    truncate: bool = False
    pooling: str | None = None
    keep_alive_s: float | None = None


class RerankRequest(Value, frozen=True):
    """Documents to be ordered by how well they answer `query`. `top_n` None returns all."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    truncate: bool = False
    keep_alive_s: float | None = None


Control = Literal["stop_thinking", "stop", "first"]
