"""Reasons for which lorakit may refuse what PEFT merges. Each was judged true; any other refusal fails the run."""

import re

#: A pattern of the message, and why the reason holds.
REASONS: list[tuple[str, str]] = []


def why(message: str) -> str | None:
    """Why this refusal is right, if it is known to be."""
    return next((reason for pattern, reason in REASONS if re.search(pattern, message)), None)
