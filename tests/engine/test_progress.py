"""How far a training is, its curves and its previews."""

import json
from pathlib import Path

from onmodel.engine.previews import previews
from onmodel.engine.progress import MOST_ROWS, WINDOW, curves, progress, recorded_steps
from onmodel.engine.project import Project
from onmodel.ledger.store import RunStart
from onmodel.train.steps import StepRow


def row(step: int, loss: float = 1.0, seconds: float | None = None) -> StepRow:
    made = StepRow(step=step, epoch=1, loss=loss, grad_norm=0.0, learning_rate=0.1)
    if seconds is not None:
        made["seconds"] = seconds
    return made


def test_progress_tells_the_time_left_from_the_last_steps() -> None:
    found = progress([row(step, step / 10, 2.0 * step) for step in range(1, 5)], 10)
    assert (found.done, found.total, found.seconds_left) == (4, 10, 12.0)
    assert found.loss == 0.25


def test_progress_without_times_tells_no_time_left() -> None:
    assert progress([], 10).done == 0 and progress([], 10).loss is None
    assert progress([row(1), row(2)], 10).seconds_left is None
    again = [row(1, seconds=90.0), row(2, seconds=1.0)]  # another attempt, with a clock of its own
    assert progress(again, 10).seconds_left is None


def test_a_training_longer_than_planned_has_no_more_to_do() -> None:
    found = progress([row(7, seconds=1.0), row(8, seconds=2.0)], 5)
    assert found.total == 8 and found.seconds_left == 0.0


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = json.dumps(row(1)) + "\n" + json.dumps(row(2))[:9]
    (tmp_path / "logs" / "look.jsonl").write_text(lines)
    assert recorded_steps(tmp_path) == {"look": [row(1)]}
    assert recorded_steps(tmp_path / "none") == {}


def test_the_tail_holds_the_last_steps_whole(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    rows = [row(step, seconds=1.0) for step in range(1, 2_001)]
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (tmp_path / "logs" / "look.jsonl").write_text(text)
    tail = recorded_steps(tmp_path, tail=True)["look"]
    assert WINDOW < len(tail) < 2_000 and tail == rows[-len(tail) :]
    assert recorded_steps(tmp_path)["look"] == rows


def test_a_long_curve_is_thinned_and_keeps_its_heldout_losses() -> None:
    rows = [row(step) for step in range(1, 3 * MOST_ROWS)]
    rows[1]["heldout"] = 0.3
    found = curves({"a": rows}, ("heldout",))
    assert len(found.steps) <= MOST_ROWS + 1 and 0.3 in found.columns["a"]["heldout"]


def test_curves_share_their_steps() -> None:
    measured = row(3, 0.5)
    measured["heldout"] = 0.7
    found = curves({"a": [row(1), measured], "b": [row(2, 0.2)]}, ("loss", "heldout"))
    assert found.steps == [1, 2, 3]
    assert found.columns["a"] == {"loss": [1.0, None, 0.5], "heldout": [None, None, 0.7]}
    assert found.columns["b"]["loss"] == [None, 0.2, None]


def test_previews_are_found_while_a_training_runs_and_after_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    start = RunStart("f" * 64, "r", "look", "train", {}, {}, "toon")
    run = project.ledger.start(start, {}, "2026-11-22T00:00:00+00:00")
    scratch = project.scratch(start.key)
    folder = scratch / "out" / "previews"
    folder.mkdir(parents=True)
    for name in ("epoch-0002-00.png", "epoch-0001-01.png", "epoch-0001-00.png", "other.png"):
        (folder / name).write_bytes(name.encode())
    running = previews(project)
    assert [(one.stage, one.epoch, one.prompt) for one in running] == [
        ("look", 1, 0),
        ("look", 1, 1),
        ("look", 2, 0),
    ]
    artifact = project.commit(scratch, "run")
    project.ledger.finish(run, "run", artifact.hash, 1.0, "2026-11-22T00:00:01+00:00")
    ended = previews(project)
    assert [one.path.name for one in ended] == [one.path.name for one in running]
    assert not {one.id for one in ended} & {one.id for one in running}
