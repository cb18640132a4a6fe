"""Conversations on disk: SQLite, trees of turns, full-text search, drafts. Knows no widget."""
