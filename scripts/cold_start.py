"""Measure starts: `localllm run MODEL PROMPT` from exec to the first token, `--help`, a bare llama-cpp-python.

    python scripts/cold_start.py [--model smollm2:135m] [--rounds 7]

The three are started turn about; medians are printed. The model must be installed; the disk is warm after round one,
which does not count. "bare" is a script that imports llama_cpp, loads the same file with 8,192 tokens of context and
decodes one token.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from localllm.service import Service

PROMPT = "Say hello."
BARE = """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=8192, verbose=False)
text = "<|im_start|>user\\n" + sys.argv[2] + "<|im_end|>\\n<|im_start|>assistant\\n"
for token in model.generate(model.tokenize(text.encode(), special=True), temp=0.0):
    print(model.detokenize([token]).decode(), flush=True)
    break
"""


def first_byte(command: list[str]) -> float:
    """Seconds from starting `command` to its first byte on stdout; it is then ended."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as child:
        assert child.stdout is not None
        if not child.stdout.read(1):
            raise SystemExit(f"no output from {command}")
        took = time.perf_counter() - begun
        child.stdout.read()
    return took


def main() -> None:
    """Measure in turn, print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    service = Service()
    weights = str(service.store.paths(service.resolver.find(args.model))[0])
    command = str(Path(sys.executable).with_name("localllm" + (".exe" if os.name == "nt" else "")))
    sides = {
        "localllm run, first token": [command, "run", args.model, PROMPT, "--max-tokens", "2", "--temperature", "0"],
        "localllm --help": [command, "--help"],
        "bare llama-cpp-python, first token": [sys.executable, "-c", BARE, weights, PROMPT],
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds + 1):
        for name, line in sides.items():
            took = first_byte(line)
            if number:
                times[name].append(took)
    for name, taken in times.items():
        print(f"{name}: median {statistics.median(taken):.3f} s, from {min(taken):.3f} to {max(taken):.3f}")


if __name__ == "__main__":
    main()
