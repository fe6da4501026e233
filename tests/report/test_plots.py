"""Charts: what is drawn for which numbers."""

import re
from dataclasses import replace
from typing import Any

from onmodel.evaluate.axes.base import Axis
from onmodel.report import plots
from onmodel.report.plots import Dot, pareto
from onmodel.report.source import ReportSource


def axes(source: ReportSource) -> dict[str, Axis]:
    assert source.published is not None
    return dict(source.published.axes)


def test_epochs_have_a_point_each_and_ring_the_chosen(source: ReportSource) -> None:
    svg = str(
        plots.epochs(
            axes(source)["style"], source.evaluations["candidates"], ["release_2"], ["release_2@40"]
        )
    )
    assert svg.count("<circle") == 4 and svg.count("chosen") == 1
    assert "Release 2 @40: 0." in svg and 'class="band s0"' in svg and ">ideal<" in svg


def test_an_unavailable_axis_gives_no_chart(source: ReportSource) -> None:
    assert (
        plots.epochs(axes(source)["drift"], source.evaluations["candidates"], ["release_2"], [])
        is None
    )
    assert (
        plots.scatter(
            axes(source)["drift"], axes(source)["reproduction"], source.evaluations["fresh"], []
        )
        is None
    )


def test_the_front_is_what_no_other_beats(source: ReportSource) -> None:
    def dot(name: str, cast: float, reproduction: float) -> Dot:
        return Dot(name, (cast, cast, cast), (reproduction,) * 3, False)

    dots = [
        dot("good", -0.5, 0.9),
        dot("yellow", 3.0, 0.95),
        dot("beaten", 0.6, 0.9),
        dot("blue", -4.0, 0.8),
        dot("twin", 0.5, 0.9),
    ]
    assert pareto(dots, axes(source)["colour_cast"], axes(source)["reproduction"]) == {
        "good",
        "yellow",
        "twin",
    }


def test_scatter_names_only_the_marked(source: ReportSource) -> None:
    svg = str(
        plots.scatter(
            axes(source)["style"],
            axes(source)["reproduction"],
            source.evaluations["fresh"],
            ["merged"],
        )
    )
    assert svg.count('class="name"') == 1 and svg.count('<g class="dot') == 7


def test_losses_keep_every_held_out_point_and_average_the_rest() -> None:
    rows: list[dict[str, Any]] = [
        {"step": step, "epoch": 0, "loss": 1.0 / step} for step in range(1, 1001)
    ]
    rows[499]["heldout"] = rows[999]["heldout"] = 0.3
    svg = str(plots.losses("release_2", rows))
    assert svg.count("<circle") == 2
    assert svg.split('class="train" d="')[1].split('"')[0].count("L") < plots.LOSS_POINTS
    assert plots.losses("release_2", []) is None


def test_there_are_no_half_epochs(source: ReportSource) -> None:
    evaluation = source.evaluations["candidates"]
    models = [replace(row, epoch=at) for at, row in enumerate(evaluation.models[-2:], 1)]
    two = replace(evaluation, models=models)
    svg = str(plots.epochs(axes(source)["style"], two, ["release_2"], []))
    foot = re.findall(r'text-anchor="middle"[^>]*>([^<]+)<', svg)
    assert foot == ["0", "1", "2"]
