"""Tables on a terminal: models × axes, effects of subsets, a judge's session, a history, runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree

from onmodel.cli.plan import clock
from onmodel.cli.render import wide
from onmodel.engine.draft import DraftStage
from onmodel.engine.experiments import Experiment
from onmodel.judge.result import SessionResult, judge_rows, spelt
from onmodel.ledger.store import RunRecord
from onmodel.report.experiment import ExperimentTable
from onmodel.report.lineage_tree import Branch, LineageTree
from onmodel.report.table import Table, TableCell, TableRow
from onmodel.text import printable

MOST_MODELS, WIDEST = 4, 100  # of the result on a terminal; the second in characters
AXIS_WIDTH, MODEL_WIDTH = 26, 20  # of its columns at most
OUTCOME_STYLES = {"better": "blue", "worse": "red", "same": "", "open": "dim"}
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
    """Print the result in sentences, then axes × models with 95 % intervals, the declared questions
    first. At most MOST_MODELS models, as many as the width has room for; the page has all."""
    if table is None:
        console.print("no evaluation in this run", highlight=False)
        return
    terminal, console = console.is_terminal, wide(console)
    for sentence in table.sentences:
        console.print(
            f"- {printable(sentence)}", highlight=False, markup=False, soft_wrap=not terminal
        )
    places = _axes_in_order(table)
    models, parted = _fitting(table, places, min(console.width, WIDEST))
    rich = RichTable(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rich.add_column("axis", max_width=AXIS_WIDTH)
    for row in models:
        rich.add_column(Text(printable(row.name)), justify="right", max_width=MODEL_WIDTH)
    for place in places:
        axis = table.columns[place].axis
        cells = (Text(_in_cell(row.cells[place], parted)) for row in models)
        style = "" if axis.id in table.questions else "dim"
        rich.add_row(f"{axis.short} {axis.arrow}", *cells, style=style)
    console.print(rich, highlight=False)
    for line in _left_out(table, places, len(table.foremost) - len(models)):
        console.print(line, style="dim", highlight=False, soft_wrap=not terminal)
    console.print(table.signature, style="dim", highlight=False, soft_wrap=True)


def _axes_in_order(table: Table) -> list[int]:
    """The columns that any model has a value in, the declared questions first."""
    columns = range(len(table.columns))
    measured = [at for at in columns if any(row.cells[at].interval for row in table.foremost)]
    return sorted(measured, key=lambda at: table.columns[at].axis.id not in table.questions)


def _fitting(table: Table, places: Sequence[int], width: int) -> tuple[Sequence[TableRow], bool]:
    """The models that so many columns of text have room for, and whether intervals stand below
    their values."""
    models, found = table.foremost[:MOST_MODELS], 0
    for parted in (False, True):
        found = _count_fitting(models, places, parted, width - AXIS_WIDTH - 2)
        if found == len(models):
            return models, parted
    return models[: max(1, found)], True


def _count_fitting(
    models: Sequence[TableRow], places: Sequence[int], parted: bool, room: int
) -> int:
    """How many models, from the first on, so many columns of text have room for."""
    for count, row in enumerate(models):
        lines = [
            line for place in places for line in _in_cell(row.cells[place], parted).split("\n")
        ]
        room -= 2 + max(min(len(printable(row.name)), MODEL_WIDTH), *map(len, lines))
        if room < 0:
            return count
    return len(models)


def _in_cell(cell: TableCell, parted: bool) -> str:
    """The value and its interval; below it where they are parted."""
    if not cell.interval:
        return cell.text
    return f"{cell.text}\n{cell.interval}" if parted else f"{cell.text} ({cell.interval})"


def _left_out(table: Table, places: Sequence[int], models: int) -> list[str]:
    """What the terminal's table lacks, in words."""
    missing = [one.axis.short for at, one in enumerate(table.columns) if at not in places]
    lines = [f"not measured: {', '.join(missing)}; the page says why"] if missing else []
    if models > 0:
        lines.append(f"{models} more model{'s' if models > 1 else ''} and the base: on the page")
    return lines


def print_experiment(table: ExperimentTable, console: Console) -> None:
    """Print a row for each axis, a column for each variant, a sentence for each variant, and what
    to try next."""
    rich = RichTable(title=f"variants against {table.base}", title_justify="left", pad_edge=False)
    rich.add_column("axis", no_wrap=True)
    rich.add_column("floor", justify="right")
    for name in table.variants:
        rich.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        cells = [Text(one.change, OUTCOME_STYLES[one.outcome]) for one in row.comparisons]
        rich.add_row(row.axis.short, row.floor, *cells)
    console = wide(console)
    console.print(rich, highlight=False)
    for sentence in (*table.sentences, table.next_step):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def print_cells(experiment: Experiment, console: Console) -> None:
    """Print the variants of an experiment with their changes and stages, and what they share."""
    rich = RichTable(title=f"experiment {experiment.name}", title_justify="left", pad_edge=False)
    for column in ("variant", "change", "stages"):
        rich.add_column(column)
    rich.add_row("base", "", ", ".join(experiment.base))
    for one in experiment.variants:
        same = f"the same as {one.same_as}"
        stages = same if one.same_as is not None else ", ".join(one.stages)
        rich.add_row(*map(printable, (one.name, one.change.words, stages)))
    console = wide(console)
    console.print(rich, highlight=False)
    for stage, readers in experiment.shared.items():
        console.print(f"{stage} is shared by {len(readers)} cells", highlight=False)


def print_stages(stages: Sequence[DraftStage], console: Console) -> None:
    """Print stages with their cost, and how much of them is made."""
    rich = _columns("stage", "", "made", "about")
    for row in stages:
        rich.add_row(row.name, row.verb, "yes" if row.done else "no", clock(row.seconds))
    console = wide(console)
    console.print(rich, highlight=False)
    left = [row.seconds for row in stages if not row.done]
    known = [seconds for seconds in left if seconds is not None]
    time = clock(sum(known) if len(known) == len(left) else None)
    made = len(stages) - len(left)
    console.print(f"{made} of {len(stages)} stages are made; about {time} left", highlight=False)


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
