"""Who is let in, and that no bytes, no silence and no crowd bring the server down. Raw sockets, so
that nothing is tidied up on the way."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from onmodel.errors import InputError
from onmodel.judge import gate
from onmodel.judge.gate import GatedServer, HttpRequest, Reply, json_reply
from tests.support.events import Recorded

SECRET = b"what is served"


class Served(GatedServer):
    """Answers with the request's own words; /fail is a mistake of ours. `told` has its notes."""

    def __init__(self, port: int = 0) -> None:
        self.told, self.expected = Recorded(), ""
        super().__init__(self.told, port)

    def answer(self, request: HttpRequest) -> Reply:
        if request.target == "/fail":
            raise RuntimeError("two\nlines")
        if request.method == "POST":
            return json_reply(request.table())
        return Reply(SECRET + request.target.encode(), "text/plain")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Served]:
    """A server that prints nothing and reports nothing, unless a test expects it."""
    monkeypatch.setattr(gate, "LINGER_SECONDS", 0.05)
    with Served() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()
    assert capfd.readouterr() == ("", "") and made.told.text == made.expected


def talk(server: Served, data: bytes, close: bool = False) -> bytes:
    """Send bytes, read to the end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(data)
        if close:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def status(answer: bytes) -> int:
    """The status of an answer that is whole: its length is right, and an error is one line of
    JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    code = int(head.split(b" ")[1])
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert fields["Content-Length"] == str(len(body))
    assert fields["Referrer-Policy"] == "no-referrer" and fields["X-Frame-Options"] == "DENY"
    assert "unsafe" not in fields["Content-Security-Policy"]
    if code >= 400:
        assert SECRET not in body and b"\n" not in body and json.loads(body)["error"]
    return code


def cookie(server: Served) -> str:
    """What a browser has after it opened the address."""
    return opened(server).split("Set-Cookie: ")[1].split(";")[0]


def opened(server: Served, target: str | None = None) -> str:
    path = server.url.partition(f":{server.port}")[2] if target is None else target
    return talk(
        server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    ).decode()


def ask(
    server: Served, line: str = "GET / HTTP/1.1", body: bytes = b"", **headers: str | None
) -> int:
    """A request of the browser with the cookie; a header of None is left out. Underscores stand for
    hyphens."""
    said = {"Host": f"127.0.0.1:{server.port}", "Cookie": cookie(server)} | headers
    lines = [
        line,
        *(
            f"{name.replace('_', '-')}: {value}"
            for name, value in said.items()
            if value is not None
        ),
    ]
    return status(talk(server, "\r\n".join([*lines, "", ""]).encode("latin-1") + body))


def test_the_address_with_the_token_sets_a_strict_cookie_and_is_left(server: Served) -> None:
    answer = opened(server)
    assert status(answer.encode()) == 303 and "\r\nLocation: /\r\n" in answer
    assert "; HttpOnly; SameSite=Strict; Path=/\r\n" in answer
    token = server.url.partition("token=")[2]
    assert (
        len(token) >= 32
        and token not in answer
        and cookie(server).partition("=")[2] not in server.url
    )
    assert ask(server) == 200
    assert ask(server, Cookie=f"a=b; {cookie(server)}; c") == 200
    with Served() as other:
        assert other.url.partition("token=")[2] != token


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/?token=",
        "/?token=x",
        "/?token=\xe9",
        "/x?token={}",
        "/?token={}x",
        "/?t={}",
        "/?token={}&a=b",
        "//?token={}",
        "/?TOKEN={}",
    ],
)
def test_no_token_and_a_wrong_one_get_one_sentence(server: Served, target: str) -> None:
    path = target.format(server.url.partition("token=")[2]).encode("latin-1")
    answer = talk(
        server, b"GET " + path + f" HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    )
    assert status(answer) == (400 if b"\xe9" in path else 403) and b"Set-Cookie" not in answer


def test_a_wrong_cookie_is_none(server: Served) -> None:
    name, _, value = cookie(server).partition("=")
    for wrong in (
        None,
        "",
        value,
        name,
        f"{name}=",
        f"{name}={value}x",
        f"{name}={value[:-1]}",
        f"x{name}={value}",
        f"{name}=\xe9",
        f"{name}={server.url.partition('token=')[2]}",
    ):
        assert ask(server, Cookie=wrong) == 403, wrong
    for method in ("POST", "HEAD", "PUT", "OPTIONS", "TRACE"):
        head = (
            f"{method} /x HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length:"
            " 99999999\r\n\r\n"
        )
        assert talk(server, head.encode()).startswith(
            b"HTTP/1.1 403 "
        )  # the body is not waited for


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:{}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.:{}",
        "[::1]:{}",
        "127.1:{}",
        "127.0.0.1.:{}",
        "127.0.0.1.nip.io:{}",
        "0.0.0.0:{}",
        "2130706433:{}",
        "a@127.0.0.1:{}",
        "127.0.0.1:0{}",
        "[::ffff:127.0.0.1]:{}",
        "127.0.0.1:{}, evil",
    ],
)
def test_other_hosts_are_refused(server: Served, host: str | None) -> None:
    assert ask(server, Host=host and host.format(server.port)) == 403


