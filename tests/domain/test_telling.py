import ast
from collections.abc import Iterator
from pathlib import Path

from batchgen.domain.telling import JOB_FIELDS, KINDS

PACKAGE = Path(__file__).parents[2] / "batchgen"
OF_OTHERS = {"budget_warning"}  # told by whoever watches the budget


def keys_of(tree: ast.Module, name: str) -> set[str]:
    """The keys of the dictionary that a function of a module returns."""
    [function] = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    returned = function.body[-1]
    assert isinstance(returned, ast.Return)
    assert isinstance(returned.value, ast.Dict)
    return {str(key.value) for key in returned.value.keys if isinstance(key, ast.Constant)}


def told() -> Iterator[tuple[str, set[str]]]:
    """Every event that the code tells, with the fields that it gives."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr != "emit" or not node.args:
                continue
            kind = node.args[0]
            if not (isinstance(kind, ast.Constant) and isinstance(kind.value, str)):
                continue
            fields: set[str] = set()
            for keyword in node.keywords:
                if keyword.arg is not None:
                    fields.add(keyword.arg)
                    continue
                assert isinstance(keyword.value, ast.Call)
                assert isinstance(keyword.value.func, ast.Name)
                fields |= keys_of(tree, keyword.value.func.id)
            yield kind.value, fields


def test_every_event_that_is_told_is_in_the_table_with_its_fields() -> None:
    found = list(told())

    assert len(found) > 20
    for kind, fields in found:
        assert fields == set(KINDS[kind]), kind
    assert set(KINDS) - {kind for kind, _ in found} <= OF_OTHERS


def test_no_field_has_the_name_of_what_every_line_says() -> None:
    fields = {field for names in KINDS.values() for field in names}

    assert not fields & {"seq", "at", "session", "kind"}
    assert set(JOB_FIELDS) <= fields
