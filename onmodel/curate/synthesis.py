"""New pictures for the holes of a data set: asked for, generated, looked at, picked, labelled; the
model that made them stays in their history. Everything that was generated is kept with its verdict;
killed, the same command goes on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from onmodel.character import Character
from onmodel.curate.audit import Audit
from onmodel.curate.duplicates import find_links, group_links
from onmodel.curate.look import Looks, look
from onmodel.curate.makers import GeneratedPicture, Maker
from onmodel.curate.picking import Judged, alien_traits, hidden_traits, label, pick
from onmodel.curate.provenance import GENERATED, model_of
from onmodel.curate.sentences import sentence_of
from onmodel.curate.settings import SynthesisSettings
from onmodel.curate.workshop import Decision, Piece, Workshop, keep_models, piece_as_table
from onmodel.dataset.decoding import decode
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError, ServiceError
from onmodel.evaluate.axes.base import References, Unavailable
from onmodel.evaluate.axes.reproduction import threshold
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers import Observers
from onmodel.events import Events
from onmodel.hashing import hash_json, sha256_file, write_json
from onmodel.randomness import generator
from onmodel.sample.suites import Prompt

HIDDEN = 2  # traits that a picture must lack: one may be covered, or missed by the tagger
REFERENCES = 200  # pictures of the set that new ones are compared with


@dataclass(frozen=True)
class Order:
    """What is generated: prompts, and attribute → value → how many of them ask for it."""

    prompts: Sequence[Prompt]
    wanted: Mapping[str, Mapping[str, int]]
    settings: SynthesisSettings


@dataclass(frozen=True)
class Made:
    """What a synthesis gave: the new pictures, and a row for each candidate with its verdict."""

    pieces: Sequence[Piece]
    rows: Sequence[Mapping[str, Any]]

    @property
    def refusals(self) -> Counter[str]:
        return Counter(str(row["refused"]).partition(":")[0] for row in self.rows if row["refused"])


def synthesize(
    workshop: Workshop,
    audit: Audit,
    observers: Observers,
    character: Character,
    maker: Maker,
    order: Order,
    events: Events,
) -> Made:
    """Generate candidates for each prompt, pick as many as there are prompts at most, and put them
    into the subset, as one step.

    Without a least agreement in the settings it is what nine in ten of the set's pictures reach
    among themselves. Raises InputError when the set has too few pictures to tell the character by,
    or a prompt is refused; ServiceError when no picture can be made.
    """
    prompts, settings = order.prompts, order.settings
    if observers.identity is None or observers.tagger is None:
        raise InputError("observers", "none", "name the folders: --tagger and --identity")
    rounds = [(prompt, turn) for turn in range(settings.tries) for prompt in prompts]
    room = workshop.folder / "synthesis"
    asked = maker.make(rounds, room / "pictures", events)
    made = [(one, one.path, sha256_file(one.path)) for one in asked if one.path]
    if not made:
        raise ServiceError(
            f"{maker.name}: none of {len(asked)} candidates could be made; the first:"
            f" {asked[0].why}"
        )
    hashes = [sha256 for _, _, sha256 in made]
    with events.task("look at candidates", len(made)) as bar:
        paths = [path for _, path, _ in made]
        looks = look(paths, hashes, observers, character.palette, workshop.folder / "seen", bar)
    agreement, usual = _agreement(audit, observers, looks)
    needed = usual if settings.agreement is None else settings.agreement
    tags = observers.tagger.tags
    aliens = alien_traits(character, tags, looks.tags)
    hidden = hidden_traits(character, tags, audit.vocabulary, audit.looks.tags, looks.tags)
    repeats, groups = _repeats(audit, looks, events)
    known = {piece.sha256: piece.name for piece in workshop.pieces.values()}
    sight = None if audit.sight is None else audit.sight.over(looks.tags)
    judged = []
    for i, (one, _, _) in enumerate(made):
        why = (
            f"in the set already: {known[hashes[i]]}"
            if hashes[i] in known
            else (
                f"repeat: of {repeats[i]}"
                if i in repeats
                else (
                    f"off model: seen {', '.join(aliens[i])}"
                    if aliens[i]
                    else (
                        f"off model: not seen {', '.join(hidden[i])}"
                        if len(hidden[i]) >= HIDDEN
                        else (
                            f"another character: agreement {agreement[i]:.3f}, {needed:.3f} is"
                            " needed"
                            if agreement[i] < needed
                            else ""
                        )
                    )
                )
            )
        )
        said, values, unshown = label(one.prompt.asked, i, sight, audit.vocabulary, character)
        judged.append(Judged(said, values, unshown, float(agreement[i]), why))
    chosen = pick(judged, groups, order.wanted, len(prompts))
    pieces = [_piece(judged[i], *made[i], maker, settings, character) for i in chosen]
    rows = [
        {
            "file": path.relative_to(workshop.folder).as_posix(),
            **one.made,
            "asked": dict(one.prompt.asked),
            **asdict(verdict),
            "picked": i in chosen,
        }
        for i, ((one, path, _), verdict) in enumerate(zip(made, judged, strict=True))
    ] + [
        {
            **one.made,
            "asked": dict(one.prompt.asked),
            "refused": f"not made: {one.why}",
            "picked": False,
        }
        for one in asked
        if one.path is None
    ]
    keep_models(workshop.folder, {maker.sha256: maker.lineage})
    write_json(
        room / f"{settings.subset}-{len(workshop.journal)}-{hash_json(hashes)[:8]}.json", rows
    )
    if pieces:
        workshop.decide(
            [
                Decision(
                    0, "add", f"synthesis {maker.name}", piece.name, piece=piece_as_table(piece)
                )
                for piece in pieces
            ]
        )
    return Made(pieces, rows)


def _agreement(audit: Audit, observers: Observers, looks: Looks) -> tuple[np.ndarray, float]:
    """How well candidates agree with the set's pictures [N], and the least that counts: what nine
    in ten of the set's own reach among themselves. Pictures that no model made are the measure
    where there are enough of them."""
    drawn = [i for i, piece in enumerate(audit.pieces) if not model_of(piece.origin)]
    own = np.array(
        drawn if len({audit.groups[i] for i in drawn}) >= 4 else range(len(audit.pieces))
    )
    own = own[generator(0, "references").permutation(len(own))[:REFERENCES]]
    none = {field.name: np.zeros((len(own), 0)) for field in fields(Features)}
    features = Features(
        **none | {"tags": audit.looks.tags[own], "identity": audit.looks.identity[own]}
    )
    assert observers.identity is not None
    references = References(features, np.array(audit.groups)[own], observers.identity.differences)
    try:
        return references.agreement(looks.identity), threshold(references)
    except Unavailable as why:
        raise InputError(
            "work", f"{len(own)} pictures", f"too few to tell the character by ({why})"
        ) from why


def _repeats(audit: Audit, looks: Looks, events: Events) -> tuple[dict[int, str], list[int]]:
    """Candidate → the picture of the set that it repeats; and the group number of each candidate:
    candidates of one group repeat each other."""
    first = len(audit.pieces)
    with events.task("compare with the set", 2 * (first + len(looks.thumbs))) as task:
        links = find_links([*audit.looks.small, *looks.small], task)
    groups = group_links(first + len(looks.thumbs), links)
    shown = dict(
        zip(reversed(groups[:first]), (piece.name for piece in reversed(audit.pieces)), strict=True)
    )
    return {i: shown[group] for i, group in enumerate(groups[first:]) if group in shown}, groups[
        first:
    ]


def _piece(
    judged: Judged,
    candidate: GeneratedPicture,
    path: Path,
    sha256: str,
    maker: Maker,
    settings: SynthesisSettings,
    character: Character,
) -> Piece:
    picture = decode(path.read_bytes(), WHITE)
    told = {
        "agreement": round(judged.agreement, 4),
        "asked_and_not_seen": ", ".join(judged.unshown),
    }
    sentence = sentence_of([said.tag for said in judged.tags], character)
    return Piece(
        f"{settings.subset}/{path.stem[:12]}",
        path.resolve(),
        sha256,
        picture.width,
        picture.height,
        settings.subset,
        judged.tags,
        sentence,
        f"{GENERATED}{maker.sha256}",
        settings.rights,
        picture.paper,
        picture.profile,
        "template",
        {**candidate.made, **told},
    )
