"""Widgets: what is seen; they say what a person wants in messages and decide nothing."""
