"""Figures as tables for people and as JSON for programs."""

from __future__ import annotations

from typing import Any

from serving.figures import Figures
from serving.run import Results

# What a table shows: figure, heading, factor, decimals, unit.
COLUMNS = (
    ("first_token_p50_s", "first token p50", 1000, 0, "ms"),
    ("first_token_max_s", "max", 1000, 0, "ms"),
    ("gap_p50_s", "between p50", 1000, 1, "ms"),
    ("gap_p99_s", "p99", 1000, 1, "ms"),
    ("longest_stall_s", "longest stall", 1000, 0, "ms"),
    ("tokens_per_s", "tok/s", 1, 1, ""),
    ("late_first_token_s", "late first token", 1000, 0, "ms"),
    ("later_turns_first_token_s", "first token of later turns", 1000, 0, "ms"),
    ("wall_s", "all", 1, 2, "s"),
)


def as_json(results: Results, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything: facts of the run, medians, ratios to the reference, and the rounds themselves."""
    return {
        **facts,
        "targets": results.targets,
        "reference": results.reference,
        "complete": results.complete,
        "native_tools": results.native_tools,
        "tokens_per_word": results.tokens_per_word,
        "notes": results.notes,
        "medians": results.medians(),
        "ratios": results.ratios(),
        "rounds": results.rounds,
    }


def as_table(results: Results) -> str:
    """Markdown: a table for each workload; beside each figure, in brackets, its ratio to the reference."""
    medians, ratios = results.medians(), results.ratios()
    parts = [_workload(name, medians[name], ratios[name], results) for name in medians]
    tools = "by the targets' own means" if results.native_tools else "as text"
    parts.append(
        f"Ratios in brackets: to {results.reference}. Tools are sent {tools}. `client`: CPU time of this process per "
        "second (with an engine in it, that is its parent's work too), and the 99th percentile of its event loop's lag."
    )
    parts += results.notes
    return "\n\n".join(parts)


def _workload(name: str, by_target: dict[str, Figures], ratios: dict[str, Figures], results: Results) -> str:
    columns = [column for column in COLUMNS if any(column[0] in figures for figures in by_target.values())]
    is_bound = any("num_valid" in figures for figures in by_target.values())
    headings = [heading for _, heading, *_ in columns] + ["valid"] * is_bound + ["prompt", "failed", "client"]
    lines = [f"### {name}", "", "| target | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
    for target in results.targets:
        if (figures := by_target.get(target)) is None:
            continue
        cells = [_cell(figures, ratios[target], column, target == results.reference) for column in columns]
        if is_bound:
            cells.append(f"{figures.get('num_valid', 0):.0f} of {figures.get('num_schema_bound', 0):.0f}")
        cells += [_prompt(figures), f"{figures['num_failed']:.0f} of {figures['num_requests']:.0f}", _client(figures)]
        lines.append(f"| {target} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: Figures, ratios: Figures, column: tuple[str, str, int, int, str], is_reference: bool) -> str:
    name, _, factor, decimals, unit = column
    if name not in figures:
        return ""
    text = f"{figures[name] * factor:.{decimals}f} {unit}".strip()
    return text if is_reference or name not in ratios else f"{text} ({ratios[name]:.2f})"


def _prompt(figures: Figures) -> str:
    if "prompt_tokens" not in figures:
        return ""
    cached = f", {figures['cached_share']:.0%} cached" if "cached_share" in figures else ""
    return f"{figures['prompt_tokens']:.0f}{cached}"


def _client(figures: Figures) -> str:
    return f"{figures['client_cpu_share']:.0%}, {figures.get('client_lag_p99_s', 0) * 1000:.1f} ms"
