"""Bad input gets one clear message and its exit code; nothing is stored, nothing is spent."""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from cli.commands import call
from runs import BATCHGEN, IMAGE, Done, Started

from batchgen.manifests import DEFAULT_MODEL

JOB = f"jobs:\n  - image: {IMAGE}\n"
NOWHERE = "http://127.0.0.1:9/v1"  # should a check fail, still nothing could be paid
Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", "token-of-a-test")
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", NOWHERE)


def run(*words: str) -> Done:
    """Call `batchgen run`; what is accepted by mistake ends at once."""
    return call("run", "--max-outage", "0", *words)


def refused(*words: str, code: int, says: Sequence[str]) -> str:
    """Check that a run is refused, says what it should, and leaves the folder as it was."""
    before = everything()
    done = run(*words)
    assert done.code == code, done.err
    for part in says:
        assert part in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert everything() == before
    return done.err


def everything() -> dict[str, tuple[int, int]]:
    """Return every file and folder here, with what changes when it is written to."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in Path().rglob("*")
    }


def write(name: str, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    return name


def job(line: str) -> str:
    return f"{JOB}    {line}\n"


def table(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 40):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return table(*lines) + JOB


# -- manifests -----------------------------------------------------------------------------------

FORMS: dict[str, tuple[str, str | bytes, Sequence[str]]] = {
    "empty": ("m.yaml", "", ["m.yaml: is empty", "needs at least one job"]),
    "empty-table": ("m.csv", "", ["m.csv: is empty", "needs at least one job"]),
    "blank": ("m.yaml", " \n\n", ["m.yaml: is empty", "needs at least one job"]),
    "blank-with-tab": ("m.yaml", "\n\t\n", ["m.yaml:2: is not valid YAML", "spaces, not tabs"]),
    "blank-table": ("m.csv", "  \n\n \n", ["m.csv: is empty", "needs a header"]),
    "comment": ("m.yaml", "# later\n", ["m.yaml: is empty", "needs at least one job"]),
    "no-yaml": ("m.yaml", "jobs:\n  - a: b: c\n", ["m.yaml:2: is not valid YAML", "quote text"]),
    "list": ("m.yaml", f"- image: {IMAGE}\n", ["m.yaml:1: must be a mapping with the key `jobs`"]),
    "scalar": ("m.yaml", "hello\n", ["m.yaml:1: must be a mapping with the key `jobs`"]),
    "bomb": ("m.yaml", bomb(), ["m.yaml:6: aliases stand for more than 1,000,000", "write some"]),
    "same-key": ("m.yaml", job("image: x"), ["m.yaml:3: image: duplicate key", "remove one"]),
    "no-jobs": ("m.yaml", "jobs: []\n", ["m.yaml:1: jobs: there are none", "at least one job"]),
    "jobs-missing": ("m.yaml", "batch: x\n", ["m.yaml:1: jobs: there are none"]),
    "header-only": ("m.csv", "prompt,image\n", ["m.csv: has no rows", "at least one job"]),
    "no-image": ("m.csv", "prompt\na\n", ["m.csv:1: image: there is no such column", "add it"]),
    "duraton": (
        "m.csv",
        table("image,duraton", f"{IMAGE},5"),
        ["m.csv:1: duraton: did you mean `duration`?", "write `meta.duraton`"],
    ),
    "too-many-cells": (
        "m.csv",
        table("image,prompt", f"{IMAGE},a,b"),
        ["m.csv:2: the row has 3 cells, the header 2", "quote a cell"],
    ),
    "open-quote": (
        "m.csv",
        table("image,prompt", f'{IMAGE},"a'),
        ["m.csv:2: is not valid CSV", "a quote is not closed"],
    ),
    "utf-16": (
        "m.csv",
        table("image", IMAGE).encode("utf-16") + b"x",
        ["m.csv:3: is not UTF-16", "save it as UTF-8"],
    ),
    "utf-16-yaml": ("m.yaml", JOB.encode("utf-16") + b"x", ["m.yaml:3: is not UTF-16"]),
    "latin-1": (
        "m.csv",
        table("image,prompt", f"{IMAGE},café").encode("latin-1"),
        ["m.csv:2: is not UTF-8 (byte 0xe9", "save it as UTF-8"],
    ),
    "latin-1-yaml": (
        "m.yaml",
        job("prompt: café").encode("latin-1"),
        ["m.yaml:3: is not UTF-8 (byte 0xe9", "save it as UTF-8"],
    ),
    "nul": ("m.csv", b"image\na\0b\n", ["m.csv:2: contains a NUL byte", "save it as text"]),
    "nul-yaml": ("m.yaml", b"jobs:\n  - a\0\n", ["m.yaml:2: contains", "U+0000", "remove it"]),
    "spreadsheet": ("m.csv", b"PK\x03\x04rest", ["m.csv: is a spreadsheet", "export it as CSV"]),
    "pdf": ("m.csv", b"%PDF-1.4\n%\xe2\xe3", ["m.csv: is a PDF, not text", "as CSV"]),
    "png-yaml": ("m.yaml", b"\x89PNG\r\n", ["m.yaml: is an image (PNG), not text"]),
    "video": ("m.csv", b"\0\0\0\x20ftypisom", ["m.csv: is a video or a photo, not text"]),
    "csv-as-xlsx": ("m.xlsx", "image\na\n", ["m.xlsx: is text, not a workbook", "it .csv"]),
    "xlsx": ("m.xlsx", b"PK\x03\x04rest", ["m.xlsx: cannot be read as a workbook", "as CSV"]),
    "xlsx-locked": ("m.xlsx", b"\xd0\xcf\x11\xe0rest", ["m.xlsx: is locked", "save it as .xlsx"]),
    "xlsx-renamed": ("m.xlsx", JOB, ["m.xlsx: is text, not a workbook", "name it .yaml"]),
    "xls": ("m.xls", b"\xd0\xcf\x11\xe0rest", ["m.xls: a manifest cannot be read from .xls"]),
    "jsonl": ("m.jsonl", "5\n", ["m.jsonl:1: 5 is not an object", "write one object a line"]),
    "json": ("m.json", "{}\n", ["m.json: a manifest ends in .csv", "rename it"]),
    "no-suffix": ("manifest", JOB, ["manifest: a manifest ends in .csv", "rename it"]),
    "model-of-row": (
        "m.csv",
        table("image,model", f"{IMAGE},{DEFAULT_MODEL}", f"{IMAGE},runwayml/nope"),
        ["m.csv:3: model: unknown model runwayml/nope", "`batchgen models fetch runwayml/nope`"],
    ),
    "model-of-manifest": (
        "m.yaml",
        f"model: runwayml/nope\n{JOB}",
        ["m.yaml:1: model: unknown model runwayml/nope", "`batchgen models fetch runwayml/nope`"],
    ),
    "negative-budget": (
        "m.yaml",
        f"budget: -3\n{JOB}",
        ["m.yaml:1: budget: -3 is not an amount", "such as 60"],
    ),
    "word-as-budget": (
        "m.yaml",
        f"budget: abc\n{JOB}",
        ["m.yaml:1: budget: abc is not an amount", "such as 60"],
    ),
    "list-as-budget": ("m.yaml", f"budget: [3]\n{JOB}", ["m.yaml:1: budget: must be one value"]),
    "path-as-batch": (
        "m.yaml",
        f'batch: "../x"\n{JOB}',
        ["m.yaml:1: batch: the name ../x must not be a path", "leave out `/`"],
    ),
    "unknown-top-key": ("m.yaml", f"modle: x\n{JOB}", ["m.yaml:1: modle: ", "`model`?"]),
    "same-id": (
        "m.csv",
        table("id,image", f"a,{IMAGE}", f"b,{IMAGE}", f"a,{IMAGE}"),
        ["m.csv:4: id: a is already the id in line 2", "must be unique"],
    ),
    "matrix": (
        "m.yaml",
        job("matrix: {a: [1, 2]}"),
        ["m.yaml:3: a: no value of the job uses it", "write {{ a }}"],
    ),
    "large-matrix": (
        "m.yaml",
        job(f"matrix: {{{', '.join(f'v{n}: {list(range(1000))}' for n in range(4))}}}"),
        ["m.yaml:3: matrix: makes 1,000,000,000,000 jobs", "--max-expand"],
    ),
    "unequal-zip": (
        "m.yaml",
        job("zip: {a: [1, 2], b: [3]}"),
        ["m.yaml:3: zip: its lists differ in length", "`a` has 2, `b` has 1"],
    ),
    "from": (
        "m.yaml",
        "jobs:\n  - from: rows.csv\n",
        ["m.yaml:2: from: rows.csv: no such file", "was looked for in /"],
    ),
}

VALUES: dict[str, tuple[str, str, Sequence[str]]] = {
    # A key, its value, and what is said behind `m.yaml:3: KEY: `.
    "long-prompt": ("prompt", "a" * 1001, ["1,001 characters, at most 1,000", "shorten it"]),
    "emoji-prompt": ("prompt", "😀" * 501, ["1,002 characters", "an emoji counts 2", "shorten"]),
    "duration": ("duration", "7", ["7 is not one of 5, 10"]),
    "duration-as-word": ("duration", "five", ["five is not a whole number", "write one of 5, 10"]),
    "ratio": ("ratio", '"16:9"', ["16:9 is not one of 1584:672, 1280:720"]),
    "seed-below": ("seed", "-1", ["-1 is too small", "at least 0"]),
    "seed-above": ("seed", "4294967296", ["4294967296 is too large", "at most 4294967295"]),
    "seed-fraction": ("seed", "1.5", ["1.5 is not a whole number"]),
    "seeds-below": ("seeds", "[3, -1]", ["-1 is too small", "at least 0"]),
    "seeds-above": ("seeds", "4294967296", ["4294967296 is too large", "at most 4294967295"]),
    "seeds-fraction": ("seeds", "[1.5]", ["1.5 is not a seed", "write whole numbers"]),
    "no-repeat": ("repeat", "0", ["0 is not a whole number above 0"]),
    "huge-repeat": (
        "repeat",
        "900000000",
        ["900,000,000 takes", "at most 100,000", "--max-expand"],
    ),
    "id-is-a-path": ("id", "../x", ["the id ../x must not be a path", "leave out `/`"]),
    "unknown-variable": (
        "prompt",
        '"{{ style }}"',
        ["the variable `style` is not defined", "come from `vars`"],
    ),
    "open-template": ("prompt", '"{{ style"', ["is not a valid template", "close it"]),
    "unknown-key": ("promt", "x", ["unknown key: did you mean `prompt`?"]),
}

IMAGES: dict[str, tuple[str, Sequence[str]]] = {
    "http": ("http://images.example.com/a.jpg?sig=s3", ["http://images.example.com/a.jpg must"]),
    "ftp": ("ftp://images.example.com/a.jpg", ["ftp: URLs are not supported", "an https URL"]),
    "file": ("file:///etc/passwd", ["file: URLs are not supported", "give the path of the file"]),
    "relative": ("pics/a.jpg", ["pics/a.jpg: no such file", "looked for in"]),
    "localhost": ("https://localhost/a.jpg", ["localhost is a local name", "--allow-private"]),
    "address": ("https://10.0.0.1/a.jpg", ["10.0.0.1 is an IP address", "--allow-private-inputs"]),
    "address-6": ('"https://[::1]/a.jpg"', ["::1 is an IP address", "--allow-private-inputs"]),
    "long": (f"{IMAGE}?{'a' * 3000}", ["the URL has 3,038 characters", "2,048", "shorten it"]),
    "space": ("https://images.example.com/a b.jpg", ["a space", "write a space as %20"]),
    "password": ("https://u:secret@images.example.com/a.jpg", ["user name or password", "use a"]),
    "none": ("", ["is missing", "fill it in"]),
}


@pytest.mark.parametrize(("name", "content", "says"), FORMS.values(), ids=FORMS.keys())
def test_a_faulty_manifest_stores_nothing(
    name: str, content: str | bytes, says: Sequence[str]
) -> None:
    refused(write(name, content), "-y", "--db", "t.db", code=5, says=says)


@pytest.mark.parametrize(("key", "value", "says"), VALUES.values(), ids=VALUES.keys())
def test_a_faulty_value_is_named_with_its_line(key: str, value: str, says: Sequence[str]) -> None:
    path = write("m.yaml", job(f"{key}: {value}"))

    refused(path, "-y", "--db", "t.db", code=5, says=[f"m.yaml:3: {key}: ", *says])


@pytest.mark.parametrize(("image", "says"), IMAGES.values(), ids=IMAGES.keys())
def test_an_image_that_no_service_can_fetch_is_refused(image: str, says: Sequence[str]) -> None:
    path = write("m.yaml", f"jobs:\n  - image: {image}\n")

    said = refused(path, "-y", "--db", "t.db", code=5, says=["m.yaml:2: image: ", *says])

    assert "secret" not in said
    assert "s3" not in said


def test_seeds_and_repeat_exclude_each_other() -> None:
    path = write("m.yaml", job("seeds: [1]\n    repeat: 2"))

    refused(path, "-y", "--db", "t.db", code=5, says=["m.yaml:3: seeds: ", "keep one of them"])


def test_what_expands_too_far_is_refused() -> None:
    path = write("m.yaml", f"{job('repeat: 3')}  - image: {IMAGE}\n    repeat: 3\n")

    said = ["make 6 jobs, at most 5 are allowed", "raise --max-expand"]
    refused(path, "-y", "--db", "t.db", "--max-expand", "5", code=5, says=said)


@pytest.mark.parametrize("prompt", ["a" * 1000, "😀" * 500], ids=["letters", "emoji"])
def test_the_longest_prompt_is_accepted(prompt: str) -> None:
    done = run(write("m.yaml", job(f"prompt: {prompt}")), "-n", "--db", "t.db")

    assert (done.code, done.err) == (0, "")
    assert "1 job to pay for" in done.out
    assert list(Path().iterdir()) == [Path("m.yaml")]


def test_two_hundred_faults_are_counted_and_fifty_shown() -> None:
    path = write("m.csv", table("image,duration", *[f"{IMAGE},7"] * 200))

    said = refused(path, "-y", "--db", "t.db", code=5, says=["200 faults; nothing was stored"])

    assert said.count("7 is not one of") == 50
    assert "m.csv:51: duration" in said
    assert said.rstrip().endswith("and 150 more")


def test_a_faulty_manifest_among_good_ones_stores_none() -> None:
    good, bad = write("good.yaml", JOB), write("bad.yaml", job("duration: 7"))

    refused(good, bad, "-y", "--db", "t.db", code=5, says=["bad.yaml:3: duration: 7"])


def test_what_a_file_holds_does_not_steer_the_terminal() -> None:
    path = write("m.csv", table("image,duration", f"{IMAGE},\x1b[2J7"))

    said = refused(path, "-y", "--db", "t.db", code=5, says=["m.csv:2: duration: \\x1b[2J7 is not"])

    assert "\x1b" not in said


# -- which file ----------------------------------------------------------------------------------


def test_a_manifest_that_is_no_file_is_refused() -> None:
    Path("folder.yaml").mkdir()
    ask = ("-y", "--db", "t.db")
    refused("", *ask, code=2, says=["MANIFEST", "an empty word names no manifest"])
    refused("nope.yaml", *ask, code=5, says=["nope.yaml: no such file: check the name"])
    refused("folder.yaml", *ask, code=5, says=["folder.yaml: is a folder: name the manifest"])
    refused("/dev/zero", *ask, code=5, says=["/dev/zero: is not a regular file", "save the"])
    refused("-", *ask, code=5, says=["stdin: is empty: it needs at least one job"])
    refused("-", "/dev/stdin", *ask, code=2, says=["- can be read only once: name it once"])


@pytest.mark.parametrize(
    ("stem", "what"),
    [
        ("-rf", "must not start with `-`"),
        ("x" * 200, "has 200 characters, at most 100 are allowed"),
        ("two\nlines", "must not contain control characters"),
        ("\u202egpj", "must not contain control characters"),
    ],
)
def test_a_file_whose_name_no_batch_can_have_needs_another(stem: str, what: str) -> None:
    path = write(f"./{stem}.yaml", JOB)

    refused(path, "-y", "--db", "t.db", code=5, says=[what, "rename the file", "--batch NAME"])

    assert run(path, "-n", "--db", "t.db", "--batch", "mine").code == 0


@pytest.mark.parametrize(
    "stem", ["a file of mine", "Hafen bei Nacht, ü", "夜の港", ".hidden", "v1.2"]
)
def test_a_file_may_be_called_what_people_call_files(stem: str) -> None:
    done = run(write(f"{stem}.yaml", JOB), "-n", "--db", "t.db")

    assert done.code == 0, done.err
    assert f"batch {stem} (new)" in done.out


def test_a_file_name_of_other_bytes_is_refused() -> None:
    path = write(os.fsdecode(b"caf\xe9.yaml"), JOB)

    refused(path, "-y", "--db", "t.db", code=2, says=["is not UTF-8", "rename the file"])


# -- options -------------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[Sequence[str], int, Sequence[str]]] = {
    "unknown": (["--frobnicate"], 2, ["'--frobnicate'", "--help"]),
    "misspelled": (["--modle", "x"], 2, ["'--modle'", "--model"]),
    "no-slots": (["-j", "0"], 2, ["--jobs", "'0' is neither a number of jobs"]),
    "huge-slots": (["-j", "9" * 20], 2, ["--jobs", "is neither a number of jobs"]),
    "slots-as-word": (["-j", "many"], 2, ["--jobs", "'many' is neither", "nor auto"]),
    "no-budget": (["--budget", "0"], 2, ["--budget", "0 is not an amount above 0"]),
    "budget-below": (["--budget", "-3"], 2, ["--budget", "-3 is not an amount above 0"]),
    "budget-nan": (["--budget", "nan"], 2, ["--budget", "'nan' is not an amount"]),
    "budget-inf": (["--budget", "inf"], 2, ["--budget", "'inf' is not an amount"]),
    "huge-budget": (["--budget", "1e300"], 2, ["--budget", "1e300 is not an amount", "below"]),
    "halt": (["--halt", "nonsense"], 2, ["--halt", "'nonsense' is none of streak=N"]),
    "halt-zero": (
        ["--halt", "streak=0"],
        2,
        ["--halt", "'streak=0': N must be a whole number, at least 1"],
    ),
    "halt-percent": (["--halt", "soon,fail=101%"], 2, ["--halt", "from 1 to 100"]),
    "halt-never": (["--halt", "never", "--halt", "streak=2"], 2, ["--halt", "never switches"]),
    "policy-retries": (["--policy-retries", "101"], 2, ["--policy-retries", "not in the range"]),
    "halt-digit": (["--halt", "streak=²"], 2, ["--halt", "'streak=²': N must be"]),
    "retries": (["--retries", "-1"], 2, ["--retries", "-1 is not in the range"]),
    "timeout-nan": (["--job-timeout", "nan"], 2, ["--job-timeout", "nan"]),
    "timeout-inf": (["--job-timeout", "inf"], 2, ["--job-timeout", "inf"]),
    "interval": (["--poll-interval", "-1"], 2, ["--poll-interval", "-1"]),
    "poll-rate": (["--poll-rate", "0"], 2, ["--poll-rate", "0.0 is not in the range"]),
    "poll-rate-nan": (["--poll-rate", "nan"], 2, ["--poll-rate", "is not a number such as"]),
    "limit": (["--limit", "-1"], 2, ["--limit", "-1 is not in the range"]),
    "name-field": (["--name", "{nope}"], 2, ["unknown field {nope}", "the fields are {batch}"]),
    "name-empty": (["--name", ""], 2, ["names no file", "the default is"]),
    "batch-path": (["--batch", "../x"], 2, ["--batch '../x'", "leave out `/`"]),
    "batch-empty": (["--batch", ""], 2, ["--batch ''", "is empty"]),
    "account-empty": (["--account", ""], 2, ["--account ''", "is empty"]),
    "model": (
        ["--model", "runwayml/nope"],
        5,
        ["--model: unknown model runwayml/nope", "models list"],
    ),
    "output-suffix": (
        ["-o", "results.txt"],
        2,
        ["results.txt: unknown format", ".csv, .jsonl or .xlsx"],
    ),
    "output-folder": (["-o", "no/r.csv"], 13, ["no/r.csv", "see that its folder exists"]),
    "output-manifest": (["-o", "m.csv"], 2, ["m.csv exists and is not an export", "another name"]),
    "output-is-a-folder": (["-o", "made.csv"], 2, ["made.csv is not a file", "another name"]),
    "output-database": (["-o", "t.csv", "--db", "t.csv"], 2, ["t.csv is the job database"]),
    "clips-under-file": (["--output-dir", "m.csv/clips"], 13, ["m.csv", "--output-dir"]),
}


@pytest.mark.parametrize(("words", "code", "says"), OPTIONS.values(), ids=OPTIONS.keys())
def test_an_option_that_makes_no_sense_is_refused(
    words: Sequence[str], code: int, says: Sequence[str]
) -> None:
    Path("made.csv").mkdir()
    path = write("m.csv", table("image", IMAGE))

    refused(path, "-y", "--db", "t.db", *words, code=code, says=says)


def test_nothing_is_paid_without_consent() -> None:
    path = write("m.yaml", JOB)

    refused(path, "--db", "t.db", code=2, says=["nobody can be asked", "pass -y"])
    refused(path, "-y", code=2, says=["no job database batchgen.db yet", "pass --db"])
    refused("--db", "t.db", "-y", code=11, says=["t.db: there is no job database", "MANIFEST"])


# -- job databases -------------------------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("hello\n" * 100)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name TEXT)")


def cut_short(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name TEXT)")
        database.executemany("INSERT INTO things VALUES (?)", [("x" * 1000,)] * 50)
        database.commit()
    path.write_bytes(path.read_bytes()[:5000])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE attempts (id TEXT)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
        database.commit()


def nothing(_: Path) -> None:
    """Leave the place empty."""


DATABASES: dict[str, tuple[str, Make, Sequence[str]]] = {
    "folder": ("d.db", Path.mkdir, ["d.db: is a folder", "--db"]),
    "pipe": ("d.db", os.mkfifo, ["d.db: is not a file", "--db"]),
    "text": ("d.db", text_file, ["d.db: this is not a job database", "--db"]),
    "foreign": ("d.db", foreign, ["d.db: this database belongs to another program", "--db"]),
    "cut-short": ("d.db", cut_short, ["d.db: this is not a job database or it is damaged"]),
    "newer": ("d.db", newer, ["d.db: this job database was written by a newer", "install"]),
    "manifest": ("m.yaml", nothing, ["m.yaml: this is not a job database", "--db"]),
    "no-folder": ("no/d.db", nothing, ["the folder no does not exist", "create it"]),
    "under-file": ("m.yaml/d.db", nothing, ["the folder m.yaml does not exist", "--db"]),
    "unwritable": ("/proc/d.db", nothing, ["the folder /proc cannot be written", "--db"]),
    "long": ("d" * 300, nothing, ["cannot be looked at: File name too long", "--db"]),
    "memory": (":memory:", nothing, [":memory: would forget", "--db"]),
    "somebody's": ("~nobody-here/d.db", nothing, ["~nobody-here/d.db: ", "the whole path"]),
    "no-server": (
        "postgresql://u:secret@127.0.0.1:1/d",
        nothing,
        ["postgresql://u@127.0.0.1:1/d: the PostgreSQL server cannot be used", "check the URL"],
    ),
    "bad-server": (
        "postgresql://u:sec%ret@127.0.0.1/d",
        nothing,
        ["the PostgreSQL URL cannot be read", "postgresql://USER@HOST"],
    ),
    "mysql": ("mysql://u:secret@h/d", nothing, ["mysql://… is of an unknown kind", "use sqlite:"]),
    "bad-url": ("http://[x", nothing, ["http://… is of an unknown kind", "use sqlite:"]),
}


@pytest.mark.parametrize(("db", "make", "says"), DATABASES.values(), ids=DATABASES.keys())
def test_what_cannot_be_the_job_database_is_left_alone(
    db: str, make: Make, says: Sequence[str]
) -> None:
    path = write("m.yaml", JOB)
    make(Path(db))

    said = refused(path, "-y", "--db", db, code=11, says=says)

    assert "secret" not in said
    assert "sec%ret" not in said


def test_a_bad_database_is_told_before_a_bad_manifest() -> None:
    text_file(Path("d.db"))

    refused(
        write("m.yaml", "jobs: []\n"), "-y", "--db", "d.db", code=11, says=["d.db: this is not"]
    )


# -- token and service ---------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "  ", "to\nken", "to ken", "tök€n"])
def test_a_token_that_is_none_is_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", token)

    said = refused(write("m.yaml", JOB), "--db", "t.db", code=6, says=["RUNCOMFY_TOKEN"])

    assert "pay for" not in said
    assert not token.strip() or token not in said


def test_faults_of_the_manifest_are_told_before_a_missing_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RUNCOMFY_TOKEN")

    refused(write("m.yaml", "jobs: []\n"), "-y", "--db", "t.db", code=5, says=["m.yaml:1: jobs:"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"nonsense", 2),
        (b"[]", 2),
        (b"{}", 2),
        (b"\xff\xfe", 2),
        (b"[" * 100_000, 2),
        (b'{"access_token": ""}', 6),
        (b'{"access_token": "a\\nb"}', 6),
        (b'{"access_token": "\\ud800"}', 6),
    ],
)
def test_a_token_file_without_a_token_is_named(
    monkeypatch: pytest.MonkeyPatch, content: bytes, code: int
) -> None:
    monkeypatch.delenv("RUNCOMFY_TOKEN")
    token_file(content)

    refused(
        write("m.yaml", JOB), "-y", "--db", "t.db", code=code, says=["token.json", "RUNCOMFY_TOKEN"]
    )


@pytest.mark.parametrize("expires", [b"1e30", b"NaN", b'"soon"', b"[]"])
def test_an_expiry_that_is_no_time_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, expires: bytes
) -> None:
    monkeypatch.delenv("RUNCOMFY_TOKEN")
    token_file(b'{"access_token": "good", "expires_at": ' + expires + b"}")

    refused(write("m.yaml", JOB), "--db", "t.db", code=2, says=["nobody can be asked"])


def token_file(content: bytes) -> None:
    folder = Path(os.environ["RUNCOMFY_CONFIG_DIR"])
    folder.mkdir(parents=True)
    (folder / "token.json").write_bytes(content)


@pytest.mark.parametrize(
    ("base", "what"),
    [
        ("garbage", "'garbage' is not an http(s) URL"),
        ("ftp://api.example.com", "is not an http(s) URL"),
        ("https://", "is not an http(s) URL"),
        ("https://api exa.com/v1", "must not hold a space"),
        ("http://127.0.0.1:99999/v1", "is not an http(s) URL"),
        ("http://api.example.com/v1", "must be https"),
        ("http://127.0.0.1.example.com/v1", "must be https"),
        ("https://u:secret@api.example.com/v1", "must not hold a user name or password"),
        ("https://api.example.com/v1?key=secret", "must not hold a query"),
    ],
)
def test_a_service_that_no_token_may_go_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, base: str, what: str
) -> None:
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", base)
    advice = ["RUNCOMFY_MODEL_API_BASE: ", what, "correct it, or unset it"]

    said = refused(write("m.yaml", JOB), "-y", "--db", "t.db", code=2, says=advice)

    assert "secret" not in said
    assert "sec%ret" not in said


# -- the real program ----------------------------------------------------------------------------


def program(words: Sequence[str], env: Mapping[str, str]) -> Done:
    return Started([*BATCHGEN, "run", *words], {**os.environ, **env}, Path.cwd()).wait()


@pytest.mark.parametrize(
    ("words", "env", "code", "says"),
    [
        (["m.yaml", "-y", "--db", "t.db"], {}, 5, "Error: m.yaml:3: duration: 7 is not one of"),
        (["m.yaml", "--simulate"], {}, 5, "Error: m.yaml:3: duration: 7 is not one of"),
        (["good.yaml", "--db", "t.db"], {}, 2, "Error: this costs money and nobody can be asked"),
        (["good.yaml", "-y", "--db", "t.db"], {"RUNCOMFY_TOKEN": ""}, 6, "Error: no token"),
        (["caf\udce9.yaml", "-y", "--db", "t.db"], {"PYTHONUTF8": "1"}, 2, "is not UTF-8"),
    ],
    ids=["manifest", "simulated", "consent", "token", "file-name"],
)
def test_the_program_itself_leaves_nothing_behind(
    words: Sequence[str], env: Mapping[str, str], code: int, says: str
) -> None:
    write("m.yaml", job("duration: 7"))
    write("good.yaml", JOB)
    before = everything()

    done = program(words, env)

    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert everything() == before
