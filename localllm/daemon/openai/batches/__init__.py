"""OpenAI's files and batches: many requests in a file, run behind everybody who waits for an answer."""

from __future__ import annotations

from localllm.daemon.openai.batches.routes import ENDPOINTS, start

__all__ = ["ENDPOINTS", "start"]
