"""Which of the known names was probably meant. Pure."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The closest name, if it is close enough to be a slip of the fingers."""
    folded = word.lower()
    best: str | None = None
    least = 1 + max(1, len(word) // 3)  # a third of the letters may be wrong
    for name in known:
        distance = edits(folded, name.lower(), least)
        if distance < least:
            best, least = name, distance
    return best


def edits(one: str, other: str, limit: int) -> int:
    """Letters to insert, drop, change or swap with their neighbour; `limit` when it's no less."""
    if abs(len(one) - len(other)) >= limit:
        return limit
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) >= limit:
            return limit
    return min(row[-1], limit)
