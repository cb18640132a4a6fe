"""Themes, keys and help, made from what the app declares."""
