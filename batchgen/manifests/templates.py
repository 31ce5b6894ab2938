"""Templates in YAML values: a small, sandboxed part of Jinja.

Allowed is what fills prompts: variables, filters, conditions, loops, and `choice`. A template
cannot reach Python's objects, and cannot take long or grow large: names of nodes and filters are
allow-listed, loops are counted, and whatever multiplies text is bounded.
"""

import hashlib
import json
import keyword
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from batchgen.domain.jobs import encoded
from batchgen.domain.spelling import suggestion
from batchgen.manifests.positions import UNPRINTABLE

FUNCTIONS = frozenset({"range", "choice"})
"""What a template may call."""

Choose = Callable[[int, list[Any]], Any]
"""Picks one of some options; the number says which call of the template asks."""

MAX_OUTPUT = 100_000  # characters; prompts have a thousand
MAX_STEPS = 10_000  # turns of all loops of one template together
MAX_WORK = 500_000  # characters and elements looked at, and what is in loops by their turns
MOST_BITS = 1024  # of a whole number; schemas have 64
MOST_DIGITS = 20  # that `round` keeps or takes away; a float has 17

_MARKS = ("{{", "{%", "{#")
_WORDS = frozenset({"loop", "self", "true", "false", "none", "True", "False", "None"})
_NODES = frozenset(
    {
        "Template",
        "Output",
        "TemplateData",
        "Name",
        "Const",
        "Getattr",
        "Getitem",
        "Slice",
        "Filter",
        "Test",
        "Compare",
        "Operand",
        "And",
        "Or",
        "Not",
        "CondExpr",
        "If",
        "For",
        "Concat",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "FloorDiv",
        "Mod",
        "Neg",
        "Pos",
        "List",
        "Tuple",
        "Dict",
        "Pair",
        "Keyword",
        "Call",
    }
)
_FILTERS = frozenset(
    {
        "abs",
        "capitalize",
        "d",
        "default",
        "first",
        "float",
        "int",
        "join",
        "last",
        "length",
        "lower",
        "max",
        "min",
        "replace",
        "reverse",
        "round",
        "sort",
        "string",
        "sum",
        "title",
        "trim",
        "unique",
        "upper",
    }
)
_QUICK = frozenset({"d", "default", "first", "last", "length"})  # however large the value is
_TESTS = frozenset(
    {
        "boolean",
        "defined",
        "divisibleby",
        "eq",
        "even",
        "ge",
        "gt",
        "in",
        "integer",
        "le",
        "lower",
        "lt",
        "mapping",
        "ne",
        "none",
        "number",
        "odd",
        "sequence",
        "string",
        "undefined",
        "upper",
    }
)


class TemplateFault(Exception):
    """A template cannot be rendered; the message says why."""


@dataclass(frozen=True)
class Template:
    """One text, compiled.

    Attributes:
        names: The variables it uses.
        is_guarded: Whether it asks itself if one of them is there.
        chooses: Whether it calls `choice`.
        literal: The text around its expressions.
        code: Jinja's template.
    """

    names: frozenset[str]
    is_guarded: bool
    chooses: bool
    literal: str
    code: Any


def is_template(text: str) -> bool:
    """Return whether a text has anything in it that a template would fill."""
    return any(mark in text for mark in _MARKS)


def variable_problem(name: str) -> str | None:
    """Return why templates could not use a variable of this name, None if they can."""
    if not name.isidentifier():
        return "is not a name a template can use: letters, digits and _ only"
    if name in FUNCTIONS or name in _WORDS or keyword.iskeyword(name):
        return "is a word of the templates themselves: take another name"
    return None


def pick(identity: str, call: int, options: list[Any]) -> Any:
    """Return one of some options, always the same for the same identity and call.

    Each option draws a number of its own, and the highest wins (rendezvous hashing, Thaler and
    Ravishankar 1998): so the order of the options does not matter, an option that is added
    changes only the picks that it wins, and one that is removed only those that it had won. An
    option that is there twice has two numbers. A change here changes prompts, and with them what
    is paid for again.
    """
    drawn = hashlib.sha256(json.dumps([identity, call]).encode())
    tickets: dict[str, int] = {}
    best: tuple[bytes, Any] | None = None
    for option in options:
        text = json.dumps(option, sort_keys=True)
        number = tickets[text] = tickets.get(text, 0) + 1
        ticket = drawn.copy()
        ticket.update(f" {number} {text}".encode())
        if best is None or ticket.digest() > best[0]:
            best = (ticket.digest(), option)
    if best is None:
        raise TemplateFault("template: `choice` needs at least one option")
    return best[1]


