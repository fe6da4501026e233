"""manifest.json: the pictures of a data set, their captions, subsets and held-out split, and the
refused files.

A release publishes Merkle roots over the pictures. They commit to every picture, caption, subset
and weight without showing any, and one picture can be proven on request. The root of a data set
has no weights; these belong to a training, which has its own root.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from onmodel.dataset.merkle import Leaf
from onmodel.errors import StateError
from onmodel.hashing import read_json, write_json
from onmodel.records import Item

NAME = "manifest.json"


Config = dict[str, object]  # the fields of a SubsetConfig that are set, as JSON


class SubsetRow(TypedDict):
    """A subset in the manifest: numbers of pictures, and the settings that another trainer's file
    gives it."""

    purpose: str
    count: int
    heldout: int
    shown: NotRequired[Config]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that does not enter, and the reason. `file` is its name without folders."""

    file: str
    reason: str


def write_manifest(
    folder: Path,
    items: Sequence[Item],
    purposes: Mapping[str, str],
    refused: Sequence[Refusal],
    configs: Mapping[str, Config],
) -> dict[str, SubsetRow]:
    """Write manifest.json and return its subsets, in the order of `purposes`. `configs`: subset →
    the settings that another trainer's file gives it."""
    subsets: dict[str, SubsetRow] = {}
    for name, purpose in purposes.items():
        splits = Counter(item.split for item in items if item.subset == name)
        subsets[name] = {"purpose": purpose, "count": splits.total(), "heldout": splits["heldout"]}
        if name in configs:
            subsets[name]["shown"] = configs[name]
    manifest = {
        "subsets": subsets,
        "items": [item.as_dict() for item in items],
        "refused": [{"file": row.file, "reason": row.reason} for row in refused],
    }
    write_json(folder / NAME, manifest)
    return subsets


def read_items(folder: Path) -> list[Item]:
    """The pictures of a data set, in the manifest's order. Raises StateError when the manifest is
    missing or damaged."""
    try:
        return [Item(**row) for row in read_json(folder / NAME)["items"]]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error


def read_subsets(folder: Path) -> dict[str, SubsetRow]:
    """Subset → its row. Raises StateError when the manifest is missing or damaged."""
    try:
        subsets: dict[str, SubsetRow] = read_json(folder / NAME)["subsets"]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error
    return subsets


def leaf(item: Item) -> Leaf:
    """A picture's leaf in the Merkle tree of a data set: its bytes, captions, subset, origin and
    mask."""
    mask = {"mask": item.mask} if item.mask else {}  # named by its content
    return {
        "image": item.sha256,
        "tags": item.tags,
        "sentence": item.sentence,
        "subset": item.subset,
        "origin": item.origin,
        **mask,
    }


def exposure_leaf(item: Item, subset: str, exposures: int) -> Leaf:
    """A picture's leaf in the Merkle tree of a training; its weight is its exposures per epoch, 0
    when held out."""
    weight = exposures if item.split == "train" else 0
    return {
        "image": item.sha256,
        "tags": item.tags,
        "sentence": item.sentence,
        "subset": subset,
        "weight": weight,
    }
