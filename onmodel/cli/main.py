"""`onmodel`: the list of commands, and the one place where errors become a line and an exit code."""

import errno
import logging
import os
import sys

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
    verify,
)
from onmodel.errors import OnmodelError
from onmodel.stages import VERBS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The whole life of a character LoRA: curate, train, sample, evaluate, select, tune, merge, search, release.",
)
app.command("run")(run.command)
for verb in (verb for verb in VERBS if verb not in ("merge", "release")):
    app.command(verb, help=f"Run a recipe's {verb} stage, and the stages that it needs.")(stage.command_for(verb))
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
app.command("doctor")(doctor.command)
app.command("clean")(clean.command)
app.command("export-base")(base.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"onmodel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Entry point: runs a command; what a user did wrong ends in one line on stderr."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve a shared machine
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        app()
    except OnmodelError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as ended:
        if ended.code == 130:  # so Typer ends a command that Ctrl-C stopped, without a word
            _fail("stopped; run the same command again to go on where it stopped", 130)
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"{error.filename or 'disk'}: no space left — free some room and run the same command again", 1)


def _fail(line: str, code: int) -> None:
    print(f"onmodel: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
