"""`onmodel dataset scene`: reference pictures as structured sheets, by a vision model."""

import os
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say
from onmodel.cli.numbers import finite
from onmodel.errors import InputError
from onmodel.paths import check_name
from onmodel.reading import read_text


def command(
    pictures: Annotated[list[Path], typer.Argument(help="Reference pictures.", show_default=False)],
    endpoint: Annotated[
        str,
        typer.Option(
            envvar="OPENAI_BASE_URL",
            help="An OpenAI-compatible address, e.g. http://127.0.0.1:8080/v1.",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            envvar="OPENAI_MODEL", help="What the endpoint calls the model. Key: OPENAI_API_KEY."
        ),
    ] = "",
    notes: Annotated[Path | None, typer.Option(help="A text file with the author's notes.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A folder; sheets that lie there stay.")
    ] = Path("scenes"),
    timeout: Annotated[
        float, typer.Option(callback=finite, min=1, help="Seconds for one answer.")
    ] = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")
    ] = False,
) -> None:
    """Write what pictures show as JSON: description, and name, description and position of each
    thing; and as a prompt.

    Stopped, the same command goes on with the others.
    """
    from onmodel.cli.render import on_terminal
    from onmodel.curate.endpoint import Endpoint
    from onmodel.curate.scene import read_scene
    from onmodel.hashing import write_json

    service = Endpoint(endpoint, model, os.environ.get("OPENAI_API_KEY", ""), timeout)
    words = read_text(notes, "notes") if notes else ""
    for picture in pictures:
        if not picture.is_file():
            raise InputError("picture", picture, "no such file")
        check_name(f"{picture.stem}.json", "picture", 255)
    stems = [picture.stem for picture in pictures]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise InputError("pictures", twice, "two pictures have this name; rename one")
    todo = [picture for picture in pictures if not (out / f"{picture.stem}.json").exists()]
    if dry_run:
        say(f"{len(todo)} of {len(pictures)} pictures would be asked about at {service.address}")
        return
    with on_terminal() as events, events.task(f"ask {model}", len(todo)) as task:
        for picture in todo:
            scene = read_scene(picture, words, service)
            write_json(
                out / f"{picture.stem}.json",
                {"by": model, **scene.model_dump(), "prompt": scene.prompt},
            )
            task.advance()
    for stem in stems:
        say(out / f"{stem}.json")
