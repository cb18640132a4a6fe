"""`python -m localllm`: the command where no script is on the PATH."""

from __future__ import annotations

import sys

from localllm.cli import main

if __name__ == "__main__":
    sys.exit(main())
