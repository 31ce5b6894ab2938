"""Names: which are safe to use as an id."""

from collections.abc import Collection

from batchgen.domain.spelling import fold, suggestion

MAX_ID = 200  # characters; leaves room for variant, number and suffix within 255 bytes of ASCII
MAX_BATCH = 100  # characters; it is a folder's name

_MOST_IDS = 5
_QUOTES = frozenset("“”„‟«»\u2018\u2019\u201a\u2039\u203a")
_HIDDEN = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def ids_with(name: str, known: Collection[str]) -> str:
    """Return "did you mean …? " and the first known ids that a word is part of, else ""."""
    folded = fold(name)
    meant = suggestion(name, known)
    found = sorted(
        one for one in known if folded and folded in fold(one) and f"`{one}`" not in meant
    )
    more = ", …" if len(found) > _MOST_IDS else ""
    listed = f"ids with it are {', '.join(found[:_MOST_IDS])}{more}; " if found else ""
    return meant + listed


def quotes_hint(text: str) -> str:
    """Return what is said of a text in quotes as a word processor writes them, else ""."""
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        return f"the quotes {text[0]} {text[-1]} around it are typographic: remove them"
    return ""


def name_problem(name: str, *, most: int) -> str | None:
    """Return what makes a name unfit as an id or a batch's name, None if it is fit.

    It becomes part of a file name and is typed on command lines.
    """
    if not name.strip():
        return "is empty"
    if len(name) > most:
        return f"has {len(name):,} characters, at most {most:,} are allowed"
    if "/" in name or "\\" in name or name in {".", ".."}:
        return "must not be a path: leave out `/`, `\\`, `.` and `..`"
    if name.startswith("-"):
        return "must not start with `-`: a command would take it for an option"
    if not name.isprintable() and any(
        letter in _HIDDEN
        or ord(letter) < 32
        or 127 <= ord(letter) < 160
        or 0xD800 <= ord(letter) < 0xE000  # half a character, or a byte that is not UTF-8
        for letter in name
    ):
        return "must not contain control characters or line breaks"
    return None
