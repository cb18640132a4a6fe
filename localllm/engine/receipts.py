"""Receipts: what an answer was made from, as digests. Owns what goes into one; reads no files but llama.cpp's own."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.api import Receipt
from localllm.binding import library_digest
from localllm.engine.frames import LoadSpec
from localllm.engine.job import Job

_LOAD_FACTS = (
    "num_ctx",
    "num_batch",
    "num_ubatch",
    "num_threads",
    "kv_layout",
    "kv_type_k",
    "kv_type_v",
    "flash_attn",
    "num_gpu_layers",
)


@dataclass(frozen=True, slots=True)
class ReceiptMaker:
    """Makes the receipts of a loaded model: `model` stands for its weights, `template` is its template's source."""

    model: str
    template: str
    load: dict[str, Any]

    def __call__(self, job: Job, outputs: Sequence[list[int]]) -> Receipt:
        """The receipt of a job whose answers are `outputs`, in tokens."""
        return Receipt(
            model=self.model,
            template=hashlib.sha256(self.template.encode()).hexdigest(),
            prompt_tokens=_digest(job.tokens),
            output_tokens=tuple(map(_digest, outputs)),
            build=library_digest(),
            load=self.load | ({"adapters": job.adapters.key} if job.adapters.key else {}),
            sampling=job.sampling,
            deterministic=job.deterministic,
        )


def load_facts(spec: LoadSpec, device: str) -> dict[str, Any]:
    """What of a load can change the bits of an answer."""
    return {name: getattr(spec, name) for name in _LOAD_FACTS} | {"device": device}


def _digest(tokens: Iterable[int]) -> str:
    packed = b"".join(struct.pack("<i", token) for token in tokens)
    return hashlib.sha256(packed).hexdigest()
