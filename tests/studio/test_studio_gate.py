"""Who is let in."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.studio import gate
from onmodel.studio.app import first_routes, later_routes
from onmodel.studio.server import listen
from onmodel.studio.workspace import open_workspace
from tests.support.studio import Browser, serving


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with serving(tmp_path_factory.mktemp("workspace")) as browser:
        yield browser


def test_the_printed_address_sets_a_strict_cookie_and_hides_the_token(browser: Browser) -> None:
    answer = browser.get(f"/?token={browser.key.token}", Cookie=None, Sec_Fetch_Site="none")
    assert answer.status == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert browser.key.cookie in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie


STRANGERS: list[dict[str, str | None]] = [
    {"Cookie": None},
    {"Cookie": "onmodel-1=x"},
    {"Host": "evil.example:80"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


def requests() -> list[tuple[str, str]]:
    """Method and path of every route; what stands for a parameter names nothing that is there."""
    found = [("GET", "/static/studio.css"), ("GET", "/no/such/page")]
    for route in [*first_routes(), *later_routes()]:
        path = re.sub(r"\{[^}]*:int\}", "1", route.path)
        path = re.sub(r"\{[^}]*\}", "x", path)
        found += [(method, path) for method in sorted(route.methods or ())]
    return found


@pytest.mark.parametrize(("method", "path"), requests())
def test_everyone_else_is_refused_on_every_route_and_told_nothing(
    browser: Browser, method: str, path: str
) -> None:
    strangers = [*STRANGERS, *([{"Origin": None}] if method == "POST" else [])]
    for headers in strangers:
        answer = browser.send(method, path, b"{}" if method == "POST" else None, headers)
        assert answer.status == 403, headers
        assert method == "HEAD" or answer.json() == {"error": gate.SHUT}
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    if method == "GET":
        assert browser.get(path).status != 403


def test_the_routes_are_those_of_the_pages() -> None:
    paths = {path for _, path in requests()}
    for room in ("data", "run", "recipe", "compare", "results", "merge", "release"):
        assert f"/c/x/{room}" in paths
    assert {"/", "/cards", "/new", "/queue", "/upload/x", "/queue/1/stop"} <= paths


def test_a_wrong_token_is_refused(browser: Browser) -> None:
    assert browser.get("/?token=x", Cookie=None).status == 403
    assert browser.get(f"/?token={browser.key.token}x").status == 403


def test_a_change_without_origin_is_refused(browser: Browser) -> None:
    assert browser.send("POST", "/new", b"name=a", {"Origin": None}).status == 403


def test_a_body_may_not_grow_beyond_its_bound(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "LARGEST_BODY", 10)
    assert browser.form("/new", ("name", "a" * 20)).status == 413


def test_a_chunked_body_is_counted(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LARGEST_BODY", 10)
    with socket.create_connection((gate.HOST, browser.key.port), timeout=10) as client:
        host = f"{gate.HOST}:{browser.key.port}"
        head = (
            f"POST /new HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            f"Cookie: {browser.key.cookie_name}={browser.key.cookie}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.sendall(head.encode() + b"20\r\nname=" + b"a" * 27 + b"\r\n0\r\n\r\n")
        assert b" 413 " in client.recv(4096).splitlines()[0]


def test_only_this_machine_is_listened_to() -> None:
    with listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("port", [99_999, -1])
def test_a_port_that_cannot_be_used_is_one_line(port: int) -> None:
    with pytest.raises(InputError, match=f"--port: {port}"):
        listen(port)


def test_a_port_that_is_taken_is_one_line() -> None:
    with listen(0) as taken, pytest.raises(InputError, match="--port"):
        listen(taken.getsockname()[1])


def test_pages_have_no_script_or_style_in_them(browser: Browser) -> None:
    answer = browser.get("/")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "<script>" not in answer.text and "style=" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_static_files_do_not_lead_out_of_their_folder(browser: Browser) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert browser.get(path).status == 404


def test_the_workspace_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        open_workspace(tmp_path / "none")
