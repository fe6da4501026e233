"""Tables on a terminal: models × axes, effects of subsets, a judge's session, a history, runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree

from onmodel.cli.plan import clock
from onmodel.cli.render import wide
from onmodel.judge.page import judge_rows, spelt
from onmodel.judge.result import SessionResult
from onmodel.ledger.store import RunRecord
from onmodel.report.influence import InfluenceTable
from onmodel.report.lineage_tree import Branch, LineageTree
from onmodel.report.table import Table
from onmodel.text import printable

AXIS_WIDTH = 14  # of a column on a terminal
OUTCOME_STYLES = {"helps": "blue", "harms": "red", "open": "dim"}
STATE_STYLES = {
    "queued": "dim",
    "running": "blue",
    "paused": "yellow",
    "done": "green",
    "failed": "bold red",
    "killed": "red",
}
LINE_STYLES = {
    "fact": "",
    "setting": "dim",
    "claim": "dim italic",
    "warning": "yellow",
    "reference": "cyan",
}


def print_results(table: Table | None, files: Sequence[Path], console: Console) -> None:
    """Print the table of a run, and the files that were written."""
    print_table(table, console)
    for file in files:
        console.print(f"{file}", highlight=False, soft_wrap=True)


def print_table(table: Table | None, console: Console) -> None:
    """Print models × axes with 95 % intervals, in as many tables as the width asks for."""
    if table is None:
        console.print("no evaluation in this run", highlight=False)
        return
    console = wide(console)
    names = max(len(row.name) for row in table.rows)
    fitting = max(1, (console.width - names - 1) // (AXIS_WIDTH + 3))
    console.print(table.signature, style="dim", highlight=False, soft_wrap=True)
    for start in range(0, len(table.columns), fitting):
        rich = RichTable(header_style="bold", pad_edge=False)
        rich.add_column("model", no_wrap=True, min_width=names)
        for column in table.columns[start : start + fitting]:
            rich.add_column(
                f"{column.axis.short} {column.axis.arrow}", justify="right", width=AXIS_WIDTH
            )
        for row in table.rows:
            cells = (
                Text(f"{cell.text}\n{cell.interval}") for cell in row.cells[start : start + fitting]
            )
            name = (
                f"{printable(row.name)}\n{printable(row.note)}"
                if row.role != "control"
                else f"base, {row.name}"
            )
            rich.add_row(
                Text(name), *cells, style={"final": "bold", "control": "dim"}.get(row.role, "")
            )
        console.print(rich, highlight=False)


def print_influence(table: InfluenceTable, console: Console) -> None:
    """Print a row for each axis, a column for each subset, and a sentence for each subset."""
    rich = RichTable(
        title=f"{table.training}: what each subset does", title_justify="left", pad_edge=False
    )
    rich.add_column("axis", no_wrap=True)
    rich.add_column("floor", justify="right")
    for subset in table.subsets:
        rich.add_column(subset, justify="right", no_wrap=True)
    for row in table.rows:
        cells = [
            Text(one.change, OUTCOME_STYLES[outcome])
            for one, outcome in zip(row.comparisons, row.outcomes, strict=True)
        ]
        rich.add_row(row.axis.short, row.floor, *cells)
    console = wide(console)
    console.print(rich, highlight=False)
    for sentence in table.sentences:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def print_judged(found: SessionResult, console: Console) -> None:
    """Print strengths, the judge's consistency, agreement of the axes, and what to keep in mind."""
    console = wide(console)
    console.print(found.question, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(found.signature, style="dim", highlight=False, soft_wrap=True)
    models = _columns(
        "model",
        "strength, log-odds [95 %]",
        "preferred to the others [95 %]",
        "won",
        "lost",
        "tied",
    )
    for model in found.models:
        models.add_row(
            model.name,
            spelt(model.strength, signed=True),
            spelt(model.preferred),
            str(model.won),
            str(model.lost),
            str(model.tied),
        )
    console.print(models, highlight=False)
    judge = _columns("the judge", "share [95 %]", "of")
    for words, share, of in judge_rows(found):
        judge.add_row(words, spelt(share), of)
    console.print(judge, highlight=False)
    axes = _columns("axis", "agrees with the votes [95 %]", "decided pairs")
    for row in found.axes:
        axes.add_row(row.title, spelt(row.share), str(row.pairs))
    console.print(axes, highlight=False)
    for note in found.notes:
        console.print(f"- {note}", highlight=False, markup=False, soft_wrap=True)


def print_history(history: LineageTree, console: Console) -> None:
    """Print what lies under everything, the tree, and the counts."""
    for ground in history.ground:
        gap = " " if ground.name is not None else ""
        console.print(
            Text.assemble(
                (f"{ground.type} ", "dim"), (ground.name or "", "bold"), gap, ground.facts
            )
        )
    console.print(_tree(history.newest))
    console.print(Text(", ".join(f"{name} {count}" for name, count in history.counts), "dim"))


def print_runs(runs: Sequence[RunRecord], console: Console) -> None:
    """Print a row for each run, and below the table why runs are paused or failed."""
    console = wide(console)
    table = _columns("stage", "verb", "recipe", "state", "started", "took")
    for run in runs:
        took = "" if run.seconds is None else clock(run.seconds)
        state = Text(run.state, STATE_STYLES[run.state])
        table.add_row(run.stage, run.verb, run.recipe, state, run.started or "", took)
    console.print(table, highlight=False)
    for run in runs:
        if run.line:
            console.print(f"{run.stage} {run.state}: {run.line}", soft_wrap=True)


def _tree(branch: Branch) -> Tree:
    label = Text.assemble(
        branch.weight, (branch.title, "bold"), f"  {branch.kind} ", (branch.id, "dim")
    )
    for line in branch.lines:
        label.append(f"\n{line.text}", LINE_STYLES[line.role])
    tree = Tree(label, guide_style="dim")
    tree.children.extend(_tree(child) for child in branch.children)
    return tree


def _columns(*names: str) -> RichTable:
    table = RichTable(header_style="bold", pad_edge=False)
    for at, name in enumerate(names):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    return table
