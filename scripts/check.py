"""Everything that is checked besides tests: format, lint, types, import directions, generated docs. A line a check.

python3 scripts/check.py               all of them; the exit status is 1 if any failed
python3 scripts/check.py mypy ...      only those whose name begins with one of the words
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import bootstrap

PYTHON = str(bootstrap.venv_program("python"))
CHECKS: dict[str, list[str]] = {
    "format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "lint": [PYTHON, "-m", "ruff", "check", "."],
    # Without its cache: three seconds, and no verdict that hangs on what ran before.
    "mypy": [PYTHON, "-m", "mypy", "--no-incremental"],
    "imports": [str(bootstrap.venv_program("lint-imports"))],
    "docs": [PYTHON, "scripts/gen_docs.py", "--check"],
}


def main() -> int:
    """Run the checks asked for, in order; the number of failed ones decides the status."""
    bootstrap.ensure(dev=True)
    wanted = [name for name in CHECKS if not sys.argv[1:] or name.startswith(tuple(sys.argv[1:]))]
    if not wanted:
        raise bootstrap.SetupError(f"no check of that name; there are: {', '.join(CHECKS)}", status=2)
    link_tui(bootstrap.VENV / "typing")
    failed = [name for name in wanted if not passes(name)]
    print(
        f"{len(wanted) - len(failed)} of {len(wanted)} checks passed"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def link_tui(folder: Path) -> None:
    """Have `tui` under the name it is installed by, where mypy looks for it: an editable install tells it nothing."""
    link = folder / "localllm_tui"
    if link.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(bootstrap.ROOT / "tui"), str(link))
    else:
        link.unlink(missing_ok=True)
        link.symlink_to(bootstrap.ROOT / "tui")


def passes(name: str) -> bool:
    """Run one check and print its line; what it printed itself follows only when it failed."""
    started = time.monotonic()
    done = subprocess.run(
        CHECKS[name], cwd=bootstrap.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(f"{'FAIL' if done.returncode else 'ok  '}  {name}  {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    bootstrap.guarded(main)
