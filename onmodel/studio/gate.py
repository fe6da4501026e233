"""Who is let in: the browser that opened the printed address, nobody else.

Other programs, other users and pages of other sites can also reach a port on 127.0.0.1. A request
is answered only when

- Host is the server's own: a foreign page that points its own name at 127.0.0.1 sends that name
  (DNS rebinding);
- Origin and Sec-Fetch-Site, where a browser sends them, name the server itself; a request that
  changes something must send Origin, as every browser does;
- it has the cookie, which only the address with the secret token sets;
- its body is not larger than its page expects.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes of a form or a JSON body
LARGEST_UPLOAD = 4 << 30  # bytes of one file
UPLOADS = "/upload/"  # paths whose bodies are files
STATIC = "/static/"  # scripts and styles
SHUT = "copy the address that onmodel printed into the browser"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
SAFETY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# Of a page that another part of onmodel wrote, with script and style in itself: without an origin.
SANDBOXED = {
    "Content-Security-Policy": (
        "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        " script-src 'unsafe-inline'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}


class TooLargeError(Exception):
    """A body grew beyond its bound while it was read."""


@dataclass(frozen=True)
class Key:
    """The secrets of one server. The token is in the address that is printed; the cookie is what
    the browser gets for it. `page` is the path that the address leads to."""

    port: int
    page: str = "/"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @property
    def cookie_name(self) -> str:
        """Browsers do not keep the cookies of two ports apart, so the port is part of the name."""
        return f"onmodel-{self.port}"

    @property
    def hosts(self) -> set[str]:
        """What Host may say."""
        return {f"{name}:{self.port}" for name in (HOST, "localhost")}


class Gate:
    """ASGI middleware around the whole studio. Every answer, a refusal too, has the safety
    headers."""

    def __init__(self, app: ASGIApp, key: Key) -> None:
        self.app, self.key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page opens a WebSocket
            raise RuntimeError(f"a {scope['type']} connection was refused")
        answer = self._answer(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFETY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", _kept(scope))
            await send(message)

        if answer is not None:
            await answer(scope, receive, guarded)
        else:
            await self.app(scope, _bounded(receive, _bound(scope)), guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """None when the request may be answered; else the refusal, or the redirect that sets the
        cookie for the address with the token. A refusal tells nothing about what is served."""
        headers, method = Headers(scope=scope), scope["method"]
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        reads = method in ("GET", "HEAD")
        if host not in self.key.hosts or (origin or f"http://{host}").lower() != f"http://{host}":
            return _refusal(HTTPStatus.FORBIDDEN, SHUT)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refusal(HTTPStatus.FORBIDDEN, SHUT)
        if not reads and origin is None:
            return _refusal(HTTPStatus.FORBIDDEN, SHUT)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if token and scope["path"] == "/":
            if not (reads and _same(token[0], self.key.token)):
                return _refusal(HTTPStatus.FORBIDDEN, SHUT)
            answer = RedirectResponse(self.key.page, HTTPStatus.SEE_OTHER)
            answer.set_cookie(
                self.key.cookie_name, self.key.cookie, httponly=True, samesite="strict"
            )
            return answer
        cookies = cookie_parser(headers.get("cookie", ""))
        if not _same(cookies.get(self.key.cookie_name, ""), self.key.cookie):
            return _refusal(HTTPStatus.FORBIDDEN, SHUT)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _bound(scope):
            return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        return None


def _kept(scope: Scope) -> str:
    """Whether the browser keeps an answer: scripts and styles, which it asks about each time."""
    return "no-cache" if scope["path"].startswith(STATIC) else "no-store"


def _bound(scope: Scope) -> int:
    return LARGEST_UPLOAD if scope["path"].startswith(UPLOADS) else LARGEST_BODY


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive`, which stops at a body of more than `most` bytes: its length may not be told."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise TooLargeError
        return message

    return counted


def _refusal(status: HTTPStatus, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


def _same(said: str, secret: str) -> bool:
    """Equal? The time that it takes tells nothing about the secret."""
    return hmac.compare_digest(said.encode(), secret.encode())
