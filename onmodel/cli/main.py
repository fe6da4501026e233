"""`onmodel`: the list of commands, and the one place where errors become a line and an exit
code."""

import logging
import os
import sys
from contextlib import suppress
from typing import Any

import typer

from onmodel import __version__
from onmodel.cli import (
    base,
    clean,
    dataset,
    doctor,
    influence,
    judge,
    lineage,
    merge,
    metrics,
    prove,
    rebuild,
    release,
    report,
    run,
    stage,
    status,
    verify,
)
from onmodel.cli.console import close_streams, open_streams, say
from onmodel.errors import InputError
from onmodel.failures import STOPPED, outcome
from onmodel.stages import VERBS

_UsageError: Any = (
    typer.BadParameter.__base__
)  # Typer brings Click along, under another name since 0.2x

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "The whole life of a character LoRA: curate, train, sample, evaluate, select, tune, merge,"
        " search, release."
    ),
)
app.command("run")(run.command)
for verb in (verb for verb in VERBS if verb not in ("merge", "release")):
    app.command(verb, help=f"Run a recipe's {verb} stage, and the stages that it needs.")(
        stage.command_for(verb)
    )
app.add_typer(dataset.app, name="dataset")
app.add_typer(merge.app, name="merge")
app.add_typer(release.app, name="release")
app.add_typer(metrics.app, name="metrics")
app.command("judge")(judge.command)
app.command("verify")(verify.command)
app.command("lineage")(lineage.command)
app.command("prove")(prove.command)
app.command("rebuild")(rebuild.command)
app.command("report")(report.command)
app.command("influence")(influence.command)
app.command("status")(status.command)
app.command("doctor")(doctor.command)
app.command("clean")(clean.command)
app.command("export-base")(base.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"onmodel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Entry point: runs a command; whatever goes wrong ends in one line on stderr and an exit code
    (failures.py)."""
    open_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve a shared machine
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        code = _run()
        # else a full disk or a closed pipe is met where nothing can be said any more
        sys.stdout.flush()
    except BaseException as error:  # the boundary of the process
        line, code = outcome(error)
        with suppress(OSError):
            if line:
                say(f"onmodel: {line}", stderr=True)
    close_streams()
    sys.exit(code)


def _run() -> int:
    """Run the command of sys.argv; its exit code. Errors pass, those of the command line as
    InputError."""
    try:
        code = app(prog_name="onmodel", standalone_mode=False)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Typer would end with code 1
            raise ended.__context__ from None
        return ended.code if isinstance(ended.code, int) else 0
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return error.exit_code
        command = error.ctx.command_path if error.ctx else "onmodel"
        raise InputError(command, error.format_message(), f"see `{command} --help`") from error
    if code == STOPPED:  # so Typer ends a command that Ctrl-C stopped
        raise KeyboardInterrupt
    return code or 0


if __name__ == "__main__":
    main()
