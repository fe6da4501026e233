"""What a person decides about pictures of a data set in the making, one step each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.curate.findings import AuditFinding, read_findings
from onmodel.curate.workshop import (
    Decision,
    Piece,
    Workshop,
    after,
    open_workshop,
)
from onmodel.dataset.captions import split_tags
from onmodel.errors import InputError


@dataclass(frozen=True)
class Fixed:
    """Changes that findings propose. `outdated`: findings older than the last change of their
    picture; `by_hand`: findings that only a person can fix."""

    decisions: Sequence[Decision]
    outdated: int
    by_hand: int


def fix_findings(
    work: Path, ids: Sequence[str], kinds: Sequence[str], dry_run: bool = False
) -> Fixed:
    """Apply what findings of the last audit propose, as one step. Raises InputError for an unknown
    id or kind, and for none at all."""
    workshop, findings = open_workshop(work), read_findings(work)
    known = {row.id: row for row in findings}
    there = sorted({row.kind for row in findings})
    for name in ids:
        if name not in known:
            raise InputError(
                "id", name, "no finding of the last audit has it; see `onmodel dataset audit`"
            )
    for name in kinds:
        if name not in there:
            raise InputError("--kind", name, f"the last audit found {', '.join(there)}")
    wanted = [known[name] for name in ids] + [row for row in findings if row.kind in kinds]
    if not wanted:
        raise InputError("fix", "nothing", "name ids of findings, or --kind")
    proposed = [row for row in map(fix_decision, wanted) if row]
    # Of two repeats the other is gone meanwhile: this one stays.
    gone = {name for name, piece in workshop.pieces.items() if piece.aside}
    lone = {row.picture for row in wanted if row.kind.startswith("repeat") and row.subject in gone}
    decisions = [
        row
        for row in still_apply(workshop, proposed)
        if not (row.by.startswith("rule: repeat") and row.picture in lone)
    ]
    if decisions and not dry_run:
        workshop.decide(decisions)
    return Fixed(decisions, len(proposed) - len(decisions), len(wanted) - len(proposed))


def decide_by_hand(
    workshop: Workshop,
    pictures: Sequence[str],
    keep: bool,
    tags: str | None,
    sentence: str | None,
    why: str,
) -> int:
    """Record a person's decision about pictures, as one step: their tags, their sentence, "" for
    none, or without both whether they are kept. Returns the number of decisions."""
    rows = []
    for name in pictures:
        if tags is not None:
            now = tuple(workshop.pieces[name].words) if name in workshop.pieces else ()
            rows.append(Decision(0, "tag", "person", name, now, tuple(split_tags(tags)), why))
        if sentence is not None:
            rows.append(Decision(0, "sentence", "person", name, sentence=sentence, why=why))
        if tags is None and sentence is None:
            rows.append(Decision(0, "keep" if keep else "aside", "person", name, why=why))
    workshop.decide(rows)
    return len(rows)


def merged_tags(now: Sequence[str], seen: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The tags of `now` with the change that makes `wanted` of `seen`: what another person changed
    meanwhile stands."""
    if list(now) == list(seen):
        return list(wanted)
    kept = [tag for tag in now if tag in wanted or tag not in seen]
    return kept + [tag for tag in wanted if tag not in seen and tag not in kept]


@dataclass(frozen=True)
class RepeatPair:
    """Two kept pictures that the audit calls repeats, e.g. `kind` "repeat: near"."""

    kind: str
    evidence: str
    first: Piece
    second: Piece


def repeat_pairs(workshop: Workshop, findings: Iterable[AuditFinding]) -> list[RepeatPair]:
    """Pairs of repeats that are still to be decided: both are kept, and not both by a person."""
    pairs = []
    for row in findings:
        first, second = (workshop.pieces.get(name) for name in (row.picture, row.subject))
        if not row.kind.startswith("repeat") or first is None or second is None:
            continue
        decided = first.decided == second.decided == "person"
        if not (decided or first.aside or second.aside):
            pairs.append(RepeatPair(row.kind, row.evidence, first, second))
    return pairs


def decide_pair(work: Path, keep: Sequence[str], exclude: Sequence[str]) -> None:
    """Record by hand which of two repeats are kept, as one step. Raises InputError for an unknown
    picture."""
    why = f"repeat of {', '.join(keep)}"
    rows = [Decision(0, "keep", "person", name) for name in keep]
    rows += [Decision(0, "aside", "person", name, why=why) for name in exclude]
    open_workshop(work).decide(rows)


def fix_decision(finding: AuditFinding) -> Decision | None:
    """The decision that applies a finding's fix; None for a finding without one."""
    if finding.fix is None or not finding.picture:
        return None
    why = f"{finding.id} {finding.kind}: {finding.evidence}"
    if finding.fix.aside:
        return Decision(0, "aside", f"rule: {finding.kind}", finding.picture, why=why)
    by = finding.fix.by or f"rule: {finding.kind}"
    return Decision(0, "tag", by, finding.picture, finding.fix.remove, finding.fix.add, why)


def still_apply(workshop: Workshop, decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions, in order, whose tags still exist when they are applied: an audit may be older
    than the last change."""
    pieces, fresh = dict(workshop.pieces), []
    for row in decisions:
        piece = pieces.get(row.picture)
        if piece is not None and set(row.remove) <= set(piece.words):
            pieces[row.picture] = after(piece, row)
            fresh.append(row)
    return fresh
