"""What an input file must be, and whether what a probe found of it will do.

A *fault* is definite: the same request would fail whenever it is sent, so it is not paid for.
What may be the network's mood, or cannot be judged from here, is a *warning*.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeGuard

from batchgen.domain.jobs import Model

_MB = 1_000_000
_MIB = 1024 * 1024
_RULE = re.compile(r"(width_pixels|height_pixels|width/height|height/width|file_size_mb)([<>]=?)")
_RECOMMENDED_MB = {"image": 50, "video": 100}  # at most, by RunComfy's documentation
_INLINE_BYTES = {"image": 6 * _MIB, "video": 32 * _MIB, "audio": 16 * _MIB}  # RunComfy's clients
_UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})


LARGEST_REQUEST_BYTES = 60 * _MIB
"""What all files inside of one request may come to: the service takes 64 MiB with all the rest."""


class Problem(StrEnum):
    """Why a file could not be looked at as it should be; values are stored."""

    URL = "url"
    PRIVATE = "private"
    NO_HOST = "no_host"
    CERTIFICATE = "certificate"
    REDIRECT = "redirect"
    STATUS = "status"
    EMPTY = "empty"
    TEXT = "text"  # the bytes are a page, whatever the type says
    BUSY = "busy"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    GIVEN_UP = "given_up"  # its host did not answer others


MOODS = frozenset({Problem.BUSY, Problem.TIMEOUT, Problem.UNREACHABLE, Problem.GIVEN_UP})
"""What may be otherwise in a minute."""


@dataclass(frozen=True)
class Facts:
    """What one URL answered.

    Attributes:
        problem: What prevented a look at the file; None if there was one.
        said: More about the problem, without secrets; without one, a trait that some mind.
        http_status: Of the newest answer.
        content_type: As stated, lower case, without parameters; "" if it was not stated.
        size_bytes: The whole file's length as stated, None if it was not.
        width: Pixels, None if they were not read.
        height: Pixels.
    """

    problem: Problem | None = None
    said: str = ""
    http_status: int | None = None
    content_type: str = ""
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Rule:
    """One of a model's `validations`: a measure, how it compares, with what, and its words."""

    measure: str
    sign: str
    value: float
    words: str


@dataclass(frozen=True)
class Fetcher:
    """What the program that fetches a model's files is known to insist on.

    Attributes:
        types: By kind of media, the only content types it takes; a kind that is not in it may
            have any type of its kind.
        redirects: Whether it follows them.
        needs_length: Whether it refuses a file whose length is not stated.
        asks_head: Whether it sends HEAD first.
        inline_characters: How long a data URI it takes at most; None is not known.
    """

    types: Mapping[str, frozenset[str]]
    redirects: bool = True
    needs_length: bool = False
    asks_head: bool = False
    inline_characters: int | None = None


FETCHERS: Mapping[str, Fetcher] = {
    # Runway's documented asset rules, which a file must meet whoever passes its URL on.
    "runway": Fetcher(
        types={"image": frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})},
        redirects=False,
        needs_length=True,
        asks_head=True,
        inline_characters=5_000_000,
    ),
    # Of the others only this is documented: publicly reachable by a plain GET.
    "": Fetcher(types={}),
}
"""By the name in a model's `fetcher`."""


