"""OpenAI's API: chat completions, completions, models. `requests` and `answers` translate, `routes` answers."""

from __future__ import annotations

from localllm.daemon.openai.routes import DIALECT

__all__ = ["DIALECT"]
