"""The names of `import localllm`: what is promised resolves, what resolves is promised."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import localllm


@pytest.mark.parametrize("name", sorted(localllm.__all__))
def test_every_promised_name_resolves(name: str) -> None:
    value = getattr(localllm, name)
    assert not isinstance(value, types.ModuleType)
    assert getattr(value, "__doc__", None) or not callable(value), f"{name} has no docstring"


def test_dir_shows_the_promised_names() -> None:
    assert set(localllm.__all__) <= set(dir(localllm))


def test_all_is_every_public_name() -> None:
    code = """
import localllm
for name in localllm.__all__:
    getattr(localllm, name)
ours = {name for name, value in vars(localllm).items() if getattr(value, "__module__", "").startswith("localllm")}
print(*sorted(name for name in ours - set(localllm.__all__) if not name.startswith("_")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_all_has_no_name_twice() -> None:
    assert len(set(localllm.__all__)) == len(localllm.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = localllm.no_such_name


def test_every_error_is_public() -> None:
    from localllm import errors

    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree <= set(localllm.__all__)
