"""Misspelled names: which one is meant."""

from collections.abc import Iterable


def fold(name: str) -> str:
    """Return a name as it is compared: without regard to case, underscores, outer spaces."""
    return name.strip().casefold().replace("_", "")


def distance(one: str, other: str, *, most: int) -> int:
    """Return how many letters were added, lost, changed or swapped; `most + 1` if more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return min(above[-1], most + 1)


def nearly(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that this is nearly, if any: the rule for carried columns.

    Nearly means at most two letters off, one if the known name has fewer than six.
    """
    folded = fold(name)
    best: tuple[int, str] | None = None
    for candidate in known:
        target = fold(candidate)
        most = 1 if len(target) < 6 else 2
        # "ID" means id; "uid" and "vid" are columns that people have.
        off = distance(folded, target, most=most) if len(target) > 2 else int(folded != target) * 2
        if off <= most and (best is None or off < best[0]):
            best = (off, candidate)
    return best[1] if best else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …? " for the closest of the known names, else ""."""
    folded = fold(name)
    best = min(
        ((distance(folded, fold(one), most=max(2, len(one) // 3)), one) for one in known),
        default=None,
    )
    if best is None or best[0] > max(2, len(best[1]) // 3) or best[0] >= len(folded):
        return ""
    return f"did you mean `{best[1]}`? "
