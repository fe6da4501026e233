"""What an audit finds: which picture, what is wrong, how sure, and what would mend it. Nothing is
changed here."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from onmodel.hashing import hash_json

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Fix:
    """What mends a finding: tags that go and come, in place (the first that comes takes the first
    place that goes), or the picture set aside. `by` is who says the new tags: a rule, or the tagger
    with its score."""

    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    aside: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `picture` is a name, "" for the whole set or a subset; `subject` the tag,
    attribute or picture."""

    kind: str
    severity: Severity
    picture: str
    subject: str
    evidence: str
    fix: Fix | None = None

    @property
    def id(self) -> str:
        """Eight hex digits: the same finding has the same id in the next audit."""
        return hash_json([self.kind, self.picture, self.subject])[:8]

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}


def finding_from(row: dict[str, Any]) -> Finding:
    """A finding as it was written by `as_dict`."""
    fix = row["fix"] and Fix(
        tuple(row["fix"]["remove"]), tuple(row["fix"]["add"]), row["fix"]["aside"], row["fix"]["by"]
    )
    return Finding(
        row["kind"], row["severity"], row["picture"], row["subject"], row["evidence"], fix or None
    )
