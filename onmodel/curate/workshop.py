"""A data set being curated. Its state is the imported pictures with the decisions of the journal
applied in order.

WORK/pictures.json   imported files (which stay where they are), captions, origins, rights, and
                     refused files
WORK/journal.jsonl   decisions, one per line, append-only: who, what, why. Undo is a line too.
WORK/writer.lock     held by the process that writes; reading needs no lock
WORK/audit.json      findings of the last audit
WORK/models/         lineage of the models that made some of the pictures
WORK/aliases/        lists of tag aliases
WORK/masks/          masks of pictures, by the SHA-256 of their files
WORK/seen/           cached results of the observers for each picture
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, ValidationInfo

from onmodel.curate.crop import Box, Cropped, cropped_size
from onmodel.curate.rows import PathText, Tag, valid, without_collections
from onmodel.dataset.captions import check_words
from onmodel.errors import InputError, StateError
from onmodel.hashing import (
    append_json_lines,
    hash_json,
    json_lines,
    read_json,
    whole_lines,
    write_json,
)
from onmodel.ledger.lineage import Lineage
from onmodel.locking import locked
from onmodel.paths import inside, name_fault
from onmodel.text import shown

PICTURES = "pictures.json"
JOURNAL = "journal.jsonl"
FILE = "file"  # who said the tags that a caption file holds
_KEYS = ConfigDict(extra="forbid")  # a row with an unknown key is damaged, or of a later version


@dataclass(frozen=True, slots=True)
class Said:
    """A tag and its source: a caption file, a person, a rule, a tagger with its score, or the
    prompt of a generated picture."""

    __pydantic_config__ = _KEYS

    tag: str
    by: str


def _once(said: Said, info: ValidationInfo) -> Said:
    """The first of equal values that a file holds: 20,000 pictures have a few hundred."""
    known: dict[tuple[str, str], Said] | None = info.context
    return said if known is None else known.setdefault((said.tag, said.by), said)


@dataclass(frozen=True, slots=True)
class Piece:
    """A picture of a data set that is being curated, as the journal left it.

    `name` is `subset/file`; `path` the unchanged original; `origin` and `rights` are as the user
    stated them. `made` holds model, prompt, seed and settings of a generated picture. `told` is the
    source of the sentence. `paper` is the background colour of a transparent picture, else "";
    `profile` its colour profile, or "". `aside` is the reason why it is excluded, "" when it is
    kept; `decided` is who decided that. `width` and `height` are those of the upright file; `turn`
    and `box` say what of it is shown (crop.py). `mask` is that of masks.py.
    """

    __pydantic_config__ = _KEYS

    name: str
    path: Annotated[Path, PathText]
    sha256: str
    width: int
    height: int
    subset: Tag
    tags: tuple[Annotated[Said, AfterValidator(_once)], ...]
    sentence: str
    origin: str
    rights: str
    paper: str = ""
    profile: str = ""
    told: str = FILE
    made: Mapping[str, object] = field(default_factory=dict)
    aside: str = ""
    decided: str = ""
    turn: int = 0
    box: Box = ()
    mask: str = ""

    @property
    def words(self) -> list[str]:
        return [said.tag for said in self.tags]

    @property
    def cropped(self) -> Cropped:
        return Cropped(self.path, self.paper, self.turn, self.box)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is shown."""
        return cropped_size(self.width, self.height, self.turn, self.box)

    @property
    def content(self) -> str:
        """A hash of what is shown: the file's, unless it is turned or cropped."""
        if not self.turn and not self.box:
            return self.sha256
        return hash_json([self.sha256, self.turn, list(self.box)])


@dataclass(frozen=True, slots=True)
class Decision:
    """A line of the journal. `do` is tag, sentence, keep, aside, crop, mask, repeats, add, strict,
    aliases, undo or redo; `step` numbers the commands that were given, `undone` is the step that
    undo takes back and redo does again. `piece` is a picture that comes to the set, as a table.
    strict: `subset` must say what `add` names; `aliases` is the hash of the list that holds from
    here on. crop: `turn` and `box` of crop.py; mask: `mask` of masks.py. repeats: `before` are
    those that they replace in the train stage `stage` of a recipe."""

    __pydantic_config__ = _KEYS

    step: int
    do: str
    by: str
    picture: Tag = ""
    remove: tuple[Tag, ...] = ()
    add: tuple[Tag, ...] = ()
    why: str = ""
    subset: str = ""
    repeats: int = 0
    undone: int = 0
    sentence: str = ""
    piece: Mapping[str, object] = field(default_factory=dict)
    aliases: str = ""
    turn: int = 0
    box: Box = ()
    mask: str = ""
    stage: str = ""
    before: int = 0


