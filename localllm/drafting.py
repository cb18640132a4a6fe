"""What guessing ahead needs in memory: how many tokens are worth their logits, and what a draft model takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.errors import OutOfMemoryError
from localllm.memory import LoadPlan
from localllm.model_shape import ModelFacts, compute_bytes, kv_bytes_per_token, nextn_kv_bytes_per_token

# With the token that comes anyway these make rows that kernels compute together.
SIZES = (15, 7, 3)

# Of a recurrent state that drafts are to be taken back from, llama.cpp keeps a copy for each.
RECURRENT_DRAFTS = 3

# Every token that may be guessed has its logits kept, in the graph and in the output buffer: this is what all of them
# may take, and what share of the memory that is free after the load.
LOGITS_BYTES = 96 * 2**20
LOGITS_SHARE = 32


# Tokens of one sequence that may have outputs in one batch of a model's own draft layers: those that are read once
# they proved right, and the last.
MTP_OUTPUTS = 4

# A model's own draft layers are loaded where they take so much of the memory that is free after the load, at most.
MTP_SHARE = 2


@dataclass(frozen=True, slots=True)
class DraftFiles:
    """A small model that drafts for another: its files and its shape."""

    paths: tuple[str, ...]
    facts: ModelFacts


def choose_max_drafts(facts: ModelFacts, num_slots: int, left_bytes: int) -> int:
    """How many tokens may be guessed ahead for one sequence in one step; 0 where nothing can be taken back.

    A recurrent state can be where the model's own draft layers are loaded, see `mtp_bytes`, and only then.

    `left_bytes` is what the load leaves free.
    """
    if facts.task != "generate" or (facts.recurrent_bytes and not facts.nextn_bytes):
        return 0
    most = min(LOGITS_BYTES, left_bytes // LOGITS_SHARE)
    found = next((size for size in SIZES if logits_bytes(facts, num_slots, size) <= most), 0)
    return min(found, RECURRENT_DRAFTS) if facts.recurrent_bytes else found


def logits_bytes(facts: ModelFacts, num_slots: int, max_drafts: int) -> int:
    """What the logits of guesses take."""
    return 2 * 4 * num_slots * max_drafts * facts.num_vocab


def draft_bytes(draft: DraftFiles | None, chosen: LoadPlan, left_bytes: int) -> int:
    """What a draft model takes beside the model that `chosen` loads: weights, its own cells, scratch.

    Raises OutOfMemoryError where that is more than the `left_bytes` of the load.
    """
    if draft is None:
        return 0
    per_stream = chosen.num_cells if chosen.kv_layout == "unified" else chosen.num_cells // chosen.num_slots
    scratch = compute_bytes(draft.facts, per_stream, num_batch=chosen.num_batch, num_slots=chosen.num_slots)
    needed = draft.facts.weight_bytes + chosen.num_cells * kv_bytes_per_token(draft.facts) + scratch
    if needed > left_bytes:
        raise OutOfMemoryError(
            f"there is no room for the draft model {draft.facts.name}",
            hint="ask for less context (--ctx), or do without a draft model",
            needed_bytes=needed,
            available_bytes=left_bytes,
        )
    return needed


def mtp_bytes(
    facts: ModelFacts, chosen: LoadPlan, left_bytes: int, kv_type_k: str = "f16", kv_type_v: str = "f16"
) -> int:
    """What a model's own draft layers take beside it: weights, their cells, scratch. 0: it runs none.

    `left_bytes` is what the load leaves free.
    """
    shares_cells = chosen.kv_layout == "unified" and chosen.num_slots > 1
    if not facts.nextn_bytes or (facts.recurrent_bytes and shares_cells):
        # llama.cpp copies a recurrent state within one pool as it was before tokens were taken back.
        return 0
    per_stream = chosen.num_cells if chosen.kv_layout == "unified" else chosen.num_cells // chosen.num_slots
    scratch = compute_bytes(facts, per_stream, num_batch=chosen.num_batch, num_slots=MTP_OUTPUTS * chosen.num_slots)
    cells = chosen.num_cells * nextn_kv_bytes_per_token(facts, kv_type_k, kv_type_v)
    # Hidden states: in the model's output buffer, in the batch it is made of, and there once more.
    hidden = 3 * 4 * chosen.num_batch * facts.num_embd
    states = RECURRENT_DRAFTS * facts.recurrent_bytes * chosen.num_slots
    needed = facts.nextn_bytes + cells + scratch + hidden + states
    return needed if needed <= left_bytes // MTP_SHARE else 0
