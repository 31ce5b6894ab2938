"""A server of files on loopback, as fast as a line of so many bits a second; until SIGTERM.

python benchmarks/files.py FOLDER BITS-A-SECOND
"""

import asyncio
import signal
import sys
from pathlib import Path

_PIECE = 64 * 1024
_AHEAD_S = 0.02  # that a burst may be ahead of the line


class Line:
    """One line that all connections share."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def carry(self, size_bytes: int) -> None:
        """Wait until the line has carried so many bytes."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - _AHEAD_S) + size_bytes / self._bytes_per_s
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


async def answer(
    folder: Path, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one connection's requests, one after the other."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            name = head.split(b" ", 2)[1].decode().rpartition("/")[2]
            data = (folder / name).read_bytes()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
                b"Content-Length: %d\r\n\r\n" % len(data)
            )
            for start in range(0, len(data), _PIECE):
                await line.carry(min(_PIECE, len(data) - start))
                writer.write(data[start : start + _PIECE])
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def main(folder: Path, bits_per_s: float) -> None:
    """Serve until SIGTERM; say the port first."""
    line, over = Line(bits_per_s / 8), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(lambda r, w: answer(folder, line, r, w), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
