"""Text around tokens: a chat template to segments, segments to tokens, model output to reasoning and answer.

Start at template.py for prompts and parsers/ for output. Runs inside the engine child; nothing here touches llama.cpp.
"""
