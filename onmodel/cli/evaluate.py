"""`onmodel evaluate FILES…`: compare LoRA files of any origin."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.options import BASE, DRY_RUN, JSON, SHEET, expand
from onmodel.starter import EvaluateSettings, write_comparison


@expand
def command(
    files: Annotated[
        list[Path], typer.Argument(help="LoRA files or PEFT folders.", show_default=False)
    ],
    sheet: SHEET,
    settings: EvaluateSettings,
    base: BASE = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Project folder to write, with its recipe.")
    ] = Path("comparison"),
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Measure LoRA files side by side, with the same prompts and noise."""
    from onmodel.cli.run import Output, execute

    recipe = write_comparison(files, sheet, base, settings, out)
    execute(recipe, out, None, Output(dry_run, as_json))
