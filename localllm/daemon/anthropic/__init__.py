"""Anthropic's API: messages and their tokens counted. `requests` and `blocks` translate, `routes` answers."""

from __future__ import annotations

from localllm.daemon.anthropic.routes import DIALECT

__all__ = ["DIALECT"]
