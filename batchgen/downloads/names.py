"""Names of clips: from the user's template to a relative path that is safe everywhere.

A name is reserved when its job is added, with the extension `mp4`; the fetch corrects the
extension if the service made another kind of file.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

from batchgen.domain.errors import UsageError

DEFAULT_TEMPLATE = "{batch}/{id}-{variant}.{ext}"
PLAIN_FIELDS = ("batch", "id", "variant", "ext")
"""What names are made of mostly, and what `renderer` knows."""
FIELDS = (*PLAIN_FIELDS, "seed", "model", "key", "row")
"""What a name may be made of, beside the columns and inputs of the job."""
COMPONENT_BYTES = 120
"""Longest file or folder name, in UTF-8; leaves room for the temporary name below 255."""

_HOSTILE = re.compile(
    # Control characters, path and shell characters, and the invisible ones that turn the
    # direction of text and so disguise an extension.
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)
_WINDOWS_DEVICE = re.compile(
    r"(?P<device>CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])"
    r"(?= *(?:\.|$))",
    re.IGNORECASE,
)
# What is safe already: most names are, and a million of them pass.
_SAFE = re.compile(
    r"(?!(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9])(?:\.|$))"
    rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{COMPONENT_BYTES - 2}}}[A-Za-z0-9_-])?",
    re.IGNORECASE | re.ASCII,
)
_PROBE = "probe0probe"
_WORD_LENGTH = 50
# A letter, a dash, more: no device's name, no number of one, no extension.
_WORD = re.compile(
    rf"(?=.{{3,{_WORD_LENGTH}}}\Z)[a-z][a-z0-9]*[-_][a-z0-9_-]*[a-z0-9]|[0-9a-f]{{16}}"
)
_EXTENSION = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,5}$")
_VALUE_BYTES = 60  # of a column: a prompt must not push out what makes the name unique
_BEFORE, _AFTER = "-_. ", "-_ "  # separators that go with an empty value


@dataclass(frozen=True)
class Template:
    """A name template, taken apart.

    Attributes:
        parts: Texts, each with the field that follows it; None if none does.
    """

    parts: tuple[tuple[str, str | None], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    def render(self, values: Mapping[str, str]) -> str:
        """Return the relative path of a clip, always inside its folder and always the same.

        A `/` of the template makes a folder; one in a value becomes `-`. Where a value is empty,
        the separator beside it goes with it; where nothing is left, the file is named by its id.

        Args:
            values: Of every field, and of `id` and `ext`.
        """
        safe = {
            name: _value(values[name]) if name in PLAIN_FIELDS else _short(values[name])
            for name in (*self.fields, "id", "ext")
        }
        path = self._filled(safe)
        if not all(safe.values()):
            folder, slash, leaf = path.rstrip("/").rpartition("/")
            if not leaf.removesuffix(safe["ext"]).strip(_BEFORE):
                ext = f".{safe['ext']}" if "ext" in self.fields else ""
                path = f"{folder}{slash}{safe['id']}{ext}"
        return safe_path(path)

    def _filled(self, values: Mapping[str, str]) -> str:
        path, is_cut = "", False
        for text, name in self.parts:
            said = text[1:] if is_cut and text[:1] in tuple(_AFTER) else text
            path, is_cut = path + said, False
            if name is None:
                continue
            path += values[name]
            if not values[name] and said.endswith(tuple(_BEFORE)):
                path = path[:-1]
            elif not values[name]:
                is_cut = True
        return path


def parse_template(template: str) -> Template:
    """Take a name template apart.

    Raises:
        UsageError: If it has a bad brace, or names no file.
    """
    try:
        found = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name {template!r}: {error}; write {{{{ for a plain brace") from error
    if not template.strip(" ./\\"):
        raise UsageError(f"--name {template!r} names no file; the default is {DEFAULT_TEMPLATE}")
    parts = []
    for text, name, spec, conversion in found:
        if name is not None:  # the name of a column may hold `!` and `:`
            name += (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        parts.append((text, name))
    return Template(tuple(parts))


def render_name(template: str, *, batch: str, id: str, variant: str = "", ext: str = "mp4") -> str:
    """Return `Template.render` of a template that has `PLAIN_FIELDS` only."""
    values = {"batch": batch, "id": id, "variant": variant, "ext": ext}
    return parse_template(template).render(values)


def renderer(template: Template, *, batch: str) -> Callable[[str, str], str]:
    """Return `render` of id and variant for the jobs of one batch, much faster for most.

    Args:
        template: With no other fields than `PLAIN_FIELDS`.
        batch: The batch's name.
    """

    def render(row_id: str, variant: str) -> str:
        return template.render({"batch": batch, "id": row_id, "variant": variant, "ext": "mp4"})

    # A short id of letters and digits changes nothing around it, wherever it stands.
    shape = render(_PROBE, "").split(_PROBE)

    def quick(row_id: str, variant: str) -> str:
        if variant or len(shape) != 2 or not _WORD.fullmatch(row_id):
            return render(row_id, variant)
        return row_id.join(shape)

    # What is not ASCII might join the letters beside it; what is long is cut.
    around = "".join(shape)
    return quick if around.isascii() and len(around) <= COMPONENT_BYTES - _WORD_LENGTH else render


def safe_path(path: str) -> str:
    """Return a relative path whose every component is a safe name."""
    parts = [part for part in path.split("/") if part.strip(" .")]
    return "/".join(safe_component(part) for part in parts) or "_"


def safe_component(text: str) -> str:
    """Return a text as one file name that every system and shell takes.

    NFC; hostile characters become `-`; leading dots, dashes and spaces and trailing dots
    and spaces go; Windows' device names get a `_`; at most `COMPONENT_BYTES` bytes, the
    extension kept. The result of a result is itself.
    """
    if _SAFE.fullmatch(text):
        return text
    before = None
    while before != text:  # a cut can lay bare a trailing dot, a trim a device name
        before = text
        text = unicodedata.normalize("NFC", _HOSTILE.sub("-", text))
        text = text.lstrip(" .-").rstrip(" .") or "_"
        text = _WINDOWS_DEVICE.sub(r"\g<device>_", text, count=1) if _is_device(text) else text
        text = _shortened(text)
    return text


def numbered(name: str, number: int) -> str:
    """Return the name of a job's further output, or of a second holder: `name-2.mp4`.

    Number 1 is the name itself.
    """
    return name if number <= 1 else _with_suffix(name, f"-{number}")


def versioned(name: str, version: int) -> str:
    """Return the name of a later version of a job's clip: `name-v2.mp4`; 1 is the name itself."""
    return name if version <= 1 else _with_suffix(name, f"-v{version}")


