"""Pictures for under-represented attributes of a data set: generated, checked by observers, picked
and labelled. Their lineage names the model that made them.

Every candidate is kept with its verdict. After an interruption the same command continues.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from onmodel.character import Character
from onmodel.curate.audit import Audit
from onmodel.curate.crop import Cropped
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

ROOM = "synthesis"  # the folder of a data set that keeps candidates and verdicts
HIDDEN = 2  # traits that a picture must lack: one may be covered, or missed by the tagger
REFERENCES = 200  # pictures of the set that new ones are compared with


CandidateRow = Mapping[str, Any]  # as JSON: file, how it was made, what was asked, the verdict


@dataclass(frozen=True)
class Order:
    """The prompts to generate for, and attribute → value → number of prompts that ask for it."""

    prompts: Sequence[Prompt]
    wanted: Mapping[str, Mapping[str, int]]
    settings: SynthesisSettings


@dataclass(frozen=True)
class Made:
    """The result of a synthesis: the new pictures, and a row for each candidate with its
    verdict."""

    pieces: Sequence[Piece]
    rows: Sequence[CandidateRow]

    @property
    def refusals(self) -> Counter[str]:
        return Counter(str(row["refused"]).partition(":")[0] for row in self.rows if row["refused"])


@dataclass(frozen=True)
class _Candidates:
    """The candidates that were made, with their files, SHA-256 and looks, in one order; and those
    that could not be made."""

    made: Sequence[GeneratedPicture]
    paths: Sequence[Path]
    hashes: Sequence[str]
    looks: Looks
    failed: Sequence[GeneratedPicture]


def synthesize(
    workshop: Workshop,
    audit: Audit,
    observers: Observers,
    character: Character,
    maker: Maker,
    order: Order,
    events: Events,
) -> Made:
    """Generate candidates for each prompt, pick at most one picture per prompt, and add the picked
    ones to the subset, as one step.

    Without `agreement` in the settings, the minimum is the 10th percentile of the set's own
    pictures among themselves. Raises InputError when the set has too few pictures to recognise the
    character, or a prompt is refused; ServiceError when no picture can be made.
    """
    settings = order.settings
    candidates = _candidates(workshop, observers, character, maker, order, events)
    judged, groups = _judge(workshop, audit, observers, character, settings, candidates, events)
    chosen = pick(judged, groups, order.wanted, len(order.prompts))
    pieces = [
        _piece(judged[i], candidates.made[i], candidates.hashes[i], maker, settings, character)
        for i in chosen
    ]
    rows = _rows(workshop.folder, candidates, judged, chosen)
    keep_models(workshop.folder, {maker.sha256: maker.lineage})
    name = f"{settings.subset}-{len(workshop.journal)}-{hash_json(list(candidates.hashes))[:8]}"
    write_json(workshop.folder / ROOM / f"{name}.json", rows)
    if pieces:
        by = f"synthesis {maker.name}"
        workshop.decide(
            [Decision(0, "add", by, row.name, piece=piece_as_table(row)) for row in pieces]
        )
    return Made(pieces, rows)


def _candidates(
    workshop: Workshop,
    observers: Observers,
    character: Character,
    maker: Maker,
    order: Order,
    events: Events,
) -> _Candidates:
    """Make candidates and run the observers on them. Raises InputError without observers,
    ServiceError when none could be made."""
    if observers.identity is None or observers.tagger is None:
        raise InputError("observers", "none", "name the folders: --tagger and --identity")
    rounds = [(prompt, turn) for turn in range(order.settings.tries) for prompt in order.prompts]
    asked = maker.make(rounds, workshop.folder / ROOM / "pictures", events)
    made = [(one, one.path) for one in asked if one.path]
    if not made:
        raise ServiceError(
            f"{maker.name}: none of {len(asked)} candidates could be made; the first:"
            f" {asked[0].why}"
        )
    paths = [path for _, path in made]
    hashes = [sha256_file(path) for path in paths]
    with events.task("look at candidates", len(made)) as task:
        cache = workshop.folder / "seen"
        looks = look(list(map(Cropped, paths)), hashes, observers, character.palette, cache, task)
    failed = [one for one in asked if one.path is None]
    return _Candidates([one for one, _ in made], paths, hashes, looks, failed)


def _judge(
    workshop: Workshop,
    audit: Audit,
    observers: Observers,
    character: Character,
    settings: SynthesisSettings,
    candidates: _Candidates,
    events: Events,
) -> tuple[list[Judged], list[int]]:
    """The verdict on each candidate, and its group: candidates of one group repeat each other."""
    looks = candidates.looks
    agreement, usual = _agreement(audit, observers, looks)
    needed = usual if settings.agreement is None else settings.agreement
    tags = observers.tagger.tags if observers.tagger else []
    aliens = alien_traits(character, tags, looks.tags)
    hidden = hidden_traits(character, tags, audit.vocabulary, audit.looks.tags, looks.tags)
    repeats, groups = _repeats(audit, looks, events)
    known = {piece.sha256: piece.name for piece in workshop.pieces.values()}
    sight = None if audit.sight is None else audit.sight.over(looks.tags)
    judged = []
    for i, one in enumerate(candidates.made):
        why = ""
        if (sha256 := candidates.hashes[i]) in known:
            why = f"in the set already: {known[sha256]}"
        elif i in repeats:
            why = f"repeat: of {repeats[i]}"
        elif aliens[i]:
            why = f"off model: seen {', '.join(aliens[i])}"
        elif len(hidden[i]) >= HIDDEN:
            why = f"off model: not seen {', '.join(hidden[i])}"
        elif agreement[i] < needed:
            why = f"another character: agreement {agreement[i]:.3f}, {needed:.3f} is needed"
        said, values, unshown = label(one.prompt.asked, i, sight, audit.vocabulary, character)
        judged.append(Judged(said, values, unshown, float(agreement[i]), why))
    return judged, groups


def _rows(
    folder: Path, candidates: _Candidates, judged: Sequence[Judged], chosen: Collection[int]
) -> list[CandidateRow]:
    """A row for each candidate, with its verdict or the reason why it could not be made."""
    rows: list[CandidateRow] = []
    for i, (one, path) in enumerate(zip(candidates.made, candidates.paths, strict=True)):
        file = {"file": path.relative_to(folder).as_posix()}
        asked = {"asked": dict(one.prompt.asked)}
        rows.append({**file, **one.made, **asked, **asdict(judged[i]), "picked": i in chosen})
    for one in candidates.failed:
        asked = {"asked": dict(one.prompt.asked)}
        rows.append({**one.made, **asked, "refused": f"not made: {one.why}", "picked": False})
    return rows


def _agreement(audit: Audit, observers: Observers, looks: Looks) -> tuple[np.ndarray, float]:
    """The identity agreement [N] of candidates with the set's pictures, and the minimum: the 10th
    percentile of the set's own. Generated pictures are left out of the references where enough
    others exist."""
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
    sha256: str,
    maker: Maker,
    settings: SynthesisSettings,
    character: Character,
) -> Piece:
    assert candidate.path is not None
    path = candidate.path
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
        picture.background,
        picture.profile,
        "template",
        {**candidate.made, **told},
    )
