r"""The clip that every request yields: made by us, playable, different for each request.

`clip.mp4` is two seconds of a drifting colour gradient (H.264, 320x180), made with

    ffmpeg -f lavfi -i "gradients=s=320x180:r=12:d=2:c0=0x0b3d5c:c1=0xf2a65a:nb_colors=2:\
    speed=0.02:seed=7" -c:v libx264 -crf 30 -preset veryslow -pix_fmt yuv420p \
    -movflags +faststart -map_metadata -1 -fflags +bitexact -flags:v +bitexact clip.mp4

A `free` box with the file's name behind it, which players skip, gives each request's file its
own digest.
"""

from collections.abc import Iterator
from importlib.resources import files

_MOVIE = files("batchgen.providers.simulator").joinpath("clip.mp4").read_bytes()
_ZEROS = bytes(256 * 1024)


def clip_bytes(name: str, *, size_bytes: int | None = None) -> bytes:
    """Return the clip that belongs to a name, padded to a size if one is given."""
    return b"".join(pieces(name, size_bytes=size_bytes))


def clip_size(name: str, *, size_bytes: int | None) -> int:
    """Return how long the clip is; never less than the movie itself needs."""
    return max(len(_MOVIE) + 8 + len(name.encode()), size_bytes or 0)


def pieces(
    name: str, *, size_bytes: int | None, start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Yield the clip from `start` to before `stop` in pieces that share their padding."""
    label = name.encode()
    total = clip_size(name, size_bytes=size_bytes)
    box = (total - len(_MOVIE)).to_bytes(4, "big") + b"free" + label
    head = _MOVIE + box
    stop = total if stop is None else min(stop, total)
    if start < len(head):
        yield head[start:stop]
    at = max(start, len(head))
    while at < stop:
        piece = _ZEROS[: stop - at]
        yield piece
        at += len(piece)
