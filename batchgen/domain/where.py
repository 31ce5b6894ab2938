"""`--where`: which jobs are meant, as an expression that is parsed and never evaluated.

    state=failed and model~runway and cost>0.3
    (class=moderation or error~flagged) and not client in (acme, "Blue Sky")
    finished > -2h and column.shot != 12a

A test is a field, an operator and a value. `=` and `!=` compare as a whole, `<` `<=` `>` `>=`
numbers, times and texts, `~` and `!~` look for a part without regard to case, `in (…)` is any of
several. `none` stands for no value. A field is one of `FIELDS`, or a column of the manifest;
`column.NAME` and `input.NAME` name what a field of the same name hides.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NoReturn

from batchgen.domain.columns import RESULT_COLUMNS
from batchgen.domain.errors import BadExpression
from batchgen.domain.spelling import suggestion
from batchgen.domain.states import ErrorClass, JobState


class Kind(StrEnum):
    """What a field holds, and so what it is compared with."""

    TEXT = "text"
    STATE = "state"
    CLASS = "class"
    NUMBER = "number"
    SECONDS = "seconds"
    BYTES = "bytes"
    TIME = "time"


FIELDS = {
    "batch": Kind.TEXT,
    "id": Kind.TEXT,
    "variant": Kind.TEXT,
    "key": Kind.TEXT,
    "state": Kind.STATE,
    "model": Kind.TEXT,
    "class": Kind.CLASS,
    "error": Kind.TEXT,
    "remote": Kind.TEXT,
    "request": Kind.TEXT,
    "file": Kind.TEXT,
    "bytes": Kind.BYTES,
    "seed": Kind.NUMBER,
    "version": Kind.NUMBER,
    "priority": Kind.NUMBER,
    "attempts": Kind.NUMBER,
    "cost": Kind.NUMBER,
    "estimate": Kind.NUMBER,
    "submitted": Kind.TIME,
    "finished": Kind.TIME,
    "changed": Kind.TIME,
    "queue": Kind.SECONDS,
    "run": Kind.SECONDS,
}
"""Every field that each job has: money in US dollars, times as moments, durations in seconds."""

_SYNONYMS = {
    "result_key": "key",
    "result_state": "state",
    "result_model": "model",
    "result_seed": "seed",
    "result_attempts": "attempts",
    "result_request_id": "request",
    "result_file": "file",
    "result_bytes": "bytes",
    "result_cost_usd": "cost",
    "result_error_class": "class",
    "result_error": "error",
    "result_submitted_at": "submitted",
    "result_finished_at": "finished",
    "result_queue_s": "queue",
    "result_run_s": "run",
    "result_batch": "batch",
}
assert set(_SYNONYMS) <= set(RESULT_COLUMNS)

COLUMN, INPUT = "column", "input"
NONE = "none"

Value = str | float | None


@dataclass(frozen=True)
class Name:
    """What is compared: a field of `FIELDS`, a column of the manifest, or an input.

    Attributes:
        place: "" for a field, else `COLUMN` or `INPUT`.
        name: Its name there.
    """

    place: str
    name: str

    @property
    def kind(self) -> Kind:
        """What it holds; of columns and inputs nothing is known."""
        return Kind.TEXT if self.place else FIELDS[self.name]


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        name: Of what.
        op: `=` `<` `<=` `>` `>=` `~`; `!=` and `!~` are a `Not` of theirs.
        values: Of which one must fit; dollars, seconds, bytes and epoch milliseconds as numbers,
            None for no value.
    """

    name: Name
    op: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """What is not so."""

    part: "Where"


@dataclass(frozen=True)
class Both:
    """All of several."""

    parts: tuple["Where", ...]


@dataclass(frozen=True)
class Either:
    """Any of several."""

    parts: tuple["Where", ...]


