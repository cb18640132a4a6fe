"""The terminal chat (installed as `localllm_tui`). It knows only the Backend protocol; nothing below it knows it."""
