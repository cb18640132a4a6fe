"""OpenAI's responses: answers that are kept, continued, run in the background and streamed again."""

from __future__ import annotations

from localllm.daemon.openai.responses.routes import ENDPOINTS

__all__ = ["ENDPOINTS"]