@dataclass(frozen=True)
class _PicturesFile:
    """The content of pictures.json."""

    pictures: tuple[Piece, ...]
    repeats: dict[str, int]
    refused: tuple[dict[str, str], ...]


_FIELDS = tuple(field.name for field in fields(Decision))
_PICTURES_FILE = TypeAdapter(_PicturesFile)
_subset_fault = lru_cache(maxsize=256)(name_fault)  # many pictures share a subset
_PIECE, _DECISION = TypeAdapter(Piece), TypeAdapter(Decision)


@dataclass(frozen=True)
class Workshop:
    """The state of a data set's folder. `decide`, `undo` and `redo` change it and return the next
    state; `refreshed` is the state of now.

    `strict`: subset → attributes that each of its pictures must have; `aliases`: alias → tag, as
    vocabulary.py reads them. `imported` is the state before the first decision, None for that one
    itself; `stamp` tells whether pictures.json is still the same; `journal_bytes` of the journal
    were read.
    """

    folder: Path
    pieces: Mapping[str, Piece]
    repeats: Mapping[str, int]
    refused: Sequence[Mapping[str, str]]
    journal: Sequence[Decision] = field(default_factory=tuple)
    strict: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    imported: "Workshop | None" = None
    stamp: tuple[int, int] = (0, 0)
    journal_bytes: int = 0

    @property
    def models(self) -> dict[str, Lineage]:
        """SHA-256 → history of the models that made pictures of it. Raises StateError for a damaged
        one."""
        return {
            path.stem: read_json(path) for path in sorted((self.folder / "models").glob("*.json"))
        }

    @property
    def kept(self) -> list[Piece]:
        return [piece for piece in self.pieces.values() if not piece.aside]

    def refreshed(self) -> "Workshop":
        """The state of now; only what was decided since is read."""
        if _stamp(self.folder / PICTURES) != self.stamp:
            return open_workshop(self.folder)
        path = self.folder / JOURNAL
        size = path.stat().st_size if path.exists() else 0
        if size < self.journal_bytes:
            return open_workshop(self.folder)
        data = whole_lines(path, self.journal_bytes)
        if not data and self.imported:
            return self
        rows = json_lines(path, data, len(self.journal) + 1)
        return _continued(self, _decisions(self, rows), len(data))

    def decide(self, decisions: Sequence[Decision]) -> "Workshop":
        """Append decisions as one step and return the new state, which counts what others decided
        meanwhile. Raises InputError for an unknown picture and for a person's words that no caption
        file may hold, BusyError when another process writes.
        """
        with held(self.folder):
            now = self.refreshed()
            step = max((row.step for row in now.journal), default=0) + 1
            for row in decisions:
                if row.by == "person":
                    check_words((*row.add, row.sentence))
                if row.do == "add" and row.picture in now.pieces:
                    raise InputError(
                        "picture", row.picture, "is in this data set already; name another subset"
                    )
                if row.picture and row.do != "add" and row.picture not in now.pieces:
                    raise InputError(
                        "picture", row.picture, "is not in this data set; names are subset/file"
                    )
            append_json_lines(
                self.folder / JOURNAL, (_as_line(replace(row, step=step)) for row in decisions)
            )
            return now.refreshed()

    def undo(self) -> tuple["Workshop", int]:
        """Take the last step back that still holds; returns the state and the step. Raises
        InputError without one."""
        with held(self.folder):
            now = self.refreshed()
            done, _ = _steps(now.journal)
            if not done:
                raise InputError(
                    "undo", "nothing", "no decision holds; there is nothing to take back"
                )
            return now.decide([Decision(0, "undo", "person", undone=done[-1])]), done[-1]

    def redo(self) -> tuple["Workshop", int]:
        """Do the step again that was taken back last; returns the state and the step. Raises
        InputError when nothing was taken back since the last decision."""
        with held(self.folder):
            now = self.refreshed()
            _, undone = _steps(now.journal)
            if not undone:
                raise InputError("redo", "nothing", "nothing was taken back since the last change")
            return now.decide([Decision(0, "redo", "person", undone=undone[-1])]), undone[-1]


