"""Choosing the files of a model among those of a hub's repository: by name, by quantization, or the usual one.

Pure: a listing in, a choice out. A split GGUF is one choice; projectors and calibration data are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from localllm.errors import DownloadError, ModelNotFoundError
from localllm.name import ModelName

# What to take when nobody says: small enough for most machines and close to the full model, then the nearest to that.
DEFAULT_ORDER = (
    "Q4_K_M", "UD-Q4_K_XL", "MXFP4", "MXFP4_MOE", "Q4_K_S", "Q4_K_L", "IQ4_NL", "IQ4_XS", "Q4_0", "Q4_1", "Q4",
    "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "BF16", "F16", "F32",
)  # fmt: skip
_PROJECTOR_ORDER = ("F16", "BF16", "Q8_0", "F32")

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<total>[0-9]{5})\.gguf", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:\A|[-._ ])((?:UD-|I1-)?(?:(?:I?Q|TQ)[1-8](?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?=\Z|[-._ ])"
)
_NO_WEIGHTS = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_MAX_SHOWN = 24


class HubFile(msgspec.Struct, frozen=True):
    """One file of a repository. `sha256`: 64 hex digits, None where the hub does not say."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One model of a repository: its files in order, and the quantization its name tells."""

    stem: str
    quant: str | None
    files: tuple[HubFile, ...]


def choose(files: Sequence[HubFile], name: ModelName) -> Choice:
    """The model that `name` (of a hub) means. Raises ModelNotFoundError that says what there is."""
    choices = _choices(files)
    if not choices:
        hint = "localllm runs GGUF files; look for a repository with GGUF in its name"
        raise ModelNotFoundError(f"{name.repo} has no GGUF file", hint=hint, name=str(name))
    if name.file is not None:
        found = [c for c in choices if any(file.path == name.file for file in c.files)]
        found = found or [c for c in choices if any(file.path.rpartition("/")[2] == name.file for file in c.files)]
        what = name.file
    elif name.tag is not None:
        found = _of_quant(choices, name.tag)
        what = name.tag
    else:
        found = _usual(choices)
        what = "model of a usual quantization"
    if not found:
        raise ModelNotFoundError(f"{name.repo} has no {what}", hint=_offer(name, choices), name=str(name))
    best = min(found, key=lambda c: (c.files[0].path.count("/"), len(c.stem), c.stem))
    _check_complete(best)
    return best


def find_projector(files: Sequence[HubFile]) -> HubFile | None:
    """The vision projector of a repository, in the form most can run."""
    found = [file for file in files if "mmproj" in file.path.lower() and file.path.lower().endswith(".gguf")]
    rank = {quant: n for n, quant in enumerate(_PROJECTOR_ORDER)}
    return min(found, key=lambda f: (rank.get(quant_of(f.path) or "", 9), len(f.path), f.path), default=None)


def quant_of(path: str) -> str | None:
    """The quantization that a file's name, or else its folder's, tells: Q4_K_M, UD-Q2_K_XL, F16."""
    folder, _, filename = path.upper().rpartition("/")
    for text in (filename.removesuffix(".GGUF"), folder.rpartition("/")[2]):
        labels = _LABEL.findall(text)
        if labels:
            return str(labels[-1]).replace("FP16", "F16").replace("FP32", "F32")
    return None


def _choices(files: Sequence[HubFile]) -> list[Choice]:
    groups: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda f: f.path):
        if not file.path.lower().endswith(".gguf") or _NO_WEIGHTS.search(file.path.rpartition("/")[2]):
            continue
        found = _SPLIT.fullmatch(file.path)
        groups.setdefault(f"{found['stem']}/{found['total']}" if found else file.path, []).append(file)
    choices = []
    for group in groups.values():
        found = _SPLIT.fullmatch(group[0].path)
        stem = found["stem"] if found else group[0].path[: -len(".gguf")]
        choices.append(Choice(stem, quant_of(stem), tuple(group)))
    return choices


def _of_quant(choices: list[Choice], tag: str) -> list[Choice]:
    tag = tag.upper().replace("FP16", "F16").replace("FP32", "F32")
    exact = [c for c in choices if c.quant == tag]
    near = [c for c in choices if c.quant is not None and re.sub(r"\A(UD|I1)-", "", c.quant) == tag]
    ends = [c for c in choices if re.search(rf"[-._/]{re.escape(tag)}\Z", c.stem.upper())]
    return exact or near or ends


def _usual(choices: list[Choice]) -> list[Choice]:
    for quant in DEFAULT_ORDER:
        found = [c for c in choices if c.quant == quant]
        if found:
            return found
    return choices if len(choices) == 1 else []


def _offer(name: ModelName, choices: list[Choice]) -> str:
    quants = sorted({c.quant for c in choices if c.quant is not None})
    if quants and name.file is None:
        return f"there are: {', '.join(quants[:_MAX_SHOWN])}; such as {name.source}:{name.repo}:{quants[0]}"
    stems = [c.files[0].path for c in choices]
    return f"there are: {', '.join(stems[:_MAX_SHOWN])}"


def _check_complete(choice: Choice) -> None:
    found = _SPLIT.fullmatch(choice.files[0].path)
    if found is None:
        return
    total = int(found["total"])
    if [int(m["number"]) for f in choice.files if (m := _SPLIT.fullmatch(f.path))] != list(range(1, total + 1)):
        raise DownloadError(f"{choice.stem} is {total} files, but its repository has only {len(choice.files)} of them")
