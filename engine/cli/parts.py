"""pure: `KEY=VALUE` lists as maps, and the files of such."""

from __future__ import annotations

from collections.abc import Sequence


def key_values(words: Sequence[str] | None) -> dict[str, str]:
    """A key without `=` has an empty value."""
    pairs = (word.partition("=") for word in words or ())
    return {key: value for key, _, value in pairs}
