"""The real model's vocabulary and chat template, read by llama.cpp from its file."""

from __future__ import annotations

import ctypes
from pathlib import Path

from localllm.binding import C as llama_cpp
from localllm.text.template import ChatTemplate
from tests.text.vocabs import LlamaVocab


class Smollm2:
    """The template and vocabulary of the real file."""

    def __init__(self, path: Path) -> None:
        self.vocab = LlamaVocab(path)
        buffer = ctypes.create_string_buffer(65536)
        size = llama_cpp.llama_model_meta_val_str(self.vocab.model, b"tokenizer.chat_template", buffer, len(buffer))
        assert 0 < size < len(buffer)
        self.template = ChatTemplate(buffer.value.decode(), bos="<|im_start|>", eos="<|im_end|>")
