import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.domain.states import JobState
from batchgen.pages import is_report, render
from batchgen.pages.interface import Card, Cause, Doubt, Mention, Report

HOSTILE = (
    "</script><script>owned()</script>",
    "<!--<script>",
    "]]>",
    '"><img src=x onerror=owned()>',
    "\u202egnp.exe",
    "\u2028\u2029\x00\x07",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;",
    "javascript:owned()",
    "\ud800",
)
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))


def report(text: str, *, posters: int = 0) -> Report:
    mention = Mention(key="jx", label=text, batch=text, text=text)
    card = Card(
        key="jx",
        label=text,
        batch=text,
        state=JobState.FAILED,
        model=text,
        prompt=text,
        cells=[text],
        seed=2**60,
        cost=None,
        queued_s=None,
        run_s=None,
        at_ms=0,
        error_class="generation",
        error=text,
    )
    return Report(
        title=text,
        only=text,
        database=text,
        database_words=text,
        written_ms=0,
        version="1",
        is_simulated=False,
        live_workers=1,
        counts={JobState.FAILED: 1},
        money=(),
        timeline=None,
        took_ms=None,
        causes=[Cause(text, text, text, 1, [mention], text, ())],
        other_failures=0,
        doubts=[Doubt(mention, 0, 0, ())],
        more_doubts=0,
        attention=(),
        slowest=(),
        columns=[text],
        facets=[0],
        cards=[card],
        jobs_left_out=0,
        posters=[bytes([number]) for number in range(posters)],
    )


def page(text: str, *, posters: int = 0) -> str:
    # As it is written: half a character has no UTF-8.
    whole = "".join(render(report(text, posters=posters)))
    return whole.encode("utf-8", errors="backslashreplace").decode()


class Tags(HTMLParser):
    """What elements and attributes a page has, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.scripts: dict[str, list[str]] = {}
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        said = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag == "script":
            self._script = said.get("id") or said.get("class") or "program"

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.setdefault(self._script, []).append(data)


PLAIN = Tags(page("plain"))


@settings(deadline=None)  # a loaded machine takes its time
@given(TEXTS.filter(lambda text: text.strip() != ""))
def test_no_text_changes_what_the_page_is_made_of(text: str) -> None:
    found = Tags(page(text))

    assert found.tags == PLAIN.tags
    assert found.scripts["program"] == PLAIN.scripts["program"]
    island = "".join(found.scripts["data"])
    assert not set("<>&\u2028\u2029") & set(island)  # browsers end a script at less than a parser
    data = json.loads(island)
    assert data["cards"][0]["prompt"] == text
    assert data["cards"][0]["seed"] == str(2**60)


def test_the_page_links_to_itself_only() -> None:
    assert all(link.startswith("#") for link in PLAIN.links)
    assert not re.search(r"url\((?!#)|@import|https?://", page("plain"))
    # Neither is an attribute that a policy would have to allow.
    names = {name for _, attributes in PLAIN.tags for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_the_policy_allows_nothing_but_our_own_script_and_style() -> None:
    text = page("plain")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in unescape(policy).split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)

    def digest(said: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(said.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "style-src": digest(style),
        "script-src": digest(script),
        "img-src": "data: 'self' file:",
        "media-src": "'self' file:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_posters_are_kept_in_blocks_in_their_order() -> None:
    found = Tags(page("plain", posters=90))

    blocks = [json.loads(block) for block in found.scripts["posters"]]

    assert [len(block) for block in blocks] == [40, 40, 10]
    assert [base64.b64decode(one)[0] for block in blocks for one in block] == list(range(90))


def test_a_page_is_known_as_ours() -> None:
    assert is_report(page("plain")[:2000])
    assert not is_report("<!doctype html><title>batchgen report</title>")
    assert not is_report("x" * 500 + page("plain"))
