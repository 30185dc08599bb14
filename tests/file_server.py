"""One file over HTTP on loopback, as mirrors serve it: with ranges, with its checksum, and broken off when told to."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves *content* as /file and its checksum as /file.sha256; counts requests, and breaks off when told to."""

    def __init__(self, content: bytes | memoryview) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.ranges: list[str] = []
        """What each request asked for; empty: all of it."""
        self.break_after: list[int] = []
        """After how many bytes each of the next answers breaks off."""
        self.knows_ranges = True

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.server_port}/file"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        if self.path == "/file.sha256":
            body = memoryview(f"{self.server.sha256}  file\n".encode())
        elif self.path.startswith("/file"):
            body = memoryview(self.server.content)
        else:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.knows_ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        limit = self.server.break_after.pop(0) if self.server.break_after else len(body)
        with contextlib.suppress(ConnectionError):  # whoever fetches may be killed at it
            self.wfile.write(body[start : start + limit])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(content: bytes | memoryview) -> Iterator[Server]:
    """A server that runs meanwhile."""
    with Server(content) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
