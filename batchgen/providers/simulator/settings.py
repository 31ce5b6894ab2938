"""How the stand-in service behaves, and which faults it shows when.

A fault can also ride in the inputs of one job: any text input that contains
`[[fault:generation]]`, `[[fault:generation=SAFETY.INPUT.TEXT]]` (with a code) or
`[[fault:file_404*2]]` (the first two times only) shows that fault, whatever the settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum, StrEnum
from typing import Any, get_type_hints


class Stage(Enum):
    """At which moment a fault is decided, and what its `nth` counts."""

    REFUSE = "nth counts the submits seen; nothing is accepted"
    SPOIL = "nth counts the submits seen; the request is accepted, the answer is spoilt"
    GENERATE = "nth counts the accepted requests"
    LOOK = "nth counts the looks at one request, status and result together"
    FILE = "nth counts the fetches (GET) of one request's file"


class Kind(StrEnum):
    """Everything that can go wrong; `STAGES` says at which moment."""

    DROP_BEFORE = "drop_before"  # the connection is reset
    CLOSE_BEFORE = "close_before"  # the connection is closed
    THROTTLE = "throttle"  # 429; `seconds` becomes Retry-After
    SERVER_ERROR = "server_error"  # 500 JSON
    BAD_GATEWAY = "bad_gateway"  # 502 HTML
    REQUEST_TIMEOUT = "request_timeout"  # 408
    NO_BALANCE = "no_balance"  # 400, 400002
    NO_BALANCE_200 = "no_balance_200"  # the same code under HTTP 200
    PAYMENT_REQUIRED = "payment_required"  # 402
    UNAUTHORIZED = "unauthorized"  # 401
    ACCOUNT_ERROR = "account_error"  # 400, 400004
    FORBIDDEN = "forbidden"  # 403, 403001
    MODEL_UNKNOWN = "model_unknown"  # 400, 400001
    INVALID = "invalid"  # 422, 422001
    GATEWAY_404 = "gateway_404"  # 404 HTML, no code

    DROP_AFTER = "drop_after"  # accepted, then the connection is reset
    CLOSE_AFTER = "close_after"  # accepted, then the connection is closed
    HALF_ANSWER = "half_answer"  # accepted, then closed in the middle of the body
    GARBAGE = "garbage"  # accepted, 200 with something that is not JSON
    NO_ID = "no_id"  # accepted, 200 without id and without code
    ERROR_AFTER = "error_after"  # accepted, 500 JSON
    GATEWAY_AFTER = "gateway_after"  # accepted, 504 HTML
    SLOW = "slow"  # accepted, the right answer after `seconds`

    GENERATION = "generation"  # fails with `code` (INTERNAL if none)
    CANCELLED = "cancelled"  # the service ends it as cancelled by itself
    STUCK = "stuck"  # never ends
    LOST = "lost"  # 404001 from `seconds` after its acceptance
    UNKNOWN_STATE = "unknown_state"  # the first `count` looks say `code` (warming_up if none)
    COST_LATE = "cost_late"  # no cost on the first `count` looks after the success
    RESULT_LATE = "result_late"  # `count` results after the end say in_progress, or `code`
    OUTPUT = "output"  # the output has the shape `code`, see `Settings.output`

    LOOK_504 = "look_504"  # HTML
    LOOK_500 = "look_500"  # JSON
    LOOK_404 = "look_404"  # 404001
    LOOK_429 = "look_429"  # `seconds` becomes Retry-After
    LOOK_HTML = "look_html"  # 200 with a page
    LOOK_DROP = "look_drop"  # the connection is reset
    LOOK_SLOW = "look_slow"  # the right answer after `seconds`

    FILE_403 = "file_403"
    FILE_404 = "file_404"
    FILE_410 = "file_410"
    FILE_500 = "file_500"
    FILE_HTML = "file_html"  # 200 with a page instead of the clip
    FILE_EMPTY = "file_empty"  # 200 with no byte
    FILE_TRUNCATED = "file_truncated"  # the right length is stated, half arrives
    FILE_CHANGED = "file_changed"  # half of another version arrives, then the connection breaks
    FILE_WRONG_LENGTH = "file_wrong_length"  # half is stated and half arrives
    FILE_NO_LENGTH = "file_no_length"  # whole, chunked, no length stated
    FILE_SLOW = "file_slow"  # whole, spread over `seconds`
    FILE_REDIRECT = "file_redirect"  # 302 to a place that serves it, on host `code` if given
    FILE_DROP = "file_drop"  # the connection is reset


def _stage(kind: Kind) -> Stage:
    if kind.value.startswith("file_"):
        return Stage.FILE
    if kind.value.startswith("look_"):
        return Stage.LOOK
    order = list(Kind)
    if order.index(kind) < order.index(Kind.DROP_AFTER):
        return Stage.REFUSE
    return Stage.SPOIL if order.index(kind) < order.index(Kind.GENERATION) else Stage.GENERATE


STAGES: dict[Kind, Stage] = {kind: _stage(kind) for kind in Kind}

OUTPUT_SHAPES = ("object", "videos", "string", "list", "mixed", "none")
ERROR_SHAPES = ("object", "string", "failure_reason", "none")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and when.

    It shows if `prompt` is found in the inputs (where given) and, of `nth` and `rate`,
    what is given agrees; with neither it shows every time.

    Attributes:
        kind: What goes wrong.
        rate: Probability, drawn from the seeded generator.
        nth: On which numbers, counted from 1; `Stage` says of what.
        prompt: A text that some input must contain.
        times: At most so many times in all; None is no bound.
        code: The failure code, word or shape that `kind` speaks of.
        seconds: The time that `kind` speaks of.
        count: The number of looks that `kind` speaks of.
    """

    kind: Kind
    rate: float | None = None
    nth: tuple[int, ...] = ()
    prompt: str | None = None
    times: int | None = None
    code: str | None = None
    seconds: float | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.kind is Kind.OUTPUT and self.code not in OUTPUT_SHAPES:
            raise ValueError(f"output: {self.code!r} is none of {', '.join(OUTPUT_SHAPES)}")