class Renderer:
    """Renders texts; each is compiled once, whatever variables it is filled with."""

    def __init__(self) -> None:
        self._templates: dict[str, Template] = {}
        self._environment: Any = None
        self._steps = 0
        self._calls = 0
        self._work = 0
        self._choose: Choose | None = None
        self._captured: Any = None

    def template(self, text: str) -> Template:
        """Return a text compiled.

        Raises:
            TemplateFault: If it is not a template, or asks for something that is not allowed.
        """
        if text not in self._templates:
            with _told_as_fault():
                self._templates[text] = self._compiled(text)
        return self._templates[text]

    def render(
        self,
        text: str,
        variables: Mapping[str, Any],
        *,
        choose: Choose | None = None,
        absent: Collection[str] = (),
    ) -> Any:
        """Return a text with its variables filled in; text without any comes back unchanged.

        A text that is one expression and nothing else gives the expression's value, so that a
        number stays a number.

        Args:
            text: What the user wrote.
            variables: By name.
            choose: Picks for `choice`; without it, `choice` is refused.
            absent: Variables that exist, but have no value here.

        Raises:
            TemplateFault: If it cannot be rendered.
        """
        if not is_template(text):
            return text
        template = self.template(text)
        if not template.is_guarded and not template.names <= variables.keys():
            for name in sorted(template.names - variables.keys()):
                if name in absent:
                    raise TemplateFault(_no_value(name))
            refuse_unknown(template, variables)
        self._steps = self._calls = self._work = 0
        self._choose, self._captured = choose, None
        with _told_as_fault():
            filled = self._bounded(template.code.generate(variables))
        if self._captured is None:
            return filled
        return _sendable(self._captured[0])

    def _compiled(self, text: str) -> Template:
        from jinja2 import meta, nodes

        if self._environment is None:
            self._environment = self._build()
        tree = self._environment.parse(text)
        _refuse_others(tree, nodes)
        names = frozenset(meta.find_undeclared_variables(tree)) - FUNCTIONS
        is_guarded = _guarded(tree, nodes)
        chooses = any(node.node.name == "choice" for node in tree.find_all(nodes.Call))
        literal = "\0".join(node.data for node in tree.find_all(nodes.TemplateData))
        _bound(tree, nodes)
        match tree.body:
            case [nodes.Output(nodes=[nodes.Expr() as only])] if not isinstance(
                only, nodes.TemplateData
            ):
                captured = nodes.Filter(only, "captured", [], [], None, None)
                tree.body[0].nodes[0] = captured
        code = self._environment.from_string(tree)
        return Template(names, is_guarded, chooses, literal, code)

    def _bounded(self, parts: Iterable[str]) -> str:
        kept: list[str] = []
        size = 0
        for part in parts:
            size += len(part)
            _refuse_size(size)
            kept.append(part)
        return "".join(kept)

    def _counted(self, values: Iterable[Any], size: int) -> Iterator[Any]:
        for value in values:
            self._steps += 1
            self._add_work(size)
            if self._steps > MAX_STEPS:
                raise TemplateFault(f"template: loops turn more than {MAX_STEPS:,} times")
            yield value

    def _weigh(self, value: Any) -> Any:
        self._add_work(_weight(value, most=MAX_WORK - self._work))
        return value

    def _add_work(self, size: int) -> None:
        self._work += size
        if self._work > MAX_WORK:
            raise TemplateFault(f"template: works on more than {MAX_WORK:,} characters or elements")

    def _weighing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter or a test that counts what it is given as work."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def weighing(*arguments: Any, **named: Any) -> Any:
            for value in (*arguments[first:], *named.values()):
                self._weigh(value)
            return function(*arguments, **named)

        return weighing

    def _capture(self, _context: Any, value: Any) -> str:
        from jinja2 import Undefined

        if isinstance(value, Undefined):
            return str(value)  # raises, and says which name it is
        self._captured = (value,)
        return ""

    def _choice(self, options: Any) -> Any:
        if self._choose is None:
            raise TemplateFault(
                "template: `choice` cannot be used here: it is for `vars`, and for the values of a "
                "job but its id"
            )
        if not isinstance(options, list | tuple | range):
            raise TemplateFault("template: `choice` needs a list, as choice([1, 2])")
        self._calls += 1
        return self._choose(self._calls, _sendable(options))

    def _build(self) -> Any:
        from jinja2 import StrictUndefined, pass_context
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        weigh = self._weigh

        class Sandbox(ImmutableSandboxedEnvironment):
            intercepted_binops = frozenset({"*", "%", "+"})

            def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
                weigh(_refuse_growth(operator, left, right))
                return super().call_binop(context, operator, left, right)

            def getattr(self, obj: Any, attribute: str) -> Any:
                # Of a mapping, its keys are meant, also one that is called `items`.
                if isinstance(obj, Mapping):
                    return self.getitem(obj, attribute)
                return super().getattr(obj, attribute)

            def getitem(self, obj: Any, argument: Any) -> Any:
                if isinstance(obj, Mapping):
                    if isinstance(argument, str) and argument in obj:
                        return obj[argument]
                    return self.undefined(_no_such_key(obj, argument))
                return super().getitem(obj, argument)

        environment = Sandbox(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,
            # With a context it keeps constant expressions from being run while compiling.
            finalize=pass_context(lambda _context, value: weigh(value)),
        )
        # Texts are short and most are used once; Jinja's optimizer would run constant
        # expressions while compiling, outside the bounds.
        environment.optimized = False
        own: dict[str, Callable[..., Any]] = {
            "replace": _bounded_replace,
            "join": _bounded_join,
            "round": _bounded_round(environment.filters["round"]),
            "sum": _bounded_sum(environment.filters["sum"]),
            "trim": _bounded_trim,
        }
        environment.filters = {
            name: function if name in _QUICK else self._weighing(own.get(name, function))
            for name, function in environment.filters.items()
            if name in _FILTERS
        } | {
            "weighed": self._weigh,
            "counted": self._counted,
            # A filter with a context is never run while compiling.
            "captured": pass_context(partial(self._capture)),
        }
        tests: Any = environment.tests
        environment.tests = {name: self._weighing(tests[name]) for name in sorted(_TESTS)}
        environment.globals = {"range": _bounded_range, "choice": self._choice}
        return environment


