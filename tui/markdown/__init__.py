"""Markdown to lines of a terminal, a piece at a time. Knows no conversation."""
