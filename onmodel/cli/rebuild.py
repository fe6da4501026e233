"""`onmodel rebuild`: run a release's recipe again and compare, stage by stage."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json


def command(
    release: Annotated[Path, typer.Argument(help="A release folder.", show_default=False)],
    project: Annotated[
        Path | None,
        typer.Option(
            "--project",
            help="The project that made it: where the private pictures and the base are noted.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Project folder to build in; without it, rebuild-<release>."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout.")
    ] = False,
) -> None:
    """Run a release's recipe again in a fresh folder and name the first stage that differs (exit
    code 1)."""
    from onmodel.cli.render import on_terminal
    from onmodel.engine.project import Project
    from onmodel.engine.rebuild import rebuild
    from onmodel.errors import InputError, VerifyError
    from onmodel.paths import check_name, inside
    from onmodel.release.provenance import read_provenance

    if project and not (project / "onmodel.db").is_file():
        raise InputError("project", project, "is no project folder; it has no onmodel.db")
    provenance = read_provenance(release)
    fresh = into or inside(
        Path(), check_name(f"rebuild-{provenance.name}", "--into", 255), "--into"
    )
    if project and fresh.resolve() == project.resolve():
        raise InputError("into", fresh, "is the project that made the release; name a fresh folder")
    maker = Project(project) if project else None
    with on_terminal() as events:
        found = rebuild(provenance, lambda: Project(fresh), maker, events)
    if as_json:
        say_json(asdict(found))
    else:
        for line in found.ground:
            say(f"not as it was: {line}")
        for stage, verdict in found.same.items():
            say(f"{stage}: {verdict}")
        for stage, why in found.left_out.items():
            say(f"{stage}: not rebuilt, {why}")
    if found.differs:
        raise VerifyError(*found.differs)
