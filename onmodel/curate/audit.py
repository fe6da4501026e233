"""The audit of a data set: run observers on every picture, find repeats, check quality, identity,
labels and coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from onmodel.character import Character
from onmodel.curate.coverage import (
    CountedPicture,
    Coverage,
    associations,
    audit_coverage,
    count_picture,
    coverage,
)
from onmodel.curate.duplicates import Link, find_links, group_links
from onmodel.curate.findings import AuditFinding, Fix, Severity
from onmodel.curate.identity import agreements, audit_identity
from onmodel.curate.labels import Labelled, Sight, audit_labels
from onmodel.curate.lettering import audit_lettering, read_all
from onmodel.curate.look import Looks, look
from onmodel.curate.provenance import SELF_TAUGHT, SelfTaught, own_models, self_taught
from onmodel.curate.quality import audit_quality
from onmodel.curate.vocabulary import Vocabulary, vocabulary_for
from onmodel.curate.workshop import Piece, Workshop
from onmodel.errors import InputError
from onmodel.evaluate.observers import Observers
from onmodel.events import Events
from onmodel.hashing import hash_json, read_json, write_json

if TYPE_CHECKING:
    from rapidocr import RapidOCR

EXCUSING = ("blurred", "yellow cast", "blue cast", "repeat: crop")
LOSSY = (".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")
COMPARED = 4  # raised when the same pictures give other repeats
CLEAR = 0.8  # probability from which two pictures differ in what is seen
APART = ("expression", "pose", "view")  # where two that differ are two pictures of one scene


@dataclass(frozen=True)
class Audit:
    """The result of an audit. Arrays and lists have the order of `pieces`, the kept pictures."""

    pieces: Sequence[Piece]
    looks: Looks
    links: Sequence[Link]
    groups: Sequence[int]
    vocabulary: Vocabulary
    shown: Sequence[CountedPicture]
    findings: Sequence[AuditFinding]
    taught: Mapping[str, SelfTaught]
    sight: Sight | None

    @property
    def coverage(self) -> dict[str, Coverage]:
        return coverage(self.shown, self.vocabulary)

    def merit(self) -> np.ndarray:
        """0…1 [N]: rank of identity agreement and of sharpness, less for what is found about a
        picture."""
        marks: dict[str, int] = {}
        for finding in self.findings:
            cost = {"error": 2, "warning": 1, "note": 0}[finding.severity]
            marks[finding.picture] = marks.get(finding.picture, 0) + cost
        faults = np.array([marks.get(piece.name, 0) for piece in self.pieces])
        agree = (
            agreements(self.looks.identity)
            if self.looks.identity.shape[1]
            else np.ones(len(self.pieces))
        )
        sharp = np.array([row.sharpness for row in self.looks.qualities])
        good = (_rank(agree) + _rank(sharp)) / 2
        return np.asarray(good / (1 + faults))


def run_audit(
    workshop: Workshop,
    character: Character,
    observers: Observers,
    events: Events,
    reader: "RapidOCR | None" = None,
) -> Audit:
    """Audit the kept pictures, write audit.json and return everything. `reader` reads letters
    (lettering.py); without it they are not searched for. Raises InputError when no picture is
    kept."""
    pieces = workshop.kept
    if not pieces:
        raise InputError("work", workshop.folder, "no picture is kept")
    looks = _look(workshop, character, observers, events)
    links = _links(workshop, [piece.content for piece in pieces], looks, events)
    tags = observers.tagger.tags if observers.tagger else []
    vocabulary = _vocabulary(workshop, character, tags)
    labelled = [_labelled(piece, workshop) for piece in pieces]
    sight = Sight.of(labelled, tags, looks.tags, vocabulary) if tags else None
    design = vocabulary.said(character.tags)
    shown = [
        count_picture(piece.subset, row.weight, piece.words, vocabulary, design)
        for piece, row in zip(pieces, labelled, strict=True)
    ]
    own = own_models(workshop.models, character.trigger)
    origins = [piece.origin for piece in pieces]
    taught = self_taught([piece.subset for piece in pieces], origins, own)
    found = _repeats(pieces, links, _clearly(sight, vocabulary))
    found += _pictures(found, looks, labelled, sight, vocabulary, character)
    found += _letters(workshop, reader, events)
    found += audit_labels(labelled, character, vocabulary, sight)
    found += audit_coverage(shown, vocabulary, character.free, looks.sectors, sight)
    found += _taught(taught)
    groups = group_links(len(pieces), links)
    audit = Audit(pieces, looks, links, groups, vocabulary, shown, _sorted(found), taught, sight)
    write_json(workshop.folder / "audit.json", audit_as_dict(audit, workshop))
    return audit


def _look(workshop: Workshop, character: Character, observers: Observers, events: Events) -> Looks:
    """What observers see in the kept pictures."""
    pieces = workshop.kept
    with events.task("look at pictures", len(pieces)) as task:
        return look(
            [piece.cropped for piece in pieces],
            [piece.content for piece in pieces],
            observers,
            character.palette,
            workshop.folder / "seen",
            task,
        )


def _vocabulary(workshop: Workshop, character: Character, tags: Sequence[str]) -> Vocabulary:
    """The vocabulary of a tagger with these tags. Raises InputError for a label rule about an
    attribute that it lacks."""
    sheet = [character.count_tag, *character.tags, *character.required, *character.forbidden]
    sheet += [tag for outfit in character.outfits for tag in outfit.tags]
    vocabulary = vocabulary_for(tags, sheet, workshop.aliases)
    for subset, attributes in workshop.strict.items():
        if unknown := [name for name in attributes if name not in vocabulary.attributes]:
            known = ", ".join(vocabulary.attributes)
            raise InputError(
                "strict", f"{subset}={unknown[0]}", f"unknown to this tagger; there are {known}"
            )
    return vocabulary


def _labelled(piece: Piece, workshop: Workshop) -> Labelled:
    weight = float(workshop.repeats.get(piece.subset, 1))
    strict = workshop.strict.get(piece.subset, ())
    return Labelled(piece.name, piece.words, piece.sentence, weight, strict)


def _pictures(
    repeats: Sequence[AuditFinding],
    looks: Looks,
    labelled: Sequence[Labelled],
    sight: Sight | None,
    vocabulary: Vocabulary,
    character: Character,
) -> list[AuditFinding]:
    """Findings about quality and identity. Pictures whose cast, blur or crop changes what observers
    see are not judged for identity."""
    names = [row.name for row in labelled]
    style, framing, background = (
        _read(names, attribute, sight, vocabulary, labelled)
        for attribute in ("style", "framing", "background")
    )
    kinds = {name: f"{style[name]}/{framing[name]}/{background[name]}" for name in names}
    found = audit_quality(names, looks.qualities, kinds)
    excused = {row.picture for row in (*repeats, *found) if row.kind in EXCUSING}
    tags = sight.tags if sight else []
    if looks.identity.shape[1] or tags:
        found += audit_identity(names, looks.identity, tags, looks.tags, style, character, excused)
    return found


def _letters(workshop: Workshop, reader: "RapidOCR | None", events: Events) -> list[AuditFinding]:
    """Findings about letters in pictures."""
    if reader is None:
        missing = (
            "rapidocr is not installed, so nothing reads them: pip install 'onmodel[lettering]'"
        )
        return [AuditFinding("not judgeable", "note", "", "letters", missing)]
    pieces = workshop.kept
    with events.task("read letters", len(pieces)) as task:
        texts = read_all(
            reader,
            [piece.cropped for piece in pieces],
            [piece.content for piece in pieces],
            workshop.folder / "seen",
            task,
        )
    return audit_lettering([piece.name for piece in pieces], texts)


def _sorted(found: Sequence[AuditFinding]) -> list[AuditFinding]:
    """Each finding once, errors first."""
    order = {"error": 0, "warning": 1, "note": 2}
    unique = {row.id: row for row in found}.values()
    return sorted(unique, key=lambda row: (order[row.severity], row.kind, row.picture))


def _links(workshop: Workshop, hashes: Sequence[str], looks: Looks, events: Events) -> list[Link]:
    """Links between repeats, cached for the same pictures."""
    kept = workshop.folder / "seen" / f"{hash_json([COMPARED, list(hashes)])}.json"
    if kept.exists():
        return [Link(**{**row, "box": tuple(row["box"])}) for row in read_json(kept)]
    with events.task("compare pictures", 2 * len(hashes)) as task:
        links = find_links(looks.small, task)
    write_json(kept, [asdict(link) for link in links])
    return links


def audit_as_dict(audit: Audit, workshop: Workshop) -> dict[str, object]:
    """What audit.json holds."""
    return {
        "pictures": len(audit.pieces),
        "set_aside": len(workshop.pieces) - len(audit.pieces),
        "refused": list(workshop.refused),
        "repeats": dict(workshop.repeats),
        "made_by_models": {name: asdict(row) for name, row in audit.taught.items()},
        "strict": {name: list(row) for name, row in workshop.strict.items()},
        "aliases": len(workshop.aliases),
        "judged_by": (
            {}
            if audit.sight is None
            else {a: round(share, 3) for a, share in audit.sight.confirmed.items()}
        ),
        "groups": {p.name: g for p, g in zip(audit.pieces, audit.groups, strict=True)},
        "coverage": {
            name: {
                "counts": row.counts,
                "by_subset": row.by_subset,
                "effective": round(row.effective, 2),
                "of": row.possible,
                "silent": row.silent,
            }
            for name, row in audit.coverage.items()
        },
        "associations": [
            [a, b, round(v, 3), p] for a, b, v, p in associations(audit.shown, audit.vocabulary)
        ],
        "findings": [finding.as_dict() for finding in audit.findings],
    }


def _repeats(
    pieces: Sequence[Piece], links: Sequence[Link], clear: Sequence[Mapping[str, str]]
) -> list[AuditFinding]:
    """Findings about repeats; the fix excludes the worse picture of two, and of all that are linked
    at least one stays. Another expression, pose or view of one scene is a note without a fix: it
    may be wanted."""
    found = []
    excluded: dict[str, str] = {}  # picture → the better one that stays instead of it
    for link in links:
        part, whole = pieces[link.part], pieces[link.whole]
        if link.kind != "crop" and _worth(part) > _worth(whole):
            part, whole = whole, part
        kind = "exact" if part.content == whole.content else link.kind
        change = f"{link.changed:.1%} of it changed"
        if clear and kind != "exact":
            one, other = clear[link.part], clear[link.whole]
            told = [name for name in APART if name in one and name in other]
            apart = [name for name in told if one[name] != other[name]]
            if apart:
                kind, change = "scene", f"another {apart[0]} is seen"
        evidence = {
            "exact": f"the same file as {whole.name}",
            "near": f"the same picture as {whole.name}",
            "flip": f"{whole.name} mirrored",
            "crop": f"cut out of {whole.name}",
            "scene": f"the scene of {whole.name}, {change}",
        }[kind]
        severity: Severity = "note" if kind == "scene" else "warning"
        fix = None
        if kind != "scene" and not _leads_to(whole.name, part.name, excluded):
            excluded.setdefault(part.name, whole.name)
            fix = Fix(aside=True)
        found.append(
            AuditFinding(f"repeat: {kind}", severity, part.name, whole.name, evidence, fix)
        )
    return found


def _worth(piece: Piece) -> tuple[int, bool, int]:
    """What decides which of two repeats stays: pixels, then a format without loss, then bytes."""
    return (
        piece.size[0] * piece.size[1],
        piece.path.suffix.lower() not in LOSSY,
        piece.path.stat().st_size if piece.path.exists() else 0,
    )


def _leads_to(start: str, picture: str, excluded: Mapping[str, str]) -> bool:
    """Whether `start` is excluded for the sake of `picture`, at once or through others."""
    seen = set()
    while start in excluded and start not in seen:
        seen.add(start)
        start = excluded[start]
        if start == picture:
            return True
    return False


def _taught(taught: Mapping[str, SelfTaught]) -> list[AuditFinding]:
    found = []
    for subset, row in taught.items():
        if row.share >= SELF_TAUGHT:
            evidence = (
                f"{row.own} of {row.pictures} pictures were made by the model's own ancestors: it"
                " learns their faults"
            )
            found.append(AuditFinding("self-training", "warning", "", subset, evidence))
    return found


def _clearly(sight: Sight | None, vocabulary: Vocabulary) -> list[dict[str, str]]:
    """Per picture: attribute → value, where the tagger is certain."""
    if sight is None:
        return []
    found: list[dict[str, str]] = [{} for _ in sight.probabilities]
    for attribute, values in vocabulary.attributes.items():
        known = {value: sight.tags.index(tag) for value, tag in values.items() if tag in sight.tags}
        for i, row in enumerate(sight.probabilities[:, list(known.values())] if known else []):
            if row.max() >= CLEAR:
                found[i][attribute] = list(known)[int(row.argmax())]
    return found


def _read(
    names: Sequence[str],
    attribute: str,
    sight: Sight | None,
    vocabulary: Vocabulary,
    labelled: Sequence[Labelled],
) -> Mapping[str, str]:
    """Picture → value of an attribute, from the tagger if there is one, else from the tags."""
    values = {value: tag for value, tag in vocabulary.attributes.get(attribute, {}).items() if tag}
    if sight is not None and (
        known := [value for value, tag in values.items() if tag in sight.tags]
    ):
        columns = [sight.tags.index(values[value]) for value in known]
        best = sight.probabilities[:, columns].argmax(1).tolist()
        return {name: known[i] for name, i in zip(names, best, strict=True)}
    return {row.name: (vocabulary.said(row.tags).get(attribute) or [""])[0] for row in labelled}


def _rank(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.argsort().argsort() / max(1, len(values) - 1))
