from __future__ import annotations

import random
import time

from localllm.engine.prefix_tree import PrefixTree, _Node


def check(tree: PrefixTree[str], held: dict[str, list[int]]) -> None:
    """The tree says what `held` says, and no node is there without need."""

    def walk(node: _Node[str], prefix: list[int]) -> None:
        assert node.depth == len(prefix)
        assert set(node.holders) == {who for who, tokens in held.items() if tokens[: len(prefix)] == prefix}
        assert set(node.ends) == {who for who, tokens in held.items() if tokens == prefix}
        assert node.ends or len(node.children) > 1
        walk_children(node, prefix)

    def walk_children(node: _Node[str], prefix: list[int]) -> None:
        for first, child in node.children.items():
            assert child.parent is node
            assert child.tokens[0] == first
            walk(child, prefix + child.tokens)

    assert tree._roots.keys() == ({""} if held else set())
    for root in tree._roots.values():
        walk_children(root, [])
    assert tree._leaves.keys() == held.keys()
    for who in held:
        assert who in tree._leaves[who].ends


def num_common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_an_empty_tree_matches_nothing() -> None:
    tree: PrefixTree[str] = PrefixTree()
    assert list(tree.match([1, 2])) == []
    assert tree.longest([1, 2]) == (0, None)
    assert list(tree.prefixes([1, 2])) == []
    assert tree.others("a") == []
    tree.remove("a")
    tree.insert([], "a")
    assert "a" not in tree


def test_match_is_deepest_first_and_names_a_holder_once() -> None:
    tree: PrefixTree[str] = PrefixTree()
    tree.insert([1, 2, 3, 4], "long")
    tree.insert([1, 2], "short")
    tree.insert([1, 2, 3, 9], "other")
    assert list(tree.match([1, 2, 3, 4, 5])) == [(4, ["long"]), (3, ["other"]), (2, ["short"])]
    assert list(tree.match([1])) == [(1, ["long", "short", "other"])]
    assert list(tree.match([2])) == []


def test_prefixes_are_only_those_wholly_contained() -> None:
    tree: PrefixTree[str] = PrefixTree()
    tree.insert([1, 2, 3, 4], "long")
    tree.insert([1, 2], "short")
    assert list(tree.prefixes([1, 2, 3])) == [(2, "short")]
    assert list(tree.prefixes([1, 2, 3, 4])) == [(4, "long"), (2, "short")]


def test_the_longest_match_names_who_came_last() -> None:
    tree: PrefixTree[str] = PrefixTree()
    for who in "abc":
        tree.insert([1, 2, 3, ord(who)], who)
    assert tree.longest([1, 2, 3]) == (3, "c")
    assert tree.longest([1, 2, 3, ord("a")]) == (4, "a")


def test_a_holder_has_one_sequence_at_a_time() -> None:
    tree: PrefixTree[str] = PrefixTree()
    tree.insert([1, 2, 3], "a")
    tree.insert([7, 8], "a")
    assert list(tree.match([1, 2, 3])) == []
    assert list(tree.match([7, 8])) == [(2, ["a"])]


def test_random_operations_agree_with_a_plain_search() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        tree: PrefixTree[str] = PrefixTree()
        held: dict[str, list[int]] = {}
        for _ in range(60):
            who = rng.choice("abcdefgh")
            if rng.random() < 0.3:
                tree.remove(who)
                held.pop(who, None)
            else:
                base = rng.choice([*held.values(), []])
                tokens = base[: rng.randint(0, len(base))] + [rng.randrange(3) for _ in range(rng.randint(0, 6))]
                tree.insert(tokens, who)
                held.pop(who, None)
                if tokens:
                    held[who] = tokens
            check(tree, held)
            query = [rng.randrange(3) for _ in range(rng.randint(0, 12))]
            expected = {w: num_common(t, query) for w, t in held.items() if num_common(t, query)}
            found = list(tree.match(query))
            assert {w: depth for depth, holders in found for w in holders} == expected
            assert sum(len(holders) for _, holders in found) == len(expected)
            assert [depth for depth, _ in found] == sorted({depth for depth, _ in found}, reverse=True)
            depth, longest = tree.longest(query)
            assert depth == max(expected.values(), default=0)
            assert longest is None or expected[longest] == depth
            whole = {w: len(t) for w, t in held.items() if t == query[: len(t)]}
            assert {w: depth for depth, w in tree.prefixes(query)} == whole
            for w, t in held.items():
                assert set(tree.others(w)) == {v for v, u in held.items() if v != w and u[: len(t)] == t}


def test_lookup_cost_does_not_depend_on_how_many_prefixes_there_are() -> None:
    """1 against 2,000 holders of the same system prompt: the same few node visits, so about the same time."""

    def lookup_s(num_holders: int) -> float:
        rng = random.Random(5)
        tree: PrefixTree[int] = PrefixTree()
        system = [rng.randrange(1000) for _ in range(500)]
        for holder in range(num_holders):
            tree.insert(system + [rng.randrange(1000) for _ in range(20)], holder)
        query = [*system, 1001, 1002]
        times: list[float] = []
        for _ in range(200):
            began = time.perf_counter()
            depth, _ = tree.longest(query)
            times.append(time.perf_counter() - began)
            assert depth == 500
        return min(times)

    assert lookup_s(2000) < 5 * lookup_s(1)


def test_scopes_share_nothing_and_leave_nothing() -> None:
    tree: PrefixTree[str] = PrefixTree()
    tree.insert([1, 2, 3], "a", "one")
    tree.insert([1, 2, 3], "b", "two")
    assert list(tree.match([1, 2, 3], "one")) == [(3, ["a"])]
    assert tree.longest([1, 2], "two") == (2, "b")
    assert tree.longest([1, 2, 3]) == (0, None)
    assert list(tree.prefixes([1, 2, 3, 4], "one")) == [(3, "a")]
    assert tree.others("a") == []
    tree.insert([1, 2], "a", "two")
    assert list(tree.match([1, 2, 3], "one")) == []
    assert tree.others("a") == ["b"]
    for holder in ("a", "b"):
        tree.remove(holder)
    assert not tree._roots
    assert not tree._scopes
