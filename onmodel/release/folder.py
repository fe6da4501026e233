"""The two files that bind a release folder together: `lineage.json` and `checksums.txt`.

`lineage.json` is an in-toto Statement v1 (https://in-toto.io/Statement/v1): its subjects are the
released files with their hashes, its predicate the whole history. `checksums.txt` lists every file,
`lineage.json` too. Both have exactly one right byte string for given files and history, so that a
verifier can build them again and compare. So every file but these two has two witnesses of its
bytes, and it is clear which of three disagrees.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import VerifyError
from onmodel.hashing import canonical_json, sha256_file, write_atomic
from onmodel.ledger.lineage import ACTIVITIES, MOST_FACTS, Lineage, relations
from onmodel.reading import parse_json
from onmodel.text import is_printable

LINEAGE, CHECKSUMS, SIGNATURE = "lineage.json", "checksums.txt", "model.sig"
# What stands beside a release and is no part of it: what the hub and its client add, and a
# signature over the rest.
SIDE_FILES = {".gitattributes", ".git", ".cache", SIGNATURE}
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:onmodel:lineage:1"


@dataclass(frozen=True)
class Statement:
    """The content of `lineage.json`. `files`: file → SHA-256; `generated`: file → id of its lineage
    node."""

    files: Mapping[str, str]
    lineage: Lineage
    generated: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The one right byte string, in RFC 8785 canonical JSON. Relations between nodes are
        PROV's, by their ids."""
        kinds: dict[str, Lineage] = {"entity": {}, "activity": {}}
        for id, node in self.lineage.items():
            kinds["activity" if node["type"] in ACTIVITIES else "entity"][id] = node
        files = [
            {"specificEntity": name, "generalEntity": id}
            for name, id in sorted(self.generated.items())
        ]
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": name, "digest": {"sha256": self.files[name]}}
                    for name in sorted(self.files)
                ],
                "predicateType": PREDICATE_TYPE,
                "predicate": {**kinds, **relations(self.lineage), "specializationOf": files},
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Statement":
        """Raises VerifyError when this is no statement, or not written as `to_bytes` writes it."""
        try:
            table: dict[str, Any] = parse_json(
                data.decode(), 2 * MOST_FACTS
            )  # its nodes and their relations
            statement = cls(
                files={row["name"]: row["digest"]["sha256"] for row in table["subject"]},
                lineage={**table["predicate"]["entity"], **table["predicate"]["activity"]},
                generated={
                    row["specificEntity"]: row["generalEntity"]
                    for row in table["predicate"]["specializationOf"]
                },
            )
            names = [*statement.files.items(), *statement.generated.items()]
            if not all(isinstance(text, str) for pair in names for text in pair):
                raise TypeError("a name or a hash is not a text")
            if statement.to_bytes() == data:
                return statement
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise VerifyError(
                LINEAGE, f"is not an in-toto statement of a release ({error})"
            ) from error
        raise VerifyError(LINEAGE, "is not written in canonical form")


def bind(folder: Path, lineage: Lineage, generated: Mapping[str, str]) -> None:
    """Write `lineage.json` and `checksums.txt` for the files that lie in `folder`."""
    files = hashes(folder)
    files.pop(LINEAGE, None)
    write_atomic(folder / LINEAGE, Statement(files, lineage, generated).to_bytes())
    write_atomic(folder / CHECKSUMS, checksums(hashes(folder)))


def hashes(folder: Path) -> dict[str, str]:
    """File → SHA-256 of everything in a release folder but `checksums.txt`. Raises VerifyError for
    what is no plain file, or has a name that cannot stand in a list.

    What a hosting site adds at the top (`SIDE_FILES`) is left out, so that a downloaded release can
    be verified.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.relative_to(folder).parts[0] in SIDE_FILES:
            continue
        if path.is_symlink():
            raise VerifyError(name, "is a link; a release holds plain files only")
        if not is_printable(name):
            raise VerifyError(name, "has a name with characters that are not shown or not UTF-8")
        if not path.is_dir() and not path.is_file():
            raise VerifyError(name, "is a pipe, socket or device; a release holds plain files only")
        if path.is_file() and name != CHECKSUMS:
            found[name] = sha256_file(path)
    return found


def checksums(files: Mapping[str, str]) -> bytes:
    """The text of `checksums.txt`, as `sha256sum --check` reads it."""
    return "".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()


def read_checksums(data: bytes) -> dict[str, str]:
    """File → SHA-256, as far as the text can be read: a damaged line is left out."""
    rows = (line.split("  ", 1) for line in data.decode(errors="replace").splitlines())
    return {row[1]: row[0] for row in rows if len(row) == 2}