@dataclass(frozen=True)
class Settings:
    """How the service behaves. The default is instant, generous and faultless.

    Attributes:
        token: The one token that is good; None takes any, and none.
        seed: Of every draw: durations and fault rates. Request ids are never repeated.
        queue_s: Shortest and longest wait in the queue, uniform.
        run_s: Shortest and longest generation, uniform. (0, 0) is done at the first look.
        run_median_s: If set, generations are lognormal around this median instead.
        run_sigma: Sigma of that lognormal.
        slots: How many generate at once, the others queue; None is all.
        max_in_flight: From how many unfinished requests on submits are refused (429).
        submits_per_s: How many submits a second are taken before refusing (429).
        retry_after_s: What those refusals state as Retry-After; None states nothing.
        price_per_s_micros: Price of a second of clip (input `duration`, 5 if absent).
        price_spread: Each request costs a random share more or less, up to this (0.2: ±20 %).
        catalog_per_s_micros: What the catalog states instead of the true price.
        cost_stated: Whether `?include_cost=true` shows the cost.
        charge_failed: Whether a failed generation costs.
        charge_at_end: Whether the wallet pays when a clip is made, not when it is asked for.
        balance_told: Whether the balance page answers.
        wallet_micros: What the account holds; submits it cannot pay are refused (400002).
        revoke_after: The token is refused everywhere after so many accepted requests.
        token_status: HTTP status of a refused token: 401, 403 (403001) or 400 (400004).
        models: The model ids that exist; None is any.
        strict: Refuse known models' missing or wrong inputs (422001) as some have seen.
        markers: Whether `[[fault:...]]` in inputs counts.
        recognise_earlier: Whether ids of an earlier run of this service are still known.
        output: Shape of `output`: `object` ({"video": url}), `videos`, `string`, `list`,
            `mixed` (an `image` beside `videos`) or `none`.
        outputs: How many clips a request yields (`videos`, `list` and `mixed`).
        error_shape: How a failure is told: `object`, `string`, `failure_reason`, `none`.
        echo_inputs: Whether results repeat the inputs, their URLs included.
        times_stated: Whether results carry `created_at` and `finished_at`.
        synonyms: Say `COMPLETED` and `canceled` where others say succeeded and cancelled.
        link_life_s: How long an output URL works (then 403; a fresh result has a fresh
            one); None is for ever.
        clip_bytes: Size that clips are padded to; None is their own.
        down: Everything answers 503 with a page.
        faults: What goes wrong.
    """

    token: str | None = None
    seed: int = 0
    queue_s: tuple[float, float] = (0.0, 0.0)
    run_s: tuple[float, float] = (0.0, 0.0)
    run_median_s: float | None = None
    run_sigma: float = 0.3
    slots: int | None = None
    max_in_flight: int | None = None
    submits_per_s: int | None = None
    retry_after_s: float | None = None
    price_per_s_micros: int = 50_000
    price_spread: float = 0.0
    catalog_per_s_micros: int | None = None
    cost_stated: bool = True
    charge_failed: bool = False
    charge_at_end: bool = False
    balance_told: bool = True
    wallet_micros: int | None = None
    revoke_after: int | None = None
    token_status: int = 401
    models: frozenset[str] | None = None
    strict: bool = False
    markers: bool = True
    recognise_earlier: bool = False
    output: str = "object"
    outputs: int = 1
    error_shape: str = "object"
    echo_inputs: bool = False
    times_stated: bool = True
    synonyms: bool = False
    link_life_s: float | None = None
    clip_bytes: int | None = None
    down: bool = False
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("output", self.output, OUTPUT_SHAPES),
            ("error_shape", self.error_shape, ERROR_SHAPES),
            ("token_status", self.token_status, (400, 401, 403)),
        ):
            if value not in known:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(map(str, known))}")


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with the changes that a JSON object names; other fields stay.

    Raises:
        ValueError: If a name is unknown or a value has the wrong type.
    """
    return replace(settings, **_typed(Settings, changes))


def as_json(settings: Settings) -> dict[str, Any]:
    """Return settings as `changed` takes them; the token is left out."""
    body = {item.name: getattr(settings, item.name) for item in fields(settings)}
    del body["token"]
    body["models"] = None if settings.models is None else sorted(settings.models)
    body["faults"] = [
        {item.name: getattr(fault, item.name) for item in fields(fault)}
        for fault in settings.faults
    ]
    return body


def marked(text: str) -> tuple[Fault, ...]:
    """Return the faults that a text asks for.

    Raises:
        ValueError: If it names a kind that does not exist.
    """
    return tuple(
        Fault(
            kind=Kind(kind),
            code=code or None,
            nth=tuple(range(1, int(number) + 1)) if number else (),
            seconds=1.0 if "slow" in kind else None,
        )
        for kind, code, number in _MARKER.findall(text)
    )


_MARKER = re.compile(r"\[\[fault:(\w+)(?:=([\w.:-]+))?(?:\*(\d{1,4}))?\]\]")


def _typed(cls: type[Settings | Fault], values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    if unknown := sorted(values.keys() - hints.keys()):
        raise ValueError(f"{', '.join(unknown)}: there is no such setting")
    return {name: _value(name, value, str(hints[name])) for name, value in values.items()}


def _value(name: str, value: Any, hint: str) -> Any:
    match name:
        case "faults" if isinstance(value, list | tuple):
            return tuple(_fault(item) for item in value)
        case "kind" if isinstance(value, str):
            return Kind(value)
        case "models" if isinstance(value, list | tuple):
            return frozenset(value)
        case "nth" if isinstance(value, list | tuple) and all(type(n) is int for n in value):
            return tuple(value)
        case "queue_s" | "run_s":
            return _span(name, value)
        case _:
            return _scalar(name, value, hint)


def _scalar(name: str, value: Any, hint: str) -> Any:
    if value is None and "None" in hint:
        return None
    scalars = {
        "bool": (bool,),
        "float": (float, int),
        "int": (int,),
        "str": (str,),
    }
    for word, types in scalars.items():
        if re.search(rf"\b{word}\b", hint) and "[" not in hint and type(value) in types:
            return value
    raise ValueError(f"{name}: {value!r} does not fit")


def _fault(value: Any) -> Fault:
    if not isinstance(value, Mapping) or "kind" not in value:
        raise ValueError(f"faults: {value!r} is no object with a kind")
    return Fault(**_typed(Fault, value))


def _span(name: str, value: Any) -> tuple[float, float]:
    if type(value) in (int, float):
        return (value, value)
    if (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(type(part) in (int, float) for part in value)
        and 0 <= value[0] <= value[1]
    ):
        return (value[0], value[1])
    raise ValueError(f"{name}: {value!r} is neither a number nor [shortest, longest]")
