"""Conversations out to files and in from those of others. Knows no widget."""
