"""Observers turn pictures into numbers. The learned ones are loaded from files in the field's own
formats.

tagger.py, identity.py, detector.py, classifier.py and embedding.py read ONNX files, so the toon
world's tiny ones and the big public ones go through the same code; colour.py, copy.py, grain.py and
layout.py compute from pixels. An observer says what it sees; axes/ decide what that means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onmodel.evaluate.observers.files import FILES, TOON_OWN
from onmodel.toon.base import TOON_BASES

if TYPE_CHECKING:
    from onmodel.evaluate.observers.classifier import Classifier
    from onmodel.evaluate.observers.detector import Detectors
    from onmodel.evaluate.observers.embedding import Embedding
    from onmodel.evaluate.observers.identity import Identity
    from onmodel.evaluate.observers.source import Source
    from onmodel.evaluate.observers.tagger import Tagger


@dataclass(frozen=True)
class Observers:
    """The learned observers of an evaluation. None is one that nobody gave: what needs it is
    unavailable, or reads something simpler. `sources`: name → where the files are from and their
    licence."""

    tagger: "Tagger | None" = None
    identity: "Identity | None" = None
    detectors: "Detectors | None" = None
    corruption: "Classifier | None" = None
    aesthetic: "Classifier | None" = None
    style_embedding: "Embedding | None" = None
    copy_embedding: "Embedding | None" = None
    content_embedding: "Embedding | None" = None
    sources: Mapping[str, Sequence["Source"]] = field(default_factory=dict)

    @property
    def sha256(self) -> dict[str, str]:
        """Name → SHA-256 of the files of each observer that is there."""
        return {
            name: observer.sha256 for name in FILES if (observer := getattr(self, name)) is not None
        }


def load_observers(
    base_name: str, named: Mapping[str, str | Sequence[str] | None], threads: int
) -> Observers:
    """Load observers, `named` as FILES calls them, from folders or the hub (source.py); where none
    is named the toon base has its own and another base has none.

    Raises InputError naming a file that is missing or wrong.
    """
    from onmodel.evaluate.observers.source import find, own

    sources: dict[str, list[Source]] = {}
    for name in FILES:
        if places := named.get(name):
            sources[name] = [
                find(name, place) for place in ([places] if isinstance(places, str) else places)
            ]
        elif base_name in TOON_BASES and name in TOON_OWN:
            sources[name] = [own(name)]
    loaded = {name: _load(name, found, threads) for name, found in sources.items()}
    return Observers(**loaded, sources=sources)


def _load(name: str, sources: "Sequence[Source]", threads: int) -> Any:
    from onmodel.evaluate.observers.classifier import AESTHETIC, CORRUPTION, Classifier
    from onmodel.evaluate.observers.detector import Detectors
    from onmodel.evaluate.observers.embedding import Embedding
    from onmodel.evaluate.observers.identity import Identity
    from onmodel.evaluate.observers.tagger import Tagger

    folders = [source.folder for source in sources]
    match name:
        case "tagger":
            return Tagger(folders[0], threads)
        case "identity":
            return Identity(folders[0], threads)
        case "detectors":
            return Detectors(folders, threads)
        case "corruption":
            return Classifier(f"observers.{name}", folders[0], CORRUPTION, threads)
        case "aesthetic":
            return Classifier(f"observers.{name}", folders[0], AESTHETIC, threads)
        case _:
            return Embedding(f"observers.{name}", folders[0], threads)
