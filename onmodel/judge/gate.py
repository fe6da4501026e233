"""A small HTTP server for pages of this machine. It answers the browser that opened the printed
address, nobody else.

Other programs, other users and pages of other sites can also reach a port on 127.0.0.1. A request
is answered only when

- Host is the server's own: a foreign page that points its own name at 127.0.0.1 sends that name
  (DNS rebinding);
- Origin and Sec-Fetch-Site, where a browser sends them, name the server itself;
- it has the cookie, which only the address with the secret token sets.

Sizes, times and the number of connections are bounded, and each connection carries one request.
There is no TLS, no chunked body and no HTTP/0.9. A subclass says what the answers are:
`GatedServer.answer`.
"""

import contextlib
import hmac
import json
import os
import re
import secrets
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from onmodel.errors import InputError
from onmodel.events import Events

HOST = "127.0.0.1"
LONGEST_LINE = 2_000  # bytes of the request line
LARGEST_HEAD = (
    32_768  # bytes of request line and headers; a browser sends the cookies of all local servers
)
MOST_CONNECTIONS = 32
LINGER_SECONDS = 1.0
PIECE = 4_096  # bytes

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(r"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]")
_STARTED_LINE = re.compile(rb"[A-Z][ -~]*\r?(\n|\Z)")  # what has come so far can become a request
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile("[0-9]{1,15}")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src"
    " 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFETY_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class RefusedError(Exception):
    """A request that gets no answer but a status and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        self.status, self.sentence = status, sentence
        super().__init__(sentence)


JsonTable = dict[str, Any]  # a JSON object; its values are not checked yet


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request that passed the gate. `target` is the path with its query, as sent; header
    names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def table(self) -> JsonTable:
        """The body as a JSON object. Raises RefusedError; a form of another page cannot send this
        content type."""
        if (
            self.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. After the `last` one the server stops."""

    body: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


def json_reply(
    value: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK, last: bool = False
) -> Reply:
    """One line of JSON."""
    return Reply(json.dumps(value).encode(), status=status, last=last)