Where = Comparison | Not | Both | Either

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<op>!=|!~|<=|>=|==|[=<>~])
      | (?P<mark>[(),])
      | (?P<word>[^\s()<>=~!,"']+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_OPS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~")
_WORDS = ("and", "or", "not", "in")
_MOST_CHARACTERS = 10_000
_DEEPEST = 50
_NUMBER = re.compile(r"\$?-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d|w|)")
_LENGTHS_S = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


@dataclass(frozen=True)
class _Token:
    kind: str  # quoted | op | mark | word | end
    text: str
    at: int


def parse(
    text: str, *, columns: Collection[str] = (), inputs: Collection[str] = (), now: datetime
) -> Where:
    """Return what an expression says.

    Args:
        text: The expression.
        columns: The columns that manifests of the job database have.
        inputs: The names of inputs that its jobs have.
        now: What relative times go by; times without a zone are in its zone.

    Raises:
        BadExpression: If it is no expression; says what is wrong, and where.
    """
    return _Parser(text, columns=columns, inputs=inputs, now=now).parse()


def column_name(said: str, *, columns: Collection[str], inputs: Collection[str], what: str) -> Name:
    """Return what a name stands for: a field, else a column, else an input.

    Args:
        said: The name, perhaps as `column.NAME` or `input.NAME`.
        columns: Those of the job database's manifests.
        inputs: Those of its jobs.
        what: Where the name stands, for the message: `--where`.

    Raises:
        BadExpression: If nothing has this name.
    """
    if said in FIELDS or said in _SYNONYMS:
        return Name("", _SYNONYMS.get(said, said))
    place, dot, rest = said.partition(".")
    if dot and place in ("meta", COLUMN) and (rest in columns or said in columns):
        return Name(COLUMN, rest if rest in columns else said)
    if dot and place == INPUT and rest in inputs:
        return Name(INPUT, rest)
    if said in columns:
        return Name(COLUMN, said)
    if said in inputs:
        return Name(INPUT, said)
    known = [*FIELDS, *columns, *inputs]
    more = f", and the columns {', '.join(sorted(columns))}" if columns else ""
    raise BadExpression(
        f"{what}: there is no {said!r}: {suggestion(said, known)}the fields are "
        f"{', '.join(FIELDS)}{more}"
    )


class _Parser:
    """Reads one expression from left to right."""

    def __init__(
        self, text: str, *, columns: Collection[str], inputs: Collection[str], now: datetime
    ) -> None:
        self._text = text
        self._columns = columns
        self._inputs = inputs
        self._now = now
        self._depth = 0
        if len(text) > _MOST_CHARACTERS:
            raise BadExpression(
                f"--where has {len(text):,} characters: at most {_MOST_CHARACTERS:,}"
            )
        self._tokens = list(self._split())
        self._at = 0

    def _split(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text.rstrip()):
            found = _TOKEN.match(self._text, at)
            if found is None or found.lastgroup is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                if self._text[start] in "\"'":
                    self._fail(start, "this quote is never closed")
                self._fail(start, f"{self._text[start]!r} means nothing here: put it in quotes")
            yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
            at = found.end()
        yield _Token("end", "", len(self._text))

    def _fail(self, at: int, what: str) -> NoReturn:
        shown = self._text if self._text.isprintable() else ascii(self._text)[1:-1]
        place = f"\n  {shown}\n  {' ' * at}^" if len(shown) == len(self._text) < 200 else ""
        raise BadExpression(f"--where, character {at + 1}: {what}{place}")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is_word(self, word: str) -> bool:
        token = self._next
        return token.kind == "word" and token.text.lower() == word

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def parse(self) -> Where:
        if self._next.kind == "end":
            raise BadExpression("--where is empty: say for example state=failed")
        found = self._either()
        if self._next.kind != "end":
            self._fail(self._next.at, f"expected `and`, `or` or the end, not {self._next.text!r}")
        return found

    def _either(self) -> Where:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(self._next.at, f"more than {_DEEPEST} parentheses inside each other")
        parts = [self._both()]
        while self._is_word("or"):
            self._take()
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Where:
        parts = [self._one()]
        while self._is_word("and"):
            self._take()
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self) -> Where:
        denied = False
        while self._is_word("not") and not self._is_field():
            self._take()
            denied = not denied
        if self._next.text == "(" and self._next.kind == "mark":
            opened = self._take()
            found = self._either()
            if self._take().text != ")":
                self._fail(opened.at, "this parenthesis is never closed")
        else:
            found = self._test()
        return Not(found) if denied else found

    def _is_field(self) -> bool:
        """Whether the next word is a field although it is a word of the grammar: `not = 1`."""
        return self._tokens[self._at + 1].kind == "op"

    def _test(self) -> Where:
        token = self._next
        name = self._name()
        denied = False
        if self._is_word("not"):
            self._take()
            denied = True
        if self._is_word("in"):
            self._take()
            found = Comparison(name, "=", tuple(self._list(name)))
            return Not(found) if denied else found
        op = self._take()
        if op.kind != "op" or denied:
            self._fail(
                op.at,
                f"expected one of {' '.join(_OPS)} or `in` after {token.text!r}: {token.text}=…",
            )
        return self._compared(name, op)

    def _name(self) -> Name:
        token = self._take()
        if token.kind not in ("word", "quoted"):
            said = "the end" if token.kind == "end" else repr(token.text)
            self._fail(token.at, f"expected a field such as state, not {said}")
        said = _plain(token)
        rest = self._next
        if rest.kind == "quoted" and said.endswith(".") and rest.at == token.at + len(token.text):
            said += _plain(self._take())  # column."shot name"
        try:
            return column_name(said, columns=self._columns, inputs=self._inputs, what="--where")
        except BadExpression as error:
            self._fail(token.at, str(error).removeprefix("--where: "))

    def _compared(self, name: Name, op: _Token) -> Where:
        token = self._take()
        sign = op.text.removeprefix("!") if op.text != "!=" else "="
        sign = "=" if sign == "==" else sign
        value = self._value(name, token, is_part=sign == "~")
        if value is None and sign != "=":
            self._fail(token.at, f"{NONE} goes with = and != only")
        if sign in "<=>=" and sign != "=" and name.kind in (Kind.STATE, Kind.CLASS):
            self._fail(op.at, f"{name.name} has no order: use = or !=")
        found = Comparison(name, sign, (value,))
        return Not(found) if op.text.startswith("!") else found

    def _list(self, name: Name) -> Iterator[Value]:
        opened = self._take()
        if opened.text != "(" or opened.kind != "mark":
            self._fail(opened.at, "expected ( after `in`: id in (harbor, market)")
        while True:
            yield self._value(name, self._take(), is_part=False)
            mark = self._take()
            if mark.kind == "mark" and mark.text == ")":
                return
            if mark.kind != "mark" or mark.text != ",":
                self._fail(mark.at, "expected , or ) in the list")

    def _value(self, name: Name, token: _Token, *, is_part: bool) -> Value:
        if token.kind not in ("word", "quoted"):
            said = "the end" if token.kind == "end" else repr(token.text)
            self._fail(token.at, f"expected a value, not {said}; a text may stand in quotes")
        if token.kind == "word" and token.text.lower() == NONE:
            return None
        text = _plain(token)
        if is_part:
            return text
        try:
            return _typed(name.kind, text, self._now)
        except ValueError as error:
            self._fail(token.at, str(error))


