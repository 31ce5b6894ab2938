"""Files of this machine that a manifest names: found, checked by their bytes, hashed.

A manifest may come from somebody else. So a file is read only in the folder of its manifest and
below, links followed first; another one only if the user says that it is meant. And nothing is
an input but an image, a video or a sound by its bytes, whatever it is called: a key or a page of
text never leaves this machine.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from batchgen.domain.errors import InputUnusable
from batchgen.domain.fitness import Facts
from batchgen.domain.input_files import InputFile, parse_input_file
from batchgen.inputs.kinds import HEAD_BYTES, extension_of
from batchgen.inputs.picture import pixels

LARGEST_BYTES = 256 * 1024**2
"""A larger file is no input: the services recommend at most 100 MB."""

_PICTURE_BYTES = 1024**2  # in which a JPEG says its pixels, whatever it has before them
_BLOCK_BYTES = 1024**2
_URL = re.compile(r"[a-z][a-z0-9+.-]+:", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """A file as it was found.

    Attributes:
        file: What a job keeps of it.
        facts: What a fitting file must meet.
    """

    file: InputFile
    facts: Facts

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.facts.size_bytes or 0


class LocalFiles:
    """The files that one manifest may name.

    Args:
        folders: Where they are looked for, one after the other: the manifest's own folder, and
            for an export also that of the manifest which it came from.
        anywhere: Files outside of these folders are meant too.
        earlier: Returns what jobs of an export keep of files: one that is gone since is what it
            was then.

    Attributes:
        found: What was found, by what a job keeps of it.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        anywhere: bool = False,
        earlier: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.found: dict[str, Seen] = {}
        self._folders = list(dict.fromkeys(folders))
        self._anywhere = anywhere
        self._load_earlier = earlier
        self._known: dict[str, Seen | str] = {}  # by what was written; a text is a problem

    def kept(self, written: str) -> str:
        """Return what a job keeps of a file.

        Args:
            written: A path, or what another job kept of the file.

        Raises:
            ValueError: If it is no file that can be used; the message says why and what to do.
        """
        if written not in self._known:
            if (gone := self._gone(written)) is not None:
                return gone
            try:
                self._known[written] = self._look(written)
            except ValueError as error:
                self._known[written] = str(error)
        seen = self._known[written]
        if isinstance(seen, str):
            raise ValueError(seen)  # noqa: TRY004 - the caller's one kind
        self.found[str(seen.file)] = seen
        return str(seen.file)

    @cached_property
    def _earlier(self) -> dict[str, str]:
        """What jobs keep of files, by their paths."""
        kept = {text: parse_input_file(text) for text in self._load_earlier()}
        return {file.path: text for text, file in kept.items() if file is not None}

    def _gone(self, written: str) -> str | None:
        """Return what a job keeps of a file that is not there any more, None if there is none."""
        if "\0" in written:
            return None
        paths = [Path(os.path.realpath(folder / written)) for folder in self._folders]
        if any(map(os.path.lexists, paths)):
            return None
        return next(
            (self._earlier[str(path)] for path in paths if str(path) in self._earlier), None
        )

    def _look(self, written: str) -> Seen:
        before = parse_input_file(written)
        path = self._path(written if before is None else before.path, is_kept=before is not None)
        try:
            seen = look(path)
        except InputUnusable as error:
            raise ValueError(str(error)) from error
        if before is not None and seen.file.sha256 != before.sha256:
            raise ValueError(
                f"{path} is not the file that it was: its content has changed; put the old one "
                "back, or name the new one by its path"
            )
        return seen

    def _path(self, written: str, *, is_kept: bool) -> Path:
        if "\0" in written:
            raise ValueError("a path contains no NUL: correct it")
        names = [written, Path(written).name] if is_kept else [written]
        outside: Path | None = None
        for folder in self._folders:
            for name in names:
                path = Path(os.path.realpath(folder / name))
                if not os.path.lexists(path):
                    continue
                if self._anywhere or path.is_relative_to(os.path.realpath(folder)):
                    return path
                outside = outside or path
        if outside is not None:
            raise ValueError(
                f"{written} leads to {outside}, outside of the manifest's folder: copy the file "
                "there, or pass --allow-private-inputs if it is meant"
            )
        where = " or ".join(map(str, self._folders))
        raise ValueError(f"{written}: no such file: it was looked for in {where}")


def folder_of(manifest: str) -> Path:
    """Return where the files that a manifest names are looked for; `-` is standard input."""
    return Path.cwd() if manifest == "-" else Path(manifest).absolute().parent


def is_path(text: str) -> bool:
    """Return whether an input is written as the path of a file, or as a job keeps one."""
    if parse_input_file(text) is not None:
        return True
    return bool(text) and not _URL.match(text) and not text.startswith(("//", "<"))


def look(path: Path) -> Seen:
    """Read a file of this machine: all of it is hashed.

    Raises:
        InputUnusable: If it cannot be used.
    """
    with _opened(path) as (fd, size_bytes):
        head = os.pread(fd, HEAD_BYTES, 0)
        extension = extension_of(head)
        if extension is None:
            raise InputUnusable(
                f"{path} is no image, video or sound by its bytes: nothing else is ever sent"
            )
        size = None
        if size_bytes and (size := pixels(head)) is None and extension in ("jpg", "avif", "heic"):
            size = pixels(os.pread(fd, _PICTURE_BYTES, 0))
        digest = hashlib.sha256()
        for block in _blocks(fd, path):
            digest.update(block)
        file = InputFile(digest.hexdigest(), extension, str(path))
    width, height = size or (None, None)
    facts = Facts(content_type=file.content_type, size_bytes=size_bytes, width=width, height=height)
    return Seen(file, facts)


def read(file: InputFile) -> bytes:
    """Return the content that a job was made of.

    Raises:
        InputUnusable: If it is not there any more.
    """
    with _opened(Path(file.path)) as (fd, _):
        content = b"".join(_blocks(fd, Path(file.path)))
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputUnusable(
            f"{file.path} has changed since its job was made: put the old file back, or run the "
            "manifest again, which makes a job of the new one"
        )
    return content


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """Open a file, and tell its length; nothing that is none is waited for, or changed."""
    try:
        # Without this a pipe would be waited for, and a terminal taken.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise InputUnusable(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise InputUnusable(f"{path} is a folder: name the file in it")
        if not stat.S_ISREG(found.st_mode):
            raise InputUnusable(f"{path} is no file, but a device or a pipe: name a file")
        if not found.st_size:
            raise InputUnusable(f"{path} is empty: put the file there anew")
        if found.st_size > LARGEST_BYTES:
            raise InputUnusable(
                f"{path} has {found.st_size / 1024**2:,.0f} MiB: at most "
                f"{LARGEST_BYTES // 1024**2} are sent; make it smaller, or put it on the web and "
                "give its URL"
            )
        yield fd, found.st_size
    finally:
        os.close(fd)


def _blocks(fd: int, path: Path) -> Iterator[bytes]:
    position = 0
    while position <= LARGEST_BYTES:  # it may grow meanwhile
        try:
            block = os.pread(fd, _BLOCK_BYTES, position)
        except OSError as error:
            raise InputUnusable(f"{path} cannot be read: {error.strerror}") from error
        if not block:
            return
        position += len(block)
        yield block
