"""Opened data sets, kept between requests: only what was decided since is read again."""

import gc
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request

from onmodel.curate.findings import AuditFinding, kinds_by_picture, read_findings
from onmodel.curate.listing import MASK_FOLDERS
from onmodel.curate.masks import Masks, mask_file, masks_beside
from onmodel.curate.query import PictureFacts
from onmodel.curate.workshop import PICTURES, Piece, Workshop, held, open_workshop
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

    @property
    def found(self) -> Masks:
        return self._looked[1]

    @property
    def outdated(self) -> bool:
        """Whether a file came to a folder that was looked at, or went."""
        return any(changed_ns(folder) != stamp for folder, stamp in self._looked[0].items())

    @cached_property
    def _looked(self) -> tuple[dict[Path, int], Masks]:
        """When each folder was changed last, and the masks found then."""
        own = {piece.path.parent for piece in self.pieces}
        inner = [path for folder in own for path in _mask_folders(folder)]
        return {folder: changed_ns(folder) for folder in (*own, *inner)}, masks_beside(self.pieces)


def _mask_folders(folder: Path) -> list[Path]:
    """The folders of masks in a folder of pictures; none where it cannot be read."""
    try:
        return [folder / name for name in os.listdir(folder) if name.lower() in MASK_FOLDERS]
    except OSError:
        return []


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
        query = query.casefold()  # as parse_query() reads it
        split = self.split if "split:" in query else None
        pieces = self.workshop.pieces.values()
        return PictureFacts(
            kinds_by_picture(self.all_findings),
            {row.name for row in pieces if self.mask_file(row)} if "masked" in query else None,
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
            stamps = [changed_ns(path) for path in (*read, character.sheet)]
            before = self._stamps.get(character.id, [])
            same = known and known.workshop.stamp == workshop.stamp and not known.beside.outdated
            if known and same and workshop is known.workshop and stamps == before:
                return known
            audited = before[:1] == stamps[:1]
            found = known.findings if known and audited else _findings(character)
            by_hash = {piece.content: piece for piece in workshop.pieces.values()}
            beside = known.beside if known and same else MasksBeside([*workshop.pieces.values()])
            made = OpenDataset(character, workshop, found, by_hash, beside)
            self._open[character.id], self._stamps[character.id] = made, stamps
            return made


def changed_ns(path: Path) -> int:
    """When a file or folder was changed last, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _opened(character: CharacterFolder) -> Workshop:
    workshop = open_workshop(character.data)
    gc.freeze()  # what stays is not searched again and again for what is unreachable
    return_freed_memory()  # reading a large file takes several times what stays
    return workshop


def opened_dataset(request: Request) -> OpenDataset:
    """The data set of the character that the address names."""
    datasets: Datasets = request.app.state.datasets
    return datasets.get(character_of(request))


@contextmanager
def held_dataset(request: Request) -> Iterator[OpenDataset]:
    """The same, for a change that depends on what it says: nobody else changes it until the block
    ends. Raises BusyError when another process does."""
    with held(character_of(request).data):
        yield opened_dataset(request)


def _findings(character: CharacterFolder) -> dict[str, list[AuditFinding]]:
    found: dict[str, list[AuditFinding]] = defaultdict(list)
    try:
        for row in read_findings(character.data):
            found[row.picture].append(row)
    except InputError:  # not audited yet
        return {}
    return found
