"""Combinations: their order, what is taken away, what is added, how they are counted."""

from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, faults_of, write

from batchgen.manifests import matrix
from batchgen.manifests.matrix import Matrix
from batchgen.manifests.positions import Node, compose

MATRIX = "matrix: {subject: [fox, heron], move: [left, right]}\n"


def combinations(text: str) -> list[dict[str, Any]]:
    return list(parsed(text).combinations())


def parsed(text: str) -> Matrix:
    entry = compose(text, file="m.yaml")
    assert entry is not None
    faults: list[tuple[int, str, str]] = []
    found = matrix.parse(
        entry,
        value=lambda node, _name: node.plain(),
        report=lambda line, name, message: faults.append((line, name, message)),
    )
    assert faults == []
    assert found is not None
    return found


def told(text: str) -> list[str]:
    return [" ".join(map(str, combination.values())) for combination in combinations(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            MATRIX, ["fox left", "fox right", "heron left", "heron right"], id="last-fastest"
        ),
        pytest.param(
            "zip: {a: [1, 2], b: [x, y]}\nmatrix: {c: [p, q]}\n",
            ["p 1 x", "p 2 y", "q 1 x", "q 2 y"],
            id="zip-is-the-last-axis-wherever-it-stands",
        ),
        pytest.param("zip: {a: [1, 1], b: [x, y]}\n", ["1 x", "1 y"], id="zip-alone"),
        pytest.param(
            MATRIX + "exclude: [{subject: heron, move: left}]\n",
            ["fox left", "fox right", "heron right"],
            id="exclude",
        ),
        pytest.param(
            MATRIX + "exclude: [{subject: heron}, {move: left}]\n",
            ["fox right"],
            id="exclude-by-one-name",
        ),
        pytest.param(
            MATRIX + "include: [{subject: owl, move: left}, {subject: owl, move: left}]\n",
            ["fox left", "fox right", "heron left", "heron right", "owl left"],
            id="include-adds-once",
        ),
        pytest.param(
            MATRIX + "include: [{subject: fox, move: left}]\n",
            ["fox left", "fox right", "heron left", "heron right"],
            id="include-of-what-is-there",
        ),
        pytest.param(
            MATRIX + "exclude: [{subject: fox}]\ninclude: [{subject: fox, move: left}]\n",
            ["heron left", "heron right", "fox left"],
            id="include-brings-back-what-exclude-took",
        ),
        pytest.param(
            MATRIX + "include: [{subject: fox, sky: fog}, {sky: clear, move: right}]\n",
            ["fox left fog", "fox right clear", "heron left", "heron right clear"],
            id="include-extends-and-the-later-wins",
        ),
        pytest.param(
            MATRIX + "include: [{sky: fog}]\n",
            ["fox left fog", "fox right fog", "heron left fog", "heron right fog"],
            id="include-extends-all",
        ),
        pytest.param(
            MATRIX + "include: [{subject: owl, move: up, sky: fog}]\n",
            ["fox left", "fox right", "heron left", "heron right", "owl up fog"],
            id="include-that-matches-none-is-its-own",
        ),
        pytest.param(
            'matrix: {a: [1, "1", 1.0, true, ~]}\nexclude: [{a: "1"}, {a: true}]\n',
            ["1", "1.0", "None"],
            id="types-are-told-apart",
        ),
        pytest.param(
            "matrix: {look: [{name: warm, n: 1}, {name: cold}]}\n"
            "exclude: [{look: {n: 1, name: warm}}]\n",
            ["{'name': 'cold'}"],
            id="mappings",
        ),
    ],
)
def test_combinations_come_in_the_order_written(text: str, expected: list[str]) -> None:
    assert told(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "matrix: [a]\n",
            "m.yaml:3: matrix: must be a mapping of names to lists, such as {subject: "
            "[fox, heron]}",
            id="no-mapping",
        ),
        pytest.param(
            "matrix: {a: x}\n",
            "m.yaml:3: a: must be a list of values: write [ ] around them",
            id="no-list",
        ),
        pytest.param(
            "matrix:\n      a: []\n",
            "m.yaml:4: a: the list is empty: give it a value, or take it out",
            id="empty-list",
        ),
        pytest.param(
            "matrix: {a b: [1], choice: [1], in: [2]}\n",
            "m.yaml:3: a b: is not a name a template can use: letters, digits and _ only\n"
            "m.yaml:3: choice: is a word of the templates themselves: take another name\n"
            "m.yaml:3: in: is a word of the templates themselves: take another name",
            id="names",
        ),
        pytest.param(
            "matrix: {a: [1, 2, 1]}\n",
            "m.yaml:3: a: 1 is there twice: remove one, or use `repeat` for several takes",
            id="twice",
        ),
        pytest.param(
            "zip: {a: [1, 2], b: [3]}\n",
            "m.yaml:3: zip: its lists differ in length (`a` has 2, `b` has 1): they go "
            "side by side",
            id="unequal-zip",
        ),
        pytest.param(
            "matrix: {a: [1]}\n    zip: {a: [1]}\n",
            "m.yaml:4: a: is in `matrix` and in `zip`: rename one",
            id="in-both",
        ),
        pytest.param(
            "exclude: [{a: 1}]\n",
            "m.yaml:3: exclude: needs a `matrix` or `zip` in the same job",
            id="exclude-alone",
        ),
        pytest.param(
            "include: [{a: 1}]\n",
            "m.yaml:3: include: needs a `matrix` or `zip` in the same job",
            id="include-alone",
        ),
        pytest.param(
            "matrix: {a: [1]}\n    exclude: {a: 1}\n",
            "m.yaml:4: exclude: must be a list of mappings, such as [{subject: fox}]",
            id="exclude-is-no-list",
        ),
        pytest.param(
            "matrix: {a: [1]}\n    include: [1]\n",
            "m.yaml:4: include: must be a list of mappings, such as [{subject: fox}]",
            id="include-of-scalars",
        ),
        pytest.param(
            "matrix: {subject: [fox, heron]}\n    exclude:\n      - {subjct: fox}\n",
            "m.yaml:5: exclude: subjct: there is no such variable: did you mean `subject`? "
            "there are subject",
            id="exclude-unknown-name",
        ),
        pytest.param(
            "matrix: {subject: [fox, heron]}\n    exclude:\n      - {subject: herun}\n",
            "m.yaml:5: exclude: subject: herun is none of its values: did you mean "
            "`heron`? there are fox, heron",
            id="exclude-unknown-value",
        ),
        pytest.param(
            "zip: {a: [1, 2], b: [3, 4]}\n    exclude: [{a: 1, b: 4}]\n",
            "m.yaml:4: exclude: a 1 and b 4 never come together in `zip`",
            id="exclude-what-zip-never-makes",
        ),
        pytest.param(
            "matrix: {a: [1, 2], b: [3]}\n    include: [{a: 1}]\n",
            "m.yaml:4: include: lacks b: a combination of its own needs all variables, and "
            "to extend others an entry needs a further one",
            id="include-incomplete",
        ),
    ],
)
def test_a_misuse_is_told_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, "m.yaml", f"jobs:\n  - image: {IMAGE}\n    {text}")

    assert "\n".join(faults_of(path)) == expected


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def axes_of(sizes: list[int]) -> dict[str, list[int]]:
    return {f"v{number}": list(range(size)) for number, size in enumerate(sizes)}


