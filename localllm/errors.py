"""Every error localllm raises on purpose. Owns the tree and what each class carries; raises nothing itself.

LocalLLMError
├── UsageError                  the request as typed makes no sense            exit 2
│   ├── ConfigError             settings file, environment or flag
│   ├── ModelNameError          a model name that does not parse
│   └── InvalidRequestError     parameters or messages out of range
│       ├── AdapterError        a LoRA adapter that cannot be applied to this model
│       ├── ContextLengthError  the prompt does not fit the context
│       └── TemplateError       the model's chat template failed or was refused
├── ModelNotFoundError          no such model here (or at its source)          exit 1
├── StoreError                  the model store on disk
│   ├── CorruptModelError       bytes do not match their digest
│   ├── DiskFullError           no room; what was written is given back
│   └── ModelInUseError         a running process holds the model
├── GGUFError                   a file that is no sound GGUF
├── DownloadError               no source delivered                            exit 3
│   ├── OfflineError            --offline, and the bytes are not here          exit 1
│   ├── AccessDeniedError       the source wants a token or a licence click    exit 1
│   └── DigestMismatchError     bytes arrived, but not the promised ones
├── OutOfMemoryError            the model does not fit this machine            exit 1
├── DaemonError                 a running daemon refused, or speaks otherwise
│   └── DaemonUnreachableError  no daemon answers                              exit 3
└── EngineError                 the engine child
    ├── EngineLoadError         the model could not be loaded
    │   └── DraftModelError     the draft model does not fit the model
    ├── EngineCrashedError      the child died                                 exit 3
    ├── ModelCrashingError      the child died too often; not tried for now    exit 3
    └── QueueFullError          too many requests wait already                 exit 3
"""

from __future__ import annotations

from typing import Any, ClassVar


class LocalLLMError(Exception):
    """Base of all errors meant for a person: a message, an optional hint, and facts for programs.

    `facts` holds the numbers and names behind the message (JSON-encodable); `exit_code` is the command's exit status.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.facts)


def _rebuild(cls: type[LocalLLMError], message: str, hint: str | None, facts: dict[str, Any]) -> LocalLLMError:
    return cls(message, hint=hint, **facts)


class UsageError(LocalLLMError):
    """What was asked makes no sense as typed."""

    exit_code = 2


class ConfigError(UsageError):
    """A settings file, environment variable or flag has a wrong value."""


class ModelNameError(UsageError):
    """A model name does not parse."""


class InvalidRequestError(UsageError):
    """A parameter or message is out of range; nothing was run."""


class AdapterError(InvalidRequestError):
    """A LoRA adapter cannot be applied to this model. Facts: `path`."""


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit. Facts: `num_prompt_tokens`, `num_ctx`."""


class TemplateError(InvalidRequestError):
    """The model's chat template failed, was refused by the sandbox, or ran out of time."""


class ModelNotFoundError(LocalLLMError):
    """No model of that name is in the store, the catalogue or at the source. Facts: `name`."""


class StoreError(LocalLLMError):
    """The store on disk cannot do what was asked."""


class CorruptModelError(StoreError):
    """Stored bytes do not match their digest. Facts: `name`, `blob`."""


class DiskFullError(StoreError):
    """No room left. Facts: `needed_bytes`, `free_bytes`, `path`."""


class ModelInUseError(StoreError):
    """A running process holds the model. Facts: `name`."""


class GGUFError(LocalLLMError):
    """The file is no sound GGUF. Facts: `path`, `offset` where known."""


class DownloadError(LocalLLMError):
    """No source delivered the bytes. Facts: `tried`, one line a source."""

    exit_code = 3


class OfflineError(DownloadError):
    """The network was forbidden and the bytes are not on this machine."""

    exit_code = 1


class AccessDeniedError(DownloadError):
    """The source wants a token, or its licence accepted, first."""

    exit_code = 1


class DigestMismatchError(DownloadError):
    """The bytes that arrived are not the promised ones; they were deleted."""


class OutOfMemoryError(LocalLLMError):
    """The model does not fit. Facts: `needed_bytes`, `available_bytes`."""


class DaemonError(LocalLLMError):
    """The daemon refused a request by itself (a key is missing), or what answers is none."""


class DaemonUnreachableError(DaemonError):
    """No daemon answers at that address, or it went away."""

    exit_code = 3


class EngineError(LocalLLMError):
    """The engine child could not do its work."""


class EngineLoadError(EngineError):
    """llama.cpp refused the model. The last lines of its log are in the message."""


class DraftModelError(EngineLoadError):
    """The draft model cannot draft for the model: another vocabulary, or a state that cannot be cut back."""


class EngineCrashedError(EngineError):
    """The child died or hung. Facts: `exit_status` or `signal`; `no_memory` where it said that it has none."""

    exit_code = 3


class ModelCrashingError(EngineError):
    """The model's engine died several times lately: it is not started for now. Facts: `name`, `retry_after_s`."""

    exit_code = 3


class QueueFullError(EngineError):
    """The bounded queue is full. Facts: `num_waiting`."""

    exit_code = 3
