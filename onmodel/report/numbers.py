"""The numbers of a page as CSV files beside it: full precision, one row a number, nothing that the
JSON lacks."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from onmodel.evaluate.choice import Choice
from onmodel.evaluate.compare import Comparison
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.hashing import write_atomic
from onmodel.text import csv_cell

SCORES = (
    "model",
    "epoch",
    "axis",
    "value",
    "low",
    "high",
    "n",
    "unit",
    "direction",
    "arm",
    "why",
    "signature",
)
PROMPTS = ("model", "axis", "prompt", "value")
DIFFERENCES = (
    "model",
    "against",
    "axis",
    "gain",
    "low",
    "high",
    "p",
    "outcome",
    "unit",
    "signature",
)
BARE = "without its negative prompt"
LOOKS = (
    "round",
    "prompts",
    "seeds",
    "model",
    "weight",
    "axis",
    "value",
    "low",
    "high",
    "n",
    "arm",
    "why",
    "signature",
)


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """A row for each model (then each control, then each model without its negative prompt) and
    axis; no value and a `why` where an axis is unavailable."""
    bare = [
        (f"{row.name} {BARE}", replace(row, axes=row.negative.without))
        for row in evaluation.models
        if row.negative
    ]
    write_rows(
        path,
        SCORES,
        (
            {
                "model": name,
                "epoch": row.epoch,
                "axis": axis.id,
                "unit": axis.unit,
                "direction": axis.direction,
                **asdict(row.axes[axis.id]),
            }
            for name, row in [*_rows(evaluation), *bare]
            for axis in evaluation.axes.values()
            if axis.id in row.axes
        ),
    )


def write_prompts(evaluation: Evaluation, path: Path) -> None:
    """A row for each model, axis and prompt that tells something."""
    write_rows(
        path,
        PROMPTS,
        (
            {"model": name, "axis": axis, "prompt": prompt, "value": value}
            for name, row in _rows(evaluation)
            for axis, values in row.per_prompt.items()
            for prompt, value in values.items()
        ),
    )


def write_differences(
    found: Mapping[tuple[str, str], Sequence[Comparison]], evaluation: Evaluation, path: Path
) -> None:
    """A row for each ordered pair and axis. `gain`: how much nearer to good, in the axis' unit
    (geometric: its log)."""
    write_rows(
        path,
        DIFFERENCES,
        (
            {
                "model": model,
                "against": against,
                "axis": one.axis.id,
                "gain": one.gain,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "outcome": one.outcome,
                "unit": one.axis.unit,
                "signature": evaluation.signature,
            }
            if one.outcome != "unavailable"
            else {"model": model, "against": against, "axis": one.axis.id, "outcome": one.outcome}
            for (model, against), row in found.items()
            for one in row
        ),
    )


def write_looks(tuning: Choice, path: Path) -> None:
    """A row for each round, checkpoint, LoRA weight and axis of a tuning."""
    write_rows(
        path,
        LOOKS,
        (
            {
                "round": number,
                **asdict(look.rung),
                **asdict(score),
                "model": row.model,
                "weight": row.weight,
                "axis": axis,
            }
            for number, look in enumerate(tuning.rounds, 1)
            for row in look.measured
            for axis, score in row.axes.items()
        ),
    )


def _rows(evaluation: Evaluation) -> list[tuple[str, EvaluatedModel]]:
    controls = sorted(evaluation.controls.items())
    return [*((row.name, row) for row in evaluation.models), *controls]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file of these columns."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({column: csv_cell(value) for column, value in row.items()})
    write_atomic(path, buffer.getvalue().encode())
