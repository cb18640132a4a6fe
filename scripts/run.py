"""From a fresh checkout to an answer: installs localllm into .venv on the first start, then hands over to it.

python3 scripts/run.py                 a sample question to the default model
python3 scripts/run.py ARGS...         the same as `localllm ARGS...`
"""

from __future__ import annotations

import sys

import bootstrap

SAMPLE = ["run", "smollm2:135m", "Why is the sky blue? Answer in two sentences."]


def main() -> None:
    """Have the environment, then become `localllm`."""
    bootstrap.ensure()
    arguments = sys.argv[1:]
    if not arguments:
        arguments = SAMPLE
        bootstrap.say('$ localllm run smollm2:135m "Why is the sky blue? Answer in two sentences."')
    bootstrap.hand_over(bootstrap.venv_program("localllm"), arguments)


if __name__ == "__main__":
    bootstrap.guarded(main)
