"""localllm: run open language models on your own machine.

    import localllm

    print(localllm.chat("smollm2:135m", "Why is the sky blue?"))

Names resolve on first use, so that importing this costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from localllm.api import *  # noqa: F403
    from localllm.client import Client as Client
    from localllm.config import Settings as Settings
    from localllm.errors import *  # noqa: F403
    from localllm.library import Answer as Answer
    from localllm.library import achat as achat
    from localllm.library import aembed as aembed
    from localllm.library import arerank as arerank
    from localllm.library import astream_chat as astream_chat
    from localllm.library import chat as chat
    from localllm.library import embed as embed
    from localllm.library import rerank as rerank
    from localllm.library import stream_chat as stream_chat
    from localllm.name import ModelName as ModelName
    from localllm.service import Service as Service

_HOMES = {
    "localllm.api": (
        "Backend ChatRequest Choice CompletionRequest EmbedRequest Embeddings Event Finished Gbnf JsonObject JsonSchema"
        " Lark LoadOptions LoadedModel Message ModelInfo Notice Progress Ranked Ranking ReasoningDelta Regex"
        " RerankRequest SamplingParams TextDelta Timings TokenLogprob ToolCall ToolCallDelta ToolCallEvent ToolChoice"
        " ToolSpec Usage"
    ),
    "localllm.client": "Client",
    "localllm.config": "Settings",
    "localllm.errors": (
        "AccessDeniedError AdapterError ConfigError ContextLengthError CorruptModelError DigestMismatchError"
        " DaemonError DaemonUnreachableError DiskFullError DownloadError DraftModelError EngineCrashedError EngineError"
        " EngineLoadError GGUFError"
        " InvalidRequestError LocalLLMError ModelCrashingError ModelInUseError ModelNameError ModelNotFoundError"
        " OfflineError OutOfMemoryError QueueFullError StoreError TemplateError UsageError"
    ),
    "localllm.library": "Answer achat aembed arerank astream_chat chat embed rerank stream_chat",
    "localllm.name": "ModelName",
    "localllm.service": "Service",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted([*_HOME_OF, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'localllm' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