class GatedServer(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1; `port` 0 takes a free one. `url` is the address to open: it holds the
    secret token. `events` gets a note for a request that fails."""

    daemon_threads = True
    allow_reuse_address = (
        os.name == "posix"
    )  # on Windows it would let another program take over the port
    request_queue_size = MOST_CONNECTIONS
    largest_body = 1_000  # bytes
    head_seconds = 10.0  # for the whole of it, however it trickles in
    body_seconds = 10.0
    answer_seconds = 60.0  # a picture through a slow ssh tunnel

    def __init__(self, events: Events, port: int = 0) -> None:
        self.events = events
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._start = f"/?token={secrets.token_urlsafe(32)}"
        self._secret = secrets.token_urlsafe(32)
        self._interrupted = False
        try:
            super().__init__((HOST, port), _Connection)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "a port is a number from 0 to 65535"
            raise InputError(
                "--port", port, f"cannot be used ({reason}); leave it out for a free one"
            ) from error

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}{self._start}"

    def answer(self, request: HttpRequest) -> Reply:
        """What a request gets that passed the gate; called in a thread of its own. May raise
        RefusedError."""
        raise NotImplementedError

    def serve(self) -> None:
        """Answer until the last reply; main thread only. Raises KeyboardInterrupt after Ctrl-C.

        Python's own handler raises at any place, also where Python drops the exception, such as a
        weak reference's callback; Ctrl-C would then be lost.
        """
        before = signal.getsignal(signal.SIGINT)

        def interrupt(number: int, frame: Any) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, before)  # a second Ctrl-C stops at once

        signal.signal(signal.SIGINT, interrupt)
        try:
            self.serve_forever()
        finally:
            signal.signal(signal.SIGINT, before)

    def service_actions(self) -> None:
        """Called by `serve_forever` between two connections, twice a second or more."""
        if self._interrupted:
            raise KeyboardInterrupt

    def admit(self, request: HttpRequest) -> Reply | None:
        """None when the request may be answered; the redirect that sets the cookie for the address
        with the token.

        Raises RefusedError for everyone else, with a sentence that tells nothing about what is
        served.
        """
        shut = RefusedError(
            HTTPStatus.FORBIDDEN, "copy the address that onmodel printed into the browser"
        )
        host = request.headers.get("host", "").lower()
        origin = request.headers.get("origin")
        if host not in self._hosts() or (origin is not None and origin.lower() != f"http://{host}"):
            raise shut
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise shut
        if request.method == "GET" and _same(request.target, self._start):
            cookie = f"{self._cookie_name()}={self._secret}; HttpOnly; SameSite=Strict; Path=/"
            return Reply(
                b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/", "Set-Cookie": cookie}
            )
        if request.target.startswith("/?token=") or not self._has_cookie(request):
            raise shut
        return None

    def _hosts(self) -> set[str]:
        names = (HOST, "localhost")
        return {f"{name}:{self.port}" for name in names} | (
            set(names) if self.port == 80 else set()
        )

    def _cookie_name(self) -> str:
        """Browsers do not keep the cookies of two ports apart, so the port is part of the name."""
        return f"onmodel-{self.port}"

    def _has_cookie(self, request: HttpRequest) -> bool:
        pairs = (
            pair.strip().partition("=") for pair in request.headers.get("cookie", "").split(";")
        )
        return any(
            name == self._cookie_name() and _same(value, self._secret) for name, _, value in pairs
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or turn it away when there are too many."""
        if not self._slots.acquire(blocking=False):
            busy = json_reply(
                {"error": "too many connections; try again"}, HTTPStatus.SERVICE_UNAVAILABLE
            )
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.sendall(_encoded(busy))
                request.recv(
                    LARGEST_HEAD
                )  # unread bytes would reset the connection before the answer is read
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An unexpected error, as a note."""
        error = sys.exception()
        self.events.note(f"a request failed ({type(error).__name__}: {error})", "error")


class _Connection(socketserver.BaseRequestHandler):
    """One request, its answer, the end."""

    server: GatedServer
    request: socket.socket
    method = ""

    def handle(self) -> None:
        try:
            reply = self._reply()
        except RefusedError as refused:
            reply = json_reply({"error": refused.sentence}, refused.status)
        except ConnectionError:  # the client is gone
            return
        with contextlib.suppress(OSError):
            self.request.settimeout(self.server.answer_seconds)
            self.request.sendall(_encoded(reply, self.method))
        if reply.last:  # also when the client did not wait for it
            threading.Thread(target=self.server.shutdown, daemon=True).start()
        with contextlib.suppress(OSError):
            self._linger()

    def _reply(self) -> Reply:
        head, body = self._head()
        request = _parsed(head)
        self.method = request.method
        redirect = self.server.admit(request)
        if redirect:
            return redirect
        if request.method not in ("GET", "POST"):
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or POST")
        body = self._body(request, body)
        try:
            return self.server.answer(
                HttpRequest(request.method, request.target, request.headers, body)
            )
        except RefusedError:
            raise
        except Exception:  # the boundary of a request: the session goes on
            self.server.handle_error(self.request, self.client_address)
            raise RefusedError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "onmodel failed; its terminal says why"
            ) from None

    def _head(self) -> tuple[bytes, bytes]:
        """Request line and headers, and what came of the body with them."""
        until = time.monotonic() + self.server.head_seconds
        data = b""
        while (end := _HEAD_END.search(data)) is None:
            if len(data) > LARGEST_HEAD:
                break
            data += self._receive(until, begun=bool(data))
            if not _STARTED_LINE.match(data):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
            if data.find(b"\n", 0, LONGEST_LINE) < 0 and len(data) > LONGEST_LINE:
                raise RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
            if b"\n" in data:
                _check_line(data)
        if end is None or end.end() > LARGEST_HEAD:
            raise RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"
            )
        return data[: end.start()], data[end.end() :]

    def _body(self, request: HttpRequest, begun: bytes) -> bytes:
        """The body, as long as Content-Length says. What follows it is another request, which is
        not read."""
        until = time.monotonic() + self.server.body_seconds
        if "transfer-encoding" in request.headers:
            raise RefusedError(
                HTTPStatus.NOT_IMPLEMENTED, "send Content-Length, not Transfer-Encoding"
            )
        said = request.headers.get("content-length")
        if said is None and request.method == "POST":
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        if said is not None and not _LENGTH.fullmatch(said):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number of bytes")
        length = int(said or 0)
        if length > self.server.largest_body:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        pieces, missing = [begun], length - len(begun)
        while missing > 0:
            pieces.append(self._receive(until, begun=True))
            missing -= len(pieces[-1])
        return b"".join(pieces)[:length]

    def _receive(self, until: float, begun: bool) -> bytes:
        """Some bytes. Raises RefusedError when none came in time, or the request ended too soon."""
        try:
            self.request.settimeout(max(until - time.monotonic(), 0.001))
            data = self.request.recv(PIECE)
        except TimeoutError:
            raise RefusedError(
                HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time"
            ) from None
        if not data and begun:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the request ended too soon")
        if not data:
            raise ConnectionAbortedError  # it was opened and closed, nothing else
        return data

    def _linger(self) -> None:
        """Wait a moment for the client to close: unread bytes would reset the connection before it
        read the answer."""
        self.request.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        while (left := until - time.monotonic()) > 0:
            self.request.settimeout(left)
            if not self.request.recv(PIECE):
                return


def _check_line(head: bytes) -> tuple[str, str]:
    """Method and target of the request line."""
    line = head.split(b"\n", 1)[0].removesuffix(b"\r").decode("latin-1")
    found = _LINE.fullmatch(line)
    if not found:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
    return found[1], found[2]


def _parsed(head: bytes) -> HttpRequest:
    """A head without its empty line. No header may come twice: two readers could choose different
    ones."""
    method, target = _check_line(head)
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        found = _HEADER.fullmatch(line.removesuffix("\r"))
        name = found[1].lower() if found else ""
        if not found or name in headers:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a header is malformed or comes twice")
        headers[name] = found[2].strip(" \t")
    return HttpRequest(method, target, headers)


def _encoded(reply: Reply, method: str = "") -> bytes:
    """The bytes of an answer; HEAD gets its head alone."""
    told = (
        {"Content-Type": reply.kind, "Content-Length": str(len(reply.body))}
        | SAFETY_HEADERS
        | dict(reply.headers)
    )
    if reply.status is HTTPStatus.METHOD_NOT_ALLOWED:
        told["Allow"] = "GET, POST"
    lines = [
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}",
        *(f"{name}: {told[name]}" for name in told),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (reply.body if method != "HEAD" else b"")


def _same(said: str, secret: str) -> bool:
    """Equal? The time that it takes tells nothing about the secret."""
    return hmac.compare_digest(said.encode(), secret.encode())
