"""What is wrong with a command line."""

from __future__ import annotations


class Usage(Exception):
    """The command line cannot be carried out; the message says what to change."""
