"""What an audit of a data set finds: which picture, what is wrong, the evidence, and the fix.

Unlike events.Finding, the line that a check of the installation reports, an audit finding has an
id, is kept in audit.json, and may carry a fix that can be applied. Nothing is changed here.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from onmodel.hashing import hash_json

Severity = Literal["error", "warning", "note"]


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


def finding_from(row: dict[str, Any]) -> AuditFinding:
    """Read a finding that `as_dict` wrote."""
    fix = row["fix"] and Fix(
        tuple(row["fix"]["remove"]), tuple(row["fix"]["add"]), row["fix"]["aside"], row["fix"]["by"]
    )
    return AuditFinding(
        row["kind"], row["severity"], row["picture"], row["subject"], row["evidence"], fix or None
    )
