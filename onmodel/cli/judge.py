"""`onmodel judge PROJECT [MODEL …]`: choose blindly between models' pictures, then see who won."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json

QUESTION = "Which picture is better for this prompt?"


def command(
    project: Annotated[
        Path, typer.Argument(help="A project with an evaluation.", show_default=False)
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Two or more, as evaluations call them."),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Pairs to judge, beside the repeats; 60 if there are.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Another seed is another session, for another judge or day.")
    ] = 0,
    question: Annotated[str, typer.Option(help="What the page asks.")] = QUESTION,
    port: Annotated[int, typer.Option(help="Of the page on 127.0.0.1; 0 takes a free one.")] = 0,
    end: Annotated[
        bool, typer.Option("--end", help="End an unfinished session, and show what it says.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout.")
    ] = False,
) -> None:
    """Choose blindly between pictures that an evaluation made; the same command goes on, or shows
    the result."""
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.render import messages_on
    from onmodel.cli.tables import print_judged
    from onmodel.engine.project import Project
    from onmodel.errors import InputError, PausedError
    from onmodel.hashing import write_json
    from onmodel.judge.result import result
    from onmodel.judge.server import JudgeServer
    from onmodel.judge.session import open_session
    from onmodel.judge.votes import voting

    if not (project / "onmodel.db").is_file():
        raise InputError(
            "PROJECT", project, "holds no onmodel.db; name the folder that `onmodel run` made"
        )
    with PlainConsole(stderr=True).status("check the pictures"):
        session = open_session(Project(project), models or [], pairs, seed, question)
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
