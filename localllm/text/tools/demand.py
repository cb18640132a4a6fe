"""Grammars that allow an answer to be calls only, or text and then calls of the right form. Pure: Lark as text.

Arguments obey the tool's JSON Schema as given; who calls this has seen to it that it can be enforced. What the markup
of a family cannot enforce is refused for a strict tool and let go for another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localllm.api import ToolSpec
from localllm.errors import InvalidRequestError
from localllm.text.tools.form import Tags, ToolFormat
from localllm.text.tools.gemma_rules import gemma_arguments
from localllm.text.tools.rules import Rules, any_of, literal

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,256}")
_TAGGED = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema"})
_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"})
_STRINGS = frozenset({"type", "enum", "const"}) | _NOTES


@dataclass(frozen=True, slots=True)
class Demand:
    """What an answer has to be. `must`: at least one call. `several`: more than one call may come.

    `other`: what an answer without calls is bound to, as a JSON Schema. `ends`: the tokens that end an answer.
    `in_reasoning`: the prompt ends inside the reasoning; of matter where the grammar has that too (Harmony).
    """

    form: ToolFormat
    tools: tuple[ToolSpec, ...]
    special: Mapping[str, int]
    ends: tuple[int, ...]
    must: bool
    several: bool
    other: Mapping[str, Any] | bool | None = None
    in_reasoning: bool = False


def grammar_of(demand: Demand) -> str:
    """The grammar in Lark. Raises InvalidRequestError."""
    rules = Rules({text: token for text, token in demand.special.items() if token not in demand.ends})
    form, shape = demand.form, demand.form.shape
    lead = shape.open + shape.begin
    assert lead.startswith(form.trigger) or form.trigger.startswith(lead), form.name
    rest = lead.removeprefix(form.trigger)
    calls = _calls(demand, rules)
    if form.is_harmony:
        rules.start(_harmony(demand, rules, f"{rules.markup(lead)} {calls}"))
    elif demand.must:
        rules.start(f"{rules.markup(lead)} {calls}")
    elif demand.other is not None:
        rules.start(f"{rules.json(demand.other)} | {rules.markup(lead)} {calls}")
    else:
        rules.start(_free(demand, rules, f"{rules.markup(rest)} {calls}"))
    return str(rules)


def _free(demand: Demand, rules: Rules, calls: str) -> str:
    """Text, and calls where their markup begins."""
    trigger = demand.form.trigger
    others = rules.other_specials([*demand.form.special, trigger], demand.ends)
    if rules.is_special(trigger):
        mixed = f"({rules.text()}? {others})* {rules.text()}?" if others else f"{rules.text()}?"
        return f"{mixed} ({rules.markup(trigger)} {calls})?"
    if not demand.form.anywhere:
        plain = rules.text_that_is_no_json()
        return f"{plain}? | {rules.markup(trigger)} {calls}"
    plain = rules.text_without(trigger)
    mixed = f"({plain}? {others})* " if others else ""
    return f"{mixed}({plain}? | {rules.text_until(trigger)} {calls})"


def _calls(demand: Demand, rules: Rules) -> str:
    """What follows the markup before the first name, to the end of the last call."""
    shape = demand.form.shape
    tails = [_tail(tool, demand, rules) for tool in demand.tools]
    tail = rules.rule("tail", any_of(tails))
    more = ""
    if demand.several and not demand.form.one_call:
        again = rules.rule("again", f"{rules.markup(shape.separator + shape.begin)} {tail}")
        more = f" {again}*"
    return f"{tail}{more} {rules.markup(shape.close)}"


def _tail(tool: ToolSpec, demand: Demand, rules: Rules) -> str:
    """A tool's name, its arguments, and what ends a call."""
    shape = demand.form.shape
    if shape.name_in_json:
        name = json.dumps(tool.name, ensure_ascii=False)[1:-1]
    else:
        name = tool.name
        if not _PLAIN_NAME.fullmatch(name):
            hint = "letters, digits, _ - . and : are what this model's calls can name"
            raise InvalidRequestError(f"the tool name {name[:60]!r}", hint=hint, param="tools")
    if isinstance(shape.arguments, Tags):
        arguments = _tagged(tool, shape.arguments, rules)
    elif shape.arguments == "gemma":
        arguments = gemma_arguments(tool, rules)
    else:
        arguments = rules.json(tool.parameters)
    # A grammar ends at the token that ends an answer: what is behind it nobody generates.
    end = "" if demand.form.is_harmony else rules.markup(shape.end)
    return rules.rule("call", f"{literal(name)} {rules.markup(shape.middle)} {arguments} {end}")


