import tracemalloc

import pytest

from batchgen.manifests.templates import Renderer, TemplateFault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain { text }", "plain { text }", id="no-template"),
        pytest.param("a {{ x }}\n", "a fox\n", id="variable"),
        pytest.param("{{ x | upper }} {{ n * 2 }}", "FOX 6", id="filter"),
        pytest.param("{% if n > 2 %}yes{% endif %}", "yes", id="condition"),
        pytest.param("{% for i in range(n) %}{{ i }}{% endfor %}", "012", id="loop"),
        pytest.param("{{ y | default('none') }}", "none", id="default"),
    ],
)
def test_templates_are_filled(text: str, expected: str) -> None:
    assert Renderer().render(text, {"x": "fox", "n": 3}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ n }}", 3, id="number"),
        pytest.param("{{ n }} ", "3 ", id="not-alone"),
        pytest.param("{{ n * 2 }}", 6, id="sum"),
        pytest.param("{# why #}{{ 1 > 2 }}", False, id="truth"),
        pytest.param("{{ none }}", None, id="nothing"),
        pytest.param("{{ look }}", {"name": "warm", "items": [1, 2]}, id="mapping"),
        pytest.param("{{ look.items }}", [1, 2], id="key-called-like-a-method"),
        pytest.param("{{ look['name'] }}", "warm", id="key"),
        pytest.param("{{ look.items | reverse }}", [2, 1], id="iterator"),
        pytest.param("{{ range(3) }}", [0, 1, 2], id="range"),
        pytest.param("{{ '3' }}", "3", id="text-stays-text"),
    ],
)
def test_a_template_that_is_one_expression_gives_its_value(text: str, expected: object) -> None:
    given = {"n": 3, "look": {"name": "warm", "items": [1, 2]}}

    value = Renderer().render(text, given)

    assert (value, type(value)) == (expected, type(expected))


def test_a_text_is_compiled_once_and_filled_with_what_is_given_each_time() -> None:
    renderer = Renderer()

    filled = [renderer.render("{{ n }} of 3", {"n": number}) for number in (1, 2)]

    assert filled == ["1 of 3", "2 of 3"]
    assert renderer.template("{{ n }} of 3") is renderer.template("{{ n }} of 3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ z }}", "the variable `z` is not defined", id="undefined"),
        pytest.param("{{ x", "is not a valid template", id="syntax"),
        pytest.param("{{ x.__class__ }}", "unsafe", id="dunder"),
        pytest.param("{{ 'a' * 10**9 }}", "`pow` is not allowed", id="power"),
        pytest.param("{{ 'a' * 1000000000 }}", "more than 100,000", id="long-text"),
        pytest.param("{{ [1] * 1000000000 }}", "more than 100,000", id="long-list"),
        pytest.param("{{ '%0999999999d' % 1 }}", "`%` is for numbers", id="format"),
        pytest.param("{{ x | center(1000000000) }}", "no filter|No filter", id="center"),
        pytest.param("{{ x.ljust(1000000000) }}", "only `range", id="method"),
        pytest.param("{{ range(1000000) }}", "range of more than", id="range"),
        pytest.param(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "loops turn more than",
            id="nested-loops",
        ),
        pytest.param("{% set a = x %}", "`assign` is not allowed", id="set"),
        pytest.param("{% include 'x' %}", "`include` is not allowed", id="include"),
        pytest.param(
            "{{ ('a' * 999) | replace('a', 'a' * 999) }}", "more than 100,000", id="replace"
        ),
        pytest.param("{{ 1 / 0 }}", "division by zero", id="arithmetic"),
        pytest.param("{{ 'nan' | float }}", "a number that is too large", id="not-a-number"),
        pytest.param(
            "{{ " + " * ".join(["999999999999999999"] * 40) + " }}", "too large", id="long-number"
        ),
        pytest.param("{{ x.upper }}", "gives nothing that can be sent", id="function"),
        pytest.param("{{ {'a': 1}.b }}", "there is no `b`: there are a", id="no-such-key"),
        pytest.param("{{ [x * 99999, x * 99999] }}", "more than 100,000", id="large-value"),
        pytest.param("{{ choice([1]) }}", "`choice` cannot be used here", id="choice"),
        pytest.param("{{ '\\ud800' }}", "the character U\\+D800", id="half-a-character"),
        pytest.param("{{ {'\\x00': 1} }}", "the character U\\+0000", id="nul"),
        pytest.param("{{ choice }}", "gives nothing that can be sent", id="choice-itself"),
    ],
)
def test_what_templates_must_not_do_is_refused(text: str, expected: str) -> None:
    with pytest.raises(TemplateFault, match=expected):
        Renderer().render(text, {"x": "fox"})


