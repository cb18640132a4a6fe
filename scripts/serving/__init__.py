"""The parts of `scripts/bench_serving.py`: targets, workloads, figures, report and chart."""
