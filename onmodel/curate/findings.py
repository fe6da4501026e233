"""What an audit of a data set finds: which picture, what is wrong, the evidence, and the fix.

Unlike events.Finding, the line that a check of the installation reports, an audit finding has an
id, is kept in audit.json, and may carry a fix that can be applied. Nothing is changed here.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from onmodel.errors import InputError, StateError
from onmodel.hashing import hash_json, read_json

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the most severe first


@dataclass(frozen=True, slots=True)
class Fix:
    """The change that fixes a finding: tags to remove and add, or the picture excluded (`aside`).

    Added tags take the place of the first removed one. `by` is the source of the new tags: a rule,
    or the tagger with its score.
    """

    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    aside: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One finding about a picture, a subset or the whole data set.

    `picture` is the picture's name, or "" for a subset or the whole set; `subject` is the tag,
    attribute or other picture that it is about.
    """

    kind: str
    severity: Severity
    picture: str
    subject: str
    evidence: str
    fix: Fix | None = None

    @property
    def id(self) -> str:
        """Eight hex digits; the same finding has the same id in every audit."""
        return hash_json([self.kind, self.picture, self.subject])[:8]

    def as_dict(self) -> dict[str, object]:
        return {"id": self.id, **asdict(self)}


@dataclass(frozen=True, slots=True)
class KindCount:
    """Findings of one kind about pictures: the most severe of them, the number of pictures, and how
    many findings have a fix."""

    kind: str
    severity: Severity
    pictures: int
    fixable: int


def count_kinds(findings: Iterable[AuditFinding]) -> list[KindCount]:
    """Findings about pictures by kind, the most severe kinds first."""
    by_kind: dict[str, list[AuditFinding]] = {}
    for row in findings:
        if row.picture:
            by_kind.setdefault(row.kind, []).append(row)
    counts = []
    for kind, rows in by_kind.items():
        severity = min((row.severity for row in rows), key=SEVERITIES.index)
        pictures = len({row.picture for row in rows})
        counts.append(KindCount(kind, severity, pictures, sum(row.fix is not None for row in rows)))
    return sorted(counts, key=lambda row: (SEVERITIES.index(row.severity), row.kind))


def kinds_by_picture(findings: Iterable[AuditFinding]) -> dict[str, set[str]]:
    """Name of a picture → kinds of its findings in lower case, as queries compare them."""
    found: dict[str, set[str]] = {}
    for row in findings:
        found.setdefault(row.picture, set()).add(row.kind.casefold())
    return found


def finding_from(row: dict[str, Any]) -> AuditFinding:
    """Read a finding that `as_dict` wrote."""
    fix = row["fix"] and Fix(
        tuple(row["fix"]["remove"]), tuple(row["fix"]["add"]), row["fix"]["aside"], row["fix"]["by"]
    )
    return AuditFinding(
        row["kind"], row["severity"], row["picture"], row["subject"], row["evidence"], fix or None
    )


def read_findings(folder: Path) -> list[AuditFinding]:
    """The findings of the last audit. Raises InputError when there was none."""
    if not (folder / "audit.json").exists():
        raise InputError("work", folder, "was not audited yet; run `onmodel dataset audit` first")
    try:
        return [finding_from(row) for row in read_json(folder / "audit.json")["findings"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            folder / "audit.json", "is damaged; run `onmodel dataset audit` again"
        ) from error
