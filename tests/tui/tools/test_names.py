"""Names for models: legal, no two alike, and the same whatever else there is."""

from __future__ import annotations

import re

from localllm_tui.tools.names import call_names

AWKWARD = [
    ("files", "read"),
    ("files", "read file"),
    ("files", "read\x1b[31m file"),
    ("files", "r" * 100),
    ("files", "r" * 101),
    ("", ""),
    ("Ünïcode", "名前"),
    ("a", "b__c"),
    ("a__b", "c"),
    ("files", "lone \ud800"),
]


def test_legal_and_no_two_alike() -> None:
    names = call_names(AWKWARD)
    assert names[0] == "files__read"
    assert len(set(names)) == len(AWKWARD)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)


def test_a_name_does_not_depend_on_the_others() -> None:
    together = dict(zip(AWKWARD, call_names(AWKWARD), strict=True))
    for pair in AWKWARD:
        if pair != ("a__b", "c"):  # the one that collides with another is the one that yields
            assert call_names([pair]) == (together[pair],)
