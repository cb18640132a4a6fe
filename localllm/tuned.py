"""What `localllm tune` found, on disk: one small JSON file for each model and machine, written whole or not at all.

Owns the files' places and format, and which of them hold for a load. A file from another machine, build or device is
never used.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from localllm import paths
from localllm.api import LoadOptions, Notice
from localllm.machine import Machine, this_machine
from localllm.store.files import os_errors, write_atomic
from localllm.store.manifest import Manifest
from localllm.tuning import Outcome

logger = logging.getLogger(__name__)

SCHEMA = 1

# Choices that belong together: where a caller sets one of a group, none of it is taken from a file.
GROUPS = (
    ("num_threads", "num_threads_batch"),
    ("num_batch", "num_ubatch"),
    ("flash_attn", "kv_type_k", "kv_type_v"),
    ("kv_layout",),
)
# Memory of these grows with the context: they hold up to the context they were measured with.
_BOUND_TO_CTX = ("flash_attn", "num_batch", "num_ubatch", "kv_type_k", "kv_type_v")


class Tuning(msgspec.Struct, frozen=True):
    """One file: what holds for a model on a machine, and how it was found. `num_ctx` is what measured engines had."""

    model: str
    name: str
    machine: Machine
    device: str
    num_ctx: int
    num_slots: int
    outcome: Outcome
    created: str
    schema: int = SCHEMA


def device_of(options: LoadOptions) -> str:
    """Where the layers go, as far as the options say."""
    layers = "" if options.num_gpu_layers is None else f", {options.num_gpu_layers} layers"
    return (options.device or "auto").lower() + layers


def save(tuning: Tuning) -> Path:
    """Write a tuning, in place of the one of the same model and machine. Raises StoreError."""
    folder = _folder(tuning.model)
    target = folder / f"{tuning.machine.id}.json"
    with os_errors("keep what was tuned", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(target, msgspec.json.format(msgspec.json.encode(tuning), indent=2) + b"\n", folder)
    return target


def load(model: str) -> tuple[Tuning | None, list[Tuning]]:
    """The tuning of a model for this machine, and those for others. Files that do not read count as none."""
    folder = _folder(model)
    if not folder.is_dir():
        return None, []
    own, others = None, []
    for path in sorted(folder.glob("*.json")):
        tuning = _read(path)
        if tuning is None:
            continue
        if tuning.machine == this_machine():
            own = tuning
        else:
            others.append(tuning)
    return own, others


def reset(model: str) -> int:
    """Remove everything that was tuned for a model; returns how many files that were."""
    folder = _folder(model)
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    with os_errors("remove what was tuned", folder):
        for path in found:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return len(found)


def fill_in(wanted: LoadOptions, manifest: Manifest, weights: str) -> tuple[LoadOptions, tuple[Notice, ...]]:
    """The options with tuned values where they say nothing; a Notice where a tuning is there but does not hold.

    `weights` names the model's bytes, as `weights_id` does.
    """
    if wanted.tuned is False or not paths.tuned_dir().is_dir():
        return wanted, ()
    own, others = load(weights)
    if own is None:
        if not others:
            return wanted, ()
        return wanted, (_not_used(manifest.name, f"another {others[-1].machine.differs_in(this_machine())}"),)
    if own.device != device_of(wanted):
        return wanted, (_not_used(manifest.name, f"another device ({own.device})"),)
    largest = wanted.num_ctx or manifest.num_ctx_train
    changes: dict[str, int | bool | str] = {}
    chosen = own.outcome.choices.chosen()
    for group in GROUPS:
        if all(getattr(wanted, name) is None for name in group):
            changes |= {name: chosen[name] for name in group if name in chosen}
    if largest is None or largest > own.num_ctx:
        changes = {name: value for name, value in changes.items() if name not in _BOUND_TO_CTX}
    if changes.get("num_batch", 512) < (wanted.num_slots or 0):  # type: ignore[operator]
        changes.pop("num_batch")
    return msgspec.structs.replace(wanted, **changes), ()


def _not_used(name: str, why: str) -> Notice:
    text = f"what was tuned for {name} is not used: it was measured with {why}; `localllm tune {name}` measures again"
    return Notice("tuning_not_used", text, {"reason": why})


def _folder(model: str) -> Path:
    return paths.tuned_dir() / model


def _read(path: Path) -> Tuning | None:
    try:
        tuning = msgspec.json.decode(path.read_bytes(), type=Tuning)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        logger.warning("%s does not read and is not used: %s", path, exc)
        return None
    return tuning if tuning.schema == SCHEMA else None
