"""What a user meets: wrong input, a machine that cannot go on, work that was stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence: got, expected, where, how to mend it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # What was given may hold line breaks; the sentence is one line all the same.
        super().__init__("\\n".join(message.splitlines()))


class MachineError(RuntimeError):
    """The machine failed (disk full, no permission); the input may be fine. One sentence, too."""

    exit_code = 3


class CrewError(MachineError):
    """Those who do the work are lost."""


class Stopped(KeyboardInterrupt):
    """The user, or a batch system, ended the work; the message says what is kept."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as shells have it


def shown(value: object) -> str:
    """What was given, short enough for a message, in the words of people who write YAML."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of numpy's
        value = value.item()
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, set):
        return "a set"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: " (did you mean x or y?)", or nothing."""
    by_lower = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(by_lower[match] for match in matches)}?)" if matches else ""
