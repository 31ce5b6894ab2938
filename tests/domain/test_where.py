from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.errors import BadExpression
from batchgen.domain.where import FIELDS, Both, Comparison, Either, Name, Not, Where, parse

NOW = datetime(2026, 11, 29, 8, 30, tzinfo=timezone(timedelta(hours=1)))
COLUMNS = ("client", "shot name", "state", "a.b")
INPUTS = ("promptText", "client")


def said(text: str) -> Where:
    return parse(text, columns=COLUMNS, inputs=INPUTS, now=NOW)


def field(name: str, op: str, *values: str | float | None) -> Comparison:
    return Comparison(Name("", name), op, values)


def column(name: str, op: str, *values: str | float | None) -> Comparison:
    return Comparison(Name("column", name), op, values)


def ms(*at: int) -> float:
    year, month, day, hour, minute = (*at, 0)[:5]
    return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1000


FAILED = field("state", "=", "failed")
CHEAP = field("cost", "<", 0.3)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("state=failed", FAILED),
        (" state == FAILED ", FAILED),
        ("state = 'in doubt'", field("state", "=", "in_doubt")),
        ("state!=failed", Not(FAILED)),
        ("not state=failed", Not(FAILED)),
        ("not not state=failed", FAILED),
        ("model~runway", field("model", "~", "runway")),
        ("error !~ 'out of time'", Not(field("error", "~", "out of time"))),
        ("cost<$0.30", CHEAP),
        ("state=failed and cost<.3", Both((FAILED, CHEAP))),
        ("state=failed or cost<0.3", Either((FAILED, CHEAP))),
        (
            "cost<0.3 or state=failed and not cost<0.3",
            Either((CHEAP, Both((FAILED, Not(CHEAP))))),
        ),
        ("(cost<0.3 or state=failed) and cost<0.3", Both((Either((CHEAP, FAILED)), CHEAP))),
        ("id in (harbor, 'fish market')", field("id", "=", "harbor", "fish market")),
        ("id NOT IN (harbor)", Not(field("id", "=", "harbor"))),
        ("id=not", field("id", "=", "not")),
        ("class=none", field("class", "=", None)),
        ("class in (none, moderation)", field("class", "=", None, "moderation")),
        ("id='none'", field("id", "=", "none")),
        ("client=acme", column("client", "=", "acme")),
        ('"shot name" >= 12', column("shot name", ">=", "12")),
        ('column."shot name" in (12)', column("shot name", "=", "12")),
        ("not 'column.shot name'=12", Not(column("shot name", "=", "12"))),
        ("meta.client=acme", column("client", "=", "acme")),
        ("column.state=open", column("state", "=", "open")),
        ("a.b=1", column("a.b", "=", "1")),
        ("input.client=acme", Comparison(Name("input", "client"), "=", ("acme",))),
        ("promptText~boat", Comparison(Name("input", "promptText"), "~", ("boat",))),
        ("result_cost_usd<0.3", CHEAP),
        ("run>1.5m", field("run", ">", 90.0)),
        ("queue<=2h", field("queue", "<=", 7200.0)),
        ("bytes>2MiB", field("bytes", ">", 2.0 * 1024**2)),
        ("bytes>300kB", field("bytes", ">", 300_000.0)),
        ("bytes>12", field("bytes", ">", 12.0)),
        ("finished>-2h", field("finished", ">", ms(2026, 11, 29, 5, 30))),
        ("finished<today", field("finished", "<", ms(2026, 11, 28, 23))),
        ("finished<yesterday", field("finished", "<", ms(2026, 11, 27, 23))),
        ("finished<'2026-11-28 22:30'", field("finished", "<", ms(2026, 11, 28, 21, 30))),
        ("finished<2026-11-28T22:30Z", field("finished", "<", ms(2026, 11, 28, 22, 30))),
        (r"id='it\'s'", field("id", "=", "it's")),
    ],
)
def test_what_an_expression_means(text: str, meant: Where) -> None:
    assert said(text) == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("stat=failed", "character 1: there is no 'stat': did you mean `state`?"),
        ("state=faild", "character 7: there is no state 'faild': did you mean `failed`?"),
        ("class=moderated", "there is no class 'moderated'"),
        ("state", "character 6: expected one of = !="),
        ("state=", "character 7: expected a value, not the end"),
        ("state=failed cost>1", "character 14: expected `and`, `or` or the end, not 'cost'"),
        ("state=failed and", "expected a field such as state, not the end"),
        ("(state=failed", "character 1: this parenthesis is never closed"),
        ("state=failed)", "not ')'"),
        ("id='harbor", "character 4: this quote is never closed"),
        ("cost>dear", "'dear' is not a number"),
        ("cost>1_000", "'1_000' is not a number"),
        ("run>soon", "'soon' is no time"),
        ("bytes>2x", "'2x' is no size"),
        ("finished>tomorrow", "'tomorrow' is no moment"),
        ("finished>-9999999d", "is no moment"),
        ("state<failed", "state has no order"),
        ("cost<none", "none goes with = and != only"),
        ("id in harbor", "expected ( after `in`"),
        ("id in (a b)", "expected , or ) in the list"),
        ("id not = a", "expected one of"),
        ("=a", "expected a field"),
        ("(" * 60 + "id=a" + ")" * 60, "more than 50 parentheses"),
        ("id=" + "a" * 20_000, "at most 10,000"),
    ],
)
def test_what_is_no_expression(text: str, message: str) -> None:
    with pytest.raises(BadExpression) as refused:
        said(text)

    assert message in str(refused.value)
    assert str(refused.value).startswith("--where")


def test_a_fault_is_pointed_at() -> None:
    with pytest.raises(BadExpression) as refused:
        said("cost>1 and stat=failed")

    assert str(refused.value).splitlines()[1:] == ["  cost>1 and stat=failed", "             ^"]


@given(st.text(max_size=40) | st.text("()=!~<>,'\" andorti", max_size=40))
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        found = said(text)
    except BadExpression:
        return
    assert isinstance(found, Where)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_can_be_asked_whether_it_has_a_value(name: str) -> None:
    assert said(f"{name}!=none") == Not(field(name, "=", None))