_DEEP = "([[0]*9000]*9000)"
_NINES = "[0]*9000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ [[0]*1000]*90000 }}", "more than 100,000", id="nested-list"),
        pytest.param("{{ [[[0]*99]*99]*99 }}", "more than 100,000", id="deeper-list"),
        pytest.param("{{ [['a'*9999]]*9999 }}", "more than 100,000", id="list-of-texts"),
        pytest.param("{{ [{'a': 'b'*9999}]*9999 }}", "more than 100,000", id="list-of-mappings"),
        pytest.param("{{ [range(9999)]*9999 }}", "more than 100,000", id="list-of-ranges"),
        pytest.param("{{ (([0]*900,)*900) | string }}", "more than 100,000", id="tuple"),
        pytest.param("{{ " + _DEEP + " | string | length }}", "more than 100,000", id="string"),
        pytest.param("{{ (" + _DEEP + " ~ '') | length }}", "more than 100,000", id="tilde"),
        pytest.param("a {{ " + _DEEP + " }}", "more than 100,000", id="in-text"),
        pytest.param("{{ " + _DEEP + " | join | length }}", "more than 100,000", id="join"),
        pytest.param(
            "{{ ([l, l, l, l, l, l, l, l, l, l, l, l] | join) | length }}",
            "more than 100,000",
            id="join-of-lists",
        ),
        pytest.param(
            "{{ (" + " ~ ".join(["l"] * 100) + ") | length }}", "works on more", id="lists-as-text"
        ),
        pytest.param(
            "{{ [" + ", ".join(["l"] * 100) + "] | upper | length }}", "works on more", id="upper"
        ),
        pytest.param("{{ [" + ", ".join(["l"] * 100) + "] }}", "more than 100,000", id="literal"),
        pytest.param("{{ [t]*1000 }}", "more than 100,000", id="times-a-variable"),
        pytest.param("{{ t + t + t }}", "more than 100,000", id="plus"),
        pytest.param("{{ 5 | round(3000000, 'ceil') }}", "precision of at most 20", id="ceil"),
        pytest.param("a {{ 5 | round(-3000000) }}", "precision of at most 20", id="round"),
        pytest.param("{{ ([[0]]*9000) | sum(start=[]) }}", "`sum` is for numbers", id="sum"),
        pytest.param(
            "{% for a in range(9999) %}{% if (" + _NINES + ") | length %}{% endif %}{% endfor %}",
            "works on more",
            id="made-in-a-loop",
        ),
        pytest.param(
            "{% for a in range(9999) %}{% if -1 in l %}{% endif %}{% endfor %}",
            "works on more",
            id="sought-in-a-loop",
        ),
        pytest.param(
            "{% for a in range(9999) %}{% if -1 is in l %}{% endif %}{% endfor %}",
            "works on more",
            id="tested-in-a-loop",
        ),
        pytest.param(
            "{% for a in range(9999) %}{% if l == l[:] %}{% endif %}{% endfor %}",
            "works on more",
            id="compared-in-a-loop",
        ),
        pytest.param(
            "{% for a in range(9999) %}{% if l | sort %}{% endif %}{% endfor %}",
            "works on more",
            id="sorted-in-a-loop",
        ),
        pytest.param(
            "{% for a in range(9999) %}" + "{{ a + a }}" * 200 + "{% endfor %}",
            "works on more",
            id="much-in-a-loop",
        ),
        pytest.param("{{ " + " * ".join(["9" * 300] * 50) + " }}", "too large", id="product"),
        pytest.param("{{ t | trim(t) }}", "`trim` takes at most", id="trim"),
    ],
)
def test_a_template_is_refused_before_it_grows(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.manifests.templates.MAX_WORK", 100_000)  # counted slowly here
    renderer = Renderer()
    renderer.render("{{ x }}", {"x": 1})
    given = {"l": list(range(1, 10_001)), "t": "abcdefgh" * 4500}
    tracemalloc.start()
    try:
        with pytest.raises(TemplateFault, match=expected):
            renderer.render(text, given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024**2


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        pytest.param("{{ [l[0]]*1000 }}", 0, id="times"),
        pytest.param("{{ l | join }}", 101, id="join"),
    ],
)
def test_no_more_than_the_limit_is_looked_at(
    text: str, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = 0

    class Seen:
        def __str__(self) -> str:
            nonlocal turned
            turned += 1
            return "1"

    monkeypatch.setattr("batchgen.manifests.templates.MAX_OUTPUT", 100)

    with pytest.raises(TemplateFault, match="more than 100 "):
        Renderer().render(text, {"l": [Seen() for _ in range(5000)]})

    assert turned <= bound
