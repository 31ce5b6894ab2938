"""Decode a clip's first telling frame: the only module that imports PyAV, in a process of its own.

A clip comes from outside, and a decoder is a million lines of C. So it is decoded in a child
process that has little memory, may write no file, and is killed when it takes too long: a
hostile clip ends the child, not the report.

The child reads one JSON line for each clip and answers with one, followed by so many bytes of
WebP as it says.
"""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.video.frame import VideoFrame

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,gif,png_pipe,jpeg_pipe,webp_pipe"
# Nothing that leads elsewhere: a playlist named clip.mp4 must not open other files or hosts.
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
_MOST_PIXELS = 8192 * 4608
_MOST_FRAMES = 24  # that are looked at, for one that is not of one colour
_MOST_PACKETS = 400
_TELLING = 24  # least difference of brightness, of 255
_MEMORY_BYTES = 2 * 1024**3


def picture(path: str, *, longest: int) -> tuple[dict[str, Any], bytes]:
    """Return facts of a clip and a frame of it as WebP.

    Args:
        path: Of the clip, absolute.
        longest: The longer side of the picture, in pixels.

    Raises:
        ValueError: If it has no picture that may be decoded; PyAV's errors are among them.
        OSError: If it cannot be read.
    """
    with av.open(f"file:{path}", options=_OPTIONS) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or not 0 < stream.width * stream.height <= _MOST_PIXELS:
            raise ValueError("no picture of a reasonable size")
        duration = container.duration
        facts = {
            "width": stream.width,
            "height": stream.height,
            "duration_s": None if duration is None else duration / 1_000_000,
        }
        return facts, _webp(_telling(_frames(container, stream)), longest=longest)


def _frames(container: Any, stream: Any) -> Iterator[VideoFrame]:
    for number, packet in enumerate(container.demux(stream)):
        if number >= _MOST_PACKETS:
            return
        yield from packet.decode()


def _telling(frames: Iterator[VideoFrame]) -> VideoFrame:
    """Return the first frame that shows something; many clips begin in black."""
    first: VideoFrame | None = None
    with contextlib.suppress(av.error.FFmpegError):  # cut off: what came before is enough
        for number, frame in enumerate(frames):
            if frame.width * frame.height > _MOST_PIXELS:
                break
            first = first or frame
            if contrast(frame) >= _TELLING:
                return frame
            if number + 1 >= _MOST_FRAMES:
                break
    if first is None:
        raise ValueError("no frame can be decoded")
    return first


def contrast(frame: VideoFrame) -> int:
    """Return the difference between the brightest and the darkest part of a frame, of 255."""
    small = frame.reformat(width=16, height=16, format="gray")
    plane = small.planes[0]
    pixels = bytes(plane)
    seen = [pixels[row * plane.line_size + x] for row in range(16) for x in range(16)]
    return max(seen) - min(seen)


def _webp(frame: VideoFrame, *, longest: int) -> bytes:
    scale = min(1.0, longest / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    encoder: Any = av.CodecContext.create("libwebp", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)  # it must have one
    encoder.options = {"quality": "68", "compression_level": "4"}
    small = frame.reformat(width=width, height=height, format="yuv420p")
    small.pts = 0
    packets = [*encoder.encode(small), *encoder.encode(None)]
    return b"".join(map(bytes, packets))


def _give_up_powers() -> None:
    bounds = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
    bounds.append((resource.RLIMIT_AS, _MEMORY_BYTES))
    for what, bound in bounds:
        with contextlib.suppress(OSError, ValueError):  # not every system has every limit
            resource.setrlimit(what, (bound, bound))


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer one line after the other until there are no more."""
    _give_up_powers()
    av.logging.set_level(None)
    answers.write(b"{}\n")  # ready: what was loaded so far counts for no clip
    answers.flush()
    for line in questions:
        asked = json.loads(line)
        try:
            facts, data = picture(asked["path"], longest=asked["longest"])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it: no picture
            facts, data = {"error": f"{type(error).__name__}"}, b""
        answers.write(json.dumps({**facts, "bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()


def main() -> None:
    """Be the child: questions on stdin, answers on what was stdout."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not stand between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
