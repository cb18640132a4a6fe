"""The one error of this package."""

from __future__ import annotations

from localllm.errors import LocalLLMError


class ExchangeError(LocalLLMError):
    """A file cannot be read as conversations, or not be written. Nothing was changed. Facts: `path`."""