def _plain(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)


def _typed(kind: Kind, text: str, now: datetime) -> Value:
    match kind:
        case Kind.STATE:
            return _one_of(text.lower().replace(" ", "_"), [str(one) for one in JobState], "state")
        case Kind.CLASS:
            return _one_of(
                text.lower().replace(" ", "_"), [str(one) for one in ErrorClass], "class"
            )
        case Kind.NUMBER:
            return _number(text)
        case Kind.SECONDS:
            return _seconds(text)
        case Kind.BYTES:
            return _size(text)
        case Kind.TIME:
            return _moment(text, now)
        case Kind.TEXT:
            return text


def _one_of(text: str, known: Sequence[str], what: str) -> str:
    if text in known:
        return text
    raise ValueError(
        f"there is no {what} {text!r}: {suggestion(text, known)}it is one of {', '.join(known)}"
    )


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    return float(text.removeprefix("$"))


def _seconds(text: str) -> float:
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time such as 90, 90s or 15m")
    return float(found[1]) * _LENGTHS_S[found[2]]


def _size(text: str) -> float:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no size such as 300000, 500kB or 2MiB")
    step = 1024 if found[3] else 1000
    return float(found[1]) * float(step ** " kmgt".index(found[2].lower() or " "))


def _moment(text: str, now: datetime) -> float:
    """Return epoch milliseconds."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if text.lower() == "now":
            at = now
        elif text.lower() == "today":
            at = midnight
        elif text.lower() == "yesterday":
            at = midnight - timedelta(days=1)
        elif text.startswith("-"):
            at = now - timedelta(seconds=_seconds(text[1:]))
        else:
            at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
        return at.astimezone(UTC).timestamp() * 1000
    except (ValueError, OverflowError):
        raise ValueError(
            f'{text!r} is no moment such as 2026-11-29, "2026-11-29 22:30", -2h (two hours ago), '
            "today or yesterday"
        ) from None
