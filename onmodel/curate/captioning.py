"""Sentences for pictures that have none: from the tags by template, or from a vision model."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.character import Character
from onmodel.curate.captioner import Answers, describe, stored
from onmodel.curate.decisions import fix_decision, still_apply
from onmodel.curate.endpoint import Endpoint
from onmodel.curate.findings import read_findings
from onmodel.curate.sentences import sentence_of
from onmodel.curate.settings import CaptionSettings, EndpointSettings
from onmodel.curate.targets import check_subsets
from onmodel.curate.workshop import (
    Decision,
    Piece,
    Workshop,
    open_workshop,
)
from onmodel.errors import InputError
from onmodel.events import Events


@dataclass(frozen=True)
class Captions:
    """New sentences. `by`: who wrote them; `left`: pictures that a dry run would ask about;
    `warning`: why tags that sentences repeat may be wrong, "" for none."""

    by: str
    answers: Answers
    left: int
    warning: str


def endpoint_of(settings: EndpointSettings) -> Endpoint:
    """The endpoint that settings name, its key from the environment. Raises InputError."""
    key = os.environ.get("OPENAI_API_KEY", "")
    return Endpoint(settings.endpoint, settings.model, key, settings.timeout)


def write_sentences(
    work: Path,
    character: Character,
    settings: CaptionSettings,
    events: Events,
    dry_run: bool = False,
) -> Captions:
    """Write sentences as one step; a dry run asks and changes nothing. Raises InputError for an
    unknown subset or a wrong endpoint before anything is asked."""
    workshop = open_workshop(work)
    check_subsets(workshop, settings.subset)
    pieces = _wanted(workshop, settings)
    warning = _label_warning(workshop, pieces)
    if settings.endpoint and not settings.template:
        by, endpoint = f"captioner {settings.model}", endpoint_of(settings)
        folder = work / "sentences"
        if dry_run:
            found = Answers(stored(pieces, character, endpoint, folder))
        else:
            with events.task(f"ask {endpoint.model}", len(pieces)) as task:
                found = describe(pieces, character, endpoint, folder, settings.at_once, task)
    else:
        by, found = "template", _by_template(pieces, character)
    if found.sentences and not dry_run:
        workshop.decide(
            [
                Decision(0, "sentence", by, name, sentence=text)
                for name, text in found.sentences.items()
            ]
        )
    left = len(pieces) - len(found.sentences) - len(found.failed) if by != "template" else 0
    return Captions(by, found, left, warning)


def _wanted(workshop: Workshop, settings: CaptionSettings) -> list[Piece]:
    """The kept pictures that get a sentence."""
    return [
        piece
        for piece in workshop.kept
        if (not settings.subset or piece.subset in settings.subset)
        and (not piece.sentence or (settings.again and piece.told != "person"))
    ]


def _by_template(pieces: Sequence[Piece], character: Character) -> Answers:
    found = Answers()
    for piece in pieces:
        try:
            found.sentences[piece.name] = sentence_of(piece.words, character)
        except InputError as refused:
            found.failed[piece.name] = refused.remedy
    return found


def _label_warning(workshop: Workshop, pieces: Sequence[Piece]) -> str:
    """Sentences repeat the tags, so wrong tags that the last audit found are named first."""
    if not (workshop.folder / "audit.json").exists():
        return "the tags were not audited; sentences repeat wrong tags"
    names = {piece.name for piece in pieces}
    wrong = [
        row
        for row in read_findings(workshop.folder)
        if row.severity == "error" and row.picture in names
    ]
    proposed = [row for row in map(fix_decision, wrong) if row and row.do == "tag"]
    count = len({row.picture for row in still_apply(workshop, proposed)})
    if not count:
        return ""
    return f"{count} pictures have labels that the last audit found wrong; fix them first"
