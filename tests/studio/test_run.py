"""The run of a character as its page shows it, and the queue over all characters."""

import html
import http.client
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onmodel.events import Finding
from onmodel.ledger.store import RunStart
from onmodel.studio import checks
from onmodel.studio import jobs as queue
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.recipes import RECIPE
from tests.support.studio import Browser, serving

STEPS = [
    {"step": step, "epoch": 1, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 0.1, "seconds": step}
    for step in (1, 2, 3)
]


@dataclass(frozen=True)
class Served:
    """A served workspace with two characters: a's training runs, b was never run."""

    browser: Browser
    a: CharacterFolder
    b: CharacterFolder


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(RECIPE)
    a, b = open_workspace(tmp_path).characters()
    start = RunStart("f" * 64, "two", "look", "train", {}, {}, "toon")
    a.project.ledger.start(start, {}, "2026-11-22T00:00:00+00:00")
    drawn = a.project.scratch(start.key) / "out" / "previews" / "epoch-0002-00.png"
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(b"a preview")
    logs = a.project_folder / "logs"
    logs.mkdir()
    (logs / "look.jsonl").write_text("".join(json.dumps(row) + "\n" for row in STEPS))
    (a.folder / "run.log").write_text("<first line>\nlast line\n")
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(queue, "_command", lambda character: sleep)
    with serving(tmp_path) as browser:
        yield Served(browser, a, b)


def test_a_running_training_shows_steps_time_left_and_loss(served: Served) -> None:
    page = served.browser.get(f"/c/{served.a.id}/run").text
    assert '<progress value="3" max="12"' in page
    assert "3 / 12 steps, Loss 0.5000, about 9 s left" in page
    assert "&lt;first line&gt;\nlast line" in page


def test_a_stage_that_was_not_run_shows_its_plan(served: Served) -> None:
    page = served.browser.get(f"/c/{served.b.id}/run").text
    assert "<progress" not in page and "12 steps about 4 s" in page
    assert "No preview yet" in page


def test_a_training_is_laid_over_that_of_another_character(served: Served) -> None:
    logs = served.b.project_folder / "logs"
    logs.mkdir(parents=True)
    (logs / "other.jsonl").write_text(json.dumps({**STEPS[0], "step": 9, "heldout": 0.4}) + "\n")
    address = f"/c/{served.a.id}/run/curves"
    alone = served.browser.get(address).json()
    assert alone["look"]["steps"] == [1, 2, 3] and list(alone["look"]["columns"]) == ["look"]
    both = served.browser.get(f"{address}?over={served.b.id}&stage=other").json()["look"]
    assert both["steps"] == [1, 2, 3, 9]
    assert both["columns"]["b: other"]["heldout"] == [None, None, None, 0.4]
    for wrong in (f"over={served.b.id}&stage=../look", "over=0&stage=look"):
        assert served.browser.get(f"{address}?{wrong}").status == 422
    page = served.browser.get(f"/c/{served.a.id}/run").text
    assert "b: other</option>" in page and "a: look</option>" in page


def test_losses_by_quartile_are_columns_of_their_own(served: Served) -> None:
    rows = [{**row, "memory_mib": 100 * row["step"]} for row in STEPS]
    rows[1]["heldout_quartiles"] = [0.1, 0.2, 0.3, 0.4]
    logs = served.a.project_folder / "logs" / "look.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = served.browser.get(f"/c/{served.a.id}/run/curves").json()["look"]["quartiles"]
    assert found["steps"] == [2]
    assert found["columns"] == {"look": {"1": [0.1], "2": [0.2], "3": [0.3], "4": [0.4]}}
    assert "memory 315 MB" in served.browser.get(f"/c/{served.a.id}/run").text


def test_the_memory_of_a_run_is_shown_beside_what_a_check_forecast(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "memory_mib": 100} for row in STEPS]
    logs = served.a.project_folder / "logs" / "look.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [Finding("recipe look", "ok", "takes 0.2 GiB", stage="look", bytes=200 << 20)]
    monkeypatch.setattr(checks, "_examined", lambda recipe: found)
    run = f"/c/{served.a.id}/run"
    assert "memory 105 MB</small>" in served.browser.get(run).text  # nothing was checked
    served.browser.form(f"{run}/check")
    assert "memory 105 MB of 210 MB planned" in served.browser.get(run).text