def _steps(journal: Sequence[Decision]) -> tuple[list[int], list[int]]:
    """The steps that hold, and those that can be done again, each with the latest last."""
    done: list[int] = []
    undone: list[int] = []
    for row in journal:
        if row.do == "undo" and row.undone in done:
            done.remove(row.undone)
            undone.append(row.undone)
        elif row.do == "redo" and row.undone in undone:
            undone.remove(row.undone)
            done.append(row.undone)
        elif row.do not in ("undo", "redo") and (not done or done[-1] != row.step):
            done.append(row.step)
            undone.clear()
    return done, undone


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else changes the workshop until the block ends; open it within. Raises BusyError when
    another does."""
    _check_there(folder)
    with locked(folder):
        yield


def make_workshop(
    folder: Path,
    pieces: Sequence[Piece],
    repeats: Mapping[str, int],
    refused: Sequence[Mapping[str, str]],
    models: Mapping[str, Lineage],
) -> None:
    """Write what was read. Raises InputError when the folder holds a workshop already: its
    decisions would be lost."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if (folder / PICTURES).exists():
            raise InputError(
                "into", folder, "holds a data set with its decisions already; name another folder"
            )
        keep_models(folder, models)
        rows = [piece_as_table(piece) for piece in pieces]
        table = {"pictures": rows, "repeats": dict(repeats), "refused": list(refused)}
        write_json(folder / PICTURES, table)


def keep_models(folder: Path, models: Mapping[str, Lineage]) -> None:
    """Write histories of models beside the pictures that they made; a model's hash names its
    file."""
    for sha256, lineage in models.items():
        if not (path := folder / "models" / f"{sha256}.json").exists():
            write_json(path, lineage)


def open_workshop(folder: Path) -> Workshop:
    """The state of a folder. Raises InputError where there is none, StateError where it is
    damaged."""
    _check_there(folder)
    path = folder / PICTURES
    stamp = _stamp(path)
    try:
        with without_collections():
            table = _pictures_file(path)
            pieces = {_named(piece).name: piece for piece in table.pictures}
    except ValueError as error:
        raise StateError(path, f"is damaged: {error}") from error
    return Workshop(folder, pieces, table.repeats, table.refused, stamp=stamp).refreshed()


def _pictures_file(path: Path) -> _PicturesFile:
    """The content of pictures.json. Raises ValueError with the first fault in words."""
    try:
        return _PICTURES_FILE.validate_json(path.read_bytes(), context={})
    except ValidationError:  # the slower way says what is wrong
        return valid(_PICTURES_FILE, read_json(path))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


def _decisions(workshop: Workshop, rows: Iterable[object]) -> list[Decision]:
    """Lines of the journal that follow the workshop's own. Raises StateError for a damaged one."""
    found = []
    for number, row in enumerate(rows, len(workshop.journal) + 1):
        try:
            found.append(valid(_DECISION, row))
        except ValueError as error:
            raise _damaged_line(workshop.folder, number, error) from error
    return found


def _named(piece: Piece) -> Piece:
    """The piece, whose name is `subset/file`, each of which can name a file: an export writes them.
    Raises ValueError otherwise."""
    subset, _, file = piece.name.rpartition("/")
    why = _subset_fault(piece.subset, 255) or name_fault(file, 255)
    if why is None and subset != piece.subset:
        why = f"it must be a file of its subset, {shown(piece.subset)}"
    if why:
        raise ValueError(f"the picture {shown(piece.name)} has a wrong name ({why})")
    return piece


def _damaged_line(folder: Path, number: int, why: object) -> StateError:
    return StateError(folder / JOURNAL, f"line {number} is damaged: {why}")


def _check_there(folder: Path) -> None:
    if not (folder / PICTURES).is_file():
        raise InputError(
            "work", folder, "holds no data set; make one with `onmodel dataset import`"
        )


