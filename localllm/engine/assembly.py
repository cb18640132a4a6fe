"""Puts an engine together from a LoadSpec, and requests into jobs. Runs in the child."""

from __future__ import annotations

import dataclasses
import functools
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from localllm.api import ChatRequest, CompletionRequest, EmbedRequest, Rendered, RerankRequest
from localllm.binding import C, set_log
from localllm.engine.adapter_set import NO_ADAPTERS, AdapterSet
from localllm.engine.constraint import Grammar
from localllm.engine.constraints import Constraints
from localllm.engine.draft import load_draft_model
from localllm.engine.embedding import TextEncoder, embed_job
from localllm.engine.engine import Engine, Events
from localllm.engine.frames import Answer, EngineInfo, Failed, LoadSpec, pack_error
from localllm.engine.infill import infill_prompt
from localllm.engine.job import Job
from localllm.engine.kv_cache import KVCache
from localllm.engine.llama import LlamaModel, LlamaRunner, accelerators
from localllm.engine.pooled_engine import PooledEngine
from localllm.engine.pooled_work import PooledJob, PooledWork
from localllm.engine.pooling import Pooler
from localllm.engine.receipts import ReceiptMaker, load_facts
from localllm.engine.rerank import answer_tokens, rerank_job
from localllm.engine.scheduler import Scheduler
from localllm.engine.speculate import Speculator
from localllm.engine.state_key import open_disk_tier
from localllm.engine.step_cost import StepCost
from localllm.engine.tool_grammar import binds_calls, compile_calls
from localllm.errors import ContextLengthError, InvalidRequestError, LocalLLMError, TemplateError
from localllm.text.parsers import ReasoningFormat, format_named
from localllm.text.segments import Segment
from localllm.text.template import ChatTemplate, prepare
from localllm.text.tools.choice import offered_tools
from localllm.text.tools.families import parser_of, tool_format_named
from localllm.text.tools.form import ToolFormat

logger = logging.getLogger(__name__)

