"""Whatever a file or the service says ends in success or in an error of our own."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli.commands import call
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen import manifests
from batchgen.domain.errors import ManifestError, ProviderError
from batchgen.http import Answer
from batchgen.manifests.templates import MAX_OUTPUT, Renderer, TemplateFault
from batchgen.providers.runcomfy import LONGEST_TEXT, RunComfy

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
MODELS = manifests.load_models()
fuzzed = settings(max_examples=150, deadline=None, derandomize=True)

# -- files -----------------------------------------------------------------------------------------

IMAGE = "https://images.example.com/a.jpg"
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", "5", "5.0", "-1", "1e999", "NaN", "null", "true", "007", "1280:720", IMAGE),
            *("[1, 2]", "[" * 2000, '{"a": ', '["\\ud800"]', "[1e400]", "1" * 5000, "0x10", "=1+1"),
            *(
                "{{ a }}",
                "{% for",
                "\x00",
                "\u2028",
                "'",
                '"',
                "x" * 3000,
                "http://[::1",
                "..",
                "~",
            ),
        ]
    ),
    st.text(max_size=30),
)
NAMES = st.sampled_from(
    [
        *("id", "prompt", "image", "image_url", "duration", "ratio", "seed", "seeds", "repeat"),
        *(
            "model",
            "meta.x",
            "input.seed",
            "input.",
            "meta.",
            "note",
            "duraton",
            "result_key",
            "",
            " ",
        ),
    ]
)
WORDS = [
    *("batch", "model", "defaults", "vars", "jobs", "id", "prompt", "image", "seeds", "repeat"),
    *("matrix", "exclude", "meta", "from", "budget", "duration", "ratio", "<<"),
]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table that is nearly right, or not at all."""
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    header = ["prompt", "image", *draw(st.lists(NAMES, max_size=5))]
    rows = draw(st.lists(st.lists(CELLS, min_size=1, max_size=7), min_size=1, max_size=4))
    quote = draw(st.booleans())
    lines = [
        delimiter.join(f'"{cell}"' if quote else cell for cell in row)
        for row in [header, *[["a boat", IMAGE, *row] for row in rows]]
    ]
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff"])) + text.encode("utf-8", "replace")


def values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4
    )


PLAIN = st.one_of(CELLS, st.none(), st.booleans(), st.integers(), st.floats())
TREES = st.recursive(PLAIN, values, max_leaves=8)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A YAML manifest that is nearly right."""
    job = {"prompt": "a boat", "image": IMAGE}
    tree = {
        "jobs": [{**job, **draw(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=3))}],
        **draw(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=2)),
    }
    # JSON is YAML, but for what it cannot say: here NaN becomes a plain text.
    return json.dumps(tree, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


VALUES = st.sampled_from(
    [
        *(1, 5, "a", "b", None, True, 1.5, "", {"name": "x"}, ["y"], "{{ a }}", "x{{ b }}"),
        *("{{ row.id }}", "{{ row }}", "{{ look.name }}", "{{", "{{ x.y[0] }}", "{{ items }}"),
        *("{{ choice([1, 2]) }}", "{{ choice(a) }}", "{{ sky | default(5) }}", "{{ range(a) }}"),
        *("{{ '\\ud800' }}", "{% for i in range(a) %}{{ i }}{% endfor %}"),
    ]
)
VARIABLES = st.sampled_from(["a", "b", "look", "sky", "row", "subject", "a b", "choice"])
LISTS = st.dictionaries(VARIABLES, st.lists(VALUES, max_size=3) | VALUES, max_size=3) | VALUES
PARTS = st.lists(st.dictionaries(VARIABLES, VALUES, max_size=2), max_size=2) | VALUES
ENTRY = st.fixed_dictionaries(
    {"image": st.just(IMAGE)},
    optional={
        "matrix": LISTS,
        "zip": LISTS,
        "include": PARTS,
        "exclude": PARTS,
        "from": st.sampled_from(["rows.csv", "rows.jsonl", "no.csv", "jobs.yaml", "", 5]),
        **dict.fromkeys(["id", "prompt", "duration", "seeds", "repeat", "model", "meta"], VALUES),
    },
)
TABLE = f"id,subject,image,items,row,seeds\na,fox,{IMAGE},1,2,\nb,,,,,3\n"
LINES = f'{{"id": 1, "image": "{IMAGE}", "x": {{"y": [1]}}}}\n{{"id": true, "x": null}}\n'


SCRAPS = st.sampled_from(
    [
        *(
            "jobs:",
            "- ",
            "\n",
            "\n  ",
            ": ",
            "&a ",
            "*a",
            "<<: ",
            "!!python/object:os.system ",
            "|",
            ">",
        ),
        *(
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            "#",
            "---",
            "...",
            "%YAML 9",
            "? ",
            "\t",
            "prompt",
            "image",
        ),
        *(
            IMAGE,
            "{{ x }}",
            '"\\ud800"',
            '"\\0"',
            "0x1F",
            "1_000",
            "12:30",
            "~",
            "matrix:",
            "vars:",
        ),
    ]
)
SCRIBBLES = st.lists(SCRAPS | st.text(max_size=5), max_size=30).map("".join)


def read(suffix: str, data: bytes) -> None:
    """Read a manifest to its last job; what it gives can be stored and sent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"jobs{suffix}")
        path.write_bytes(data)
        Path(folder, "rows.csv").write_text(TABLE)
        Path(folder, "rows.jsonl").write_text(LINES)
        try:
            checked = manifests.check(manifests.read(path), models=MODELS)
            specs = list(checked.specs())
        except ManifestError as error:
            assert str(error) or error.faults  # noqa: PT017 - both ends are allowed
            return
    for spec in specs:
        kept = json.dumps([spec.row_id, spec.inputs, spec.cells], ensure_ascii=False)
        assert "\0" not in kept.encode().decode()