def _continued(now: Workshop, new: Sequence[Decision], size: int) -> Workshop:
    """The state after further lines of the journal, `size` bytes. What is taken back, or done
    again, is replayed from the beginning."""
    journal, imported = (*now.journal, *new), now.imported or now
    if any(row.do in ("undo", "redo") for row in new):
        holding, _ = _steps(journal)
        found = _applied(imported, journal, frozenset(holding))
    else:
        found = _applied(now, new, frozenset(row.step for row in new))
    return replace(
        found, journal=journal, imported=imported, journal_bytes=now.journal_bytes + size
    )


def _applied(start: Workshop, rows: Sequence[Decision], holding: frozenset[int]) -> Workshop:
    """What was read, with the decisions whose steps hold."""
    pieces, repeats, strict = dict(start.pieces), dict(start.repeats), dict(start.strict)
    aliases = start.aliases
    for number, row in enumerate(rows, len(start.journal) + 1):
        if row.step not in holding or row.do in ("undo", "redo"):
            continue
        if row.do == "repeats":
            repeats[row.subset] = row.repeats
        elif row.do == "strict":
            strict[row.subset] = row.add
        elif row.do == "aliases":
            aliases = read_json(inside(start.folder / "aliases", f"{row.aliases}.json", "aliases"))
        else:
            try:
                if row.do == "add":
                    pieces[row.picture] = _named(valid(_PIECE, row.piece))
                elif row.picture in pieces:
                    pieces[row.picture] = after(pieces[row.picture], row)
                else:
                    raise ValueError(f"the data set has no picture {shown(row.picture)}")
            except ValueError as error:
                raise _damaged_line(start.folder, number, error) from error
    return replace(start, pieces=pieces, repeats=repeats, strict=strict, aliases=aliases)


def keep_aliases(folder: Path, aliases: Mapping[str, str], why: str) -> Decision:
    """Write a list of aliases into a workshop; the decision that makes it hold. `why` says where it
    comes from."""
    sha256 = hash_json(dict(aliases))
    write_json(folder / "aliases" / f"{sha256}.json", aliases)
    return Decision(0, "aliases", "person", why=why, aliases=sha256)


def piece_as_table(piece: Piece) -> dict[str, object]:
    """A piece as JSON holds it."""
    return asdict(piece) | {"path": str(piece.path)}


def after(piece: Piece, row: Decision) -> Piece:
    """The picture after a decision about it. Raises ValueError for an unknown one."""
    if row.do == "sentence":
        return replace(piece, sentence=row.sentence, told=row.by)
    if row.do == "crop":
        return replace(piece, turn=row.turn, box=row.box)
    if row.do == "mask":
        return replace(piece, mask=row.mask)
    if row.do == "keep":
        return replace(piece, aside="", decided=row.by)
    if row.do == "aside":
        if piece.decided == "person":  # what a person decided stands against a rule
            return (
                piece
                if row.by != "person"
                else replace(piece, aside=row.why or "by hand", decided=row.by)
            )
        return replace(piece, aside=row.why or "by hand", decided=row.by)
    if row.do != "tag":
        raise ValueError(f"{shown(row.do)} is no known decision")
    known = {said.tag: said for said in piece.tags}
    new = [known.get(tag) or Said(tag, row.by) for tag in row.add]
    tags: list[Said] = []
    for said in piece.tags:
        if said.tag in row.remove:
            tags += new
            new = []
        elif said.tag not in row.add or not row.remove:
            tags.append(said)
    unique = {said.tag: said for said in [*tags, *new]}
    return replace(piece, tags=tuple(unique.values()))


def _as_line(row: Decision) -> dict[str, object]:
    """A decision as a line of the journal, without empty fields."""
    table = {name: getattr(row, name) for name in _FIELDS}
    said = {key: value for key, value in table.items() if value not in ("", (), 0, {})}
    return said | {"step": row.step}


def tags_from_file(tags: Iterable[str], known: Mapping[str, str]) -> tuple[Said, ...]:
    """The tags of a caption file with their sources: `known` (tag → source), else the file."""
    return tuple(Said(tag, known.get(tag, FILE)) for tag in tags)
