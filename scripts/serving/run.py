"""One run: opens the targets, goes through rounds and workloads turn about, keeps every round's figures.

Owns order and bounds of time; prints nothing but progress through `say`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.agent import takes_tools
from serving.client_load import ClientLoad
from serving.figures import Figures, over_rounds, ratios
from serving.prompts import Prompts
from serving.target import Call, Target, TargetError
from serving.workloads import WORKLOADS, Plan, Sizes

Say = Callable[[str], None]
FEW, MANY = 64, 320


@dataclass(slots=True)
class Results:
    """What was measured: `rounds[workload][target]` holds each round's figures. `complete`: nothing was cut off."""

    targets: list[str]
    reference: str
    rounds: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    native_tools: bool = False
    tokens_per_word: float = 1.0
    complete: bool = False

    def medians(self) -> dict[str, dict[str, Figures]]:
        """Medians over the rounds; counts are added up."""
        return {
            workload: {target: over_rounds(figures) for target, figures in by_target.items()}
            for workload, by_target in self.rounds.items()
        }

    def ratios(self) -> dict[str, dict[str, Figures]]:
        """Every target's medians as multiples of the reference's."""
        return {
            workload: {
                target: ratios(figures, by_target.get(self.reference, {})) for target, figures in by_target.items()
            }
            for workload, by_target in self.medians().items()
        }

    @property
    def num_failed(self) -> float:
        """Requests that failed, over everything."""
        return sum(
            figures.get("num_failed", 0)
            for by_target in self.rounds.values()
            for rounds in by_target.values()
            for figures in rounds
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to do. `tools`: "auto" uses a target's own tools where all targets have them."""

    rounds: int = 3
    seed: str = "1"
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    tools: str = "auto"
    sizes: Sizes = field(default_factory=Sizes)
    run_s: float = 3600.0


async def measure(targets: Sequence[Target], reference: str, options: Options, say: Say) -> Results:
    """Run everything against every target. At `run_s` it stops and returns the figures so far. Raises TargetError."""
    results = Results([target.name for target in targets], reference)
    opened: list[Target] = []
    try:
        async with asyncio.timeout(options.run_s):
            for target in targets:
                say(f"opening {target.name}")
                opened.append(target)
                await target.open()
                results.notes += getattr(target, "notes", [])
            await _prepare(targets, options, results)
            for number in range(options.rounds):
                await _round(targets, number, options, results, say)
        results.complete = True
    except TimeoutError:
        results.notes.append(f"the run was cut off after {options.run_s:g} s")
    finally:
        for target in opened:
            await target.close()
    return results


async def _prepare(targets: Sequence[Target], options: Options, results: Results) -> None:
    """Find out how many tokens a word has and whether tools are passed as such."""
    results.tokens_per_word = await _tokens_per_word(targets)
    if options.tools == "native":
        results.native_tools = True
    elif options.tools == "auto" and "agent" in options.workloads:
        answers = {target.name: await takes_tools(target) for target in targets}
        results.native_tools = all(answers.values())
        if not results.native_tools and any(answers.values()):
            without = ", ".join(name for name, takes in answers.items() if not takes)
            results.notes.append(f"tools are sent as text to all: {without} takes none")


async def _tokens_per_word(targets: Sequence[Target]) -> float:
    """From the first target that counts prompt tokens: two prompts, so that the template's share drops out."""
    for target in targets:
        counts = []
        for num in (FEW, MANY):
            text = Prompts(f"calibrate {num}").text(num)
            counts.append((await target.ask(Call(({"role": "user", "content": text},), 1))).num_prompt)
        if counts[1] > counts[0] > 0:
            return (counts[1] - counts[0]) / (MANY - FEW)
    raise TargetError("no target says how many tokens a prompt has (`usage` in the last chunk)")


async def _round(targets: Sequence[Target], number: int, options: Options, results: Results, say: Say) -> None:
    """Every workload against every target; who goes first changes from round to round."""
    first = number % len(targets)
    turn = [*targets[first:], *targets[:first]]
    for workload in options.workloads:
        for target in turn:
            # The same texts for all targets, new ones in every round.
            prompts = Prompts(f"{options.seed}/{number}/{workload}", results.tokens_per_word)
            with ClientLoad() as load:
                figures = await WORKLOADS[workload](target, Plan(prompts, options.sizes, results.native_tools))
            results.rounds.setdefault(workload, {}).setdefault(target.name, []).append(figures | load.figures())
            rate = f"{figures['tokens_per_s']:.1f} tok/s" if "tokens_per_s" in figures else "nothing came back"
            say(f"round {number + 1} of {options.rounds}, {workload}, {target.name}: {rate}")