def test_other_origins_are_refused(server: Served) -> None:
    own = f"127.0.0.1:{server.port}"
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"https://{own}",
        "http://127.0.0.1",
        f"http://localhost:{server.port}",
        f"http://{own}/",
        f"http://{own}.evil",
    ):
        assert ask(server, Origin=origin) == 403, origin
    for site in ("cross-site", "same-site", "", "x"):  # same-site: another port of this machine
        assert ask(server, Sec_Fetch_Site=site) == 403, site
    assert ask(server, Origin=f"http://{own}", Sec_Fetch_Site="same-origin") == 200
    assert (
        ask(server, Host=f"LocalHost:{server.port}", Origin=f"http://localhost:{server.port}")
        == 200
    )


@pytest.mark.parametrize(
    "line", ["PUT /", "DELETE /x", "OPTIONS /", "TRACE /", "CONNECT /", "PATCH /", "BREW /"]
)
def test_other_methods_are_not_allowed(server: Served, line: str) -> None:
    assert ask(server, f"{line} HTTP/1.1") == 405


def test_head_gets_no_body(server: Served) -> None:
    request = (
        f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie(server)}\r\n\r\n"
    )
    head, end, body = talk(server, request.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ") and b"Allow: GET, POST" in head and end and not body


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r\n\r\n",
        b"GET /\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 99,
        b"\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\n\r\n",
        b"GET / HTTP/\xd9\xa1.1\r\n\r\n",
        b"A" * 30 + b" / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so_at_once(server: Served, data: bytes) -> None:
    assert status(talk(server, data)) == 400  # 408 would be the end of the time for a head


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b"A : b",
        b": b",
        b"A: b\r\n c",
        b"A: b\rHost: c",
        b"A: \x00",
        b"A: \x0b",
        b"\xc2\xb2: 1",
        b"Host: a\r\nhost: a",
        b"A: b\r\nA: b",
        b"\xff: b",
    ],
)
def test_headers_that_two_readers_could_read_differently_are_refused(
    server: Served, line: bytes
) -> None:
    assert status(talk(server, b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")) == 400


def test_what_is_too_large_is_refused(server: Served) -> None:
    assert status(talk(server, b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n\r\n")) == 414
    assert status(talk(server, b"GET /" + b"a" * 500_000)) == 414
    assert status(talk(server, b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n")) == 431
    assert status(talk(server, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)) == 431


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (None, 411),
        ("", 400),
        ("-1", 400),
        ("+2", 400),
        ("2, 2", 400),
        ("2_0", 400),
        ("0x2", 400),
        ("\xb2", 400),
        ("2.0", 400),
        ("1e1", 400),
        ("1001", 413),
        ("9" * 15, 413),
        ("9" * 5000, 400),
        ("0", 400),
        ("2", 200),
        ("02", 200),
    ],
)
def test_the_length_of_a_body_is_a_plain_number(
    server: Served, length: str | None, code: int
) -> None:
    json_type = {"Content_Type": "application/json"}
    assert ask(server, "POST / HTTP/1.1", b"{}", Content_Length=length, **json_type) == code


def test_bodies_that_are_not_as_announced(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    json_type = {"Content_Type": "application/json"}
    post = "POST / HTTP/1.1"
    assert (
        ask(server, post, b"2\r\n{}\r\n0\r\n\r\n", Transfer_Encoding="chunked", **json_type) == 501
    )
    assert (
        ask(server, post, b"{}", Transfer_Encoding="chunked", Content_Length="2", **json_type)
        == 501
    )
    assert ask(server, post, b"{}", Content_Length="2\r\nContent-Length: 2", **json_type) == 400
    with monkeypatch.context() as patch:
        patch.setattr(server, "body_seconds", 0.2)
        assert (
            ask(server, post, b"{", Content_Length="2", **json_type) == 408
        )  # the rest never comes
    assert ask(server, post, b"{}" + b"x" * 90_000, Content_Length="2", **json_type) == 200
    assert ask(server, post, b"{}", Content_Length="2", Content_Type="text/plain") == 415
    for body in (b"[]", b"1", b"{", b"\xff\xfe", b"", b'{"a": ' + b"[" * 900):
        assert ask(server, post, body, Content_Length=str(len(body)), **json_type) == 400, body
    name, head = cookie(server), f"Host: 127.0.0.1:{server.port}\r\nContent-Length: 9\r\n"
    cut = talk(server, f"POST / HTTP/1.1\r\nCookie: {name}\r\n{head}\r\n{{".encode(), close=True)
    assert status(cut) == 400


def test_one_connection_answers_one_request(server: Served) -> None:
    head = f"Host: 127.0.0.1:{server.port}\r\nCookie: {cookie(server)}"
    request = f"GET / HTTP/1.1\r\n{head}\r\n\r\n".encode()
    assert status(talk(server, request * 50)) == 200


def test_silence_and_a_trickle_end_in_time(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "head_seconds", 0.2)
    assert status(talk(server, b"")) == 408
    assert status(talk(server, b"GET / HTTP/1.1\r\nHost: ")) == 408
    assert talk(server, b"", close=True) == b""
    assert status(talk(server, b"GET / HT", close=True)) == 400
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
        pytest.raises(OSError, match=r"reset|pipe"),
    ):
        for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 400:  # each byte in time, the head not
            client.sendall(bytes([byte]))
            time.sleep(0.01)


def test_a_crowd_is_turned_away_and_leaves_no_trace(server: Served) -> None:
    threads = threading.active_count()
    with ExitStack() as stack:
        for _ in range(gate.MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        until = time.monotonic() + 5
        while (
            threading.active_count() < threads + gate.MOST_CONNECTIONS and time.monotonic() < until
        ):
            time.sleep(0.01)
        for _ in range(8):
            assert status(talk(server, b"GET / HTTP/1.1\r\n\r\n")) == 503
        assert threading.active_count() <= threads + gate.MOST_CONNECTIONS
    until = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert ask(server) == 200


def test_a_client_that_hangs_up_leaves_no_traceback(server: Served) -> None:
    big = (
        b"GET /"
        + b"x" * 1_500
        + f" HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie(server)}\r\n\r\n".encode()
    )
    for data in (b"", b"GET", big, b"\x00"):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
                )  # closing resets
                client.sendall(data)
    assert ask(server) == 200  # the fixture looks at the terminal


def test_a_fault_of_ours_is_one_line_and_the_server_goes_on(
    server: Served,
) -> None:
    server.expected = "  a request failed (RuntimeError: two\\nlines)\n"
    assert ask(server, "GET /fail HTTP/1.1") == 500
    assert ask(server) == 200


def test_an_ordinary_client_is_served(server: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Cookie": cookie(server), "Content-Type": "application/json; charset=utf-8"}
    for _ in range(3):
        connection.request("POST", "/", b'{"a": "\xe2\x80\xa8"}', headers)
        assert json.loads(connection.getresponse().read()) == {"a": "\u2028"}


def test_ctrl_c_ends_it_between_two_requests() -> None:
    def press(server: Served) -> None:
        assert ask(server) == 200
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with Served() as server:
        presser = threading.Thread(target=press, args=[server])
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            server.serve()
        presser.join()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("port", [-1, 65_536, 99_999, 10**30])
def test_a_port_that_does_not_exist_is_one_line(port: int) -> None:
    with pytest.raises(InputError, match=f"--port: {port} — .*0 to 65535"):
        Served(port)


def test_only_this_machine_is_listened_to(server: Served) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
