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
    ],
)
def test_what_templates_must_not_do_is_refused(text: str, expected: str) -> None:
    with pytest.raises(TemplateFault, match=expected):
        Renderer().render(text, {"x": "fox"})
