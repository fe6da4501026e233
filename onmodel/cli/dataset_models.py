"""`onmodel dataset caption|scene|synthesize`: the commands that ask a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import BASE, DRY_RUN, JSON, SHEET, WORK
from onmodel.curate.settings import (
    CaptionSettings,
    EndpointSettings,
    GeneratorSettings,
    ObserverSettings,
    SynthesisSettings,
)

if TYPE_CHECKING:
    from onmodel.curate.filling import Filling

SHOWN = 5  # sentences or prompts that are printed


def caption_command(
    work: WORK,
    sheet: SHEET,
    settings: CaptionSettings,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Write the sentence of every picture that has none, from its tags or by a vision model."""
    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.captioning import write_sentences

    with on_terminal() as events:
        done = write_sentences(work, load_character(sheet), settings, events, dry_run)
    if done.warning:
        say(done.warning, stderr=True)
    sentences, failed = done.answers.sentences, done.answers.failed
    if as_json:
        say_json({"by": done.by, "sentences": sentences, "failed": failed})
        return
    for name, text in list(sentences.items())[:SHOWN]:
        say(f"{name}: {text}")
    if len(sentences) > SHOWN:
        say(f"and {len(sentences) - SHOWN} more")
    for name, why in failed.items():
        say(f"{name}: none; {why}")
    if dry_run:
        asked = f"; {done.left} pictures would be asked about" if done.by != "template" else ""
        say(f"nothing is changed{asked}")
    else:
        undo = f"; `onmodel dataset undo {work}` takes them back" if sentences else ""
        say(f"{len(sentences)} sentences by {done.by}{undo}")


def scene_command(
    pictures: Annotated[list[Path], typer.Argument(help="Reference pictures.", show_default=False)],
    settings: EndpointSettings,
    notes: Annotated[Path | None, typer.Option(help="Text file with the author's notes.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write. Scenes that exist stay.")
    ] = Path("scenes"),
    dry_run: DRY_RUN = False,
) -> None:
    """Describe reference pictures with a vision model, as JSON and as a prompt.

    Interrupted, the same command continues with the others.
    """
    from onmodel.cli.render import on_terminal
    from onmodel.curate.captioning import endpoint_of
    from onmodel.curate.scene import write_scenes

    endpoint = endpoint_of(settings)
    with on_terminal() as events:
        files, todo = write_scenes(pictures, notes, endpoint, out, events, dry_run)
    if dry_run:
        say(f"{todo} of {len(pictures)} pictures would be asked about at {endpoint.address}")
        return
    for file in files:
        say(file)


def synthesize_command(
    work: WORK,
    sheet: SHEET,
    settings: SynthesisSettings,
    generator: GeneratorSettings,
    observers: ObserverSettings,
    base: BASE = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Generate pictures for under-represented attributes, filter them, add the best with labels.

    The history of each picture, and of every export, names the model that made it.
    """
    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.filling import Generator, fill_gaps

    character, source = load_character(sheet), Generator(base, generator, observers)
    with on_terminal() as events:
        found = fill_gaps(work, character, settings, source, events, dry_run)
    if as_json:
        say_json(found.as_dict())
    elif found.made is None:
        _say_plan(found)
    else:
        _say_made(found, character.name, work)


def _say_plan(found: "Filling") -> None:
    for name, values in found.wanted.items():
        have = found.audit.coverage[name].counts if name in found.audit.coverage else {}
        parts = [f"{value} {have.get(value, 0):.0f} + {n}" for value, n in values.items()]
        if parts:
            say(f"{name}: {', '.join(parts)}")
    for text in found.texts[:SHOWN]:
        say(text)
    if len(found.texts) > SHOWN:
        say(f"and {len(found.texts) - SHOWN} more prompts")
    say(f"{found.candidates} candidates would be made by {found.maker.name}; nothing is made")


def _say_made(found: "Filling", character: str, work: Path) -> None:
    assert found.made is not None
    got = found.got
    for name, values in found.wanted.items():
        parts = [f"{value} {got[name][value]} of {n}" for value, n in values.items()]
        if parts:
            say(f"{name}: {', '.join(parts)}")
    refused = ", ".join(f"{n} × {why}" for why, n in found.made.refusals.most_common())
    say(
        f"{len(found.made.pieces)} of {len(found.made.rows)} candidates were added"
        + f"; refused: {refused}" * bool(refused)
    )
    if found.made.pieces:
        say(f"`onmodel dataset undo {work}` takes them back; `onmodel dataset report` shows them")
    else:
        say(
            f"no candidate shows {character} and a wanted value well enough; try another model or"
            " more --tries"
        )
