"""A real server and a real client: whole sessions, blind until the end, and nothing for
strangers."""

import errno
import http.client
import io
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.judge.server import JudgeServer
from onmodel.judge.session import Session, open_session
from onmodel.judge.votes import voting
from tests.support.events import Recorded
from tests.support.judged_project import MODELS, add_evaluation, lines, model_seen


class Client:
    """A browser's requests; keeps every byte that came."""

    def __init__(self, url: str) -> None:
        self.port, self.heard, self.cookie = int(url.split(":")[2].split("/")[0]), b"", ""
        self.ask("GET", url.partition(str(self.port))[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = (
            None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        kind = {"Cookie": self.cookie} | (
            {"Content-Type": "application/json"} if data is not None else {}
        )
        connection.request(
            method, path, data, kind | {name.replace("_", "-"): v for name, v in headers.items()}
        )
        answer = connection.getresponse()
        told = answer.read()
        self.cookie = answer.getheader("Set-Cookie", self.cookie).partition(";")[0]
        self.heard += str(answer.getheaders()).encode() + told
        return answer.status, told

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", "/state")[1]))

    def answer(self, pair: int, answer: str) -> dict[str, Any]:
        status, told = self.ask("POST", "/answer", {"pair": pair, "answer": answer})
        assert status == 200, told
        return dict(json.loads(told))

    def judge(self, taste: Callable[[int, int], str], until: int | None = None) -> dict[str, Any]:
        """Look at both pictures and answer, to the end or `until` a pair."""
        state = self.state()
        while state["prompt"] is not None and state["pair"] != until:
            seen = [
                model_seen(self.ask("GET", f"/picture/{state['pair']}/{side}")[1])
                for side in ("left", "right")
            ]
            state = self.answer(state["pair"], taste(*seen))
        return state


@contextmanager
def serving(session: Session) -> Iterator[tuple[JudgeServer, Client]]:
    session.save()
    with (
        voting(session.votes, len(session.pairs)) as votes,
        JudgeServer(session, votes, Recorded()) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server, Client(server.url)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def session(tmp_path: Path) -> Session:
    project = Project(tmp_path)
    add_evaluation(project)
    return open_session(project, [], 30, 5, "Which one is <she>?")


def later(left: int, right: int) -> str:
    """A judge without doubt, who likes the last of MODELS most."""
    return "left" if left > right else "right"


def test_a_session_is_blind_survives_a_stop_and_finds_the_order(session: Session) -> None:
    with serving(session) as (_, client):
        client.ask("GET", "/")
        client.judge(later, until=14)
        heard = client.heard
    with serving(session) as (server, client):
        state = client.state()
        assert state["pair"] == 14 and state["of"] == 33
        assert client.judge(later)["prompt"] is None
        heard += client.heard
        for secret in (*MODELS, "Lora", ".png", str(session.folder), session.evaluation.hash):
            assert secret.encode() not in heard
        assert b"Which one is &lt;she&gt;?" in heard
        status, told = client.ask("POST", "/end", {})
        assert status == 200 and all(name in json.loads(told)["result"] for name in MODELS)
        found = server.found
    assert found is not None and [model.name for model in found.models] == list(reversed(MODELS))
    assert found.repeated is not None and found.repeated.value == 1 and found.repeats == 3
    assert [row.get("pair") for row in lines(session.votes)] == [*range(33), None]


def test_a_picture_is_its_pixels_and_comes_no_sooner_than_needed(session: Session) -> None:
    with serving(session) as (_, client):
        status, png = client.ask("GET", "/picture/1/right")
        with Image.open(io.BytesIO(png)) as image:
            assert status == 200 and image.size == (8, 12) and not image.info
        for path in (
            "/picture/2/left",
            "/picture/0/up",
            "/picture/-1/left",
            "/picture/x/left",
            "/judge",
            "/../votes",
            "/picture/%D9%A3/left",
            "/picture/" + "9" * 1500 + "/left",
            "/picture/1e0/left",
            "/picture/0/left/",
            "/picture/0/left?x",
            "/picture/../state",
            "/%2e%2e/state",
            "//state",
            "//evil.example/",
            "/STATE",
            "/page",
            "/picture/0/../0/left",
            "/..%5cvotes.jsonl",
            "/session.json",
        ):
            status, told = client.ask("GET", path)
            assert (
                status == 404
                and json.loads(told)["error"] in ("no such page", "not shown yet")
                and b"\n" not in told
            )


def test_what_is_no_answer_changes_nothing(session: Session) -> None:
    with serving(session) as (server, client):
        client.answer(0, "tie")
        for body, status in (
            ({"pair": 0, "answer": "left"}, 409),
            ({"pair": 2, "answer": "left"}, 409),
            ({"pair": 1}, 409),
            ({"pair": 1, "answer": "up"}, 409),
            ({"pair": "1", "answer": "tie"}, 409),
            (b"[1]", 400),
            (b"{", 400),
            (b"", 400),
            (b"[" * 999, 400),
            ({"pair": [1], "answer": {}}, 409),
            (b'{"pair": 1, "answer": "' + b"x" * 2000 + b'"}', 413),
        ):
            assert client.ask("POST", "/answer", body)[0] == status, body
        assert client.ask("POST", "/undo", {"pair": 1})[0] == 409
        assert client.state()["pair"] == 1
        assert client.ask("POST", "/undo", {"pair": 0})[0] == 200
        assert server.votes.answers == []


def test_other_places_are_refused(session: Session) -> None:
    vote = {"pair": 0, "answer": "left"}
    with serving(session) as (server, client):
        assert client.ask("GET", "/state", Host="evil.example")[0] == 403
        assert client.ask("POST", "/answer", vote, Origin="http://evil.example")[0] == 403
        assert client.ask("POST", "/answer", vote, Content_Type="text/plain")[0] == 415
        assert server.votes.answers == []
        assert (
            client.ask("POST", "/answer", vote, Origin=f"http://127.0.0.1:{client.port}")[0] == 200
        )


def test_after_the_end_nothing_more(session: Session) -> None:
    with serving(session) as (server, client):
        assert client.ask("POST", "/end", {})[0] == 409 and not server.votes.ended
        client.judge(later, until=5)
        client.ask("POST", "/end", {})
        assert server.found is not None and "ended after 5 of 33 pairs" in server.found.notes
        with pytest.raises(ValueError, match="ended"):
            server.votes.vote(5, "left")


def test_a_port_that_is_taken_is_one_line(session: Session) -> None:
    with serving(session) as (server, _), pytest.raises(InputError, match="--port"):
        JudgeServer(session, server.votes, Events(), server.port)
    with voting(session.votes) as votes, pytest.raises(InputError, match="--port: 99999"):
        JudgeServer(session, votes, Events(), 99999)


def test_the_page_needs_no_inline_code(session: Session) -> None:
    with serving(session) as (_, client):
        page = client.ask("GET", "/")[1].decode()
        assert not re.search(r"<style|<script(?! src=)|\son\w+=|\sstyle=", page)
        for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            status, told = client.ask("GET", path)
            assert status == 200 and told, path


@pytest.mark.parametrize("damage", ["gone", "flipped", "swapped"])
def test_a_picture_that_is_damaged_during_a_session_is_told_and_the_session_goes_on(
    session: Session, damage: str
) -> None:
    left, right = (session.evaluation.path / file for file in session.shown.files(session.pairs[0]))
    before = left.read_bytes()
    with serving(session) as (server, client):
        if damage == "gone":
            left.unlink()
        else:
            left.write_bytes(
                right.read_bytes() if damage == "swapped" else before[:-20] + b"x" + before[-19:]
            )
        status, told = client.ask("GET", "/picture/0/left")
        assert status == 500 and "The terminal names it" in json.loads(told)["error"]
        assert left.name.encode() not in told
        left.write_bytes(before)
        assert client.ask("GET", "/picture/0/left")[0] == 200
        assert client.answer(0, "tie")["pair"] == 1 and server.votes.answers == ["tie"]
    shown = server.events.text  # type: ignore[attr-defined]
    assert shown.count("\n") == 1 and left.name in shown


def test_a_full_disk_refuses_the_vote_and_takes_it_later(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(session) as (_, client):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert client.ask("POST", "/answer", {"pair": 0, "answer": "left"})[0] == 507
            assert client.state()["pair"] == 0
        assert client.answer(0, "right")["pair"] == 1


def test_the_end_counts_although_the_browser_did_not_wait_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    with serving(session) as (server, client):
        client.judge(later, until=4)
        monkeypatch.setattr(server, "shutdown", stopped.set)
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            lines = [
                "POST /end HTTP/1.1",
                f"Host: 127.0.0.1:{server.port}",
                f"Cookie: {client.cookie}",
                "Content-Type: application/json",
                "Content-Length: 2",
                "",
                "{}",
            ]
            gone.sendall("\r\n".join(lines).encode())
            gone.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # closing resets
        assert stopped.wait(20) and server.found is not None and server.found.answered == 4
        monkeypatch.undo()
