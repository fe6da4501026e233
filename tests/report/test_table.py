"""The table models × axes."""

import io
from dataclasses import replace

from rich.console import Console

from onmodel.cli.tables import print_table
from onmodel.report.source import ReportSource
from onmodel.report.table import SHADES, build_table


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


def test_a_narrow_terminal_gets_several_tables_and_nothing_is_cut(source: ReportSource) -> None:
    text = printed(source, 80, terminal=True)
    assert all(len(line) <= 80 for line in text.splitlines()[1:])
    assert text.count("refined@10") == 3
    assert "\N{HORIZONTAL ELLIPSIS}\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_pipe_gets_one_wide_table_with_every_number(source: ReportSource) -> None:
    text = printed(source, 80, terminal=False)
    assert text.count("refined@10") == 1
    assert all(
        f"{row.scores['reproduction'].value:.2f}" in text for row in source.measured.values()
    )


def test_a_run_without_evaluation_prints_one_line(source: ReportSource) -> None:
    assert (
        printed(replace(source, evaluations={}, confirm=None), 80, terminal=False)
        == "no evaluation in this run\n"
    )
