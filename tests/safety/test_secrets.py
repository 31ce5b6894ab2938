"""The token is nowhere, and signed URLs are only where the work needs them."""

import csv
import io
import json
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cli.commands import ok
from runs import Done, Place

from batchgen.providers.simulator import Fault, Kind, Settings, start_in_thread

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
HOST = "https://images.example.com/a.jpg"
SIGNED = [
    "X-Amz-Credential=AKIA{n}5ecret&X-Amz-Signature=amz{n}5ecret",
    "X-Goog-Credential=goog{n}5ecretId&X-Goog-Signature=goog{n}5ecret",
    "sv=2024&se=2030-01-01&sr=b&sig=azure{n}5ecret",
    "Expires=1900000000&Signature=front{n}5ecret&Key-Pair-Id=KEY{n}5ecret&Policy=pol{n}5ecret",
]
FAULTS = (
    Fault(Kind.THROTTLE, nth=(2,), seconds=0.0),
    Fault(Kind.DROP_AFTER, prompt="scene 3"),
    Fault(Kind.GATEWAY_AFTER, prompt="scene 4"),
    Fault(Kind.LOOK_500, prompt="scene 5", nth=(1,)),
    Fault(Kind.LOOK_HTML, prompt="scene 5", nth=(2,)),
    Fault(Kind.GENERATION, prompt="scene 6", code=f"=X {HOST}?X-Amz-Signature=said65ecret"),
    Fault(Kind.UNKNOWN_STATE, prompt="scene 7", code=f"{HOST}?sig=word75ecret"),
    Fault(Kind.FILE_403, prompt="scene 8", nth=(1,)),
    Fault(Kind.FILE_TRUNCATED, prompt="scene 9", nth=(1,)),
    Fault(Kind.FILE_HTML, prompt="scene 10", nth=(1,)),
    Fault(Kind.FILE_REDIRECT, prompt="scene 11"),
    Fault(Kind.INVALID, prompt="scene 12"),
)


def rows() -> list[dict[str, str]]:
    return [
        {
            "id": f"c{n}",
            "prompt": f"scene {n} ",
            "image": f"{HOST}?{SIGNED[n % 4].format(n=n)}",
            "note": "kept",
        }
        for n in range(1, 15)
    ]


def secrets_of(text: str) -> set[str]:
    """Return every secret value of signed URLs in a text."""
    names = r"X-Amz-Credential|X-Amz-Signature|X-Goog-[A-Za-z]+|sig|Signature|Key-Pair-Id|Policy"
    return set(re.findall(rf"(?<![\w-])(?:{names})=([A-Za-z0-9]{{8,}})", text))


def holding(secret: str, pieces: Mapping[str, bytes]) -> list[str]:
    return [name for name, data in pieces.items() if secret.encode() in data]


def left_behind(*folders: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def cells(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a JSON value with the path of names that leads to it."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from cells(part, f"{name}/{key}")
    elif isinstance(value, list):
        for part in value:
            yield from cells(part, name)
    else:
        yield name, str(value)


def titles(pid: int) -> bytes:
    """Return what a process shows of itself to every user of the machine."""
    process = Path("/proc", str(pid))
    return b" ".join((process / name).read_bytes() for name in ("cmdline", "comm", "stat"))


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


def test_no_secret_is_where_it_need_not_be(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    service = start_in_thread(
        Settings(
            token=TOKEN,
            echo_inputs=True,
            error_shape="string",
            link_life_s=600.0,
            run_s=(0.0, 0.1),
            faults=FAULTS,
        )
    )
    with service:
        place = Place(tmp_path, service)
        place.write(rows())
        env: dict[str, str | None] = {"RUNCOMFY_TOKEN": TOKEN, "TMPDIR": str(temporary)}
        said: dict[str, Done] = {}

        crash = {**env, "BATCHGEN_FAILPOINT": "after-answer@5=raise"}
        said["crash"] = place.run("jobs.csv", "-v", "-j", "3", "-o", "out.csv", env=crash)
        assert said["crash"].code == 1, said["crash"].err
        assert list(temporary.glob("batchgen-*.txt"))

        run = place.start_run("jobs.csv", "-v", "-j", "3", env=env)
        place.wait_accepted(service.counters.accepted + 2)
        shown = titles(run.pid) if Path("/proc/self").is_dir() else b""
        run.send(signal.SIGKILL)
        said["kill"] = run.wait()
        after_kill = left_behind(tmp_path)
        assert any("-rescue-" in name for name in after_kill)

        flags = ("-v", "-j", "9", "-o", "out.csv", "--events", "events.jsonl")
        said["run"] = place.run("jobs.csv", *flags, env=env)
        assert said["run"].code == 10, said["run"].err
        assert "in_doubt" in (tmp_path / "events.jsonl").read_text()
        for words in (
            ["export", "-o", "out.jsonl"],
            ["export", "-o", "-"],
            ["status"],
            ["status", "--json"],
            ["ls", "--json"],
            ["validate", "jobs.csv"],
            *(["show", f"c{n}"] for n in (1, 6, 8)),
            *(["show", f"c{n}", "--json"] for n in (2, 3, 7)),
        ):
            name = " ".join(words)
            done = ok(*words, "--db", str(place.db))
            said[name] = Done(done.code, done.out, done.err)

    places = left_behind(tmp_path, temporary, Path.home())
    outputs = {
        name: f"{done.out}\n{done.err}".encode()
        for name, done in said.items()
        if name != "export -o -"
    }
    everything = {**places, **outputs, "titles": shown, "export": said["export -o -"].out.encode()}
    everything |= {f"killed {name}": data for name, data in after_kill.items()}

    # The token: nowhere at all.
    assert holding(TOKEN, everything) == []

    # Signed URLs: in the job database, which needs them, and in the user's own cells.
    stored = "".join(str(list(row.values())) for row in [*place.jobs(), *place.attempts()])
    secrets = secrets_of(stored) | secrets_of((tmp_path / "jobs.csv").read_text())
    assert len(secrets) > 14 * 1.5  # inputs, and links of the service
    assert any(len(secret) == 64 for secret in secrets)
    own = re.compile(
        r"(?:killed )?\S*/(?:jobs\.csv|jobs\.db(?:-wal|-shm|-journal)?|out\.(?:csv|jsonl))"
    )
    elsewhere = {
        name: data
        for name, data in everything.items()
        if not own.fullmatch(name) and name != "export"
    }
    for secret in secrets:
        assert holding(secret, elsewhere) == [], secret

    # Exports: the user's own cell verbatim, and nothing in what batchgen adds.
    images = {row["id"]: row["image"] for row in rows()}
    tables = [place.export(), list(csv.DictReader(io.StringIO(said["export -o -"].out)))]
    tables.append([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()])
    for table in tables:
        assert {row["id"]: row["image"] for row in table} == images
        for row in table:
            for name, text in cells(row):
                assert name == "/image" or secrets_of(text) & secrets == set(), name
    urls = {row["result_url"] for row in tables[0]} - {""}
    assert urls
    assert all(url.startswith(service.origin) and "?" not in url for url in urls)

    # And what the service says does not run as a formula.
    [failed] = [row for row in place.export() if row["id"] == "c6"]
    assert failed["result_error"].startswith("'=X")
