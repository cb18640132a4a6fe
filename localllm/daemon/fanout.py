"""Several requests answered as one: their events in one stream, the choices of each after those of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from localllm.api import ChoiceFinished, Event, Finished, Notice, PromptLogprobs, Timings, Usage
from localllm.closing import closing

_Item = tuple[int, Event | BaseException]


async def together(streams: Sequence[AsyncIterator[Event]], num_choices: int) -> AsyncIterator[Event]:
    """The events of all streams as they come; choice `i` of stream `k` gets the index `k * num_choices + i`.

    Ends in one Finished with the sums of their usage, or raises the first error; either way all streams are closed.
    Notices come once; log probabilities of prompts are left out, as they name no choice.
    """
    items: asyncio.Queue[_Item] = asyncio.Queue(maxsize=256)
    tasks = [asyncio.create_task(_feed(k, stream, items)) for k, stream in enumerate(streams)]
    ends: dict[int, Finished] = {}
    notices: list[Notice] = []
    try:
        while len(ends) < len(streams):
            k, item = await items.get()
            match item:
                case BaseException():
                    raise item
                case Finished(reason, _usage, _timings, stop):
                    ends[k] = item
                    if num_choices == 1:
                        yield ChoiceFinished(k, reason, stop)
                case Notice():
                    if item not in notices:
                        notices.append(item)
                        yield item
                case PromptLogprobs():
                    pass
                case _ if hasattr(item, "index"):
                    yield msgspec.structs.replace(item, index=k * num_choices + item.index)
                case _:
                    yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    yield _summed([ends[k] for k in range(len(streams))])


async def _feed(k: int, stream: AsyncIterator[Event], items: asyncio.Queue[_Item]) -> None:
    try:
        async with closing(stream) as events:
            async for event in events:
                await items.put((k, event))
    except Exception as exc:  # raised again by whoever takes it out of the queue
        await items.put((k, exc))


def _summed(ends: list[Finished]) -> Finished:
    counts = {f: sum(getattr(end.usage, f) for end in ends) for f in Usage.__struct_fields__}
    times = {f: max(getattr(end.timings, f) for end in ends) for f in Timings.__struct_fields__}
    return Finished(ends[0].reason, Usage(**counts), Timings(**times), ends[0].stop)
