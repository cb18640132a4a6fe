"""What the daemon counts, and its Prometheus text. Labels are routes and models' counts, never keys, names or text."""

from __future__ import annotations

import collections
from collections.abc import Mapping

from localllm.api import Finished

_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters since the daemon started."""

    def __init__(self) -> None:
        self.responses: collections.Counter[tuple[str, int]] = collections.Counter()
        self.totals: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._durations = [0] * (len(_BUCKETS_S) + 1)
        self._duration_sum = 0.0

    def count_response(self, route: str, status: int) -> None:
        """A request got its answer, or the beginning of one."""
        self.responses[route, status] += 1

    def count_generation(self, finished: Finished, seconds: float) -> None:
        """A generation ended; `seconds` since it was asked for."""
        usage, timings, totals = finished.usage, finished.timings, self.totals
        totals["prompt_tokens_total"] += usage.num_prompt_tokens
        totals["prompt_tokens_cached_total"] += usage.num_cached_tokens
        totals["output_tokens_total"] += usage.num_output_tokens
        totals["drafted_tokens_total"] += usage.num_drafted_tokens
        totals["accepted_tokens_total"] += usage.num_accepted_tokens
        totals["queue_seconds_total"] += timings.queue_s
        totals["prompt_seconds_total"] += timings.prompt_s
        totals["decode_seconds_total"] += timings.decode_s
        self._durations[sum(seconds > bound for bound in _BUCKETS_S)] += 1
        self._duration_sum += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """Prometheus' text format, version 0.0.4."""
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [f"# TYPE localllm_{name} gauge", f"localllm_{name} {value:g}"]
        for name, total in sorted(self.totals.items()):
            lines += [f"# TYPE localllm_{name} counter", f"localllm_{name} {total:.10g}"]
        lines.append("# TYPE localllm_http_responses_total counter")
        for (route, status), count in sorted(self.responses.items()):
            lines.append(f'localllm_http_responses_total{{route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE localllm_generation_seconds histogram")
        below = 0
        for bound, count in zip((*_BUCKETS_S, "+Inf"), self._durations, strict=True):
            below += count
            lines.append(f'localllm_generation_seconds_bucket{{le="{bound}"}} {below}')
        lines.append(f"localllm_generation_seconds_sum {self._duration_sum:.10g}")
        lines.append(f"localllm_generation_seconds_count {below}")
        return "\n".join(lines) + "\n"
