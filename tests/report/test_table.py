"""The table models × axes."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from onmodel.cli.tables import print_table
from onmodel.evaluate.axes import AXES
from onmodel.randomness import generator
from onmodel.report.source import ReportSource
from onmodel.report.table import SHADES, build_table
from onmodel.report.verdict import result
from tests.support import evaluations as made_up
from tests.support import report_project


def test_rows_are_models_then_controls(source: ReportSource) -> None:
    table = build_table(source)
    assert table is not None
    assert [row.role for row in table.rows[-3:]] == ["final", "control", "control"]
    assert table.signature == source.evaluations["fresh"].signature


def test_cells_say_value_interval_and_where_from(source: ReportSource) -> None:
    table = build_table(source)
    assert table is not None
    cell = table.rows[0].cells[0]
    score = source.measured["preview@20"].scores["reproduction"]
    assert cell.text == f"{score.value:.2f}"
    assert all(part in cell.tip for part in ("10 prompts", "arm L", score.signature))
    assert cell.place is not None and cell.place[0] < cell.place[1] < cell.place[2]


def test_shades_run_from_the_worst_to_the_ideal(source: ReportSource) -> None:
    table = build_table(source)
    assert table is not None
    shades = [row.cells[0].shade for row in table.rows]
    assert shades[0] == 0 and shades[6] is not None and 3 <= shades[6] <= SHADES
    assert shades[-2:] == [None, None], "controls are not judged"


def test_an_unavailable_axis_says_why(source: ReportSource) -> None:
    table = build_table(source)
    assert table is not None
    cell = table.rows[0].cells[7]
    assert (cell.text, cell.shade, cell.place) == ("unavailable", None, None)
    assert "arm N was not generated" in cell.tip


def printed(source: ReportSource, width: int, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    print_table(build_table(source), console)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_of_the_table_is_wider_than_the_terminal_or_100(
    source: ReportSource, width: int
) -> None:
    text = printed(source, width, terminal=True)
    *lines, _signature = text.splitlines()
    assert max(map(len, lines)) <= min(width, 160)
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("axis")) :]
    assert max(len(line) for line in table) <= min(width, 100)
    assert "refined@10" in text, "the shown model comes first"
    assert f"{source.measured['refined@10'].scores['reproduction'].value:.2f}" in text


def test_four_models_with_every_axis_are_at_most_100_columns_wide(tmp_path: Path) -> None:
    draw = generator(0, "wide table")
    models = []
    for name in ("release_1@20", "release_2@40", "merged", "refined_again@10"):
        values = {
            axis: {f"p{p}": float(draw.uniform(10, 99)) for p in range(12)}
            for axis in AXES
            if axis != "drift"
        }
        models.append(made_up.model(name, values, missing={"drift": "no arm"}))
    source = replace(
        report_project.made_up(tmp_path),
        evaluations={"fresh": made_up.evaluation(models)},
        final="refined_again@10",
    )
    table = build_table(source)
    assert table is not None and len(table.foremost) == 4
    for terminal in (True, False):
        *lines, _signature = printed(source, 100, terminal).splitlines()
        start = next(at for at, line in enumerate(lines) if line.startswith("axis"))
        assert max(map(len, lines[start:])) <= 100
        assert all(model.name in lines[start] for model in models)
        assert any("not measured: base drift" in line for line in lines)


def test_the_sentences_of_the_result_come_first(source: ReportSource) -> None:
    text, found = printed(source, 100, terminal=False), result(source)
    assert found is not None
    wanted = [f"- {sentence}" for sentence in found.sentences]
    assert text.splitlines()[: len(wanted)] == wanted


def test_more_than_four_models_are_counted(source: ReportSource) -> None:
    text = printed(source, 100, terminal=True)
    more = len(source.measured) - 4
    assert more > 1 and f"{more} more models and the base: on the page" in text


def test_a_run_without_evaluation_prints_one_line(source: ReportSource) -> None:
    assert (
        printed(replace(source, evaluations={}, confirm=None), 80, terminal=False)
        == "no evaluation in this run\n"
    )
