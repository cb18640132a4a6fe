"""The native dialect: which routes it has."""

from __future__ import annotations

from localllm.daemon.dialect import Dialect
from localllm.daemon.native import blobs, generate, info, inspect, keeping, models
from localllm.daemon.native.shapes import Error
from localllm.daemon.native.values import error_body

DIALECT = Dialect(
    "native",
    "/api/localllm/",
    (
        *info.ENDPOINTS,
        *models.ENDPOINTS,
        *keeping.ENDPOINTS,
        *blobs.endpoints("/api/localllm/"),
        *generate.ENDPOINTS,
        *inspect.ENDPOINTS,
    ),
    error_body,
    error_type=Error,
)
