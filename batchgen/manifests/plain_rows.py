"""Many rows of a table at once: the fast way through `checks`, column by column.

Plain is a row that asks for one job, and has nothing but its cells. Its values are never put
into mappings: each column gives the JSON members of its values, and they are joined to the texts
that are hashed and stored. What is found is the same as for one row alone; a row with a fault is
left to be told by the rule itself.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from batchgen.domain.expansion import ROW_ID_DIGITS, estimate_micros
from batchgen.domain.identity import canonical, input_hashes, is_default, is_setting, member
from batchgen.domain.jobs import JobSpec, encoded
from batchgen.manifests.binding import Binding, Pair
from batchgen.manifests.interface import NOTHING, Row
from batchgen.manifests.media import PublicUrls, url_problem
from batchgen.manifests.names import MAX_ID, name_problem
from batchgen.manifests.schemas import HOUSE_TYPES, Schema, media_kind
from batchgen.manifests.values import Form

MOST_REMEMBERED = 10_000
"""Values of a column whose verdict is kept; they start anew when there are more."""

_LONGEST_REMEMBERED = 200  # characters
_SAYS_NOTHING = frozenset(
    {"title", "description", "validations", "format", "examples", "type", "$comment", "deprecated"}
)
_WHOLE_SCHEMA = frozenset(
    {"$schema", "$id", "$defs", "definitions", "required", "properties", "additionalProperties"}
)
_PLAIN_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_PLAIN_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_NOTHING_ELSE: tuple[Any, ...] = (NOTHING, NOTHING, frozenset(), (), NOTHING)

_in_quotes: Callable[[str], str] = json.encoder.encode_basestring  # C, where Python has it


def plain_groups(
    rows: Sequence[Row], columns: tuple[str, ...], *, use_keys: bool
) -> Mapping[str | None, Sequence[int]]:
    """Return which rows of a table are plain, by the model that they name."""
    first = rows[0]
    if _are_alike(rows, columns):
        return {first.model: range(len(rows))}
    groups: dict[str | None, list[int]] = {}
    for place, row in enumerate(rows):
        if _is_plain(row, columns, use_keys=use_keys):
            groups.setdefault(row.model, []).append(place)
    return groups


def _are_alike(rows: Sequence[Row], columns: tuple[str, ...]) -> bool:
    """Return whether all rows are plain and name one model: it takes less to say so of many."""
    _, cells, _, models, seeds, repeats, _, *others, _, carried, _ = zip(*rows, strict=True)
    count = len(rows)
    return (
        (models[0] is None or isinstance(models[0], str))
        and models.count(models[0]) == count
        and seeds.count(None) == count
        and repeats.count(None) == count
        and all(
            other.count(empty) == count for other, empty in zip(others, _NOTHING_ELSE, strict=True)
        )
        and not any(carried)
        and all(map(columns.__eq__, map(tuple, cells)))
    )


def _is_plain(row: Row, columns: tuple[str, ...], *, use_keys: bool) -> bool:
    """Return whether a row of a table asks for one job, and has all the columns and no more."""
    others = (row.meta, row.lines, row.defaulted, row.faults, row.variables)
    return (
        ((use_keys and bool(row.result_key)) or (row.seeds is None and row.repeat is None))
        and others == _NOTHING_ELSE
        and not row.carried
        and (row.model is None or isinstance(row.model, str))
        and tuple(row.cells) == columns
    )


class Taken(NamedTuple):
    """What was found of some rows.

    Attributes:
        columns: For each row its job, as `spec_columns`; of one with a fault they say nothing.
        faulty: The places of rows with a fault.
        jobs: How many jobs there are.
        id_hashes: Of the users' own ids of those jobs, but of exported rows.
        keyed_id_hashes: Of those of exported rows.
        key_hashes: Of the keys of exported rows.
    """

    columns: Any
    faulty: Collection[int]
    jobs: int
    id_hashes: Iterable[int]
    keyed_id_hashes: Iterable[int]
    key_hashes: Iterable[int]


class Members(NamedTuple):
    """A column's values as members of JSON objects: `"name":value,` or nothing.

    Attributes:
        sent: Of the inputs.
        hashed: Of what is hashed.
        settings: Of the settings; None if the column is none.
        faulty: The places of values that break a rule.
    """

    sent: Sequence[str]
    hashed: Sequence[str]
    settings: Sequence[str] | None = None
    faulty: Iterable[int] = ()


class PlainRows:
    """Checks rows of one table for one model."""

    @classmethod
    def of(cls, bound: Binding, columns: Sequence[str], *, use_keys: bool) -> "PlainRows | None":
        """Return one, None if the table or the model needs the rule for one row."""
        schema, targets = bound.form.model.schema, [pair.path for pair in bound.pairs]
        is_simple = (
            schema.keys() <= _WHOLE_SCHEMA | _SAYS_NOTHING
            and all(len(path) == 1 and path[0] in bound.form.properties for path in targets)
            and len(set(targets)) == len(targets)
            and not bound.idle
        )
        return cls(bound, columns, use_keys=use_keys) if is_simple else None

    def __init__(self, bound: Binding, columns: Sequence[str], *, use_keys: bool) -> None:
        """See `of`."""
        self._model = bound.form.model
        self._input_columns = bound.input_columns
        self._use_keys = use_keys
        self._inputs = [
            (columns.index(pair.name), _column(bound.form, pair)) for pair in bound.pairs
        ]
        names = [column.name for _, column in self._inputs]
        self._by_name = sorted(range(len(names)), key=names.__getitem__)
        self._required = [names.index(name) for name in bound.missing]
        self._duration = names.index("duration") if "duration" in names else None
        self._starts = [
            f"{',' if index else ''}{_in_quotes(name)}:" for index, name in enumerate(columns)
        ]
        self._settings: dict[tuple[str, ...], str] = {}
        self._estimates: dict[str, int | None] = {}

    def check(self, rows: Sequence[Row], *, file: str) -> Taken:
        """Check plain rows, all of this model.

        Args:
            rows: Some rows.
            file: Where those stand that do not say it.
        """
        lines, cells, ids, _, _, _, keys, _, _, _, _, _, files, _, _ = zip(*rows, strict=True)
        columns = list(zip(*[row.values() for row in cells], strict=True))
        texts = list(map(_cell_texts, columns))
        members = [column.members(columns[i], texts[i]) for i, column in self._inputs]
        faulty = {place for found in members for place in found.faulty}
        for required in self._required:
            if "" in members[required].sent:
                faulty.update(i for i, text in enumerate(members[required].sent) if not text)
        if not _are_fit(ids):
            faulty.update(i for i, row_id in enumerate(ids) if not _is_fit(row_id))

        hashes = input_hashes(
            self._model.id, _joined([members[i].hashed for i in self._by_name], len(rows))
        )
        sent = _objects([found.sent for found in members], len(rows))
        settings = self._settings_of(members, len(rows))
        count = len(rows)
        found: Any = JobSpec
        columns = found(
            file=[it or file for it in files],
            line=lines,
            row_id=[
                row_id or base[:ROW_ID_DIGITS] for row_id, base in zip(ids, hashes, strict=True)
            ],
            has_id=list(map(bool, ids)),
            variant=[""] * count,
            variant_kind=[""] * count,
            model=[self._model.id] * count,
            inputs_json=sent,
            input_hash=hashes,
            cells_json=self._cells(texts),
            input_columns=[self._input_columns] * count,
            result_key=keys if self._use_keys else [None] * count,
            est_micros=self._estimates_of(members, count),
            draw_seed=[False] * count,
            settings=settings,
        )
        if faulty:
            ids = tuple(row_id for i, row_id in enumerate(ids) if i not in faulty)
            keys = tuple(key for i, key in enumerate(keys) if i not in faulty)
        unkeyed, keyed = list(ids), []
        if self._use_keys:
            unkeyed = [row_id for row_id, key in zip(ids, keys, strict=True) if not key]
            keyed = [row_id for row_id, key in zip(ids, keys, strict=True) if key]
        return Taken(
            columns,
            faulty,
            count - len(faulty),
            map(hash, filter(None, unkeyed)),
            map(hash, filter(None, keyed)),
            map(hash, filter(None, keys)) if self._use_keys else (),
        )

    def _cells(self, texts: Sequence[Sequence[str]]) -> list[str]:
        parts: list[Iterable[str]] = []
        for start, column in zip(self._starts, texts, strict=True):
            parts += [repeat(start), column]
        return [f"{{{row}}}" for row in map("".join, zip(*parts, strict=False))]

    def _settings_of(self, members: Sequence[Members], count: int) -> list[str]:
        chosen = [members[i].settings for i in self._by_name]
        parts = [part for part in chosen if part is not None]
        if not parts:
            return ["{}"] * count
        return _remembered(
            self._settings, zip(*parts, strict=True), lambda row: f"{{{''.join(row)[:-1]}}}"
        )

    def _estimates_of(self, members: Sequence[Members], count: int) -> list[int | None]:
        if self._duration is None:
            return [estimate_micros(self._model, {})] * count
        return _remembered(self._estimates, members[self._duration].sent, self._estimate)

    def _estimate(self, text: str) -> int | None:
        return estimate_micros(self._model, json.loads(f"{{{text[:-1]}}}"))


class _Column:
    """A column whose values are looked at one by one, equal ones once."""

    def __init__(self, form: Form, pair: Pair) -> None:
        self.name = str(pair.path[0])
        self._form = form
        self._convert = pair.convert
        self._schema: Schema = form.properties[self.name]
        self._is_seed = self.name == form.model.seed
        self._start = f"{_in_quotes(self.name)}:"
        self._known: dict[Any, tuple[str, str, str, bool]] = {}

    def members(self, values: Sequence[Any], texts: Sequence[str]) -> Members:
        """Return the members that the values are.

        Args:
            values: Cells.
            texts: The same as JSON.
        """
        known = self._known
        try:
            found = [known[value] for value in values]
        except (KeyError, TypeError):  # TypeError: a list or mapping
            found = [self._verdict(value) for value in values]
        sent, hashed, settings, is_fine = zip(*found, strict=True)
        faulty = () if all(is_fine) else [i for i, fine in enumerate(is_fine) if not fine]
        return Members(sent, hashed, settings if any(settings) else None, faulty)

    def _verdict(self, value: Any) -> tuple[str, str, str, bool]:
        if isinstance(value, str):
            if len(value) > _LONGEST_REMEMBERED:
                return self._judged(value)
            key: Any = value
        elif isinstance(value, int):
            key = (value.__class__, value)  # 1 is not True
        else:
            return self._judged(value)
        if key not in self._known:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._judged(value)
        return self._known[key]

    def _judged(self, value: Any) -> tuple[str, str, str, bool]:
        if value is None or (isinstance(value, str) and not value.strip()):
            return "", "", "", True
        try:
            typed = self._convert(value)
        except ValueError:
            return "", "", "", False
        if any(self._form.problems({self.name: typed})):
            return "", "", "", False
        hashed = "" if is_default(typed, self._schema) else member(self.name, typed)
        is_chosen = not self._is_seed and is_setting(typed, self._schema)
        return f"{self._start}{encoded(typed)},", hashed, hashed if is_chosen else "", True


class _Texts(_Column):
    """A column of texts that are sent as they are, bounded in length at most."""

    def __init__(self, form: Form, pair: Pair) -> None:
        super().__init__(form, pair)
        self._most = self._schema.get("maxLength")
        self._width = 2 if form.model.utf16_lengths else 1

    def members(self, values: Sequence[Any], texts: Sequence[str]) -> Members:
        """See `_Column.members`."""
        try:
            everything = "".join(values)
            everything.encode()
        except (TypeError, UnicodeEncodeError):  # not all are texts, or one is no JSON
            return super().members(values, texts)
        start = self._start
        sent = [
            f"{start}{text}," if value and not value.isspace() else ""
            for value, text in zip(values, texts, strict=True)
        ]
        hashed = sent
        if "?" in everything or "\r" in everything:
            hashed = self._hashed(values, sent)
        return Members(sent, hashed, None, self._faulty(values, sent))

    def _hashed(self, values: Sequence[str], sent: Sequence[str]) -> list[str]:
        return [
            text
            if not text or ("?" not in value and "\r" not in value)
            else f"{self._start}{_in_quotes(canonical(value))},"
            for value, text in zip(values, sent, strict=True)
        ]

    def _faulty(self, values: Sequence[str], sent: Sequence[str]) -> Iterable[int]:
        most, width = self._most, self._width
        if most is None or max(map(len, values)) * width <= most:
            return ()
        return [
            i
            for i, value in enumerate(values)
            if len(value) * width > most
            and sent[i]
            and not (len(value) <= most and value.isascii())
            and any(self._form.problems({self.name: value}))
        ]


class _Urls(_Texts):
    """A column of URLs."""

    def __init__(self, form: Form, pair: Pair) -> None:
        super().__init__(form, pair)
        self._allow_private = form.allow_private
        self._public = PublicUrls()

    def members(self, values: Sequence[Any], texts: Sequence[str]) -> Members:
        """See `_Column.members`."""
        try:
            stripped = [value.strip() for value in values]
            "".join(stripped).encode()
        except (AttributeError, UnicodeEncodeError):  # not all are texts, or one is no JSON
            return _Column.members(self, values, texts)
        if stripped != list(values):
            values, texts = stripped, list(map(_in_quotes, stripped))
        return super().members(values, texts)

    def _faulty(self, values: Sequence[str], sent: Sequence[str]) -> Iterable[int]:
        faulty = super()._faulty(values, sent)
        if self._public.are_all([value for value in values if value]):
            return faulty
        allow = self._allow_private
        return [
            *faulty,
            *[
                i
                for i, value in enumerate(values)
                if value and url_problem(value, allow_private=allow)
            ],
        ]


class _Integers(_Column):
    """A column of whole numbers between bounds."""

    def __init__(self, form: Form, pair: Pair) -> None:
        super().__init__(form, pair)
        self._least = self._schema.get("minimum", 0)
        self._most = self._schema.get("maximum", 10**18)

    def _judged(self, value: Any) -> tuple[str, str, str, bool]:
        is_plain = value.__class__ is int or (
            isinstance(value, str) and _PLAIN_INTEGER.fullmatch(value)
        )
        if not is_plain or not self._least <= int(value) <= self._most:
            return super()._judged(value)
        text = f"{self._start}{value},"
        return text, text, "" if self._is_seed else text, True


def _column(form: Form, pair: Pair) -> _Column:
    schema = form.properties[str(pair.path[0])]
    named = schema.get("type")
    kind = HOUSE_TYPES.get(named, named) if isinstance(named, str) else None
    rules = schema.keys() - _SAYS_NOTHING
    is_media = str(pair.path[0]) in form.model.media or media_kind(schema, form.model.schema)
    if kind == "string" and rules <= {"maxLength"}:
        return _Urls(form, pair) if is_media else _Texts(form, pair)
    if kind == "integer" and rules <= {"minimum", "maximum"}:
        return _Integers(form, pair)
    return _Column(form, pair)


def _remembered(
    known: dict[Any, Any], keys: Iterable[Any], find: Callable[[Any], Any]
) -> list[Any]:
    """Return what is found for each key; it is remembered for the next time."""
    if len(known) > MOST_REMEMBERED:
        known.clear()
    found = []
    for key in keys:
        if key not in known:
            known[key] = find(key)
        found.append(known[key])
    return found


def _cell_texts(values: Sequence[Any]) -> list[str]:
    try:
        return list(map(_in_quotes, values))
    except TypeError:  # not all are texts
        return list(map(encoded, values))


def _joined(parts: Sequence[Sequence[str]], count: int) -> Iterable[str]:
    return map("".join, zip(*parts, strict=True)) if parts else repeat("", count)


def _objects(parts: Sequence[Sequence[str]], count: int) -> list[str]:
    return [f"{{{members[:-1]}}}" for members in _joined(parts, count)]


def _are_fit(ids: Sequence[Any]) -> bool:
    """Return whether all ids are there and of letters and digits only; False if it may be."""
    try:
        everything = "".join(ids)
    except TypeError:
        return False
    return (
        everything.isascii()
        and not everything.encode().translate(None, _PLAIN_LETTERS)
        and {row_id[:1] for row_id in ids}.isdisjoint(("", "-", "."))
        and max(map(len, ids)) <= MAX_ID
    )


def _is_fit(row_id: Any) -> bool:
    """Return whether a row's id is none or one without a fault, as a text without outer spaces."""
    if row_id is None:
        return True
    if not isinstance(row_id, str):
        return False
    return row_id == row_id.strip() and name_problem(row_id, most=MAX_ID) is None