def test_previews_are_served_by_id_alone(served: Served) -> None:
    strip = served.browser.get(f"/c/{served.a.id}/run/previews").text
    address = strip.partition('src="')[2].partition('"')[0]
    answer = served.browser.get(address)
    assert answer.body == b"a preview" and "immutable" in answer.headers["cache-control"]
    assert "Epoch 2, prompt 1" in strip
    for wrong in ("0" * 64, "epoch-0002-00.png", "..%2f..%2frecipe.toml"):
        assert served.browser.get(f"/c/{served.a.id}/preview/{wrong}").status == 404


def test_the_doctor_is_asked_once_until_the_recipe_changes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def examined(recipe: Path) -> list[Finding]:
        asked.append(recipe)
        return [Finding("base", "fail", "is <gone>", "name another")]

    monkeypatch.setattr(checks, "_examined", examined)
    address = f"/c/{served.b.id}/run/check"
    for _ in range(2):
        found = html.unescape(served.browser.get(address).text)
    assert "<strong>Error:</strong> base: is <gone> — name another" in found
    assert len(asked) == 1
    served.browser.form(address)
    (served.b.folder / "recipe.toml").write_text(RECIPE + "\n")
    served.browser.get(address)
    assert len(asked) == 3


def test_the_doctor_itself_answers_of_a_wrong_recipe(served: Served) -> None:
    (served.b.folder / "recipe.toml").write_text(RECIPE.replace("rank = 4", "rnk = 4"))
    found = served.browser.get(f"/c/{served.b.id}/run/check")
    assert found.status == 200 and '<li class="fail">' in found.text and "rnk" in found.text


def test_the_queue_shows_all_characters_and_moves_and_stops_their_jobs(served: Served) -> None:
    browser = served.browser
    assert "Nothing runs" in browser.get("/queue").text
    for character in (served.a, served.b):
        browser.form(f"/c/{character.id}/run/start")
    page = browser.get("/queue").text
    assert page.index(f"/c/{served.a.id}/run") < page.index(f"/c/{served.b.id}/run")
    assert "/queue/1/stop" in page and "/queue/1/later" not in page and "/queue/2/later" in page
    assert browser.form("/queue/2/earlier").status == browser.form("/queue/2/later").status == 200
    assert "/queue/2/" not in browser.form("/queue/2/stop").text
    assert "stops after the next checkpoint" in browser.form("/queue/1/stop").text
    assert browser.form("/queue/2/later").status == 422
    assert browser.form("/queue/x/later").status == 404


def test_a_run_that_stopped_is_continued_from_the_queue(served: Served) -> None:
    start = RunStart("e" * 64, "two", "look", "train", {}, {}, "toon")
    ledger = served.b.project.ledger
    ledger.stop(ledger.start(start, {}, "2026-11-22T00:00:00+00:00"), "paused", "by a person", 1.0)
    address = f"/queue/resume/{served.b.id}"
    assert address in served.browser.get("/queue/rows").text
    assert address not in served.browser.form(address).text
    assert "/queue/1/stop" in served.browser.get("/queue/rows").text
    served.browser.form("/queue/1/stop")


def test_events_tell_the_stages_and_the_log(served: Served) -> None:
    key = served.browser.key
    connection = http.client.HTTPConnection("127.0.0.1", key.port, timeout=30)
    cookie = {"Cookie": f"{key.cookie_name}={key.cookie}"}
    connection.request("GET", f"/c/{served.a.id}/run/events", headers=cookie)
    answer, told = connection.getresponse(), b""
    end = time.monotonic() + 30
    while b"last line" not in told and time.monotonic() < end:
        told += answer.readline()
    connection.close()
    assert told.startswith(b"event: stages\ndata: ")
    assert b"\n\nevent: log\ndata: &lt;first line&gt;\ndata: last line" in told
