"""Frozen records that cross from one stage to the next."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder in the object store: what a stage made. `hash` is the tree hash of its files."""

    kind: str
    hash: str
    path: Path


@dataclass(frozen=True, slots=True)
class Model:
    """One LoRA file of an artifact. `name` is how recipes and tables call it, e.g.
    `release_2@30`."""

    name: str
    path: Path
    sha256: str
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a data set with its two captions. `image` is relative to the artifact; sizes in
    pixels.

    `file` is the name it came with. `paper` (#rrggbb) is what shows through where it is
    transparent, "" where it is not so; `profile` the colour profile that it carries, "" for none.
    `mask` says what its loss is weighed by: "" nothing, "alpha" its own transparency, else a
    picture of the artifact. `kept_first` tags stay in front (None: as the training says) and
    `kept_last` behind.
    """

    image: str
    sha256: str
    width: int
    height: int
    subset: str
    tags: str
    sentence: str
    group: int
    split: Literal["train", "heldout"]
    origin: str
    file: str = ""
    mask: str = ""
    kept_first: int | None = None
    kept_last: int = 0
    paper: str = ""
    profile: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
