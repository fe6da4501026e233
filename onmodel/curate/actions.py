"""What a person does with a data set in the making, one function per action of `onmodel dataset`.

Each opens the folder anew, checks its settings before it looks at a picture, and returns what it
did. Captions are in captioning.py, generated pictures in filling.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onmodel.character import Character
from onmodel.curate.audit import Audit, run_audit
from onmodel.curate.balance import Balance, balance, even_targets
from onmodel.curate.choose import choose_best
from onmodel.curate.lettering import load_reader
from onmodel.curate.settings import ChooseSettings, ObserverSettings
from onmodel.curate.targets import (
    check_subsets,
    expected_vocabulary,
    parse_quotas,
    parse_targets,
)
from onmodel.curate.vocabulary import attributes_known, read_aliases
from onmodel.curate.workshop import (
    Decision,
    Workshop,
    keep_aliases,
    open_workshop,
)
from onmodel.errors import InputError
from onmodel.evaluate.observers import load_observers
from onmodel.events import Events


def audit_folder(
    work: Path, character: Character, observers: ObserverSettings, events: Events
) -> tuple[Audit, Workshop]:
    """Audit a folder with the observers that are named. Raises what run_audit raises."""
    workshop = open_workshop(work)
    named = {"tagger": observers.tagger, "identity": observers.identity}
    loaded = load_observers(observers.base_name, named, 1)
    return run_audit(workshop, character, loaded, events, load_reader(1)), workshop


def set_label_rules(
    work: Path, strict: Sequence[str], aliases: Path | None
) -> tuple[Workshop, bool]:
    """Set the audit's label rules: rows `subset=attribute,…`, and a file of aliases. Returns the
    state, and whether it changed. Raises InputError for unknown subsets and attributes."""
    workshop = open_workshop(work)
    subsets = list(dict.fromkeys(piece.subset for piece in workshop.pieces.values()))
    rows = [_strict(text, subsets) for text in strict]
    if aliases:
        rows.append(keep_aliases(work, read_aliases(aliases), aliases.name))
    return (workshop.decide(rows) if rows else workshop), bool(rows)


def _strict(text: str, subsets: Sequence[str]) -> Decision:
    subset, equals, names = text.partition("=")
    attributes = tuple(name.strip() for name in names.split(",") if name.strip())
    if not equals:
        raise InputError("--strict", text, "write subset=attribute,…, e.g. base=expression,pose")
    known = attributes_known()
    for name in attributes:
        if name not in known:
            raise InputError("--strict", name, f"no such attribute; there are {', '.join(known)}")
    if subset not in subsets:
        raise InputError("--strict", subset, f"no such subset; there are {', '.join(subsets)}")
    return Decision(0, "strict", "person", subset=subset, add=attributes)


def plan_repeats(
    work: Path,
    character: Character,
    target: Sequence[str],
    observers: ObserverSettings,
    apply: bool,
    events: Events,
) -> tuple[Balance, Audit, Workshop]:
    """Propose repeats of the subsets that bring the shares of attributes near a target; with
    `apply`, set them. `target` are rows `attribute=value:share,…`; without, every value that is
    shown counts equally. Raises InputError for a wrong target before any picture is read."""
    workshop = open_workshop(work)
    wanted = parse_targets(target, expected_vocabulary(workshop, character, observers))
    audit, workshop = audit_folder(work, character, observers, events)
    wanted = wanted or even_targets(audit.shown, audit.vocabulary, character.free)
    found = balance(audit.shown, audit.vocabulary, wanted, workshop.repeats)
    if apply:
        workshop.decide(
            [
                Decision(0, "repeats", "person", subset=subset, repeats=number, why="plan")
                for subset, number in found.repeats.items()
            ]
        )
    return found, audit, workshop


def choose_pictures(
    work: Path,
    character: Character,
    settings: ChooseSettings,
    observers: ObserverSettings,
    apply: bool,
    events: Events,
) -> list[str]:
    """Names of the best pictures, in the order of choice; with `apply`, exclude the others. Raises
    InputError for a wrong subset, quota or count before any picture is read."""
    workshop = open_workshop(work)
    check_subsets(workshop, settings.subset)
    vocabulary = expected_vocabulary(workshop, character, observers)
    least = parse_quotas("--at-least", settings.at_least, workshop, vocabulary)
    most = parse_quotas("--at-most", settings.at_most, workshop, vocabulary)
    there = [
        piece for piece in workshop.kept if not settings.subset or piece.subset in settings.subset
    ]
    if settings.count > len(there):
        raise InputError("--count", settings.count, f"only {len(there)} pictures are kept there")
    audit, workshop = audit_folder(work, character, observers, events)
    inside = [
        i
        for i, piece in enumerate(audit.pieces)
        if not settings.subset or piece.subset in settings.subset
    ]
    chosen = choose_best(
        np.concatenate([audit.looks.tags, audit.looks.sectors], axis=1)[inside],
        audit.merit()[inside],
        [audit.groups[i] for i in inside],
        settings.count,
        settings.spread,
        [_labels(audit, i) for i in inside],
        least,
        most,
    )
    names = [audit.pieces[inside[i]].name for i in chosen]
    if apply:
        left = [audit.pieces[i].name for i in inside if audit.pieces[i].name not in set(names)]
        why = f"not among the best {settings.count}"
        workshop.decide([Decision(0, "aside", "rule: choose", name, why=why) for name in left])
    return names


def _labels(audit: Audit, i: int) -> frozenset[str]:
    """What quotas can name of a picture: its subset, its values and its tags."""
    values = {value for row in audit.shown[i].values.values() for value in row}
    return frozenset({audit.pieces[i].subset, *values, *audit.pieces[i].words})
