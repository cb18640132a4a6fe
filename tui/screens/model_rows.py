"""Models as rows of a list: what is known of each, which match, and how fit and speed are put in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from localllm.api import LoadedModel, ModelInfo
from localllm.api.finder import Fit, Offer, Speed
from localllm.terminal_text import count, cut, safe_line, size, width

NOT_MEASURED = (
    "not known: nothing was measured on this machine yet. Chat with an installed model, or run `localllm tune`."
)
_BASES = {"header": "", "size": ", by its published size", "parameters": ", by its number of parameters"}
_GAP = "  "
_NAME_COLUMNS = 18  # a name with less than this says too little


class ModelEntry(NamedTuple):
    """A model: as the catalogue has it, as it is installed, as it is in memory. Each may be missing."""

    name: str
    offer: Offer | None = None
    info: ModelInfo | None = None
    loaded: LoadedModel | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its bytes are here."""
        return self.info is not None

    @property
    def num_params(self) -> int | None:
        """As the file says, else as published."""
        known = self.info.num_params if self.info is not None else None
        return known or (self.offer.num_params if self.offer is not None else None)

    @property
    def quant(self) -> str:
        """Its quantization; empty where nobody says."""
        known = self.info.quant if self.info is not None else None
        return known or (self.offer.quant if self.offer is not None else None) or ""

    @property
    def size_bytes(self) -> int | None:
        """Bytes on disk, or to be fetched."""
        if self.info is not None:
            return self.info.size_bytes
        return self.offer.size_bytes if self.offer is not None else None

    @property
    def size_words(self) -> str:
        """Its size; with a tilde where it only follows from its parameters, empty where nobody knows."""
        if self.size_bytes:
            return size(self.size_bytes)
        about = self.offer.about_bytes if self.offer is not None else None
        return f"~{size(about)}" if about else ""

    @property
    def licence(self) -> str:
        """The licence's name."""
        known = self.info.licence if self.info is not None else None
        return known or (self.offer.licence if self.offer is not None else None) or ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do."""
        known = self.info.capabilities if self.info is not None else ()
        return known or (self.offer.capabilities if self.offer is not None else ())

    @property
    def fit(self) -> Fit | None:
        """Whether it fits."""
        return self.offer.fit if self.offer is not None else None

    @property
    def speed(self) -> Speed | None:
        """How fast it is, or would be."""
        return self.offer.speed if self.offer is not None else None


def entries_of(
    infos: Iterable[ModelInfo], offers: Iterable[Offer], loaded: Iterable[LoadedModel]
) -> tuple[ModelEntry, ...]:
    """The installed models by name, then what else the catalogue has."""
    offered = {offer.name: offer for offer in offers}
    in_memory = {model.name: model for model in loaded}
    here = {info.name: info for info in infos}
    installed = [ModelEntry(name, offered.get(name), here[name], in_memory.get(name)) for name in sorted(here)]
    names = {entry.name for entry in installed}
    return (*installed, *(ModelEntry(name, offer) for name, offer in offered.items() if name not in names))


def matching(entries: Iterable[ModelEntry], query: str) -> tuple[ModelEntry, ...]:
    """Those that have every word of `query` somewhere in what is known of them."""
    words = query.lower().split()
    return tuple(entry for entry in entries if all(word in _haystack(entry) for word in words))


def _haystack(entry: ModelEntry) -> str:
    offer = entry.offer
    more = (offer.title, offer.publisher, offer.description, *offer.aliases) if offer is not None else ()
    return " ".join((entry.name, entry.quant, entry.licence, *entry.capabilities, *more)).lower()


class Cell(NamedTuple):
    """A piece of a row and its tone: "", "accent", "muted", "warning"."""

    text: str
    tone: str = ""


class _Column(NamedTuple):
    columns: int
    rank: int  # what goes first where there is little room has the lowest
    is_number: bool = False


_COLUMNS = (_Column(6, 2, True), _Column(9, 1), _Column(8, 4, True), _Column(11, 3, True), _Column(12, 5))


def row(entry: ModelEntry, columns: int, *, is_pulling: bool = False, plain: bool = False) -> list[Cell]:
    """A line of the list, `columns` wide: a mark, the name, and as many facts as there is room for."""
    mark = _mark(entry, is_pulling=is_pulling, plain=plain)
    facts = (
        Cell(count(entry.num_params), "muted"),
        Cell(safe_line(entry.quant), "muted"),
        Cell(entry.size_words, "muted"),
        speed_cell(entry.speed),
        _memory_cell(entry.loaded) if entry.loaded is not None else fit_cell(entry.fit),
    )
    kept = _kept(columns - width(mark.text) - _NAME_COLUMNS)
    taken = sum(_COLUMNS[index].columns + len(_GAP) for index in kept)
    room = max(1, columns - width(mark.text) - taken)
    name = cut(safe_line(entry.name), room)
    cells = [mark, Cell(name + " " * (room - width(name)))]
    for index in kept:
        text, column = cut(facts[index].text, _COLUMNS[index].columns), _COLUMNS[index]
        pad = " " * (column.columns - width(text))
        cells.append(Cell(_GAP + (pad + text if column.is_number else text + pad), facts[index].tone))
    return cells


def _mark(entry: ModelEntry, *, is_pulling: bool, plain: bool) -> Cell:
    if is_pulling:
        return Cell("pulling " if plain else "↓ ", "accent")
    if entry.loaded is not None:
        return Cell("loaded " if plain else "● ", "accent")
    return Cell("" if plain else "  ", "muted")


def _kept(room: int) -> list[int]:
    """Which facts there is room for beside the name, in their order."""
    kept = list(range(len(_COLUMNS)))
    while kept and sum(_COLUMNS[index].columns + len(_GAP) for index in kept) > room:
        kept.remove(min(kept, key=lambda index: _COLUMNS[index].rank))
    return kept


def _memory_cell(loaded: LoadedModel) -> Cell:
    if loaded.state == "loading":
        return Cell("loading", "accent")
    taken = sum(loaded.bytes_by_device.values())
    return Cell(f"in {size(taken)}" if taken else "in memory", "accent")


def fit_cell(fit: Fit | None) -> Cell:
    """Whether it fits, in a word or two."""
    if fit is None:
        return Cell("")
    match fit.verdict:
        case "fits":
            return Cell("fits", "muted")
        case "reduced":
            return Cell(f"fits, {_tokens(fit.num_ctx)}", "muted")
        case "paged":
            return Cell("over memory", "warning")
        case _:
            return Cell("too large", "warning")


def speed_cell(speed: Speed | None) -> Cell:
    """A speed; one that was not measured with this very model has a tilde."""
    if speed is None:
        return Cell("")
    return Cell(f"{'~' if speed.basis == 'scaled' else ''}{figure(speed.tokens_per_s)} tok/s", "muted")


def fit_words(fit: Fit | None) -> str:
    """Whether it fits, with the bytes on both sides and where they are known from."""
    if fit is None:
        return "not known"
    there = f"{size(fit.needed_bytes)} of {size(fit.available_bytes)} on {safe_line(fit.device)}{_BASES[fit.basis]}"
    match fit.verdict:
        case "fits":
            return f"yes: {there}"
        case "reduced":
            return f"with {fit.num_ctx:,} of {fit.num_ctx_train:,} tokens of context: {there}"
        case "paged":
            return f"larger than the memory, so read from disk as it answers, slowly: {there}"
        case _:
            return f"no: {there}"


def speed_words(speed: Speed | None, fit: Fit | None) -> str:
    """How fast, and by what measurement; or how to get one."""
    if speed is None:
        if fit is not None and fit.verdict in ("paged", "too large"):
            return "not known for what does not stay in memory"
        return NOT_MEASURED
    how = "by `localllm tune`" if speed.source == "tune" else "in answers"
    if speed.basis == "measured":
        return f"{figure(speed.tokens_per_s)} tok/s, measured on this machine {how}"
    of = safe_line(speed.model)
    return f"about {figure(speed.tokens_per_s)} tok/s, from {of}, measured on this machine {how}"


def figure(value: float) -> str:
    """A figure as exact as it is: three digits at most."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def facts(entry: ModelEntry) -> Sequence[tuple[str, str]]:
    """What is known of a model, a label and its text each; what is not known is left out."""
    info, offer, loaded = entry.info, entry.offer, entry.loaded
    num_ctx = (info.num_ctx_train if info is not None else None) or (offer.num_ctx if offer is not None else None)
    rows = [
        ("by", offer.publisher if offer is not None else ""),
        ("parameters", count(entry.num_params)),
        ("quant", entry.quant),
        ("size", entry.size_words or "not known before it is fetched"),
        ("context", f"{num_ctx:,} tokens" if num_ctx else ""),
        ("can", ", ".join(entry.capabilities)),
        ("licence", entry.licence),
        ("fits", fit_words(entry.fit) if entry.fit is not None else ""),
        ("speed", speed_words(entry.speed, entry.fit) if offer is not None else ""),
        ("in memory", _loaded_words(loaded) if loaded is not None else ""),
        ("from", info.origin if info is not None else ""),
        ("digest", info.digest if info is not None else ""),
    ]
    return [(label, safe_line(text)) for label, text in rows if text]


def _loaded_words(loaded: LoadedModel) -> str:
    where = ", ".join(f"{size(taken)} on {device}" for device, taken in loaded.bytes_by_device.items())
    how = [where or loaded.device, f"{loaded.num_ctx:,} tokens of context", f"loaded in {loaded.load_s:.1f} s"]
    if loaded.pinned:
        how.append("pinned")
    elif loaded.expires_in_s is not None:
        how.append(f"leaves in {loaded.expires_in_s / 60:.0f} min unless asked")
    return "; ".join(part for part in how if part)


def _tokens(number: int) -> str:
    return f"{number // 1024}k" if number >= 1024 else str(number)
