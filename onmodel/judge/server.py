"""The local server of a session: standard library, this machine only. It tells the browser nothing that names a model.

GET /                    the page
GET /state               how far, and the prompt of the pair that is shown
GET /picture/3/left      a picture of that pair or the next: pixels alone, since the files name their LoRA
POST /answer {"pair": 3, "answer": "left"}    POST /undo {"pair": 3}    POST /end {}
"""

import io
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from onmodel.errors import InputError, SpaceError
from onmodel.judge.page import result_fragment, session_page
from onmodel.judge.result import Result, result
from onmodel.judge.session import Session
from onmodel.judge.votes import Votes

HOST = "127.0.0.1"
POLICY = "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
LONGEST_REQUEST = 1_000  # bytes


class JudgeServer(ThreadingHTTPServer):
    """Serves one session until it ends; `found` is its result then. `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, session: Session, votes: Votes, port: int = 0) -> None:
        self.session, self.votes = session, votes
        self.found: Result | None = None
        self.lock = threading.Lock()
        self.prompts = {row["id"]: row["text"]["L"] for row in session.report()["plan"]["prompts"]}
        self.pictures = {row["name"]: row["pictures"]["L"] for row in session.report()["models"]}
        self.page = session_page(session).encode()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError("--port", port, f"cannot be used ({error}); leave it out for a free one") from error

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def state(self) -> dict[str, Any]:
        """What the page shows next: `prompt` is None when every pair was answered."""
        at, pairs = len(self.votes.answers), self.session.pairs
        prompt = self.prompts[pairs[at].prompt] if at < len(pairs) else None
        return {"pair": at, "of": len(pairs), "prompt": prompt}

    def picture(self, at: int, side: str) -> bytes:
        """PNG of pixels alone. Raises LookupError for pairs that are not to be seen yet."""
        if at not in range(min(len(self.votes.answers) + 2, len(self.session.pairs))):
            raise LookupError(at)
        pair = self.session.pairs[at]
        file = self.pictures[{"left": pair.left, "right": pair.right}[side]][pair.prompt][pair.seed]
        buffer = io.BytesIO()
        with Image.open(self.session.evaluation.path / file) as image:
            plain = Image.new("RGB", image.size)
            plain.paste(image.convert("RGB"))
        plain.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def end(self) -> dict[str, Any]:
        """Close the votes and work out the result. Raises ValueError before the first answer."""
        if not self.votes.answers:
            raise ValueError("no pair was answered yet")
        self.votes.end()
        self.found = result(self.session, self.votes.answers)
        return {"result": result_fragment(self.found)}


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_GET(self) -> None:
        if not self._local():
            return
        parts = self.path.strip("/").split("/")
        if parts == [""]:
            self._send(self.server.page, "text/html; charset=utf-8")
        elif parts == ["state"]:
            with self.server.lock:
                self._json(self.server.state())
        elif len(parts) == 3 and parts[0] == "picture" and parts[1].isdecimal():
            try:
                self._send(self.server.picture(int(parts[1]), parts[2]), "image/png")
            except LookupError:
                self._json({"error": "not shown yet"}, HTTPStatus.NOT_FOUND)
            except OSError:
                self._json(
                    {"error": "a picture cannot be read; run the recipe again"}, HTTPStatus.INTERNAL_SERVER_ERROR
                )
        else:
            self._json({"error": "no such page"}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._local():
            return
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/answer": self._answer, "/undo": self._undo, "/end": lambda _: self.server.end(),
        }  # fmt: skip
        if self.path not in actions:
            self._json({"error": "no such page"}, HTTPStatus.NOT_FOUND)
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            row = json.loads(self.rfile.read(length)) if 0 < length <= LONGEST_REQUEST else None
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
            return
        with self.server.lock:
            try:
                self._json(actions[self.path](row))
            except (KeyError, ValueError) as error:  # a second tab, or a key pressed twice
                self._json({"error": str(error)} | self.server.state(), HTTPStatus.CONFLICT)
            except SpaceError:
                self._json({"error": "no space left on the disk: free some room and answer again"},
                           HTTPStatus.INSUFFICIENT_STORAGE)  # fmt: skip
        if self.server.found:
            threading.Thread(target=self.server.shutdown).start()

    def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["pair"] not in range(len(self.server.session.pairs)):
            raise ValueError("no such pair")
        self.server.votes.vote(row["pair"], row["answer"])
        return self.server.state()

    def _undo(self, row: dict[str, Any]) -> dict[str, Any]:
        self.server.votes.undo(row["pair"])
        return self.server.state()

    def _local(self) -> bool:
        """Refuse pages of other places that reach here through a name of their own, or by a form."""
        host = self.headers.get("Host", "")
        own = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        form = self.command == "POST" and self.headers.get("Content-Type") != "application/json"
        if host in own and (origin is None or origin == f"http://{host}") and not form:
            return True
        self._json({"error": "open the address that onmodel judge printed"}, HTTPStatus.FORBIDDEN)
        return False

    def _json(self, value: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("Content-Security-Policy", POLICY), ("X-Content-Type-Options", "nosniff")):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the page shows how far one is."""
