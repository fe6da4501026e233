"""Frozen records that cross from one stage to the next."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from onmodel.hashing import sha256_file


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder in the object store: what a stage made. `hash` is the tree hash of its files."""

    kind: str
    hash: str
    path: Path


@dataclass(frozen=True, slots=True)
class Model:
    """One LoRA file of an artifact. `name` is how recipes and tables call it, e.g.
    `release_2@30`.

    `sha256` is that of the whole file; `weights` names the tensors alone (weights_sha256), so
    pictures depend on it and on no word of the header.
    """

    name: str
    path: Path
    sha256: str
    weights: str
    epoch: int | None = None

    @classmethod
    def of(cls, name: str, path: Path, epoch: int | None = None) -> Self:
        """The model in a file, with the hashes that the file has now."""
        from onmodel.weights import weights_sha256  # imports numpy

        return cls(name, path, sha256_file(path), weights_sha256(path), epoch)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a data set with its two captions. `image` is relative to the artifact; sizes in
    pixels.

    `file` is the name it came with. `paper` (#rrggbb) is what shows through where it is
    transparent, "" where it is not so; `profile` the colour profile that it carries, "" for none.
    `mask` says what its loss is weighed by: "" nothing, "alpha" its own transparency, else a
    picture of the artifact. `kept_first` tags stay in front (None: as the training says) and
    `kept_last` behind. `pixels` is the hash of a generated picture's pixels and size, else "".
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
    pixels: str = ""

    @property
    def content(self) -> str:
        """What random draws for this picture are keyed by. Of a generated picture it is the pixels:
        its file also holds words about how it was made."""
        return self.pixels or self.sha256

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
