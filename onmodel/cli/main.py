"""`onmodel`: the list of commands, and the one place where errors become a line and an exit
code."""

import logging
import os
import sys
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from onmodel.cli import (
    across,
    base,
    clean,
    dataset,
    doctor,
    evaluate,
    experiment,
    influence,
    init,
    judge,
    lora,
    metrics,
    release,
    report,
    run,
    settings,
    status,
    studio,
)
from onmodel.cli.console import be_quiet, close_streams, open_streams, say
from onmodel.errors import InputError
from onmodel.failures import STOPPED, outcome
from onmodel.version import __version__

_UsageError: Any = (
    typer.BadParameter.__base__
)  # Typer brings Click along, under another name since 0.2x
_UNTIL = "run RECIPE --until STAGE"
RENAMED = {
    "train": _UNTIL,
    "sample": _UNTIL,
    "curate": _UNTIL,
    "select": _UNTIL,
    "tune": _UNTIL,
    "search": _UNTIL,
    "import": _UNTIL,
    "merge": "lora merge, or run RECIPE --until STAGE",
    "verify": "release verify",
    "lineage": "release lineage",
    "prove": "release prove",
    "rebuild": "release rebuild",
    "export-base": "base export",
}


class _Commands(TyperGroup):
    """Names the new command for an old one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in RENAMED:
            raise InputError("command", args[0], f"is now `onmodel {RENAMED[args[0]]}`")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Curate pictures, train character LoRAs, measure, merge and release them."
        " Start with `onmodel init`."
    ),
)
app.command("init")(init.command)
app.command("run")(run.command)
app.command("studio")(studio.command)
app.command("status")(status.command)
app.command("report")(report.command)
app.command("across")(across.command)
app.command("doctor")(doctor.command)
app.command("clean")(clean.command)
app.command("settings")(settings.command)
app.command("evaluate")(evaluate.command)
app.command("judge")(judge.command)
app.command("influence")(influence.command)
app.add_typer(experiment.app, name="experiment")
app.add_typer(metrics.app, name="metrics")
app.add_typer(dataset.app, name="dataset")
app.add_typer(lora.app, name="lora")
app.add_typer(base.app, name="base")
app.add_typer(release.app, name="release")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"onmodel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print results and errors only."),
) -> None:
    if quiet:
        be_quiet()


def main() -> None:
    """Entry point: runs a command. Every error ends in one line on stderr and an exit code
    (failures.py)."""
    open_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve a shared machine
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported
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
