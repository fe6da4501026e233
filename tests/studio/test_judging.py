"""Blind judging on a served studio: whole sessions, blind until the end, and the command that opens
them."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.engine.project import Project
from onmodel.judge.session import Session, open_session, saved_session
from onmodel.judge.votes import Votes
from onmodel.studio.gate import Key
from onmodel.studio.workspace import open_workspace, workspace_with
from tests.support.judged_project import MODELS, add_evaluation, lines, model_seen
from tests.support.studio import Answer, Browser, serving


@dataclass
class Judge:
    """A person before the page of a session; keeps every byte that came."""

    browser: Browser
    session: Session
    address: str
    heard: list[bytes] = field(default_factory=list)

    def get(self, path: str) -> Answer:
        return self._kept(self.browser.get(f"{self.address}{path}"))

    def post(self, path: str, *fields: tuple[str, str]) -> Answer:
        return self._kept(self.browser.form(f"{self.address}{path}", *fields))

    def answer(self, pair: int, answer: str) -> Answer:
        return self.post("/answer", ("pair", str(pair)), ("answer", answer))

    def judge(self, taste: Callable[[int, int], str], until: int | None = None) -> dict[str, Any]:
        """Look at both pictures and answer, to the end or `until` a pair."""
        state = self.get("/state").json()
        while state["prompt"] is not None and state["pair"] != until:
            sides = ("left", "right")
            seen = [self.get(f"/picture/{state['pair']}/{side}").body for side in sides]
            state = self.answer(state["pair"], taste(*map(model_seen, seen))).json()
        return dict(state)

    def _kept(self, answer: Answer) -> Answer:
        self.heard += [str(answer.headers).encode(), answer.body]
        return answer

    @property
    def votes(self) -> Votes:
        return Votes(self.session.votes)


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    project = Project(tmp_path / "shown")
    add_evaluation(project)
    session = open_session(project, [], 30, 5, "Which one is <she>?")
    session.save()
    [character] = open_workspace(tmp_path).characters()
    with serving(tmp_path) as browser:
        yield Judge(browser, session, f"/c/{character.id}/judge/{session.id}")


def later(left: int, right: int) -> str:
    """A judge without doubt, who likes the last of MODELS most."""
    return "left" if left > right else "right"


def test_a_session_is_blind_and_finds_the_order(judge: Judge, tmp_path: Path) -> None:
    assert judge.get("").status == 200
    assert judge.judge(later, until=14) == judge.get("/state").json()
    state = judge.judge(later)
    assert state["prompt"] is None and state["of"] == 33
    heard, evaluation = b"".join(judge.heard), judge.session.evaluation.hash
    for secret in (*MODELS, "Lora", ".png", str(tmp_path), evaluation):
        assert secret.encode() not in heard
    assert b"Which one is &lt;she&gt;?" in heard
    told = judge.post("/end").json()["result"]
    names = [told.index(f">{name}</th>") for name in reversed(MODELS)]
    assert names == sorted(names)
    saved = json.loads((judge.session.folder / "result.json").read_text())
    assert saved["repeated"]["value"] == 1 and saved["repeats"] == 3
    assert [row.get("pair") for row in lines(judge.session.votes)] == [*range(33), None]
    assert "the same answer when shown again" in judge.get("").text


def test_a_picture_is_its_pixels_and_comes_no_sooner_than_needed(judge: Judge) -> None:
    with Image.open(io.BytesIO(judge.get("/picture/1/right").body)) as image:
        assert image.size == (8, 12) and not image.info
    for place in ("2/left", "0/up", "-1/left", "x/left", "%D9%A3/left", "9" * 1500 + "/left"):
        answer = judge.get(f"/picture/{place}")
        assert answer.status == 404 and "not shown yet" in answer.json()["error"]


@pytest.mark.parametrize("id", ["x", "0" * 12, "..", "..%2f..", "%2e%2e", "session.json"])
def test_an_unknown_session_is_one_line(judge: Judge, id: str) -> None:
    answer = judge.browser.get(f"{judge.address.rpartition('/')[0]}/{id}/state")
    assert answer.status in (404, 422) and "votes" not in answer.text


def test_what_is_no_answer_changes_nothing(judge: Judge) -> None:
    judge.answer(0, "tie")
    wrong = [("0", "left"), ("2", "left"), ("1", "up"), ("", "tie"), ("-1", "tie"), ("1e0", "tie")]
    for pair, answer in wrong:
        refused = judge.post("/answer", ("pair", pair), ("answer", answer))
        assert refused.status == 409 and refused.json()["pair"] == 1
    assert judge.post("/answer").status == 409
    assert judge.post("/undo", ("pair", "1")).status == 409
    assert judge.votes.answers == ["tie"]
    assert judge.post("/undo", ("pair", "0")).json()["pair"] == 0
    assert judge.votes.answers == []


def test_after_the_end_nothing_more(judge: Judge) -> None:
    assert judge.post("/end").status == 409 and not judge.votes.ended
    judge.judge(later, until=5)
    assert "ended after 5 of 33 pairs" in judge.post("/end").json()["result"]
    assert judge.answer(5, "left").status == 409
    assert len(judge.votes.answers) == 5


def test_a_session_is_started_from_the_page_of_its_evaluation(judge: Judge) -> None:
    start, evaluation = judge.address.rpartition("/")[0], judge.session.evaluation.hash
    fields = [("evaluation", evaluation), *(("model", name) for name in MODELS[:2])]
    went = judge.browser.form(start, *fields, ("pairs", "4"), ("question", "Hers?"))
    shown = judge.browser.get(went.headers["hx-redirect"])
    assert "<h1>Hers?</h1>" in shown.text and went.headers["hx-redirect"] != judge.address
    page = judge.browser.get(start.replace("/judge", "/compare")).text
    assert "Hers?" in page and "0 / 5" in page and "0 / 33" in page
    for wrong in (
        [("model", MODELS[0])],
        [("pairs", "x")],
        [("evaluation", "0" * 64)],
        [("model", "nobody"), ("model", MODELS[0])],
    ):
        assert judge.browser.form(start, *wrong).status == 422


@pytest.mark.parametrize("damage", ["gone", "flipped", "swapped"])
def test_a_picture_that_is_damaged_during_a_session_is_told_and_the_session_goes_on(
    judge: Judge, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = judge.session
    left, right = (session.evaluation.path / file for file in session.shown.files(session.pairs[0]))
    before = left.read_bytes()
    judge.get("/state")
    if damage == "gone":
        left.unlink()
    else:
        changed = before[:-20] + b"x" + before[-19:]
        left.write_bytes(right.read_bytes() if damage == "swapped" else changed)
    answer = judge.get("/picture/0/left")
    assert answer.status == 500 and "The terminal names it" in answer.json()["error"]
    assert left.name not in answer.text and left.name in caplog.text
    left.write_bytes(before)
    assert judge.get("/picture/0/left").status == 200
    assert judge.answer(0, "tie").json()["pair"] == 1 and judge.votes.answers == ["tie"]


def test_a_damaged_evaluation_is_told_without_its_names(
    judge: Judge, caplog: pytest.LogCaptureFixture
) -> None:
    changed = judge.session.evaluation.path / "pictures" / "0000.png"
    changed.write_bytes(b"x")
    answer = judge.get("/state")
    assert answer.status == 500 and "0000" not in answer.text and "0000" in caplog.text


def test_a_full_disk_refuses_the_vote_and_takes_it_later(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused = judge.answer(0, "left")
        assert refused.status == 507 and "no space left on the disk" in refused.json()["error"]
        assert judge.get("/state").json()["pair"] == 0
    assert judge.answer(0, "right").json()["pair"] == 1


def test_a_project_is_shown_where_it_lies(tmp_path: Path) -> None:
    for name in ("plain", "momo/project"):
        (tmp_path / name).mkdir(parents=True)
        add_evaluation(Project(tmp_path / name))
    (tmp_path / "momo" / "recipe.toml").touch()
    for folder, name in ((tmp_path / "plain", "plain"), (tmp_path / "momo" / "project", "momo")):
        shown = workspace_with(folder)
        assert shown.workspace.folder == tmp_path and shown.character.name == name
        assert shown.character.project_folder == folder


def test_a_saved_session_is_the_one_that_was_opened(judge: Judge) -> None:
    session = judge.session
    project = Project(session.folder.parents[1])
    assert saved_session(project, session.id) == session


def test_the_command_serves_the_page_until_the_session_ends(tmp_path: Path) -> None:
    """The address that it prints leads to the page; the last answer ends the command."""
    add_evaluation(Project(tmp_path / "shown"))
    command = [sys.executable, "-m", "onmodel", "judge", str(tmp_path / "shown"), "--pairs", "2"]
    process = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    url = next(line for line in process.stderr if line.startswith("http://"))
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", url)
    assert found is not None
    key = Key(int(found[1]), token=found[2])
    browser = Browser(key)
    answer = browser.get(f"/?token={key.token}", Cookie=None, Sec_Fetch_Site="none")
    cookie = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    browser = Browser(Key(key.port, cookie=cookie))
    address = answer.headers["location"]
    assert "<h1>Which picture is better for this prompt?</h1>" in browser.get(address).text
    assert browser.form(f"{address}/answer", ("pair", "0"), ("answer", "left")).status == 200
    assert browser.form(f"{address}/end").status == 200
    assert json.loads(process.stdout.read())["answered"] == 1
    assert process.wait(30) == 0
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(again.stdout)["answered"] == 1
