"""Processes that may crash, hang or grow without harm to the one that uses them."""
