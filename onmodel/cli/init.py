"""`onmodel init`: the first recipe and model sheet of a character."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say
from onmodel.cli.options import BASE, expand
from onmodel.starter import StarterSettings, write_starter


@expand
def command(
    settings: StarterSettings,
    folder: Annotated[
        Path, typer.Argument(help="Folder to write recipe.toml and character.toml to.")
    ] = Path("."),
    base: BASE = None,
) -> None:
    """Write a recipe and a model sheet that run. Asks for what is missing on a terminal."""
    if sys.stdin.isatty():
        settings = _asked(settings)
    made = write_starter(folder, settings, base)
    say(f"{made.pictures} pictures, {made.captions} with captions; {made.repeats} repeats")
    say(f"{made.sheet}: describe the design there (tags, required, forbidden, palette)")
    say(f"{made.recipe}: next, `onmodel run {made.recipe} --dry-run`")


def _asked(settings: StarterSettings) -> StarterSettings:
    pictures = settings.pictures or Path(typer.prompt("Folder of the character's pictures"))
    trigger = settings.trigger or typer.prompt("Trigger word (one word the base does not know)")
    name = settings.name or typer.prompt("Name of the character", default=trigger)
    return replace(settings, pictures=pictures, trigger=trigger, name=name)
