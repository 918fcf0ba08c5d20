"""A server that answers as the hub of models does, with the files of a folder."""
from __future__ import annotations

import contextlib
import http.server
import threading
from pathlib import Path
from typing import Iterator


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of ``folder`` under their names, of whichever model is asked for; address, and what was asked."""
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def answer(self, body: bool) -> None:
            asked.append(self.path)
            file = folder / self.path.rpartition('/')[2]
            if not file.is_file():
                self.send_error(404)
                return
            self.send_response(200)
            tag = file.name.encode().hex()  # files are cached under it
            for key, value in {'X-Repo-Commit': 40 * '1', 'ETag': f'"{tag}"',
                               'Content-Length': file.stat().st_size}.items():
                self.send_header(key, str(value))
            self.end_headers()
            if body:
                self.wfile.write(file.read_bytes())

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(('localhost', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://localhost:{server.server_port}', asked
    finally:
        server.shutdown()
        server.server_close()