NAMED_TEMPLATES = ("tool_use", "rerank")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory and the engine that runs it."""

    spec: LoadSpec
    model: LlamaModel
    engine: Engine | PooledEngine
    template: ChatTemplate
    num_ctx: int
    constraints: Constraints
    adapters: AdapterSet = NO_ADAPTERS  # those of every request: held, so that they stay loaded

    @property
    def device(self) -> str:
        """Where the layers are, in ggml's names."""
        return _device(self.spec)

    def info(self, load_s: float) -> EngineInfo:
        """The facts the parent wants to know."""
        return EngineInfo(
            num_ctx=self.num_ctx,
            num_ctx_train=self.model.num_ctx_train,
            num_slots=self.spec.num_slots,
            num_vocab=self.model.vocab.num_tokens,
            num_params=self.model.num_params,
            weight_bytes=self.model.weight_bytes,
            description=self.model.description,
            device=self.device,
            load_s=load_s,
            has_template=self.model.chat_template() is not None,
        )

    def chat_job(self, request_id: int, request: ChatRequest) -> Job:
        """Render and tokenize a conversation. Raises ContextLengthError, TemplateError, InvalidRequestError."""
        prepared = prepare(self.template, self.model.vocab, request, self.num_ctx)
        form = format_named(prepared.reasoning_format)
        tools = tool_format_named(prepared.tool_format) if prepared.tool_format is not None else None
        ends_thinking = form.closing
        if tools is not None and tools.is_harmony and request.tool_choice.mode == "required":
            ends_thinking = "<|end|><|start|>assistant"  # no final message comes
        closing = self._encode([Segment(ends_thinking, True)]) if ends_thinking else []
        thinks = None if request.think is False else form
        bound = tools is not None and binds_calls(request)
        offered = offered_tools(request)
        return dataclasses.replace(
            self._job(request_id, prepared.tokens, request),
            grammar=self._call_grammar(request, tools, thinks, is_open=prepared.starts_in_reasoning)
            if bound and tools is not None
            else self._grammar(request, thinks, is_open=prepared.starts_in_reasoning),
            new_parser=functools.partial(parser_of, form, prepared.starts_in_reasoning, tools, offered, bound),
            notices=tuple(prepared.notices),
            end_of_reasoning=tuple(closing),
        )

    def render(self, request: ChatRequest) -> Rendered:
        """The prompt that a chat would give the model. Raises what `chat_job` raises."""
        prepared = prepare(self.template, self.model.vocab, request, self.num_ctx)
        return Rendered(self.model.vocab.detokenize(prepared.tokens, special=True), tuple(prepared.tokens))

    def completion_job(self, request_id: int, request: CompletionRequest) -> Job:
        """Tokenize raw text. Raises ContextLengthError and InvalidRequestError."""
        vocab = self.model.vocab
        if isinstance(request.prompt, str):
            tokens = self.tokenize(request.prompt, request.parse_special, add_bos=request.suffix is None)
        else:
            tokens = list(request.prompt)
            vocab.check(tokens)
        if request.suffix is not None:
            tokens = infill_prompt(vocab.infill, tokens, self.tokenize(request.suffix, request.parse_special))
        if not tokens:
            raise InvalidRequestError("the prompt is empty", hint="this model needs at least one token to start from")
        if len(tokens) >= self.num_ctx:
            raise ContextLengthError(
                f"the prompt has {len(tokens)} tokens, the context {self.num_ctx}",
                hint="shorten it, or load the model with more context (--ctx)",
                num_prompt_tokens=len(tokens),
                num_ctx=self.num_ctx,
            )
        return dataclasses.replace(self._job(request_id, tokens, request), grammar=self._grammar(request))

    def _grammar(
        self, request: ChatRequest | CompletionRequest, form: ReasoningFormat | None = None, *, is_open: bool = False
    ) -> Grammar | None:
        if request.constraint is None:
            return None
        return self.constraints.compile(request.constraint, form, is_open=is_open)

    def _call_grammar(
        self, request: ChatRequest, tools: ToolFormat, form: ReasoningFormat | None, *, is_open: bool
    ) -> Grammar:
        """The grammar of an answer whose calls are bound."""
        # Harmony's channels are reasoning, text and calls in one, and so its grammar has them all.
        thinks = None if tools.is_harmony else form
        compile = functools.partial(self.constraints.compile, form=thinks, is_open=is_open)
        return compile_calls(compile, request, tools, self.model.vocab, is_open=is_open)

    def _job(self, request_id: int, tokens: list[int], request: ChatRequest | CompletionRequest) -> Job:
        adapters = self.model.adapters.together((*self.spec.adapters, *request.adapters))
        # Copying from earlier text is asked for; who loads a draft model, or one that drafts, has asked for that.
        drafts = bool(self.spec.draft_paths) or self.spec.use_mtp
        speculate = drafts if request.speculate is None else request.speculate
        return dataclasses.replace(_job(request_id, tokens, request), adapters=adapters, speculate=speculate)

    def embed_job(self, request_id: int, request: EmbedRequest) -> PooledJob:
        """Tokenize texts to be embedded. Raises ContextLengthError and InvalidRequestError."""
        return embed_job(request_id, request, self._texts, self.spec, self.model.num_embd)

    def rerank_job(self, request_id: int, request: RerankRequest) -> PooledJob:
        """Tokenize query and documents. Raises ContextLengthError and InvalidRequestError."""
        return rerank_job(request_id, request, self._texts, self.spec, self.model.chat_template("rerank"))

    @property
    def _texts(self) -> TextEncoder:
        return TextEncoder(self.model.vocab, self.template.encoder_for(self.model.vocab), self.num_ctx)

    def tokenize(self, text: str, parse_special: bool, *, add_bos: bool = False) -> list[int]:
        """Token ids of a text, by the same guarded way as prompts: some texts crash llama.cpp's tokenizer."""
        return self._encode([Segment(text, parse_special)], add_bos=add_bos)

    def _encode(self, segments: list[Segment], *, add_bos: bool = False) -> list[int]:
        return self.template.encoder_for(self.model.vocab).encode(segments, add_bos=add_bos)


def _job(request_id: int, tokens: list[int], request: ChatRequest | CompletionRequest) -> Job:
    """What a request asks for, whatever its kind."""
    sampling = request.sampling
    if sampling.seed is None and (request.receipt or request.deterministic):
        # Whoever wants the same answer again has to know it.
        sampling = msgspec.structs.replace(sampling, seed=secrets.randbits(32))
    return Job(
        request_id,
        tokens,
        sampling,
        n=request.n,
        priority=request.priority,
        client=request.client,
        deadline_s=request.deadline_s,
        end_runaway=request.end_runaway,
        reasoning_budget=request.reasoning_budget,
        prompt_logprobs=request.prompt_logprobs,
        deterministic=request.deterministic,
        receipt=request.receipt,
        prompt_usage=request.prompt_usage,
    )


