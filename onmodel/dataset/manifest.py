"""manifest.json: the pictures of a data set, their captions, subsets and held-out split, and what
was refused.

A release publishes Merkle roots over the pictures: they vouch for every picture, caption, subset
and weight without showing any, and one picture can be proven on request. The root of a data set
knows no weights; they belong to a training, which has a root of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import StateError
from onmodel.hashing import read_json, write_json
from onmodel.records import Item

NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was set aside, and why. `file` is its name, without the folders of the
    machine."""

    file: str
    reason: str


def write_manifest(
    folder: Path,
    items: Sequence[Item],
    purposes: Mapping[str, str],
    refused: Sequence[Refusal],
    shown: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write manifest.json. Subsets stand in the order of `purposes`; `shown` is what is said of how
    they are shown."""
    subsets: dict[str, dict[str, Any]] = {}
    for name, purpose in purposes.items():
        splits = Counter(item.split for item in items if item.subset == name)
        subsets[name] = {"purpose": purpose, "count": splits.total(), "heldout": splits["heldout"]}
        if name in shown:
            subsets[name]["shown"] = dict(shown[name])
    manifest = {
        "subsets": subsets,
        "items": [item.as_dict() for item in items],
        "refused": [{"file": row.file, "reason": row.reason} for row in refused],
    }
    write_json(folder / NAME, manifest)
    return manifest


def read_items(folder: Path) -> list[Item]:
    """The pictures of a data set, in its order. Raises StateError when the manifest is missing or
    damaged."""
    try:
        return [Item(**row) for row in read_json(folder / NAME)["items"]]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error


def read_subsets(folder: Path) -> dict[str, dict[str, Any]]:
    """Subset → purpose, count, heldout and, where something is said of it, shown. Raises
    StateError."""
    try:
        subsets: dict[str, dict[str, Any]] = read_json(folder / NAME)["subsets"]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error
    return subsets


def leaf(item: Item) -> dict[str, Any]:
    """What a data set's Merkle root vouches for, per picture: its bytes, captions, subset, origin
    and mask, if any."""
    mask = {"mask": item.mask} if item.mask else {}  # named by its content
    return {
        "image": item.sha256,
        "tags": item.tags,
        "sentence": item.sentence,
        "subset": item.subset,
        "origin": item.origin,
        **mask,
    }


def exposure_leaf(item: Item, subset: str, exposures: int) -> dict[str, Any]:
    """What a training's root vouches for, per picture: its weight is its exposures per epoch, 0
    when held out."""
    weight = exposures if item.split == "train" else 0
    return {
        "image": item.sha256,
        "tags": item.tags,
        "sentence": item.sentence,
        "subset": subset,
        "weight": weight,
    }
