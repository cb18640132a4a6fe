"""Screens: they put widgets together and act on their messages."""
