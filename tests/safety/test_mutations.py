"""Damaged manifests: each is refused with its file and line, or read; never a traceback."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest
from cli.commands import call
from runs import IMAGE

COUNT = 200  # of mutations
Mutation = Callable[[bytes, random.Random], bytes]

ROWS = [
    {"id": f"r{n}", "prompt": f'a "fox", {n}; é 🦊', "image": IMAGE, "duration": 5, "seeds": "1, 2"}
    for n in range(6)
]
SEED = {"prompt": "the harbor\nat dawn", "image": IMAGE, "seed": 7, "repeat": 1, "note": "x"}


def table(delimiter: str, end: str) -> str:
    header = delimiter.join(ROWS[0])
    quoted = [['"' + str(v).replace('"', '""') + '"' for v in row.values()] for row in ROWS]
    return end.join([header, *map(delimiter.join, quoted)]) + end


def workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(list(ROWS[0]))
    for row in ROWS:
        sheet.append(list(row.values()))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


YAML = f"""# a comment
batch: night
model: runwayml/runway-gen-4/turbo/image-to-video
budget: 60
defaults: {{duration: 5, ratio: "1280:720", meta: {{client: acme}}}}
vars:
  style: 35mm film, soft light
jobs:
  - id: harbor
    prompt: "Boats leave the harbor at dawn, {{{{ style }}}}"
    image: {IMAGE}
    seeds: [1, 2, 3]
  - prompt: |
      two lines
      of text
    image: {IMAGE}
    repeat: 2
    duration: 10
    meta: {{shot: 12a}}
"""

MANIFESTS = {
    "night.yaml": YAML.encode(),
    "flow.yml": json.dumps({"jobs": ROWS, "vars": {"a": 1}}, ensure_ascii=False, indent=1).encode(),
    "comma.csv": table(",", "\n").encode(),
    "semicolon.csv": table(";", "\r\n").encode("utf-8-sig"),
    "unicode.tsv": table("\t", "\r\n").encode("utf-16"),
    "lines.jsonl": "".join(json.dumps(row) + "\n" for row in [*ROWS, SEED]).encode(),
    "book.xlsx": workbook(),
}


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def delete_line(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    return b"".join([*lines[:at], lines[at], *lines[at:]])


def swap_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def replace_one(*pairs: tuple[bytes, bytes]) -> Mutation:
    def changed(data: bytes, draw: random.Random) -> bytes:
        found = [pair for pair in pairs if pair[0] in data]
        if not found:
            return flip(data, draw)
        old, new = draw.choice(found)
        places = [one.start() for one in re.finditer(re.escape(old), data)]
        at = draw.choice(places)
        return data[:at] + new + data[at + len(old) :]

    return changed


def replace_all(*pairs: tuple[bytes, bytes]) -> Mutation:
    def changed(data: bytes, draw: random.Random) -> bytes:
        found = [pair for pair in pairs if pair[0] in data]
        return data.replace(*draw.choice(found)) if found else flip(data, draw)

    return changed


def insert(data: bytes, draw: random.Random) -> bytes:
    scraps = [b"\0", b"\x1b[2J", b"\xff", b"\xef\xbb\xbf", b"\r", b"\x85", b"\xe2\x80\xa8", b"\t"]
    scraps += [b"{", b"]", b'"', b"'", b"&a ", b"*a", b"!!python/name:os.system ", b"{{ ", b"%"]
    at = draw.randrange(len(data))
    return data[:at] + draw.choice(scraps) + data[at:]


def encode_anew(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8", "replace")
    return text.encode(
        draw.choice(["latin-1", "cp1252", "utf-16-le", "utf-32", "cp037"]), "replace"
    )


def double(data: bytes, _: random.Random) -> bytes:
    return data + data


def cut_out(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.randint(1, 40) :]


MUTATIONS: list[Mutation] = [
    *(flip, delete_line, repeat_line, swap_lines, truncate, insert, encode_anew, double, cut_out),
    replace_one((b'"', b""), (b"]", b""), (b"}", b""), (b":", b""), (b",", b""), (b"\n", b"")),
    replace_all((b",", b";"), (b";", b"|"), (b"\t", b" "), (b'"', b"'"), (b"\n", b"\r")),
    replace_all((b"duration", b"duraton"), (b"image", b"imgae"), (b"jobs", b"job"), (b"id", b"")),
    replace_all(
        (b"5", b"[]"), (b"5", b"five"), (b"5", b"1e999"), (b"1, 2", b"1, x"), (b"r", b"\0")
    ),
    replace_all((b"https:", b"ftp:"), (b"images", b"127.0.0.1/"), (b"12a", b"&b *b"), (b"x", b"")),
]


def in_a_part(data: bytes, mutate: Mutation, draw: random.Random) -> bytes:
    """Damage one of the files inside a workbook."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    used = ["xl/worksheets/sheet1.xml", "[Content_Types].xml", "xl/workbook.xml", "xl/styles.xml"]
    name = draw.choice([*used, used[0], "xl/_rels/workbook.xml.rels"])
    parts[name] = mutate(parts[name], draw)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return file.getvalue()


def damaged() -> Iterator[tuple[str, bytes]]:
    draw = random.Random(20261125)
    for number in range(COUNT):
        name = list(MANIFESTS)[number % len(MANIFESTS)]
        mutate = MUTATIONS[number // len(MANIFESTS) % len(MUTATIONS)]
        data = MANIFESTS[name]
        if name.endswith(".xlsx") and draw.random() < 0.7:
            yield name, in_a_part(data, mutate, draw)
        else:
            yield name, mutate(data, draw)


def test_undamaged_they_are_read() -> None:
    for name, data in MANIFESTS.items():
        Path(name).write_bytes(data)
        assert call("validate", name).code == 0, name


@pytest.mark.parametrize("command", ["validate", "add"])
def test_a_damaged_manifest_is_refused_with_its_place_or_read(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = []
    for number, (name, data) in enumerate(damaged()):
        if command == "add" and number % 4:
            continue  # it reads as validate does; what is its own is that nothing is stored
        Path(name).write_bytes(data)
        done = call(command, name, "--db", f"{number}.db")
        codes.append(done.code)
        shown = f"{number}: {name}: {done.err}"
        assert done.code in (0, 5), shown
        assert "Traceback" not in done.err, shown
        if done.code == 5:
            place = re.compile(rf"(?:Error: )?{re.escape(name)}(?:\[Sheet\])?(?::\d+)?: \S")
            lines = done.err.splitlines()
            lines = lines[1:] if re.match(r"Error: [\d,]+ faults; ", lines[0]) else lines
            assert all(place.match(line) or line.startswith("and ") for line in lines), shown
            assert not Path(f"{number}.db").exists(), shown
        else:
            assert Path(f"{number}.db").exists() == (command == "add"), shown
    assert 0.4 < codes.count(5) / len(codes) < 0.95
    assert capfd.readouterr().err == ""
