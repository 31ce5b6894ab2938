"""The result table: its columns, and the escape that keeps spreadsheets from running a cell.

An export writes it and a manifest reads it back: what one does, the other undoes.
"""

import re
from collections.abc import Sequence

RESULT_KEY = "result_key"
"""The column that tells an export from any other table, and a row's job from any other."""

RESULT_COLUMNS = (
    RESULT_KEY,
    "result_state",
    "result_model",
    "result_seed",
    "result_attempts",
    "result_request_id",
    "result_url",
    "result_file",
    "result_sha256",
    "result_bytes",
    "result_cost_usd",
    "result_error_class",
    "result_error",
    "result_submitted_at",
    "result_finished_at",
    "result_queue_s",
    "result_run_s",
    "result_batch",
)
"""In the order in which they are written, after the user's own (spec section 7)."""

FROM_SERVICE = frozenset({"result_request_id", "result_url", "result_error_class", "result_error"})
"""What the service wrote: a spreadsheet must not run it, so it is escaped in every CSV."""

RESULT_DETAILS = "result_details"
"""What formats that can hold structure have in addition: all URLs and files, and so on."""

DELIMITERS = ",;\t|"
"""What may stand between the cells of a CSV; an export has commas, a manifest any of them."""

ESCAPED_MARK = "result_excel_safe"
"""A column that an export has with `--excel-safe` only: the row's own cells are escaped too."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula (OWASP, "CSV Injection")."""

_STARTS = "".join(map(re.escape, FORMULA_STARTS))
_ESCAPABLE = re.compile(f"'*[{_STARTS}]")
_FIRST = frozenset(("'", *FORMULA_STARTS))
_ESCAPED = re.compile(f"'+[{_STARTS}]")


def escaped(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would run it.

    So does a text that looks escaped already: else the way back would not be known.
    """
    return f"'{text}" if _ESCAPABLE.match(text) else text


def all_escaped(texts: Sequence[str]) -> Sequence[str]:
    """Return many texts, each as `escaped` returns it."""
    if {text[:1] for text in texts}.isdisjoint(_FIRST):
        return texts
    return list(map(escaped, texts))


def unescaped(text: str) -> str:
    """Return what `escaped` was given."""
    return text[1:] if _ESCAPED.match(text) else text
