"""A real server and a real client: whole sessions, blind until the end, and nothing for strangers."""

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_up_project import MODELS, add_evaluation, lines, model_seen
from PIL import Image

from onmodel.errors import InputError
from onmodel.judge.server import JudgeServer
from onmodel.judge.session import Session, open_session
from onmodel.judge.votes import voting
from onmodel.project import Project


class Client:
    """A browser's requests; keeps every byte that came."""

    def __init__(self, port: int) -> None:
        self.port, self.heard = port, b""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, kind | {name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        told = answer.read()
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
            seen = [model_seen(self.ask("GET", f"/picture/{state['pair']}/{side}")[1]) for side in ("left", "right")]
            state = self.answer(state["pair"], taste(*seen))
        return state


@contextmanager
def serving(session: Session) -> Iterator[tuple[JudgeServer, Client]]:
    session.save()
    with voting(session.votes) as votes, JudgeServer(session, votes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server, Client(server.server_port)
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
        for path in ("/picture/2/left", "/picture/0/up", "/picture/-1/left", "/picture/x/left", "/judge", "/../votes"):
            assert client.ask("GET", path)[0] == 404


def test_what_is_no_answer_changes_nothing(session: Session) -> None:
    with serving(session) as (server, client):
        client.answer(0, "tie")
        for body, status in (
            ({"pair": 0, "answer": "left"}, 409), ({"pair": 2, "answer": "left"}, 409), ({"pair": 1}, 409),
            ({"pair": 1, "answer": "up"}, 409), ({"pair": "1", "answer": "tie"}, 409), (b"[1]", 400), (b"{", 400),
            (b"", 400), (b'{"pair": 1, "answer": "' + b"x" * 2000 + b'"}', 400),
        ):  # fmt: skip
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
        assert client.ask("POST", "/answer", vote, Content_Type="text/plain")[0] == 403
        assert server.votes.answers == []
        assert client.ask("POST", "/answer", vote, Origin=f"http://127.0.0.1:{client.port}")[0] == 200


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
        JudgeServer(session, server.votes, server.server_port)
    with voting(session.votes) as votes, pytest.raises(InputError, match="--port: 99999"):
        JudgeServer(session, votes, 99999)
