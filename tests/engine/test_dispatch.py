"""Which job goes to which worker, what is done again, and what the ledger says of it."""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from onmodel.engine.cluster import dispatch
from onmodel.engine.cluster.dispatch import MOST_TRIES, Ended, Lost, News
from onmodel.engine.cluster.jobs import JobResult
from onmodel.engine.cluster.worker import Failure
from onmodel.engine.project import Project
from tests.support.scripted_fleet import NamingPlanner, ScriptedFleet, made, run

HEAD = """
[recipe]
name = "many"
character = "sheet.toml"
date = "2026-11-22"
threads = 1
[defaults.train]
learning_rate = 1e-3
epochs = 1
[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 4 }]
"""
TRAININGS = [f"t{number}" for number in range(12)]
RECIPE = HEAD + "".join(
    f'[stages.{name}]\ndo = "train"\ndataset = "data"\nseed = {seed}\n'
    for seed, name in enumerate(TRAININGS)
)
CHAIN = RECIPE + '[stages.after]\ndo = "train"\ndataset = "data"\nstart = "t0"\n'


@pytest.fixture(autouse=True)
def nothing_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ON_HEAD", frozenset())


def runs(project: Project) -> Counter[tuple[str, str]]:
    """How many runs of each stage ended in each state."""
    return Counter((run.stage, run.state) for run in project.ledger.runs())


def once(*names: str) -> Counter[tuple[str, str]]:
    return Counter({(name, "done"): 1 for name in names})


def test_all_workers_work_and_every_cell_is_recorded_once(tmp_path: Path) -> None:
    fleet = ScriptedFleet(4)
    project, _ = run(tmp_path, RECIPE, fleet)
    assert fleet.most == 4
    assert runs(project) == once("data", *TRAININGS)
    assert not project.scratches()


def test_cells_in_flight_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cells = []
    real = ScriptedFleet.receive

    def watched(self: ScriptedFleet, seconds: float) -> list[News]:
        with sqlite3.connect(tmp_path / "project" / "onmodel.db") as ledger:
            ((count,),) = ledger.execute("SELECT count(*) FROM runs WHERE finished IS NULL")
        open_cells.append(count)
        return real(self, seconds)

    monkeypatch.setattr(ScriptedFleet, "receive", watched)
    run(tmp_path, RECIPE, ScriptedFleet(2))
    assert 3 <= max(open_cells) <= 6


def test_a_lost_job_is_done_again_and_recorded_once(tmp_path: Path) -> None:
    fleet = ScriptedFleet(2, {"t3": [Lost("died"), Lost("died")]})
    project, said = run(tmp_path, RECIPE, fleet)
    assert fleet.tries["t3"] == 3
    assert sum("t3: its worker was lost (died)" in line for line in said) == 2
    assert runs(project) == once("data", *TRAININGS)


def test_a_job_that_takes_every_worker_along_fails_in_the_end(tmp_path: Path) -> None:
    fleet = ScriptedFleet(2, {"t3": [Lost("out of memory")] * 99})
    project, said = run(tmp_path, RECIPE, fleet)
    assert fleet.tries["t3"] == MOST_TRIES
    assert "t3: 4 workers were lost with it (out of memory)" in said[-1]
    assert runs(project)["t3", "failed"] == 1


def test_a_mistake_of_the_user_is_not_tried_again_and_stops_what_needs_it(tmp_path: Path) -> None:
    mistake = Failure("", 2, ("stages.t0.seed", "7", "write 8"))
    fleet = ScriptedFleet(2, {"t0": [mistake]})
    project, said = run(tmp_path, CHAIN, fleet)
    assert fleet.tries["t0"] == 1
    assert said[-1] == "stages.t0.seed: 7 — write 8"
    assert runs(project) == once("data", *TRAININGS[1:]) + Counter({("t0", "failed"): 1})


def test_an_unexpected_error_is_one_line_and_a_log(tmp_path: Path) -> None:
    broken = Failure("internal error: ZeroDivisionError", 70, log="Traceback …")
    project, said = run(tmp_path, RECIPE, ScriptedFleet(2, {"t1": [broken]}))
    log = project.folder / "logs" / "t1.error.txt"
    assert said[-1] == f"t1: internal error: ZeroDivisionError — its log is {log}"
    assert log.read_text(encoding="utf-8") == "Traceback …"


def test_a_result_that_arrives_damaged_is_made_again(tmp_path: Path) -> None:
    wrong = JobResult("run", "0" * 64, {"lineage.json": "0" * 64})
    fleet = ScriptedFleet(2, {"t2": [wrong]})
    project, _ = run(tmp_path, RECIPE, fleet)
    assert fleet.tries["t2"] == 2
    done = project.ledger.artifacts("run")
    assert "0" * 64 not in done and made("t2").hash in done


def test_a_stage_begins_when_its_pictures_are_drawn(tmp_path: Path) -> None:
    fleet = ScriptedFleet(3)
    run(tmp_path, RECIPE, fleet, NamingPlanner(blocks=5))
    blocks = [place for place, job in enumerate(fleet.order) if job.startswith("t4/")]
    assert len(blocks) == 5 and max(blocks) < fleet.order.index("t4")


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ScriptedFleet.receive

    def stopped(self: ScriptedFleet, seconds: float) -> list[News]:
        news = real(self, seconds)
        if any(isinstance(one, Ended) and one.job == "t5" for one in news):
            raise KeyboardInterrupt
        return news

    with monkeypatch.context() as patched:
        patched.setattr(ScriptedFleet, "receive", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, RECIPE, ScriptedFleet(2))
    before = runs(Project(tmp_path / "project"))
    assert before["t4", "done"] == 1 and before["t5", "done"] == 0
    fleet = ScriptedFleet(2)
    project, _ = run(tmp_path, RECIPE, fleet)
    assert "t4" not in fleet.tries and fleet.tries["t5"] == 1
    assert Counter(stage for stage, state in runs(project).elements() if state == "done") == (
        Counter(["data", *TRAININGS])
    )
