"""Templates in YAML values: a small, sandboxed part of Jinja.

Allowed is what fills prompts: variables, filters, conditions, loops. A template cannot reach
Python's objects, and cannot take long or grow large: names of nodes and filters are allow-listed,
loops are counted, and whatever multiplies text is bounded.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchgen.manifests.names import suggestion

MAX_OUTPUT = 100_000  # characters; prompts have a thousand
MAX_STEPS = 10_000  # turns of all loops of one template together

_MARKS = ("{{", "{%", "{#")
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


def is_template(text: str) -> bool:
    """Return whether a text has anything in it that a template would fill."""
    return any(mark in text for mark in _MARKS)


class Renderer:
    """Renders texts with one set of variables; equal texts are rendered once."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = dict(variables)
        self._rendered: dict[str, str] = {}
        self._environment: Any = None
        self._steps = 0

    def render(self, text: str) -> str:
        """Return a text with its variables filled in; text without any comes back unchanged.

        Raises:
            TemplateFault: If it is not a template, names an unknown variable, or asks for
                something that is not allowed.
        """
        if not is_template(text):
            return text
        if text not in self._rendered:
            self._rendered[text] = self._fill(text)
        return self._rendered[text]

    def _fill(self, text: str) -> str:
        import jinja2
        from jinja2 import meta, nodes

        if self._environment is None:
            self._environment = self._build()
        environment, self._steps = self._environment, 0
        try:
            tree = environment.parse(text)
            _refuse_others(tree, nodes)
            unknown = sorted(
                meta.find_undeclared_variables(tree) - set(self._variables) - {"range"}
            )
            if unknown and not _guarded(tree, nodes):
                raise TemplateFault(self._unknown(unknown[0]))
            for loop in tree.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None)
            return self._bounded(environment.from_string(tree).generate(self._variables))
        except jinja2.TemplateSyntaxError as error:
            said = str(error.message).rstrip(".")
            raise TemplateFault(
                f"is not a valid template: {said}: close it, or write {{{{ '{{{{' }}}} for plain "
                "braces"
            ) from None
        except jinja2.UndefinedError as error:
            raise TemplateFault(f"template: {error.message}") from None
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TemplateFault(f"template: {error}") from None
        except RecursionError:
            raise TemplateFault("template: is nested too deeply") from None

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self._variables)) or "none"
        return (
            f"the variable `{name}` is not defined: {suggestion(name, self._variables)}"
            f"variables come from `vars` (there: {known})"
        )

    def _bounded(self, parts: Iterable[str]) -> str:
        kept: list[str] = []
        size = 0
        for part in parts:
            size += len(part)
            _refuse_size(size)
            kept.append(part)
        return "".join(kept)

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise TemplateFault(f"template: loops turn more than {MAX_STEPS:,} times")
            yield value

    def _build(self) -> Any:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Sandbox(ImmutableSandboxedEnvironment):
            intercepted_binops = frozenset({"*", "%"})

            def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
                _refuse_growth(operator, left, right)
                return super().call_binop(context, operator, left, right)

        environment = Sandbox(
            undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
        )
        # Texts are short and most are used once; Jinja's optimizer would run constant
        # expressions while compiling, outside the bounds.
        environment.optimized = False
        replace, join = _bounded_replace, _bounded_join
        environment.filters = {
            name: function for name, function in environment.filters.items() if name in _FILTERS
        } | {"replace": replace, "join": join, "counted": self._counted}
        environment.globals = {"range": _bounded_range}
        return environment


def _refuse_others(tree: Any, nodes: Any) -> None:
    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _NODES:
            raise TemplateFault(f"template: `{kind.lower()}` is not allowed here")
        if kind == "Filter" and node.name not in _FILTERS:
            raise TemplateFault(f"template: there is no filter `{node.name}` here")
        if kind == "Test" and node.name not in _TESTS:
            raise TemplateFault(f"template: there is no test `{node.name}` here")
        if kind == "Call" and not (isinstance(node.node, nodes.Name) and node.node.name == "range"):
            raise TemplateFault("template: only `range(…)` may be called; use filters, as | upper")
        if kind == "For" and node.recursive:
            raise TemplateFault("template: recursive loops are not allowed")


def _guarded(tree: Any, nodes: Any) -> bool:
    # `{{ x | default("…") }}` and `{% if x is defined %}` ask for a name that may be missing.
    return any(node.name in {"default", "d"} for node in tree.find_all(nodes.Filter)) or any(
        node.name in {"defined", "undefined"} for node in tree.find_all(nodes.Test)
    )


def _refuse_size(size: int) -> None:
    if size > MAX_OUTPUT:
        raise TemplateFault(f"template: gives more than {MAX_OUTPUT:,} characters")


def _refuse_growth(operator: str, left: Any, right: Any) -> None:
    if operator == "%":
        if isinstance(left, str):
            raise TemplateFault("template: `%` is for numbers; join text with ~")
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            _refuse_size(len(value) * times)
    if isinstance(left, int) and isinstance(right, int):
        _refuse_size(left.bit_length() + right.bit_length())


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
    parts = [str(value) for value in values]
    _refuse_size(sum(map(len, parts)) + len(parts) * len(str(separator)))
    return str(separator).join(parts)
