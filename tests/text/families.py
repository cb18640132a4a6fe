"""Chat templates in the style of each family, and the special tokens they are written with.

The formats are facts of the models; the templates are written for these tests.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from localllm.text.template import ChatTemplate
from tests.text.vocabs import CONTROL, USER_DEFINED, LlamaVocab, Specials, write_bpe, write_spm


class Family(NamedTuple):
    """A template, the tokens of its vocabulary, and how to write that."""

    template: str
    specials: Specials
    pre: str | None  # a BPE pre-tokenizer; None: SentencePiece
    bos: str
    eos: str
    system: bool = True
    name: str = "tiny"

    def load(self, folder: Path) -> LlamaVocab:
        path = folder / "vocab.gguf"
        if self.pre is None:
            write_spm(path, self.specials, name=self.name)
        else:
            write_bpe(path, self.specials, pre=self.pre, bos=self.bos or None, name=self.name)
        return LlamaVocab(path)

    def compile(self) -> ChatTemplate:
        return _compiled(self.template, self.bos, self.eos)


@functools.cache
def _compiled(source: str, bos: str, eos: str) -> ChatTemplate:
    return ChatTemplate(source, bos=bos, eos=eos)


CHATML = Family(
    template="""
{%- if tools %}
    {{- '<|im_start|>system\nTools:\n' }}
    {%- for tool in tools %}{{- tool | tojson + '\n' }}{%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + content + '\n</tool_response><|im_end|>\n' }}
        {%- continue %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.reasoning_content %}
        {{- '<think>\n' + message.reasoning_content.strip('\n') + '\n</think>\n\n' }}
    {%- endif %}
    {{- (message.name ~ ': ' if message.name) ~ content }}
    {%- for call in message.tool_calls or [] %}
        {{- '\n<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' ~ call.function.arguments | tojson }}
        {{- '}\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
""",
    specials={
        "<|endoftext|>": CONTROL,
        "<|im_start|>": CONTROL,
        "<|im_end|>": CONTROL,
        "<tool_call>": USER_DEFINED,
        "</tool_call>": USER_DEFINED,
        "<tool_response>": USER_DEFINED,
        "</tool_response>": USER_DEFINED,
        "<think>": USER_DEFINED,
        "</think>": USER_DEFINED,
    },
    pre="qwen2",
    bos="",
    eos="<|im_end|>",
)

LLAMA3 = Family(
    template="""{{- bos_token }}
{%- macro header(role) %}{{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\n\n' }}{%- endmacro %}
{%- for message in messages %}
    {%- set body = message['content'] | trim %}
    {%- if message.tool_calls %}
        {%- set call = message.tool_calls[0].function %}
        {%- set body = '<|python_tag|>{"name": "%s", "parameters": %s}' % (call.name, call.arguments | tojson) %}
    {%- endif %}
    {{- header('ipython' if message.role == 'tool' else message.role) + body + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- header('assistant') }}{%- endif %}
""",
    specials={
        "<|begin_of_text|>": CONTROL,
        "<|end_of_text|>": CONTROL,
        "<|start_header_id|>": CONTROL,
        "<|end_header_id|>": CONTROL,
        "<|eot_id|>": CONTROL,
        "<|python_tag|>": CONTROL,
    },
    pre="llama-bpe",
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
)

GEMMA = Family(
    template="""{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('no place for a system message') }}{% endif %}
{%- for message in messages %}
    {%- set role = {'assistant': 'model'}.get(message.role, message.role) %}
    {{- ['<start_of_turn>' ~ role, message.content | trim] | join('\n') }}{{ '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
""",
    specials={
        "<bos>": CONTROL,
        "<eos>": CONTROL,
        "<start_of_turn>": CONTROL,
        "<end_of_turn>": CONTROL,
        "<b>": USER_DEFINED,
        "<unused7>": USER_DEFINED,
    },
    pre="llama-bpe",
    bos="<bos>",
    eos="<eos>",
    system=False,
)

MISTRAL = Family(
    template="""{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% set ns.system = message.content + '\n\n' %}
    {%- elif message.role == 'user' %}
        {{- '[INST] ' + ns.system + message.content + ' [/INST]' }}{% set ns.system = '' %}
    {%- else %}{{- ' {} {}'.format(message.content, eos_token).rstrip() }}
    {%- endif %}
{%- endfor %}
""",
    specials={"[INST]": CONTROL, "[/INST]": CONTROL},
    pre=None,
    bos="<s>",
    eos="</s>",
)

DEEPSEEK = Family(
    template="""{{ bos_token }}{% set ns = namespace(text='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% set ns.text = ns.text + message.content %}
    {%- elif message.role == 'user' %}{% set ns.text = ns.text ~ '<｜User｜>' ~ message.content %}
    {%- else %}
        {%- set answer = message.content.split('</think>')[-1] if '</think>' in message.content else message.content %}
        {%- set ns.text = ns.text + '<｜Assistant｜>' + answer + '<｜end▁of▁sentence｜>' %}
    {%- endif %}
{%- endfor %}{{ ns.text }}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}
""",
    specials={
        "<｜begin▁of▁sentence｜>": CONTROL,
        "<｜end▁of▁sentence｜>": CONTROL,
        "<｜User｜>": USER_DEFINED,
        "<｜Assistant｜>": USER_DEFINED,
        "<think>": USER_DEFINED,
        "</think>": USER_DEFINED,
    },
    pre="deepseek-llm",
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
)

PHI3 = Family(
    template="""{% for message in messages %}
{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
""",
    specials={
        "<|endoftext|>": CONTROL,
        "<|system|>": CONTROL,
        "<|user|>": CONTROL,
        "<|assistant|>": CONTROL,
        "<|end|>": CONTROL,
    },
    pre=None,
    bos="<s>",
    eos="</s>",
    name="phi-3 tiny",  # at this name llama.cpp drops whitespace behind control tokens
)

FAMILIES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "deepseek": DEEPSEEK,
    "phi3": PHI3,
}
