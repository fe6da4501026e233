"""`onmodel judge PROJECT [MODEL …]`: a blind comparison of models by a person."""

from typing import Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import JSON, MADE, made_project

QUESTION = "Which picture is better for this prompt?"


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
    question: Annotated[str, typer.Option(help="Question that the page asks.")] = QUESTION,
    port: Annotated[int, typer.Option(help="Port of the page on 127.0.0.1. 0: any free port.")] = 0,
    end: Annotated[
        bool, typer.Option("--end", help="End an unfinished session and show its result.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Compare models blindly, pair by pair, in the browser.

    The pictures are those of an evaluation. The same command continues a session or shows its
    result.
    """
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.render import messages_on
    from onmodel.cli.tables import print_judged
    from onmodel.errors import InputError, PausedError
    from onmodel.hashing import write_json
    from onmodel.judge.result import result
    from onmodel.judge.server import JudgeServer
    from onmodel.judge.session import open_session
    from onmodel.judge.votes import voting

    opened = made_project(project)
    with PlainConsole(stderr=True).status("check the pictures"):
        session = open_session(opened, models or [], pairs, seed, question)
    if end and not session.votes.exists():
        raise InputError("--end", project, "no pair of this session was answered yet")
    session.save()
    with voting(session.votes, len(session.pairs)) as votes:
        if end and not votes.ended:
            votes.end()
        found = None
        if not votes.ended:
            events = messages_on(PlainConsole(stderr=True))
            with JudgeServer(session, votes, events, port) as server:
                told = f"{len(votes.answers)} of {len(session.pairs)} pairs answered; Ctrl-C pauses"
                say(server.url, stderr=True)
                say(told, stderr=True)
                try:
                    server.serve()
                except KeyboardInterrupt:
                    raise PausedError(len(votes.answers), len(session.pairs)) from None
                found = server.found
        found = found or result(session, votes.answers)
    write_json(session.folder / "result.json", found.as_dict())
    if as_json:
        say_json(found.as_dict())
    else:
        print_judged(found, PlainConsole())
