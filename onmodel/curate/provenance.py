"""provenance.json: where each picture of a folder comes from, by what right, who said what of it,
and which models made the generated ones, with their whole history. Export writes it; import and the
curate stage read it back.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onmodel.errors import InputError, VerifyError
from onmodel.ledger.lineage import Lineage, check
from onmodel.reading import read_json_of_others

NAME = "provenance.json"
LARGEST = 256 * 2**20  # bytes; it has a row for each picture
SELF_TAUGHT = 0.5  # share of a subset from which self-training is warned of
GENERATED = "generated:"  # origin of a picture that a model made; the model's SHA-256 follows


@dataclass(frozen=True)
class Known:
    """`pictures`: `folder/file` → what is known of it; `models`: SHA-256 → history of the models
    that made some."""

    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, Lineage] = field(default_factory=dict)

    def of(self, path: Path) -> Mapping[str, Any]:
        """What is known of a file by its name; empty when nothing is. Hold its `sha256` against the
        file's."""
        return self.pictures.get(f"{path.parent.name}/{path.name}", {})


def read_known(folder: Path) -> Known:
    """What the provenance.json beside or above the pictures of `folder` says; nothing where there
    is none.

    Raises InputError when it is damaged or a history in it does not match its hashes.
    """
    path = known_at(folder)
    if path is None:
        return Known()
    if path.is_symlink():
        raise InputError("provenance", path, "is a link; put the file itself there, or remove it")
    table = read_json_of_others(path, "provenance", LARGEST)
    try:
        pictures = {str(name): dict(row) for name, row in table["pictures"].items()}
        for row in pictures.values():
            if not all(
                isinstance(row[key], str) for key in ("sha256", "origin", "rights", "told", "paper")
            ):
                raise ValueError("origins and rights are text")
            if row["paper"] and not re.fullmatch("#[0-9a-f]{6}", row["paper"]):
                raise ValueError(f"the paper {row['paper']!r} is no colour")
            row["tags"], row["made"] = dict(row["tags"]), dict(row["made"])
            if not all(isinstance(text, str) for pair in row["tags"].items() for text in pair):
                raise ValueError("tags and who said them are text")
        models = dict(table["models"])
        for sha256, lineage in models.items():
            if not re.fullmatch("[0-9a-f]{64}", sha256):  # it becomes a file's name
                raise ValueError(f"{sha256!r} is no SHA-256")
            _check_nodes(lineage)
            check(lineage)
    except (ValueError, KeyError, TypeError, AttributeError, VerifyError) as error:
        why = str(error)[:200]
        raise InputError(
            "provenance", path, f"is damaged ({why}); remove it, or export again"
        ) from error
    return Known(pictures, models)


def _check_nodes(lineage: Lineage) -> None:
    """Raise ValueError where a node is no table as this package makes them; its hash alone does not
    say so."""
    for node in lineage.values():
        texts = [
            node["type"],
            *(node[key] for key in ("sha256", "name") if key in node),
            *node["used"],
        ]
        tables = [node.get(key, {}) for key in ("sheet", "claims")]
        if node["type"] == "model":
            texts.append(node["sha256"])
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(table, dict) for table in tables
        ):
            raise ValueError("a node of a history is none")


def known_at(folder: Path) -> Path | None:
    """The provenance.json that speaks of the pictures of a folder."""
    return next((place for place in (folder / NAME, folder.parent / NAME) if place.is_file()), None)


def model_of(origin: str) -> str:
    """SHA-256 of the model that made a picture; "" for a picture that none made."""
    return origin.removeprefix(GENERATED) if origin.startswith(GENERATED) else ""


def own_models(models: Mapping[str, Lineage], trigger: str, base_sha256: str = "") -> set[str]:
    """SHA-256 of those of `models` that are ancestors of what is trained next: LoRAs of this
    trigger, and bases.

    A model is of a trigger when the sheet of its history, or what a stranger's header claims, says
    so. Every base counts unless `base_sha256` says which one is trained on.
    """
    found = set()
    for sha256, lineage in models.items():
        for node in lineage.values():
            sheet = node.get("sheet", {}).get("trigger")
            claimed = node.get("claims", {}).get("modelspec.trigger_phrase")
            based = node["type"] == "base" and node.get("sha256") == sha256
            if trigger in (sheet, claimed) or (based and base_sha256 in ("", sha256)):
                found.add(sha256)
    return found


@dataclass(frozen=True)
class SelfTaught:
    """Of a subset: pictures, those that a model made, and those among them that an own ancestor
    made."""

    pictures: int
    generated: int
    own: int

    @property
    def share(self) -> float:
        return self.own / self.pictures if self.pictures else 0.0


def self_taught(
    subsets: Sequence[str], origins: Sequence[str], own: set[str]
) -> dict[str, SelfTaught]:
    """Subset → how much of it models made; one entry of `subsets` and `origins` per picture."""
    found = {}
    for subset in dict.fromkeys(subsets):
        made = [
            model_of(origin)
            for name, origin in zip(subsets, origins, strict=True)
            if name == subset
        ]
        found[subset] = SelfTaught(
            len(made), sum(map(bool, made)), sum(one in own for one in made if one)
        )
    return found
