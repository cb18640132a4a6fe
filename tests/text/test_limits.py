"""Templates that attack: they read nothing they should not (T18), end in time and build nothing huge (T19)."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from localllm.errors import InvalidRequestError, TemplateError
from localllm.text.limits import DeadlineExceeded, LimitExceeded, RunawayTemplate, measured, run_limited
from localllm.text.template import ChatTemplate, render_chat
from tests.text.conversations import TOOLS, user

HELLO = (user("hello"),)


def peak_bytes() -> int:
    """The most memory this process ever had; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def render(source: str, **args: object) -> str:
    return "".join(s.text for s in render_chat(ChatTemplate(source), HELLO, TOOLS, args=args))


WALKS = [
    "''.__class__.__mro__[1].__subclasses__()",
    "''['__class__']['__mro__']",
    "messages.__class__.__base__.__subclasses__()",
    "messages[0].items.__self__.__class__.__mro__",
    "''.join.func.__globals__['__builtins__']['open'](canary, 'w')",
    "''.format.__self__.__class__.__mro__",
    "'{0.__class__.__mro__}'.format('')",
    "'{0.__class__.__init__.__globals__}'.format(namespace)",
    "'{a.__class__}'.format_map({'a': 1})",
    "cycler.__init__.__globals__.os.system('touch ' + canary)",
    "lipsum.__globals__['os'].system('touch ' + canary)",
    "joiner.__init__.__globals__.os",
    "namespace.__init__.__globals__['__builtins__']",
    "range.__globals__",
    "raise_exception.__globals__['__builtins__']['open'](canary, 'w')",
    "strftime_now.__globals__",
    "dict.__class__.__base__.__subclasses__()",
    "self.__init__.__globals__",
    "self._TemplateReference__context.environment.__class__",
    "messages | map(attribute='__class__') | list | tojson",
    "messages | map(attribute='items.__self__.__class__.__mro__') | list | tojson",
    "messages | map('attr', '__class__') | list",
    "'' | attr('__class__')",
    "messages | groupby('__class__') | list | tojson",
    "messages | sum(attribute='__class__')",
    "(messages | selectattr('__class__') | list)[0].__class__.__mro__",
    "environment.constants",
    "context.environment",
    "messages[0].update({'a': 1})",
    "messages.clear()",
    "(1).__class__.__mro__",
    "none.__class__.__mro__",
    "namespace(a=1).__class__.__mro__",
    "namespace(a=1).__init__.__globals__",
    "tools[0].function.__class__.__mro__",
    "open(canary, 'w')",
    "__import__('os')",
    "''.encode().decode",
]


@pytest.mark.parametrize("expression", WALKS)
def test_no_attribute_leads_out_of_the_sandbox(expression: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(TemplateError) as caught:
        render("{{ " + expression + " }}", canary=str(canary))
    assert not canary.exists()
    assert caught.value.facts["cause"] in ("sandbox", "failed")


def test_a_loop_gives_no_way_out(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}"
    with pytest.raises(TemplateError, match="unsafe"):
        render(source)
    with pytest.raises(TemplateError, match="unsafe"):
        render("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}")
    with pytest.raises(TemplateError):
        render("{% include '" + str(tmp_path) + "' %}")
    with pytest.raises(TemplateError, match="autoescape"):
        render("{% autoescape true %}{{ messages }}{% endautoescape %}")


BOMBS = [
    "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ ['a'] * 10**9 }}",
    "{{ (['a' * 1000] * 100000) | join }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a\n' | indent(10**9) }}",
    "{{ 'a' | indent('b' * 10**5) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000s' | format('a') }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}",
    "{{ ('a' * 10**6).join(['b'] * 10**5) }}",
    "{{ 10**(10**10) }}",
    "{{ (9**999)**999 }}",
    "{{ 2.5 | round(10**9, 'ceil') }}",
    "{{ range(10**12) | list }}",
    "{{ range(99999) | map('tojson', indent=10**9) | list }}",
    "{{ messages | tojson(indent=10**9) }}",
    "{{ ([range(99999) | list] * 99999) | sum(start=[]) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ m(n + 1) ~ n }}{% endmacro %}{{ m(0) }}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
    "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set _ = ns.x.append(ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=2) %}{% for i in range(99999) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=2) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set s = 'a' * 10**6 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
    "{% set s = 'a' * 10**6 %}{% set t %}{% for i in range(99999) %}{{ s ~ i }}{% endfor %}{% endset %}",
    "{% for i in range(99999) %}{{ (range(99999) | list | sort | reverse | list) | length }}{% endfor %}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "-" * 100000 + "1 }}",
    "{{ 1" + " + 1" * 50000 + " }}",
    "{% if true %}" * 200 + "{% endif %}" * 200,
    "a" * 600_000,
]


@pytest.mark.parametrize("source", BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_ends_in_an_error_within_two_seconds(source: str) -> None:
    before = peak_bytes()
    started = time.monotonic()
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert time.monotonic() - started < 2.5
    assert caught.value.hint
    assert peak_bytes() - before < 700 * 2**20


def test_other_threads_keep_running_while_a_template_spins() -> None:
    beats = 0
    done = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not done.wait(0.01):
            beats += 1

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(TemplateError, match="longer than"):
        render(BOMBS[0])
    done.set()
    thread.join()
    assert beats >= 30


def test_work_that_cannot_be_stopped_is_a_runaway() -> None:
    release = threading.Event()
    with pytest.raises(RunawayTemplate):
        run_limited(release.wait, 0.05)
    release.set()


def test_work_that_swallows_exceptions_is_stopped_all_the_same() -> None:
    def spin() -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    with pytest.raises(DeadlineExceeded):
        run_limited(spin, 0.05)


def test_work_returns_or_raises_as_itself() -> None:
    assert run_limited(lambda: 7) == 7
    with pytest.raises(KeyError):
        run_limited(lambda: dict[str, int]()["a"])


def test_shared_parts_count_each_time() -> None:
    value: list[object] = [1]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(LimitExceeded):
        measured(value)
    with pytest.raises(LimitExceeded):
        measured(["a" * 2**20] * 9)


@pytest.mark.parametrize("name", ["chat_template", "messages", "tools", "bos_token", "raise_exception", "range"])
def test_a_request_brings_no_template_and_replaces_nothing(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        render("{{ messages[0].content }}", **{name: "{{ 1 }}"})


def test_a_huge_but_plain_conversation_is_no_bomb() -> None:
    template = ChatTemplate("{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content }}{% endfor %}")
    started = time.monotonic()
    segments = render_chat(template, [user("word " * 200)] * 1000)
    assert time.monotonic() - started < 1.5
    assert sum(len(segment.text) for segment in segments) == 1000 * (len("<|user|>") + 1000)
    assert len(segments) == 2000