def _tagged(tool: ToolSpec, tags: Tags, rules: Rules) -> str:
    """Arguments between tags, in the schema's order."""
    schema = tool.parameters
    unknown = schema.keys() - _TAGGED - _NOTES
    if unknown and tool.strict:
        _refuse(tool, f"{sorted(unknown)[0]} at the top of its parameters")
    required = set(schema.get("required", ()))
    terms = []
    for key, value in schema.get("properties", {}).items():
        if any(char in key for char in '<>"\n') or not key:
            _refuse(tool, f"the argument name {key[:40]!r}")
        body = rules.markup(tags.begin) + " " + literal(key) + " " + _tagged_value(tool, key, value, tags, rules)
        term = rules.rule("argument", body)
        terms.append(term if key in required else f"{term}?")
    return " ".join(terms)


def _tagged_value(tool: ToolSpec, key: str, schema: Any, tags: Tags, rules: Rules) -> str:
    """The value of an argument and the tags around it."""
    after = rules.markup(tags.after)
    middle = rules.markup(tags.middle)
    closing = rules.markup(tags.before + tags.close + tags.after)
    strings = _strings(schema)
    if strings is not None:
        return f"{middle} {any_of([literal(text) for text in strings])} {closing}"
    if not isinstance(schema, dict) or _may_be_text(schema):
        extra = sorted(schema.keys() - _STRINGS) if isinstance(schema, dict) else []
        if tool.strict and (extra or not isinstance(schema, dict) or schema.get("type") != "string"):
            what = f"{extra[0]} of {key}" if extra else f"the type of {key}"
            _refuse(tool, what)
        return f"{middle} {rules.text_until(tags.close)} {after}"
    whole = dict(schema)
    for name in ("$defs", "definitions"):
        if name in tool.parameters:
            whole.setdefault(name, tool.parameters[name])
    return f"{rules.markup(tags.middle_json or tags.middle)} {rules.json(whole)} {closing}"


def _strings(schema: Any) -> list[str] | None:
    """The texts that a schema allows, where it lists them."""
    if not isinstance(schema, dict):
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values and all(isinstance(value, str) and value for value in values):
        return values
    return None


def _may_be_text(schema: Mapping[str, Any]) -> bool:
    """Whether a value of this schema may be a text, which stands between tags without quotes."""
    kinds = schema.get("type")
    if kinds is not None:
        return kinds == "string" or (isinstance(kinds, list) and "string" in kinds)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return any(isinstance(value, str) for value in values)
    for name in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(name), list):
            return any(not isinstance(option, dict) or _may_be_text(option) for option in options)
    return True


def _refuse(tool: ToolSpec, what: str) -> None:
    hint = "this model writes arguments in its own markup; leave strict out, or simplify the schema"
    raise InvalidRequestError(f"strict cannot be kept for {tool.name}: {what}", hint=hint, param="tools")


def _harmony(demand: Demand, rules: Rules, calls: str) -> str:
    """Thinking first, then a call or the final message."""
    message = rules.markup("<|message|>")
    ends = f"{rules.text_until('<|end|>')} {rules.markup('<|start|>assistant')}"
    analysis = rules.rule("analysis", f"{rules.markup('<|channel|>analysis')} {message} {ends}")
    before = f"{ends} {analysis}*" if demand.in_reasoning else f"{analysis}*"
    if demand.must:
        return f"{before} {calls}"
    final = f"{rules.markup('<|channel|>final')} {message} "
    final += rules.json(demand.other) if demand.other is not None else f"{rules.text()}?"
    preamble = rules.rule("preamble", f"{rules.markup('<|channel|>commentary')} {message} {ends}")
    return f"{before} ({rules.rule('final', final)} | {preamble}? {calls})"