def as_node(value: Any) -> Node:
    if isinstance(value, dict):
        lines = dict.fromkeys(value, 1)
        return Node({name: as_node(part) for name, part in value.items()}, 1, lines)
    if isinstance(value, list):
        return Node([as_node(part) for part in value], 1)
    return Node(value, 1)


def made(entry: dict[str, Any]) -> Matrix:
    found = matrix.parse(
        as_node(entry),
        value=lambda node, _: node.plain(),
        report=lambda *fault: pytest.fail(str(fault)),
    )
    assert found is not None
    return found


@st.composite
def partials(draw: st.DrawFn, axes: dict[str, list[int]]) -> dict[str, int]:
    names = draw(st.lists(st.sampled_from(sorted(axes)), min_size=1, unique=True))
    return {name: draw(st.sampled_from(axes[name])) for name in names}


@given(data=st.data(), sizes=SIZES)
def test_what_is_kept_and_what_is_excluded_are_the_product(
    data: st.DataObject, sizes: list[int]
) -> None:
    axes = axes_of(sizes)
    excludes = data.draw(st.lists(partials(axes), max_size=4))

    kept = list(made({"matrix": axes, "exclude": excludes}).combinations())

    everything = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    excluded = [one for one in everything if any(part.items() <= one.items() for part in excludes)]
    assert [one for one in everything if one not in excluded] == kept


@given(data=st.data(), sizes=SIZES)
def test_an_axis_that_grows_at_its_end_leaves_the_others_in_their_order(
    data: st.DataObject, sizes: list[int]
) -> None:
    axes = axes_of(sizes)
    excludes = data.draw(st.lists(partials(axes), max_size=3))
    grown = dict(axes)
    name = data.draw(st.sampled_from(sorted(axes)))
    grown[name] = [*axes[name], 99]

    before = list(made({"matrix": axes, "exclude": excludes}).combinations())
    after = list(made({"matrix": grown, "exclude": excludes}).combinations())

    assert [one for one in after if one[name] != 99] == before


@given(data=st.data(), sizes=SIZES)
def test_there_are_never_more_combinations_than_counted(
    data: st.DataObject, sizes: list[int]
) -> None:
    axes = axes_of(sizes)
    excludes = data.draw(st.lists(partials(axes), max_size=2))
    includes = data.draw(st.lists(partials(axes).map(lambda part: {**part, "more": 1}), max_size=3))
    found = made({"matrix": axes, "exclude": excludes, "include": includes})

    made_of_them = list(found.combinations())

    assert len(made_of_them) <= found.most
    assert list(found.combinations()) == made_of_them
    if not excludes:
        assert len(made_of_them) == found.most - len(includes)


def test_a_trillion_combinations_are_counted_without_making_them() -> None:
    found = made({"matrix": {f"v{number}": list(range(1000)) for number in range(4)}})

    first: Iterator[dict[str, Any]] = islice(found.combinations(), 2)

    assert found.most == 10**12
    assert [one["v3"] for one in first] == [0, 1]
