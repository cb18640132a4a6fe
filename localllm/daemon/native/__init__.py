"""The daemon's own API: health, metrics, and every method of Backend as `localllm.api` has it, for `localllm.Client`.

Requests and answers are the values of `localllm.api` as JSON; streams carry its events. What other dialects need of it
is here by name.
"""

from __future__ import annotations

from localllm.daemon.native.routes import DIALECT
from localllm.daemon.native.values import error_body, json_reply

__all__ = ["DIALECT", "error_body", "json_reply"]
