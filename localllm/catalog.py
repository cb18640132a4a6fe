"""The catalogue of known models: reads models/*.toml, one file per family.

Owns the shape of an entry and how a name finds it. Never touches the network or the store, and decides nothing about
downloads: a source is a text that `localllm.name` understands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from localllm.api import SamplingParams
from localllm.errors import ConfigError

Capability = Literal["chat", "tools", "thinking", "vision", "embed", "rerank", "fim"]

_QUANT_TAG = re.compile(
    r"(?:(?P<base>.+?)-)?(?P<quant>(?:ud-)?(?:i?q[1-8](?:_[0-9a-z]+)*|bf16|f16|f32|mxfp4(?:_moe)?))"
)
_QUANT_IN_REPO = re.compile(r"[-_.](?:i?q[1-8]_|bf16|f16|mxfp4|qat)", re.IGNORECASE)


class Variant(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model in one quantization.

    `sources` are model names, tried in order; with a `sha256` all of them must yield those bytes. `num_params` is the
    published count, rounded. `sampling` is what the model's authors recommend; an empty one means they say nothing.
    `reasoning` names the format of the thinking text. `projector` holds the sources of the vision part. `evidence` says
    where the sources were seen.
    """

    name: str
    family: str
    title: str
    publisher: str
    sources: tuple[str, ...]
    quant: str
    num_params: int
    num_ctx: int
    licence: str
    capabilities: tuple[Capability, ...]
    licence_url: str | None = None
    aliases: tuple[str, ...] = ()
    sha256: str | None = None
    size_bytes: int | None = None
    sampling: SamplingParams = SamplingParams()
    reasoning: str | None = None
    projector: tuple[str, ...] = ()
    description: str = ""
    evidence: tuple[str, ...] = ()


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[variants]]` table. None (or a missing `sampling`) takes the family's value."""

    tag: str
    sources: tuple[str, ...]
    quant: str
    num_params: int
    evidence: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    description: str = ""
    sha256: str | None = None
    size_bytes: int | None = None
    num_ctx: int | None = None
    licence: str | None = None
    licence_url: str | None = None
    capabilities: tuple[Capability, ...] | None = None
    reasoning: str | None = None
    sampling: SamplingParams | None = None
    projector: tuple[str, ...] = ()


class _Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    family: str
    title: str
    publisher: str
    default: str
    licence: str
    capabilities: tuple[Capability, ...]
    num_ctx: int
    variants: tuple[_Entry, ...]
    aliases: tuple[str, ...] = ()
    licence_url: str | None = None
    description: str = ""
    reasoning: str | None = None
    sampling: SamplingParams = SamplingParams()


class Catalog:
    """The entries of one directory; files are read when first needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._paths = {path.stem: path for path in sorted(directory.glob("*.toml"))}
        self._families: dict[str, dict[str, Variant]] = {}
        self._aliases: dict[str, str] | None = None

    @classmethod
    def load(cls, directory: Path | None = None) -> Catalog:
        """The catalogue in `directory`; without one, the catalogue that comes with localllm."""
        return cls(directory or _own_directory())

    def families(self) -> tuple[str, ...]:
        """Family names, sorted."""
        return tuple(self._paths)

    def all(self) -> tuple[Variant, ...]:
        """Every variant, by family and then in the file's order."""
        return tuple(variant for family in self._paths for variant in _unique(self._tags(family).values()))

    def find(self, name: str) -> Variant | None:
        """The variant called `name`, or None.

        "smollm2" is the family's default, "qwen3:0.6b" the variant of that tag or alias, "qwen3:0.6b-q8_0" the same
        model in another quantization: a listed one, else one that the pull looks for in the same repositories.
        """
        name, _, tag = name.strip().lower().partition(":")
        family = self._family(name)
        if family is None:
            return None
        tags = self._tags(family)
        tag = "" if tag == "latest" else tag
        if tag in tags:
            return tags[tag]
        quant = _QUANT_TAG.fullmatch(tag)
        if quant is None or _QUANT_TAG.fullmatch(quant["base"] or ""):
            return None
        base = tags.get(quant["base"] or "")
        return _requantized(base, quant["quant"].upper()) if base else None

    def suggest(self, name: str, limit: int = 3) -> list[str]:
        """Names near `name` that exist, the nearest first, for a hint."""
        family, _, tag = name.strip().lower().partition(":")
        family = self._family(family) or family
        if family in self._paths:
            names = [variant.name for variant in _unique(self._tags(family).values())]
            near = difflib.get_close_matches(f"{family}:{tag}", names, n=limit, cutoff=0.0)
            return near or names[:limit]
        near = difflib.get_close_matches(family, self._paths, n=limit, cutoff=0.6)
        near += [stem for stem in self._paths if family and stem.startswith(family) and stem not in near]
        exact = [variant.name for stem in near if tag and (variant := self._tags(stem).get(tag))]
        return (exact + [stem for stem in near if not any(e.startswith(f"{stem}:") for e in exact)])[:limit]

    def search(self, text: str) -> list[Variant]:
        """Variants with every word of `text` in their name, title, publisher, licence, description or capabilities."""
        words = text.lower().split()
        return [variant for variant in self.all() if all(word in _haystack(variant) for word in words)]

    def _family(self, name: str) -> str | None:
        """The family of that name or alias. A family's own name costs no look into other files."""
        if name in self._paths or not name:
            return name or None
        if self._aliases is None:
            pairs = ((stem, _decode(path)) for stem, path in self._paths.items())
            self._aliases = {alias: stem for stem, family in pairs for alias in family.aliases}
        return self._aliases.get(name)

    def _tags(self, family: str) -> dict[str, Variant]:
        """Variants of a family by tag and alias; "" is the default."""
        if family not in self._families:
            self._families[family] = _read(self._paths[family])
        return self._families[family]


def _own_directory() -> Path:
    """`localllm/models` of an installed wheel, else `models` of the checkout."""
    installed = Path(__file__).parent / "models"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "models"


def _decode(path: Path) -> _Family:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_Family)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the catalogue file {path} cannot be read: {exc}", path=str(path)) from exc


def _read(path: Path) -> dict[str, Variant]:
    family = _decode(path)
    tags: dict[str, Variant] = {}
    for entry in family.variants:
        variant = _variant(family, entry)
        for tag in (entry.tag, *entry.aliases):
            if tag in tags:
                raise ConfigError(f"{path} names {family.family}:{tag} twice", path=str(path))
            tags[tag] = variant
    if family.family != path.stem or family.default not in tags:
        hint = "`family` is the file's name, `default` the tag of one of its variants"
        raise ConfigError(f"the catalogue file {path} does not fit together", hint=hint, path=str(path))
    return {"": tags[family.default], **tags}


def _variant(family: _Family, entry: _Entry) -> Variant:
    own_licence = entry.licence is not None
    return Variant(
        name=f"{family.family}:{entry.tag}",
        family=family.family,
        title=family.title,
        publisher=family.publisher,
        sources=entry.sources,
        quant=entry.quant,
        num_params=entry.num_params,
        num_ctx=entry.num_ctx or family.num_ctx,
        licence=entry.licence or family.licence,
        licence_url=entry.licence_url if own_licence else family.licence_url,
        capabilities=family.capabilities if entry.capabilities is None else entry.capabilities,
        aliases=tuple(f"{family.family}:{alias}" for alias in entry.aliases),
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
        sampling=family.sampling if entry.sampling is None else entry.sampling,
        reasoning=(family.reasoning if entry.reasoning is None else entry.reasoning) or None,
        projector=entry.projector,
        description="; ".join(text for text in (family.description, entry.description) if text),
        evidence=entry.evidence,
    )


def _requantized(base: Variant, quant: str) -> Variant | None:
    """`base` in another quantization of the same repositories, or None where no repository can hold it."""
    if quant == base.quant.upper():
        return base
    sources = []
    for source in base.sources:
        hub, _, rest = source.partition(":")
        repo = rest.partition(":")[0].partition("@")[0]
        if hub in ("hf", "ms") and not _QUANT_IN_REPO.search(repo):
            sources.append(f"{hub}:{repo}:{quant}")
    if not sources:
        return None
    name = f"{base.name}-{quant.lower()}"
    return msgspec.structs.replace(
        base, name=name, aliases=(), sources=tuple(dict.fromkeys(sources)), quant=quant, sha256=None, size_bytes=None
    )


def _unique(variants: Iterable[Variant]) -> Iterator[Variant]:
    """Each variant once. The default comes first in the mapping, but keeps its place in the file's order."""
    seen: dict[str, Variant] = {}
    for variant in list(variants)[1:]:
        seen.setdefault(variant.name, variant)
    return iter(seen.values())


def _haystack(variant: Variant) -> str:
    words = (variant.name, *variant.aliases, variant.title, variant.publisher, variant.licence, variant.description)
    return " ".join((*words, *variant.capabilities)).lower()