@contextmanager
def _told_as_fault() -> Iterator[None]:
    import jinja2

    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        said = str(error.message).rstrip(".")
        raise TemplateFault(
            f"is not a valid template: {said}: close it, or write {{{{ '{{{{' }}}} for plain braces"
        ) from None
    except jinja2.UndefinedError as error:
        raise TemplateFault(f"template: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TemplateFault(f"template: {error}") from None
    except RecursionError:
        raise TemplateFault("template: is nested too deeply") from None


def refuse_unknown(template: Template, known: Iterable[str]) -> None:
    """Look for variables that do not exist.

    Raises:
        TemplateFault: If there is one, and the template does not ask whether it is there.
    """
    unknown = sorted(template.names - set(known))
    if unknown and not template.is_guarded:
        raise TemplateFault(
            f"the variable `{unknown[0]}` is not defined: {suggestion(unknown[0], known)}variables "
            f"come from `vars`, `matrix`, `zip` and `from` (there: "
            f"{', '.join(sorted(known)) or 'none'})"
        )


def _no_value(name: str) -> str:
    return (
        f"the variable `{name}` has no value here: give it one, or write "
        f"{{{{ {name} | default('…') }}}}"
    )


def _no_such_key(mapping: Mapping[Any, Any], key: Any) -> str:
    names = [str(name) for name in mapping]
    return (
        f"there is no `{key}`: {suggestion(str(key), names)}there are {', '.join(names) or 'none'}"
    )


def _sendable(value: Any) -> Any:
    """Return a value as JSON can hold it.

    Raises:
        TemplateFault: If it cannot, or is too large.
    """
    value = _jsonable(value, _Room())
    _refuse_size(len(encoded(value)))
    return value


class _Room:
    """What a value may still hold."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, size: int) -> None:
        """Count what is added; refuse what is too much."""
        self.taken += size
        _refuse_size(self.taken)


def _jsonable(value: Any, room: _Room) -> Any:
    room.take(len(value) if isinstance(value, str) else 1)
    match value:
        case None | bool() | str():
            return value
        case int() if value.bit_length() <= MOST_BITS:
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            return {
                _jsonable(str(name), room): _jsonable(part, room) for name, part in value.items()
            }
        case int() | float():
            raise TemplateFault("template: gives a number that is too large")
        case Iterable():
            return [_jsonable(part, room) for part in value]
        case _:
            raise TemplateFault("template: gives nothing that can be sent")


def _weight(value: Any, *, most: int = MAX_OUTPUT) -> int:
    """Return how many characters and elements a value has, those of its parts included.

    A part that is there twice counts twice: it would be written twice. Beyond `most` it stops.
    """
    if isinstance(value, str):
        return len(value) + 1
    weight, waiting = 1, [value]
    while waiting and weight <= most:
        part = waiting.pop()
        if isinstance(part, str):
            weight += len(part)
        elif isinstance(part, list | tuple):
            weight += len(part)
            waiting += part
        elif isinstance(part, dict):
            weight += 2 * len(part)
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, range):
            weight += len(part)
        elif isinstance(part, int):
            weight += part.bit_length() // 64
    return weight


def _bound(tree: Any, nodes: Any) -> None:
    """Have what no filter sees counted all the same: loops, comparisons, `~`, slices."""

    def through(name: str, node: Any) -> Any:
        return nodes.Filter(node, name, [], [], None, None)

    kinds = (nodes.For, nodes.Compare, nodes.Operand, nodes.Concat, nodes.Getitem)
    for node in list(tree.find_all(kinds)):
        if isinstance(node, nodes.For):
            # A turn of a loop takes as long as what is in it.
            size = nodes.Const(sum(1 for _ in node.find_all(nodes.Node)))
            node.iter = nodes.Filter(node.iter, "counted", [size], [], None, None)
        elif isinstance(node, nodes.Concat):
            node.nodes = [through("weighed", part) for part in node.nodes]
        elif isinstance(node, nodes.Compare | nodes.Operand):
            node.expr = through("weighed", node.expr)
        elif isinstance(node.arg, nodes.Slice):
            node.node = through("weighed", node.node)


def _refuse_others(tree: Any, nodes: Any) -> None:
    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _NODES:
            raise TemplateFault(f"template: `{kind.lower()}` is not allowed here")
        if kind == "Filter" and node.name not in _FILTERS:
            raise TemplateFault(f"template: there is no filter `{node.name}` here")
        if kind == "Test" and node.name not in _TESTS:
            raise TemplateFault(f"template: there is no test `{node.name}` here")
        if kind == "Call" and not (
            isinstance(node.node, nodes.Name) and node.node.name in FUNCTIONS
        ):
            raise TemplateFault(
                "template: only `range(…)` and `choice(…)` may be called; use filters, as | upper"
            )
        if kind == "Const" and isinstance(node.value, str):
            _refuse_unprintable(node.value)
        if kind == "For" and node.recursive:
            raise TemplateFault("template: recursive loops are not allowed")


def _refuse_unprintable(text: str) -> None:
    # The file has none, but escapes in a template could make them, and no JSON holds U+D800.
    bad = UNPRINTABLE.search(text)
    if bad:
        raise TemplateFault(f"template: makes the character U+{ord(bad[0]):04X}: remove it")


def _guarded(tree: Any, nodes: Any) -> bool:
    # `{{ x | default("…") }}` and `{% if x is defined %}` ask for a name that may be missing.
    return any(node.name in {"default", "d"} for node in tree.find_all(nodes.Filter)) or any(
        node.name in {"defined", "undefined"} for node in tree.find_all(nodes.Test)
    )


def _refuse_size(size: int) -> None:
    if size > MAX_OUTPUT:
        raise TemplateFault(f"template: gives more than {MAX_OUTPUT:,} characters")


def _refuse_growth(operator: str, left: Any, right: Any) -> Any:
    """Return what the operator copies; refuse it if that is too much."""
    if operator == "%" and isinstance(left, str):
        raise TemplateFault("template: `%` is for numbers; join text with ~")
    if operator == "+" and isinstance(left, str | list | tuple):
        _refuse_size(_weight(left) + _weight(right))
        return (left, right)
    if operator != "*":
        return None
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            size = (len(value) if isinstance(value, str) else _weight(value)) * times
            _refuse_size(size)
            return range(max(0, size))
    bits = sum(number.bit_length() for number in (left, right) if isinstance(number, int))
    if bits > 4 * MOST_BITS:
        raise TemplateFault("template: makes a number that is too large")
    return None


def _bounded_range(*bounds: int) -> range:
    values = range(*bounds)
    if len(values) > MAX_STEPS:
        raise TemplateFault(f"template: a range of more than {MAX_STEPS:,}")
    return values


def _bounded_replace(text: Any, old: Any, new: Any) -> str:
    before, old, new = str(text), str(old), str(new)
    _refuse_size(len(before) + before.count(old) * len(new))
    return before.replace(old, new)


def _bounded_join(values: Iterable[Any], separator: Any = "") -> str:
    between, size = str(separator), 0
    parts: list[str] = []
    for value in values:
        _refuse_size(size + _weight(value) - 1)
        parts.append(str(value))
        size += len(between) + len(parts[-1])
        _refuse_size(size)
    return between.join(parts)


def _bounded_trim(text: Any, characters: str | None = None) -> str:
    if characters is not None and len(characters) > MOST_DIGITS:
        raise TemplateFault(f"template: `trim` takes at most {MOST_DIGITS} characters away")
    return str(text).strip(characters)


def _bounded_round(function: Callable[..., Any]) -> Callable[..., Any]:
    def rounded(value: Any, precision: int = 0, method: Any = "common") -> Any:
        if abs(precision) > MOST_DIGITS:
            raise TemplateFault(f"template: `round` has a precision of at most {MOST_DIGITS}")
        return function(value, precision, method)

    return rounded


def _bounded_sum(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def summed(
        environment: Any, values: Iterable[Any], attribute: Any = None, start: Any = 0
    ) -> Any:
        # Lists would be copied anew for each that is added.
        if not isinstance(start, int | float):
            raise TemplateFault("template: `sum` is for numbers")
        return function(environment, values, attribute, start)

    return summed
