"""Ollama's API: generate, chat, embeddings, and the models on disk. Streams are lines of JSON."""

from __future__ import annotations

from localllm.daemon.dialect import Dialect
from localllm.daemon.ollama import making, models, routes
from localllm.daemon.ollama.shapes import Error
from localllm.daemon.ollama.values import error_body

DIALECT = Dialect(
    "ollama",
    "/api/",
    (*routes.ENDPOINTS, *models.ENDPOINTS, *making.ENDPOINTS),
    error_body,
    error_type=Error,
)

__all__ = ["DIALECT"]
