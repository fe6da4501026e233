"""The page of one tuning: what every LoRA weight does to every axis, and what each round dropped
and why."""

from dataclasses import asdict

from onmodel.evaluate.choice import TuningRound
from onmodel.evaluate.headlines import label
from onmodel.report import plots
from onmodel.report.source import ReportSource
from onmodel.text import capital, decimal


def page_of(source: ReportSource, stage: str) -> dict[str, object]:
    """Everything that the template shows, as plain values. Curves are of the first round with every
    weight."""
    tuning = source.selections[stage]
    axes = list(tuning.records.values())
    round_, looked = max(
        enumerate(tuning.rounds, 1),
        key=lambda pair: len({row.weight for row in pair[1].measured}),
    )
    rows = looked.measured
    drawn = {axis: plots.dose(axis, rows, chosen=tuning.chosen) for axis in axes}
    models = list(dict.fromkeys(row.model for row in rows))
    (winner,) = tuning.chosen
    return {
        "contents": [("curves", "LoRA weight"), ("rounds", "Rounds"), ("last", "The last look")],
        "title": source.title,
        "character": source.character,
        "stage": stage,
        "file": csv_of(stage),
        "winner": winner,
        "rule": capital(tuning.rule),
        "close": tuning.too_close_to_call,
        "met": tuning.constraints_met,
        "looked": (f"round {round_}: {looked.rung.prompts} prompts, {looked.rung.seeds} seeds"),
        "legend": [
            {"label": label(name), "index": at % plots.COLOURS} for at, name in enumerate(models)
        ],
        "charts": [{"axis": axis, "svg": svg} for axis, svg in drawn.items() if svg],
        "rounds": [_round(number, row) for number, row in enumerate(tuning.rounds, 1)],
        "candidates": [
            {
                **asdict(row),
                "bias": decimal(row.bias, 3),
                "interval": (f"{decimal(row.low, 3)}\N{HORIZONTAL ELLIPSIS}{decimal(row.high, 3)}"),
            }
            for row in tuning.candidates
        ],
    }


def file_of(stage: str) -> str:
    """The page's file name."""
    return f"tuning-{stage}.html"


def csv_of(stage: str) -> str:
    """The CSV file beside the page."""
    return f"tuning-{stage}.csv"


def _round(number: int, row: TuningRound) -> dict[str, object]:
    return {
        "number": number,
        "size": f"{row.rung.prompts} prompts × {row.rung.seeds} seeds",
        "looked": len(row.looked),
        "kept": list(row.kept),
        "dropped": dict(row.dropped),
    }
