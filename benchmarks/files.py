"""A server of files on loopback, as fast as a line of so many bits a second; until SIGTERM.

It must cost little beside those that are measured, on the same cores: a thread for each
connection, and the system copies from file to socket.

python benchmarks/files.py FOLDER BITS-A-SECOND
"""

import os
import signal
import socketserver
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_PIECE = 256 * 1024  # 2 ms of a line of 1 Gbit/s
_AHEAD_S = 0.02  # that a burst may be ahead of the line


class Line:
    """One line that all connections share."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def carry(self, size_bytes: int) -> None:
        """Wait until the line has carried so many bytes."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _AHEAD_S) + size_bytes / self._bytes_per_s
            wait_s = self._free_at - now
        if wait_s > 0:
            time.sleep(wait_s)


class Server(socketserver.ThreadingTCPServer):
    """Serves the files of a folder over one line."""

    daemon_threads = True

    def __init__(self, folder: Path, bits_per_s: float) -> None:
        self.folder = folder
        self.line = Line(bits_per_s / 8)
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.StreamRequestHandler):
    """Answers the requests of one connection, one after the other."""

    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            while path := self._path():
                with (self.server.folder / path.rpartition("/")[2]).open("rb") as file:
                    self._send(file)

    def _path(self) -> str:
        """Return what is asked for next; "" if nothing is."""
        first = self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return first.decode().split(" ")[1] if first else ""

    def _send(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % size
        )
        at = 0
        while at < size:
            end = min(at + _PIECE, size)
            self.server.line.carry(end - at)
            while at < end:
                at += os.sendfile(self.connection.fileno(), file.fileno(), at, end - at)


def main(folder: Path, bits_per_s: float) -> None:
    """Serve until SIGTERM; say the port first."""
    with Server(folder, bits_per_s) as server:
        # The threads end with the process.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