def with_extension(name: str, ext: str) -> str:
    """Return a name with another extension; appended where it has none."""
    folder, slash, leaf = name.rpartition("/")
    stem, _ = split_extension(leaf)
    return f"{folder}{slash}{_joined(stem, '', f'.{ext}')}"


def folded(name: str) -> str:
    """Return what two names share if a system without regard to case takes them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def split_extension(leaf: str) -> tuple[str, str]:
    """Return a file name as stem and extension with its dot ("" if it has none)."""
    found = _EXTENSION.search(leaf)
    return (leaf[: found.start()], found.group()) if found else (leaf, "")


def _value(text: str) -> str:
    return safe_component(text) if text else text


@lru_cache(maxsize=4096)  # many jobs share what their columns say
def _short(text: str) -> str:
    return _cut(_value(text.strip()), _VALUE_BYTES)


def _is_device(text: str) -> bool:
    return _WINDOWS_DEVICE.match(text) is not None


def _with_suffix(name: str, suffix: str) -> str:
    folder, slash, leaf = name.rpartition("/")
    stem, extension = split_extension(leaf)
    return f"{folder}{slash}{_joined(stem, suffix, extension)}"


def _joined(stem: str, suffix: str, extension: str) -> str:
    room = COMPONENT_BYTES - len((suffix + extension).encode())
    return f"{_cut(stem, room)}{suffix}{extension}"


def _shortened(text: str) -> str:
    if len(text.encode()) <= COMPONENT_BYTES:
        return text
    stem, extension = split_extension(text)
    return _joined(stem, "", extension)


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode(errors="ignore").rstrip(" .")
