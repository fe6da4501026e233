"""`onmodel lora merge plan|run`: several LoRA files as one."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.lora_tables import plan_lines, run_lines, show
from onmodel.cli.options import BASE, JSON, OUT, expand
from onmodel.lora.settings import MergeSettings, ResultSettings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Merge LoRA files: plan shows the result, run writes it.",
)
FILES = Annotated[
    list[Path],
    typer.Argument(
        help="LoRA files, PEFT folders, or (with --base) full checkpoints.", show_default=False
    ),
]
TITLE = Annotated[str, typer.Option(help="Title in the header. Default: the file's name.")]


@app.command("plan")
@expand
def plan_command(
    files: FILES,
    settings: MergeSettings,
    result: ResultSettings,
    base: BASE = None,
    as_json: JSON = False,
) -> None:
    """Show what a merge would give: cosines, energy by rank, size, strength, warnings."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import Merge, plan_merge

    with on_terminal() as events:
        found = plan_merge(Merge(files, settings, result, base), events)
    show(found, as_json, plan_lines)


@app.command("run")
@expand
def run_command(
    files: FILES,
    out: OUT,
    settings: MergeSettings,
    result: ResultSettings,
    base: BASE = None,
    title: TITLE = "",
    as_json: JSON = False,
) -> None:
    """Merge files into one LoRA. Its header holds the history of all of them."""
    from onmodel.cli.render import on_terminal
    from onmodel.lora.commands import Merge, run_merge

    with on_terminal() as events:
        report = run_merge(out, Merge(files, settings, result, base), title, events)
    show(report, as_json, run_lines)
