"""`localllm embed` and `localllm rerank`: texts to vectors, and documents by how well they answer a query."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Json, Model, Offline, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.api import EmbedRequest, RerankRequest
    from localllm.cli.output import Output
    from localllm.config import Settings

Truncate = Annotated[bool, typer.Option("--truncate", help="Drop the end of a text that is too long.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(embed))
    app.command()(with_options(rerank))


def embed(
    ctx: typer.Context,
    model: Model,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to embed; without it, lines of input.")
    ] = None,
    *,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, metavar="N", help="Keep the first N numbers of each vector.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option("--pooling", metavar="mean|cls|last", help="Another pooling than the model's own.")
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize/--no-normalize", help="Scale vectors to length 1.", show_default=False)
    ] = True,
    truncate: Truncate = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Turn texts into vectors: one JSON array a line, in order.

    With --json an object: model, num_dimensions, num_tokens (one for each text), num_truncated, embeddings.
    """
    import asyncio

    from localllm.api import EmbedRequest
    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    request = EmbedRequest(
        model,
        _texts(text, "text"),
        normalize=normalize,
        dimensions=dimensions,
        truncate=truncate,
        pooling=pooling,
    )
    asyncio.run(_embed(runtime, settings, Output(json=json, quiet=quiet), request))


def rerank(
    ctx: typer.Context,
    model: Model,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the documents should answer.")],
    document: Annotated[
        list[str] | None, typer.Argument(metavar="DOCUMENT", help="Documents; without them, lines of input.")
    ] = None,
    *,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=1, metavar="N", help="The best N only.")] = None,
    truncate: Truncate = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Order documents by how well they answer a query: score and document, best first.

    With --json an object: model, is_probability, num_tokens, num_truncated, results (each: index, score, document).
    """
    import asyncio

    from localllm.api import RerankRequest
    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    request = RerankRequest(model, _clean(query), _texts(document, "document"), top_n=top_n, truncate=truncate)
    asyncio.run(_rerank(runtime, settings, Output(json=json, quiet=quiet), request))


async def _embed(runtime: Runtime, settings: Settings, output: Output, request: EmbedRequest) -> None:
    from localllm.cli.progress import show_load

    async with runtime.backend(settings, load_options(settings)) as backend:
        await show_load(backend, output, request.model)
        answer = await backend.embed(request)
    _tell_truncated(output, answer.num_truncated)
    vectors = answer.floats()
    if output.json:
        output.document(
            {
                "model": request.model,
                "num_dimensions": answer.num_dimensions,
                "num_tokens": answer.num_tokens,
                "num_truncated": answer.num_truncated,
                "embeddings": vectors,
            }
        )
        return
    output.lines([_array(vector) for vector in vectors])


async def _rerank(runtime: Runtime, settings: Settings, output: Output, request: RerankRequest) -> None:
    from localllm.cli.progress import show_load
    from localllm.cli.table import Column
    from localllm.terminal_text import safe_line

    async with runtime.backend(settings, load_options(settings)) as backend:
        await show_load(backend, output, request.model)
        ranking = await backend.rerank(request)
    _tell_truncated(output, ranking.num_truncated)
    documents = request.documents
    if output.json:
        results = [{"index": r.index, "score": r.score, "document": documents[r.index]} for r in ranking.results]
        output.document(
            {
                "model": request.model,
                "is_probability": ranking.is_probability,
                "num_tokens": ranking.num_tokens,
                "num_truncated": ranking.num_truncated,
                "results": results,
            }
        )
        return
    rows = [(f"{ranked.score:.4f}", safe_line(documents[ranked.index])) for ranked in ranking.results]
    output.table((Column("SCORE", True, 6), Column("DOCUMENT", keep=20)), rows)


def _texts(given: list[str] | None, what: str) -> tuple[str, ...]:
    """The texts of the command line, or else the lines of standard input that are not blank."""
    from localllm.errors import UsageError

    if given:
        return tuple(map(_clean, given))
    lines = () if sys.stdin is None or sys.stdin.isatty() else sys.stdin
    found = tuple(line for line in (_clean(line.rstrip("\r\n")) for line in lines) if line.strip())
    if not found:
        raise UsageError(f"no {what}s", hint=f"name them, or write one {what} a line to standard input")
    return found


def _clean(text: str) -> str:
    """Text that can be encoded: bytes of the command line that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _array(vector: tuple[float, ...]) -> str:
    """A vector as a JSON array; nine digits tell any two float32 apart."""
    return "[" + ", ".join(f"{number:.9g}" for number in vector) + "]"


def _tell_truncated(output: Output, count: int) -> None:
    if count:
        output.note(f"note: {count} text{'s' if count > 1 else ''} too long, cut at the end")
