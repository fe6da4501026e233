"""How far a training is, and its curves, from the steps that it recorded."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.train.steps import StepRow

WINDOW = 50  # steps over which loss and speed are averaged
TAIL = 64_000  # bytes that hold more than WINDOW rows
MOST_ROWS = 2_000  # of one curve; more than a chart has pixels

Column = list[float | None]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Recorded steps of a training, of `total`. `seconds_left` is None until two steps were timed;
    `loss` is the mean of the last steps, `memory_bytes` their largest memory, None where it was not
    recorded."""

    done: int
    total: int
    seconds_left: float | None
    loss: float | None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """Columns over common steps: training → name → values, None where a step has none."""

    steps: list[int]
    columns: dict[str, dict[str, Column]]


def recorded_steps(folder: Path, tail: bool = False) -> dict[str, list[StepRow]]:
    """The recorded steps of every training of a project, by stage: `folder`/logs/STAGE.jsonl. A
    line that is being written is left out. With `tail`, only the last steps of each."""
    found = {}
    for path in sorted((folder / "logs").glob("*.jsonl")):
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - TAIL) if tail else 0
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 : -1]
        found[path.stem] = [json.loads(line) for line in lines]
    return found


def progress(rows: Sequence[StepRow], planned: int) -> TrainingProgress:
    """How far a training of `planned` steps is."""
    if not rows:
        return TrainingProgress(0, planned, None, None)
    done, last = rows[-1]["step"], rows[-WINDOW:]
    total = max(planned, done)
    loss = sum(row["loss"] for row in last) / len(last)
    timed = [(row["step"], row["seconds"]) for row in last if "seconds" in row]
    left = None
    if len(timed) > 1:
        (first_step, first), (last_step, now) = timed[0], timed[-1]
        if now > first:  # else a new attempt began in between, and its clock
            left = (now - first) / (last_step - first_step) * (total - done)
    memory = max((row["memory_mib"] << 20 for row in last if "memory_mib" in row), default=None)
    return TrainingProgress(done, total, left, loss, memory)


def curves(trainings: Mapping[str, Sequence[StepRow]], names: Sequence[str]) -> Curves:
    """The values of several trainings as columns for one chart: of a long training every second
    step or fewer, and every held-out loss."""
    trainings = {name: _thinned(rows) for name, rows in trainings.items()}
    steps = sorted({row["step"] for rows in trainings.values() for row in rows})
    columns = {
        training: {name: _column(steps, rows, name) for name in names}
        for training, rows in trainings.items()
    }
    return Curves(steps, columns)


def quartiles(trainings: Mapping[str, Sequence[StepRow]]) -> Curves:
    """The held-out losses in each quartile of the times, from the cleanest to the noisiest, as
    columns 1 to 4 over the steps that have them."""
    found: dict[str, dict[int, list[float]]] = {}
    for name, rows in trainings.items():
        looks = {
            row["step"]: row["heldout_quartiles"] for row in rows if "heldout_quartiles" in row
        }
        if looks:
            found[name] = looks
    steps = sorted({step for looks in found.values() for step in looks})
    columns: dict[str, dict[str, Column]] = {}
    for name, looks in found.items():
        by_step = [looks.get(step) for step in steps]
        columns[name] = {
            str(at + 1): [row[at] if row else None for row in by_step] for at in range(4)
        }
    return Curves(steps, columns)


def _thinned(rows: Sequence[StepRow]) -> list[StepRow]:
    every = len(rows) // MOST_ROWS + 1
    return [row for at, row in enumerate(rows) if at % every == 0 or "heldout" in row]


def _column(steps: Iterable[int], rows: Sequence[StepRow], name: str) -> Column:
    values: dict[int, float | None] = {row["step"]: row.get(name) for row in rows}  # type: ignore[misc]
    return [values.get(step) for step in steps]