@fuzzed
@given(data=tables() | st.binary(max_size=200))
@example(b"prompt,image,seed\na," + IMAGE.encode() + b"," + b"[" * 100_000)
@example(b"prompt,image,seed\na," + IMAGE.encode() + b"," + b"9" * 100_000)
@example(b"prompt,image,seeds\na," + IMAGE.encode() + b"," + b"[" * 100_000)
@example(b"prompt,image,repeat\na," + IMAGE.encode() + b"," + b"9" * 100_000)
def test_any_table_is_read_or_refused(data: bytes) -> None:
    read(".csv", data)


@settings(fuzzed, max_examples=100)
@given(entries=st.lists(ENTRY, min_size=1, max_size=2), given=LISTS, defaults=ENTRY | VALUES)
def test_any_matrix_and_table_is_expanded_or_refused(
    entries: list[Any], given: Any, defaults: Any
) -> None:
    tree = {"jobs": entries, "vars": given, "defaults": defaults}
    read(".yaml", json.dumps(tree).encode())


@fuzzed
@given(data=documents() | SCRIBBLES.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * 100_000)
@example(b"jobs: " + b"{a: " * 5000)
@example(b"jobs: [{prompt: a, image: x, id: []}]")
@example(b'jobs: [{prompt: "\\0", image: "' + IMAGE.encode() + b'"}]')
@example(b'jobs: [{prompt: "\\ud800", image: "' + IMAGE.encode() + b'"}]')
@example(b'jobs: [{prompt: a, image: "' + IMAGE.encode() + b'", seed: ' + b"9" * 100_000 + b"}]")
def test_any_yaml_is_read_or_refused(data: bytes) -> None:
    read(".yaml", data)


@settings(fuzzed, max_examples=25)
@given(
    data=st.one_of(
        tables().map(lambda data: (".csv", data)), documents().map(lambda data: (".yaml", data))
    )
)
def test_any_manifest_is_added_or_refused_without_a_trace(data: tuple[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"jobs{data[0]}")
        path.write_bytes(data[1])

        done = call("add", str(path), "--db", str(Path(folder, "jobs.db")))

        assert done.code in (0, 2, 5), done.err
        assert "Traceback" not in done.err
        assert Path(folder, "jobs.db").exists() == (done.code == 0)


# -- templates -------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            " ",
            "x",
            "n",
            "l",
            "missing",
            "choice(l)",
            "|",
            "upper",
            "join(',')",
        ),
        *(
            "replace('a', 'b' * 9999)",
            "default('d')",
            "(",
            ")",
            "[",
            "]",
            ".",
            "__class__",
            "0",
            "-1",
        ),
        *("1e308", "*", "**", "~", "+", "%", "//", "/", "'", '"', "for i in ", "range(99999999)"),
        *(
            "endfor",
            "if ",
            "else",
            "endif",
            "is defined",
            "not",
            "set a = ",
            "include 'x'",
            "import",
        ),
        *("x * 999999999", "n ** n", "lipsum", "cycler", "self", "loop", "'%s' % x", "|attr('f')"),
        *(
            "|map('upper')",
            "|format(1)",
            "|int(base=99)",
            "|round(9999)",
            "|sum",
            "|sort",
            "|first",
        ),
    ]
)
TEMPLATES = st.lists(PIECES, max_size=14).map(" ".join)
WHOLE = TEMPLATES.map(lambda inside: f"a {{{{ {inside} }}}} b")


