"""`onmodel dataset caption`: sentences for pictures, by template from their tags, or from a vision
model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.numbers import finite
from onmodel.errors import InputError

if TYPE_CHECKING:
    from onmodel.character import Character
    from onmodel.curate.captioner import Answers
    from onmodel.curate.endpoint import Endpoint
    from onmodel.curate.workshop import Piece, Workshop

SHOWN = 5  # sentences that are printed


def command(
    work: Annotated[
        Path,
        typer.Argument(help="The folder that `onmodel dataset import` made.", show_default=False),
    ],
    character: Annotated[
        Path, typer.Option("--character", "-c", help="The model sheet.", show_default=False)
    ],
    endpoint: Annotated[
        str,
        typer.Option(
            envvar="OPENAI_BASE_URL",
            help="Ask a vision model there, e.g. http://127.0.0.1:8080/v1.",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            envvar="OPENAI_MODEL", help="What the endpoint calls the model. Key: OPENAI_API_KEY."
        ),
    ] = "",
    template: Annotated[
        bool, typer.Option("--template", help="From the tags, offline, even with an endpoint.")
    ] = False,
    subset: Annotated[list[str] | None, typer.Option(help="Only these subsets.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that have a sentence, but a person's.")
    ] = False,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="Questions that are open at a time.")
    ] = 4,
    timeout: Annotated[
        float, typer.Option(callback=finite, min=1, help="Seconds for one answer.")
    ] = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask and change nothing; show what would be.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Write the sentence of every picture that has none. Who said it is kept; `undo` takes all back
    as one step."""
    from onmodel.character import load_character
    from onmodel.curate.endpoint import Endpoint
    from onmodel.curate.workshop import Decision, open_workshop

    sheet, workshop = load_character(character), open_workshop(work)
    pieces = _wanted(workshop, subset or [], again)
    _warn_of_labels(workshop, pieces)
    asked = None
    if endpoint and not template:
        asked = Endpoint(endpoint, model, os.environ.get("OPENAI_API_KEY", ""), timeout)
    if asked is None:
        found, by = _by_template(pieces, sheet), "template"
    else:
        by = f"captioner {model}"
        found = _by_model(pieces, sheet, asked, work / "sentences", at_once, dry_run)
    if found.sentences and not dry_run:
        rows = [
            Decision(0, "sentence", by, name, sentence=text)
            for name, text in found.sentences.items()
        ]
        workshop.decide(rows)
    if as_json:
        say_json({"by": by, "sentences": found.sentences, "failed": found.failed})
        return
    for name, text in list(found.sentences.items())[:SHOWN]:
        say(f"{name}: {text}")
    if len(found.sentences) > SHOWN:
        say(f"and {len(found.sentences) - SHOWN} more")
    for name, why in found.failed.items():
        say(f"{name}: none; {why}")
    if dry_run:
        left = len(pieces) - len(found.sentences) - len(found.failed)
        say(
            f"nothing is changed; {left} pictures would be asked about"
            if asked
            else "nothing is changed"
        )
    else:
        undo = f"; `onmodel dataset undo {work}` takes them back" if found.sentences else ""
        say(f"{len(found.sentences)} sentences by {by}{undo}")


def _wanted(workshop: "Workshop", subsets: list[str], again: bool) -> "list[Piece]":
    """The kept pictures that want a sentence. Raises InputError for an unknown subset."""
    known = list(dict.fromkeys(piece.subset for piece in workshop.kept))
    for name in subsets:
        if name not in known:
            raise InputError("subset", name, f"there are {', '.join(known)}")
    return [
        piece
        for piece in workshop.kept
        if (not subsets or piece.subset in subsets)
        and (not piece.sentence or (again and piece.told != "person"))
    ]


def _by_template(pieces: "list[Piece]", sheet: "Character") -> "Answers":
    from onmodel.curate.captioner import Answers
    from onmodel.curate.sentences import sentence_of

    found = Answers()
    for piece in pieces:
        try:
            found.sentences[piece.name] = sentence_of(piece.words, sheet)
        except InputError as refused:
            found.failed[piece.name] = refused.remedy
    return found


def _by_model(
    pieces: "list[Piece]",
    sheet: "Character",
    endpoint: "Endpoint",
    folder: Path,
    at_once: int,
    dry_run: bool,
) -> "Answers":
    from onmodel.cli.render import on_terminal
    from onmodel.curate.captioner import Answers, describe, stored

    if dry_run:
        return Answers(stored(pieces, sheet, endpoint, folder))
    with on_terminal() as events, events.task(f"ask {endpoint.model}", len(pieces)) as task:
        return describe(pieces, sheet, endpoint, folder, at_once, task)


def _warn_of_labels(workshop: "Workshop", pieces: "list[Piece]") -> None:
    """Sentences repeat what tags say: say so where the last audit found tags that are wrong
    still."""
    from onmodel.curate.workshop import mending, read_findings, still_apply

    if not (workshop.folder / "audit.json").exists():
        say("the tags were not audited; sentences repeat what is wrong in them", stderr=True)
        return
    names = {piece.name for piece in pieces}
    wrong = [
        row
        for row in read_findings(workshop.folder)
        if row.severity == "error" and row.picture in names
    ]
    open_ = still_apply(workshop, [row for row in map(mending, wrong) if row and row.do == "tag"])
    if open_:
        count = len({row.picture for row in open_})
        say(
            f"{count} pictures have labels that the last audit found wrong; mend them first",
            stderr=True,
        )
