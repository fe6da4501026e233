"""Opened data sets, kept between requests: only what was decided since is read again."""

import gc
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request

from onmodel.curate.findings import AuditFinding, kinds_by_picture, read_findings
from onmodel.curate.masks import Masks, mask_file, masks_beside
from onmodel.curate.query import PictureFacts
from onmodel.curate.workshop import PICTURES, Piece, Workshop, open_workshop
from onmodel.errors import InputError, OnmodelError
from onmodel.freed_memory import return_freed_memory
from onmodel.studio.render import character_of
from onmodel.studio.workspace import CharacterFolder

if TYPE_CHECKING:
    from onmodel.studio.known_split import KnownSplit
    from onmodel.studio.shown_values import ShownValues


@dataclass(frozen=True)
class MasksBeside:
    """The masks that lie beside imported pictures, looked for when they are first asked for."""

    pieces: Sequence[Piece]

    @cached_property
    def found(self) -> Masks:
        return masks_beside(self.pieces)


@dataclass(frozen=True)
class OpenDataset:
    """The state of a data set with its last audit. `findings`: name of a picture → findings about
    it; `by_hash`: hash of what a picture shows (Piece.content) → picture."""

    character: CharacterFolder
    workshop: Workshop
    findings: Mapping[str, Sequence[AuditFinding]]
    by_hash: Mapping[str, Piece]
    beside: MasksBeside

    @property
    def all_findings(self) -> Iterator[AuditFinding]:
        return (row for rows in self.findings.values() for row in rows)

    def mask_file(self, piece: Piece) -> Path | None:
        """The file of a picture's mask; None without one."""
        return mask_file(self.workshop.folder, piece, self.beside.found)

    @cached_property
    def shown(self) -> "ShownValues":
        """What each picture shows."""
        from onmodel.studio.shown_values import shown_values  # recipes take long to import

        return shown_values(self.character, self.workshop)

    @cached_property
    def split(self) -> "KnownSplit":
        """What the next run holds out."""
        from onmodel.studio.known_split import known_split

        return known_split(self.character, self.workshop)

    def facts(self, query: str) -> PictureFacts:
        """What a query, or its beginning, reads beside the pictures."""
        split = self.split if "split:" in query else None
        pieces = self.workshop.pieces.values() if "masked" in query else ()
        return PictureFacts(
            kinds_by_picture(self.all_findings),
            {piece.name for piece in pieces if self.mask_file(piece)},
            self.shown.by_picture if "shows:" in query else {},
            split.split if split and not split.unknown else None,
            {"split": split.unknown} if split else {},
        )


@dataclass
class Datasets:
    """Data sets by character."""

    _open: dict[str, OpenDataset] = field(default_factory=dict)
    _stamps: dict[str, list[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open_last(self, characters: Sequence[CharacterFolder]) -> None:
        """Open the data set that was changed last, before somebody asks for it; its own page says
        what is wrong with it."""
        with suppress(OnmodelError, OSError):
            there = [one for one in characters if (one.data / PICTURES).is_file()]
            if there:
                self.get(max(there, key=lambda one: one.data.stat().st_mtime))

    def get(self, character: CharacterFolder) -> OpenDataset:
        """The data set of a character as it is now. Raises InputError where there is none."""
        with self._lock:
            known = self._open.get(character.id)
            workshop = known.workshop.refreshed() if known else _opened(character)
            read = (character.data / "audit.json", character.folder / "recipe.toml")
            stamps = [_changed(path) for path in (*read, character.sheet)]
            before = self._stamps.get(character.id, [])
            if known and workshop is known.workshop and stamps == before:
                return known
            audited = before[:1] == stamps[:1]
            found = known.findings if known and audited else _findings(character)
            by_hash = {piece.content: piece for piece in workshop.pieces.values()}
            same = known is not None and known.workshop.stamp == workshop.stamp
            beside = known.beside if known and same else MasksBeside([*workshop.pieces.values()])
            made = OpenDataset(character, workshop, found, by_hash, beside)
            self._open[character.id], self._stamps[character.id] = made, stamps
            return made


def _changed(path: Path) -> int:
    """When a file was changed last, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _opened(character: CharacterFolder) -> Workshop:
    workshop = open_workshop(character.data)
    gc.freeze()  # what stays is not searched again and again for what is unreachable
    return_freed_memory()  # reading a large file takes several times what stays
    return workshop


def opened_dataset(request: Request) -> OpenDataset:
    """The data set of the character that the address names."""
    datasets: Datasets = request.app.state.datasets
    return datasets.get(character_of(request))


def _findings(character: CharacterFolder) -> dict[str, list[AuditFinding]]:
    found: dict[str, list[AuditFinding]] = defaultdict(list)
    try:
        for row in read_findings(character.data):
            found[row.picture].append(row)
    except InputError:  # not audited yet
        return {}
    return found