@dataclass(frozen=True)
class Need:
    """What a file must be for one input of a model.

    Attributes:
        kind: `image`, `video` or `audio`.
        fetcher: Who fetches it, a name in `FETCHERS`.
        rules: The model's own.
    """

    kind: str
    fetcher: str
    rules: tuple[Rule, ...]

    @property
    def needs_pixels(self) -> bool:
        """Whether a rule is about width or height."""
        return any(rule.measure != "file_size_mb" for rule in self.rules)


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a file; it may be used if there are no faults."""

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_fault(self) -> bool:
        """Whether the file cannot be used."""
        return bool(self.faults)


def need_of(model: Model, place: str, kind: str) -> Need:
    """Return what a file must be.

    Args:
        model: Which model takes it.
        place: Of which input, as a column names it: `image`, `images.0`, `elements.0.image`.
        kind: `image`, `video` or `audio`.
    """
    fetcher = model.fetcher if model.fetcher in FETCHERS else ""
    return Need(kind, fetcher, tuple(_rules(_schema_of(model.schema, place))))


def judge(facts: Facts, need: Need) -> Verdict:
    """Return whether what a probe found will do for an input."""
    fetcher = FETCHERS[need.fetcher]
    if facts.problem is Problem.REDIRECT:
        return _judge_redirect(facts, fetcher)
    if facts.problem is not None:
        words = _words(facts)
        return Verdict(warnings=(words,)) if facts.problem in MOODS else Verdict((words,))
    faults: list[str] = []
    warnings: list[str] = []
    _check_type(facts, need, fetcher, faults, warnings)
    if facts.size_bytes is None and fetcher.needs_length:
        faults.append("the server does not state its length (Content-Length), which is needed")
    if facts.said and fetcher.asks_head:
        warnings.append(f"{facts.said}, which the service's fetcher sends first")
    most_mb = _RECOMMENDED_MB.get(need.kind)
    if most_mb and facts.size_bytes is not None and facts.size_bytes > most_mb * _MIB:
        warnings.append(f"it has {facts.size_bytes / _MB:,.1f} MB: more than {most_mb} may not do")
    for rule in need.rules:
        _check_rule(rule, facts, faults, warnings)
    # What may be is not worth a word beside what is.
    return Verdict(tuple(dict.fromkeys(faults)), () if faults else tuple(dict.fromkeys(warnings)))


def inline_characters(content_type: str, size_bytes: int) -> int:
    """Return how long the data URI of a file is."""
    return len(f"data:{content_type};base64,") + 4 * -(-size_bytes // 3)


def inline_problem(facts: Facts, need: Need) -> str | None:
    """Return why a file cannot be put into the request itself, None if it can."""
    size_bytes = facts.size_bytes or 0
    most_bytes = _INLINE_BYTES[need.kind]
    most_characters = FETCHERS[need.fetcher].inline_characters
    if most_characters is not None:
        most_bytes = min(most_bytes, (most_characters - 100) // 4 * 3)
    if size_bytes <= most_bytes:
        return None
    return (
        f"it has {size_bytes / _MB:,.1f} MB: inside of a request {_a(need.kind)} may have "
        f"{most_bytes / _MB:,.1f} at most; name a bucket with --uploads, or make it smaller"
    )


def _judge_redirect(facts: Facts, fetcher: Fetcher) -> Verdict:
    where = f"it redirects to <{facts.said}>" if facts.said else "it redirects"
    if fetcher.redirects:
        return Verdict(warnings=(f"{where}: not looked at further",))
    return Verdict((f"{where} and no redirect is followed: give the URL it leads to",))


def _words(facts: Facts) -> str:
    status = facts.http_status
    if facts.problem is not Problem.STATUS:
        return facts.said
    if status in (404, 410):
        return f"HTTP {status}: there is no such file"
    if status in (401, 403):
        return (
            f"HTTP {status}: it needs a login, or the link has expired: give a public URL, or "
            "sign it anew"
        )
    return f"HTTP {status}: the file is not given out"


def _check_type(
    facts: Facts, need: Need, fetcher: Fetcher, faults: list[str], warnings: list[str]
) -> None:
    stated = facts.content_type or "without a content type"
    allowed = fetcher.types.get(need.kind)
    if allowed is not None:
        if facts.content_type not in allowed:
            faults.append(f"it is {stated}; only {', '.join(sorted(allowed))} are taken")
    elif facts.content_type in _UNTYPED:
        if facts.width is None:
            warnings.append(f"it is {stated}: whether it is {_a(need.kind)} cannot be told")
    elif not facts.content_type.startswith(f"{need.kind}/"):
        faults.append(f"it is {stated}, not {_a(need.kind)}")


def _check_rule(rule: Rule, facts: Facts, faults: list[str], warnings: list[str]) -> None:
    if rule.measure == "file_size_mb":
        if facts.size_bytes is None:
            return
        # Nobody says which megabyte is meant: beyond both it is a fault.
        fits = [_fits(facts.size_bytes / unit, rule) for unit in (_MB, _MIB)]
        if not all(fits):
            found = f"it has {facts.size_bytes / _MB:,.1f} MB"
            (warnings if any(fits) else faults).append(_broken(found, rule))
        return
    if not facts.width or not facts.height:
        warnings.append("its width and height could not be read from its first bytes")
        return
    measures = {
        "width_pixels": facts.width,
        "height_pixels": facts.height,
        "width/height": facts.width / facts.height,
        "height/width": facts.height / facts.width,
    }
    if not _fits(measures[rule.measure], rule):
        faults.append(_broken(f"it has {facts.width}x{facts.height} pixels", rule))


def _fits(found: float, rule: Rule) -> bool:
    match rule.sign:
        case "<":
            return found < rule.value
        case "<=":
            return found <= rule.value
        case ">":
            return found > rule.value
        case _:
            return found >= rule.value


def _broken(found: str, rule: Rule) -> str:
    words = rule.words.strip().rstrip(".") or f"{rule.measure} must be {rule.sign} {rule.value:g}"
    return f"{found}: {words}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _rules(schema: Mapping[str, Any]) -> Iterator[Rule]:
    items = schema.get("items")
    stated = [schema.get("validations"), items.get("validations") if _is_map(items) else None]
    for one in (rule for rules in stated if isinstance(rules, list) for rule in rules):
        found = _RULE.fullmatch(str(one.get("validation_rule", ""))) if _is_map(one) else None
        value = one.get("validation_value") if found else None
        if found and isinstance(value, int | float) and not isinstance(value, bool):
            yield Rule(found[1], found[2], float(value), str(one.get("validation_error") or ""))


def _schema_of(schema: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    found: Any = schema
    for part in place.split("."):
        if part.isdigit():
            continue
        while _is_map(found) and "properties" not in found and _is_map(found.get("items")):
            found = found["items"]
        properties = found.get("properties") if _is_map(found) else None
        found = properties.get(part) if _is_map(properties) else None
    return found if _is_map(found) else {}


def _is_map(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
