"""`onmodel judge PROJECT [MODEL …]`: a blind comparison of models by a person."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import JSON, MADE, made_project

if TYPE_CHECKING:
    from onmodel.judge.session import Session


def command(
    project: MADE,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Two or more models of an evaluation. Default: all.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Pairs to judge, without repeats. Default: up to 60.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed starts another session.")] = 0,
    question: Annotated[
        str | None,
        typer.Option(help="Question that the page asks. Default: which picture is better."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page on 127.0.0.1. 0: any free port.")] = 0,
    end: Annotated[
        bool, typer.Option("--end", help="End an unfinished session and show its result.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Compare models blindly, pair by pair, in the browser.

    The pictures are those of an evaluation. The page is one of the studio. The same command
    continues a session or shows its result.
    """
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.tables import print_judged
    from onmodel.errors import InputError, PausedError
    from onmodel.judge.result import end_session
    from onmodel.judge.session import QUESTION, open_session
    from onmodel.judge.votes import Votes, voting

    opened = made_project(project)
    with PlainConsole(stderr=True).status("check the pictures"):
        session = open_session(opened, models or [], pairs, seed, question or QUESTION)
    if end and not session.votes.exists():
        raise InputError("--end", project, "no pair of this session was answered yet")
    session.save()
    if not end and not Votes(session.votes).ended:
        with suppress(KeyboardInterrupt):
            _serve(session, opened.folder, port)
    with voting(session.votes, len(session.pairs)) as votes:
        if not (end or votes.ended):
            raise PausedError(len(votes.answers), len(session.pairs))
        found = end_session(session, votes)
    if as_json:
        say_json(found.as_dict())
    else:
        print_judged(found, PlainConsole())


def _serve(session: "Session", project: Path, port: int) -> None:
    """Serve the page of a session in the studio until it has ended. Raises KeyboardInterrupt."""
    from onmodel.errors import InputError
    from onmodel.judge.votes import Votes, ended

    try:
        from onmodel.studio.server import serve
        from onmodel.studio.workspace import workspace_with
    except ModuleNotFoundError as error:
        raise InputError(
            "judge", error.name, "is not installed; pip install 'onmodel[studio]'"
        ) from error
    answered = f"{len(Votes(session.votes).answers)} of {len(session.pairs)} pairs answered"

    def ready(url: str) -> None:
        say(url, stderr=True)
        say(f"{answered}; Ctrl-C pauses", stderr=True)

    shown = workspace_with(project)
    page = f"/c/{shown.character.id}/judge/{session.id}"
    serve(shown.workspace, port, ready, page, until=lambda: ended(session.votes))
