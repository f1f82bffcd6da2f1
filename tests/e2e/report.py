"""Figures that a passing test is worth reading for; pytest prints them at its end."""

LINES: list[str] = []


def note(line: str) -> None:
    """Have a line printed at the end of the session."""
    LINES.append(line)