@settings(fuzzed, max_examples=250)
@given(text=TEMPLATES | WHOLE | st.text(max_size=30).map(lambda text: f"{{{{ {text} }}}}"))
@example("{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}")
@example("{{ x" + "|upper" * 3000 + " }}")
@example("{{ 10 ** 10 ** 10 }}")
@example("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")
def test_any_template_is_filled_or_refused(text: str) -> None:
    variables = {"x": "boat", "n": 5, "l": [1, "a", None], "m": {"a": 1.5}}
    try:
        filled = Renderer().render(text, variables, choose=lambda _, options: options[0])
    except TemplateFault as fault:
        assert str(fault)  # noqa: PT017 - both ends are allowed
        return
    assert len(filled if isinstance(filled, str) else json.dumps(filled)) <= 2 * MAX_OUTPUT


# -- the service -----------------------------------------------------------------------------------

SAID = st.sampled_from(
    [
        *(
            "succeeded",
            "completed",
            "failed",
            "in_queue",
            "cancelled",
            "warming up",
            "",
            "SUCCEEDED ",
        ),
        *("https://cdn.test/a.mp4", "https://cdn.test/a.mp4?X-Amz-Signature=5ecret", "http://[::1"),
        *(
            "r1",
            "../x",
            "400002",
            "404001",
            "INTERNAL",
            "SAFETY.INPUT.TEXT",
            f"Bearer {TOKEN}",
            "\ud800",
        ),
        *(
            "\0",
            "=1+1",
            "2026-11-24T00:00:00Z",
            "9" * 400,
            "x" * 5000,
            "inf",
            "-1",
            "1e400",
            "{}",
            "{",
        ),
        *("a b.test/x?sig=5ecret", "\u2028", "\x1b[2J"),
    ]
)
FIELDS = st.sampled_from(
    [
        *("request_id", "status", "output", "outputs", "video", "videos", "url", "image", "cost"),
        *(
            "error",
            "error_code",
            "code",
            "message",
            "detail",
            "failure",
            "failure_reason",
            "reason",
        ),
        *("failureCode", "error_message", "created_at", "finished_at", "queue_position", "input"),
        *("outcome", "balance_usd", "loc", "msg", "status_url"),
    ]
)
LEAVES = st.one_of(SAID, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
PAYLOADS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6)
)
OBJECTS = st.dictionaries(FIELDS, PAYLOADS, max_size=10)
BODIES = st.one_of(
    OBJECTS.map(lambda said: json.dumps(said).encode()),
    PAYLOADS.map(lambda said: json.dumps(said).encode()),
    st.binary(max_size=50),
    st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"<html>", b"", b"\0\xff"]
    ),
)
ANSWERS = st.builds(
    Answer,
    st.sampled_from([200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 422, 429, 500, 504]),
    st.sampled_from(["", "5", "-1", "nan", "x", "9" * 400, "Wed, 99 Foo"]).map(
        lambda wait: httpx.Headers({"retry-after": wait} if wait else {})
    ),
    BODIES,
    st.booleans(),
    st.sampled_from([None, None, httpx.ReadError("cut")]),
)


@pytest.fixture(scope="module")
def provider() -> Iterator[RunComfy]:
    found = RunComfy(base="http://127.0.0.1:9/v1", token=TOKEN)
    yield found
    asyncio.run(found.close())


def texts(value: Any) -> Iterator[str]:
    """Yield every text that the runner would store or show."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


def check_said(*said: Any) -> None:
    for text in texts(list(said)):
        assert TOKEN not in text
        assert "\0" not in text
        text.encode()


@settings(fuzzed, max_examples=200)
@given(answer=ANSWERS)
@example(Answer(200, httpx.Headers(), b'{"status": "failed", "error": "\\ud800 \\u0000"}'))
@example(Answer(200, httpx.Headers(), b'{"status": "\\ud800 \\u0000"}'))
@example(
    Answer(200, httpx.Headers(), b'{"status": "completed", "output": "https://a.test/\\ud800"}')
)
@example(Answer(400, httpx.Headers(), b'{"error_code": "\\ud800", "message": "\\u0000"}'))
def test_any_answer_is_understood_or_an_error_of_ours(provider: RunComfy, answer: Answer) -> None:
    def submit() -> None:
        accepted = provider._accepted(answer)
        check_said(accepted.request_id, accepted.raw)

    def poll() -> None:
        payload, raw = provider._known(answer)
        look = provider._look(payload, raw)
        check_said(look.raw, look.remote_state, look.error_text, look.error_code, look.output_urls)
        assert len(look.error_text or "") <= LONGEST_TEXT
        assert look.cost_micros is None or look.cost_micros >= 0
        shown = [look.remote_state, look.error_text, look.error_code]
        assert "5ecret" not in "".join(filter(None, shown))

    questions: list[Callable[[], None]] = [submit, poll]
    for question in questions:
        try:
            question()
        except ProviderError as error:
            check_said(str(error), error.code, error.raw)
            assert "5ecret" not in f"{error} {error.code}"  # noqa: PT017 - both ends are allowed
