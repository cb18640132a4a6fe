"""What `localllm show` knows of one model: its manifest and what its file says of itself. The file is not loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from localllm import terminal_text as text
from localllm.cli.installed import find_installed
from localllm.cli.table import Column, pairs
from localllm.errors import GGUFError, LocalLLMError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.gguf import GGUF, find_shards, gguf_summary, read_gguf

if TYPE_CHECKING:
    from localllm.cli.output import Output
    from localllm.store.gguf import GGUFSummary
    from localllm.store.manifest import Manifest
    from localllm.store.store import ModelStore

_TENSOR_COLUMNS = (Column("TENSOR", keep=9), Column("TYPE", keep=8), Column("SHAPE", keep=7), Column("SIZE", True, 6))
_MAX_SHOWN = 200


class Facts(NamedTuple):
    """One model. `manifest` None: a file that is not installed. A split model has several files."""

    name: str
    manifest: Manifest | None
    paths: tuple[Path, ...]
    first: GGUF
    summary: GGUFSummary


def read_model(store: ModelStore, typed: str) -> Facts:
    """Read an installed model, or the file at a path. Raises ModelNotFoundError, GGUFError, CorruptModelError."""
    name = ModelName.parse(typed).absolute()
    try:
        manifest = find_installed(store, typed)
    except ModelNotFoundError:
        if name.source != "file":
            raise
        path = Path(name.repo)
        if not path.is_file():
            raise ModelNotFoundError(f"no file {typed}", hint="the path of a .gguf file", name=typed) from None
        return _read(typed, None, find_shards(path))
    return _read(manifest.name, manifest, store.paths(manifest))


def _read(name: str, manifest: Manifest | None, paths: list[Path]) -> Facts:
    try:
        return Facts(name, manifest, tuple(paths), read_gguf(paths[0]), gguf_summary(*paths))
    except OSError as exc:
        raise GGUFError(f"{paths[0]} cannot be read: {exc.strerror}", path=str(paths[0])) from exc


def show_facts(output: Output, facts: Facts, *, metadata: bool, tensors: bool) -> None:
    """The overview, with every metadata key and every tensor where asked for."""
    output.lines(pairs(_overview(facts)))
    if metadata:
        output.line()
        output.lines(pairs([(text.safe_line(key), _short(value)) for key, value in facts.first.metadata.items()]))
    if tensors:
        output.line()
        rows = [
            (t["name"], t["type"], "x".join(map(str, t["shape"])), text.size(t["size_bytes"])) for t in _tensors(facts)
        ]
        output.table(_TENSOR_COLUMNS, rows)


def show_text(output: Output, facts: Facts, *, template: bool, licence: bool) -> None:
    """The chat template or the licence as it stands; raises LocalLLMError where the model has none."""
    for wanted, what, found in (
        (template, "chat template", facts.first.chat_template),
        (licence, "licence", _licence(facts)),
    ):
        if wanted and not found:
            raise LocalLLMError(f"{facts.name} names no {what}")
        if wanted and found:
            output.lines([text.safe_stream(found) if output.out_is_tty else found])


def document(facts: Facts, *, tensors: bool) -> dict[str, Any]:
    """What `show --json` writes; `tensors` is null unless asked for."""
    manifest, first = facts.manifest, facts.first
    return {
        "name": facts.name,
        "origin": manifest.origin if manifest else None,
        "modified": manifest.created if manifest else None,
        "files": [{"path": path, "size_bytes": path.stat().st_size} for path in facts.paths],
        "digests": [blob.digest for blob in manifest.blobs] if manifest else [],
        "size_bytes": facts.summary.size_bytes,
        "architecture": facts.summary.architecture,
        "num_params": facts.summary.num_params,
        "quant": facts.summary.quant,
        "num_ctx_train": facts.summary.num_ctx_train,
        "num_layers": first.num_layers,
        "num_embd": first.num_embd,
        "num_heads": first.num_heads,
        "num_kv_heads": first.num_kv_heads,
        "num_vocab": first.num_tokens,
        "capabilities": facts.summary.capabilities,
        "licence": _licence(facts),
        "template": first.chat_template,
        "system": manifest.system if manifest else None,
        "sampling": manifest.sampling if manifest else None,
        "metadata": {key: _jsonable(value) for key, value in first.metadata.items()},
        "tensors": _tensors(facts) if tensors else None,
    }


def _overview(facts: Facts) -> list[tuple[str, str]]:
    manifest, first, summary = facts.manifest, facts.first, facts.summary
    sampling = manifest.sampling if manifest else None
    given = (
        [f"{f} {v}" for f in sampling.__struct_fields__ if (v := getattr(sampling, f)) is not None] if sampling else []
    )
    rows: list[tuple[str, object]] = [
        ("name", facts.name),
        ("architecture", summary.architecture),
        ("parameters", text.count(summary.num_params)),
        ("quant", summary.quant),
        ("size", text.size(summary.size_bytes)),
        ("context", summary.num_ctx_train),
        ("layers", first.num_layers),
        ("embedding", first.num_embd),
        ("heads", f"{first.num_heads}, {first.num_kv_heads} for keys and values" if first.num_heads else None),
        ("vocabulary", first.num_tokens),
        ("can", ", ".join(summary.capabilities)),
        ("licence", _licence(facts)),
        ("origin", manifest.origin if manifest else None),
        ("digest", "\n".join(blob.digest for blob in manifest.blobs) if manifest else None),
        ("file", "\n".join(str(path) for path in facts.paths)),
        ("sampling", "\n".join(given)),
        ("system", manifest.system if manifest else None),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _licence(facts: Facts) -> str | None:
    return (facts.manifest.licence if facts.manifest else None) or facts.first.licence


def _tensors(facts: Facts) -> list[dict[str, Any]]:
    files = [facts.first, *(read_gguf(path) for path in facts.paths[1:])]
    return [
        {"name": t.name, "type": t.type, "shape": list(t.shape), "size_bytes": t.size_bytes}
        for file in files
        for t in file.tensors
    ]


def _short(value: Any) -> str:
    if hasattr(value, "length"):
        return f"({value.length} elements)"
    if isinstance(value, tuple):
        return f"({len(value)} elements)" if len(value) > 16 else ", ".join(map(str, value))
    words = str(value)
    return words if len(words) <= _MAX_SHOWN else f"{words[:_MAX_SHOWN]}… ({len(words)} characters)"


def _jsonable(value: Any) -> Any:
    return {"num_elements": value.length} if hasattr(value, "length") else value