def load(
    spec: LoadSpec,
    log: Callable[[int, str], None],
    on_progress: Callable[[float], bool],
    emit: Callable[[Events], None],
    send: Callable[[Answer], None],
) -> Loaded:
    """Load the model and make its engine; `emit` gets generations' events, `send` answers. Raises EngineLoadError."""
    set_log(log)
    C.llama_backend_init()
    model = LlamaModel(spec, on_progress)
    pooled = _make_pooled(model, spec, send)
    if spec.task != "generate":
        num_ctx = spec.num_ctx if spec.is_causal else min(spec.num_ctx, model.num_ctx_train)
        made = _make_template(model)
        return Loaded(spec, model, PooledEngine(pooled), made, num_ctx, _constraints(model, made))
    with ThreadPoolExecutor(1) as aside:
        # llama.cpp clears the cache meanwhile, in its own threads.
        template = aside.submit(_make_template, model)
        runner = LlamaRunner(model, spec)
        # Now, so that one that cannot be applied is an error of the load.
        adapters = model.adapters.together(spec.adapters)
    cache = KVCache(
        spec.num_slots,
        spec.num_cells,
        spec.kv_layout,
        kind=model.kind,
        turn_tokens=model.turn_tokens(),
        host_tokens=spec.host_tokens,
        cost=runner.state_cost(),
        use_disk=spec.prefix_disk_bytes > 0,
        max_cut=runner.max_cut,
    )
    cost = StepCost(spec.num_batch, spec.step_target_us)
    scheduler = Scheduler(cache, cost, num_ctx=spec.num_ctx, num_batch=spec.num_batch)
    receipt = ReceiptMaker(spec.prefix_key, model.chat_template() or "", load_facts(spec, _device(spec)))

    def emit_error(request_id: int, error: LocalLLMError) -> None:
        send(Failed(request_id, pack_error(error)))

    engine = Engine(
        scheduler,
        runner,
        model.vocab,
        emit,
        receipt=receipt,
        pooled=pooled,
        speculator=_make_speculator(spec, model, cache, runner),
        emit_error=emit_error,
    )
    runner.states.disk = open_disk_tier(spec, model, cache, engine.hear)
    constraints = _constraints(model, template.result())
    return Loaded(spec, model, engine, template.result(), scheduler.num_ctx, constraints, adapters)


def _make_speculator(spec: LoadSpec, model: LlamaModel, cache: KVCache, runner: LlamaRunner) -> Speculator | None:
    """What guesses ahead; nothing where wrong guesses could not be cut off again. Raises DraftModelError."""
    drafter = load_draft_model(spec, model) if spec.draft_paths else runner.head
    if spec.max_drafts == 0 or not cache.can_trim:
        return None
    return Speculator(spec.max_drafts, is_split=spec.kv_layout == "streams", drafter=drafter)


def _constraints(model: LlamaModel, template: ChatTemplate) -> Constraints:
    encoder = template.encoder_for(model.vocab)
    return Constraints(model.vocab, lambda segments: encoder.encode(segments, add_bos=False))


def _device(spec: LoadSpec) -> str:
    names = accelerators() if spec.devices is None else list(spec.devices)
    return ", ".join(names) if names and spec.num_gpu_layers != 0 else "CPU"


def _make_pooled(model: LlamaModel, spec: LoadSpec, send: Callable[[Answer], None]) -> PooledWork:
    """What embeds and ranks; its contexts are made when first used."""
    asks = spec.task == "rerank" and spec.pooling != "rank"
    pooler = Pooler(model.handle, spec, answer_tokens(model.vocab) if asks else (0, 0))
    # Beside generations a batch is one more thing that each step waits for.
    return PooledWork(pooler.context, send, target_us=spec.step_target_us // 4)


def _make_template(model: LlamaModel) -> ChatTemplate:
    """The model's chat template, compiled. One that is refused leaves raw completions, so it is no load error."""
    vocab = model.vocab
    bos = vocab.text_of(vocab.bos) if vocab.bos is not None else ""
    eos = vocab.text_of(vocab.eos) if vocab.eos is not None else ""
    named = {name: source for name in NAMED_TEMPLATES if (source := model.chat_template(name)) is not None}
    try:
        template = ChatTemplate(model.chat_template(), bos=bos, eos=eos, named=named)
    except TemplateError as error:
        logger.warning("the model's chat template is not used: %s", error.message)
        template = ChatTemplate(None, bos=bos, eos=eos)
    template.encoder_for(vocab)
    return template
