"""Write an export: whole or not at all, and never over a file that is not one."""

import os
import secrets
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from batchgen.domain.errors import OutputError, UsageError
from batchgen.exporters.csv_table import CSV
from batchgen.exporters.interface import Format, Layout, Table
from batchgen.exporters.jsonl import JSONL
from batchgen.exporters.xlsx import XLSX

STDOUT = "-"
FORMATS: dict[str, Format] = {
    ".csv": CSV,
    ".jsonl": JSONL,
    ".xlsx": XLSX,
}
"""Every format by the suffix that chooses it."""


@dataclass(frozen=True)
class Kind:
    """A kind of file that batchgen writes, and replaces.

    Attributes:
        noun: What it is to people, with its article.
        command: What writes it again.
        is_ours: Whether a file that is open at its beginning is one.
    """

    noun: str
    command: str
    is_ours: Callable[[BinaryIO], bool]


def _export_kind(wanted: Format) -> Kind:
    return Kind("an export", "batchgen export", wanted.is_export)


def check_target(path: str, *, overwrite: bool) -> None:
    """Check, before anything is spent, that an export could be written to `path`.

    An existing file is replaced only with `overwrite`, or if it is an export itself (or
    empty, as the export of no jobs may be).

    Raises:
        UsageError: If the suffix is unknown, or the file exists and is something else.
        OutputError: If its folder cannot be written.
    """
    wanted = format_of(path)
    if path == STDOUT:
        return
    check_whole(path, _export_kind(wanted), overwrite=overwrite)


def check_whole(path: str, kind: Kind, *, overwrite: bool) -> None:
    """Check, before any work is done, that `write_whole` could write there.

    Raises:
        UsageError: If the file exists and is something else.
        OutputError: If its folder cannot be written.
    """
    target = _real(path)
    _check_replaceable(target, kind, overwrite=overwrite)
    temporary, fd = _open_temporary(target)
    os.close(fd)
    temporary.unlink(missing_ok=True)


def format_of(path: str, name: str | None = None) -> Format:
    """Return the format that a file's suffix says, or else a name such as `csv`.

    Args:
        path: Where to; `-` is stdout.
        name: A suffix of `FORMATS` without its dot; None is what the suffix says, CSV on stdout.

    Raises:
        UsageError: If nothing says the format, or suffix and name say two.
    """
    said = None if path == STDOUT else FORMATS.get(Path(path).suffix.lower())
    named = None if name is None else FORMATS[f".{name}"]
    if said is not None and named is not None and said is not named:
        raise UsageError(f"{path}: its name does not say {name}: rename it, or leave --format out")
    found = named or said or (CSV if path == STDOUT else None)
    if found is None:
        *most, last = FORMATS
        raise UsageError(f"{path}: unknown format; end the name in {', '.join(most)} or {last}")
    return found


def write_whole(path: str, pieces: Generator[bytes], kind: Kind, *, overwrite: bool) -> int:
    """Write a file whole or not at all; return its length in bytes.

    What fails, also in `pieces`, leaves what was there before.

    Args:
        path: Where to; a file there is replaced only if it is of this kind or empty.
        pieces: Its content.
        kind: What it is.
        overwrite: Replace a file whatever it is.

    Raises:
        UsageError: If the file exists and is something else.
        OutputError: If it cannot be written.
    """
    target = _real(path)
    _check_replaceable(target, kind, overwrite=overwrite)
    temporary, fd = _open_temporary(target)
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            _write_all(file, pieces, name=path)
            with _output_errors(path):
                os.fsync(file.fileno())
                size_bytes = os.fstat(file.fileno()).st_size
        _check_replaceable(target, kind, overwrite=overwrite)  # it may have appeared meanwhile
        with _output_errors(path):
            _replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return size_bytes


def export(
    table: Table,
    path: str,
    *,
    columns: Sequence[str],
    overwrite: bool,
    chosen: Sequence[str] | None = None,
    format_name: str | None = None,
    bom: bool = False,
    excel_safe: bool = False,
    stdout: BinaryIO | FileIO | None = None,
) -> None:
    """Write jobs to a file, or to stdout (`-`), in the format of `format_of`.

    The file appears whole or not at all: what fails, also in `table`, leaves what was
    there before. Memory does not grow with the number of jobs.

    Args:
        table: In manifest order.
        path: Where to; `-` for stdout.
        columns: The user's own columns in order.
        overwrite: Replace a file whatever it is.
        chosen: What is written of columns and results, in order; None is all.
        format_name: As of `format_of`.
        bom: Begin a CSV with a byte order mark.
        excel_safe: Escape the user's cells of a CSV too.
        stdout: Instead of the process's own.

    Raises:
        UsageError: As `check_target`, for `bom` or `excel_safe` with another format, or if a
            terminal would get a workbook.
        OutputError: If it cannot be written.
    """
    wanted = format_of(path, format_name)
    if (bom or excel_safe) and not wanted.is_csv:
        raise UsageError(f"{path}: --bom and --excel-safe are for CSV; leave them out")
    pieces = wanted.render(table, Layout(columns, chosen, bom=bom, excel_safe=excel_safe))
    if path == STDOUT:
        out = stdout or sys.stdout.buffer
        if wanted.is_binary and out.isatty():
            raise UsageError("a workbook is nothing for a terminal: write it to a file, with -o")
        _write_all(out, pieces, name="standard output")
        return
    write_whole(path, pieces, _export_kind(wanted), overwrite=overwrite)


def _real(path: str) -> Path:
    # A link stays a link: what it leads to is replaced.
    with _output_errors(path):
        return Path(path).resolve()


def _check_replaceable(target: Path, kind: Kind, *, overwrite: bool) -> None:
    with _output_errors(str(target)):
        try:
            found = target.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{target} is not a file; choose another name for {kind.noun}")
        if overwrite or found.st_size == 0:
            return
        with target.open("rb") as file:
            is_ours = kind.is_ours(file)
    if not is_ours:
        raise UsageError(
            f"{target} exists and is not {kind.noun} of batchgen; choose another name, or replace "
            f"it with `{kind.command} -o {target.name} --overwrite`"
        )


def _open_temporary(target: Path) -> tuple[Path, int]:
    with _output_errors(str(target)):
        while True:
            path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            try:
                return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue


def _write_all(file: BinaryIO | FileIO, pieces: Generator[bytes], *, name: str) -> None:
    with closing(pieces):  # what it has opened goes now, whatever fails
        for piece in pieces:
            rest = memoryview(piece)
            with _output_errors(name):
                while rest:
                    rest = rest[file.write(rest) :]
    with _output_errors(name):
        file.flush()


def _replace(temporary: Path, target: Path) -> None:
    if target.exists():
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    temporary.replace(target)
    fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _output_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has had enough; that is not our failure
    except OSError as error:
        raise OutputError(
            f"{name}: {error.strerror or error}; see that its folder exists, may be written and "
            "has space, or choose another --output"
        ) from error
