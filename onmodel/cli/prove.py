"""`onmodel prove`: the proof that one picture was, or was not, trained on."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say


def command(
    picture: Annotated[
        Path, typer.Argument(help="The picture, as it was given to curate.", show_default=False)
    ],
    release: Annotated[
        Path, typer.Argument(help="A release folder or a .safetensors.", show_default=False)
    ],
    project: Annotated[
        Path, typer.Option("--project", help="The project that made it and has the data sets.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File for the proof.")] = Path("proof.json"),
) -> None:
    """Write a proof of one picture against the roots that a release publishes; no other picture is
    shown."""
    from onmodel.engine.project import Project
    from onmodel.engine.proof import check_proof, prove
    from onmodel.errors import InputError
    from onmodel.hashing import write_json
    from onmodel.release.provenance import read_provenance

    if not (project / "onmodel.db").is_file():
        raise InputError("project", project, "is no project folder; it has no onmodel.db")
    lineage = read_provenance(release).lineage
    write_json(out, prove(picture, lineage, Project(project)))
    for line in check_proof(out, lineage, picture):
        say(line)
    say(out)
