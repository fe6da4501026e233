"""From folders, zips and other trainers' sets to a workshop. Originals stay where they are and as
they are; every refused file is named with its reason."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from onmodel.curate.caption_files import TABLES
from onmodel.curate.ingest import FolderScan, Reading, SourcePicture, check, scan_folder
from onmodel.curate.listing import layout_of, left_alone, repeats_of
from onmodel.curate.other_tools.options import ForeignDataset
from onmodel.curate.other_tools.registry import read_config
from onmodel.curate.other_tools.sd_scripts import read_numbered_folders
from onmodel.curate.provenance import NAME as PROVENANCE
from onmodel.curate.provenance import KnownPicture, read_known
from onmodel.curate.tagging import load_tagger, tag_pieces
from onmodel.curate.unpack import STRAY, unpack
from onmodel.curate.workshop import FILE, Piece, make_workshop, tags_from_file
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import Refused
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.evaluate.observers.tagger import Tagger
from onmodel.events import Events
from onmodel.paths import Names, check_distinct, writable
from onmodel.text import printable, shown

_PLAIN = Reading()


class Gathered(NamedTuple):
    """What an import read: the number of pictures, the refused files, and lines about captions and
    what is left alone."""

    pictures: int
    refused: list[dict[str, str]]
    notes: list[str]


@dataclass
class _Found:
    """What is told about the sources so far, and the folders that zips were unpacked to."""

    refused: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unpacked: list[Path] = field(default_factory=list)


def gather(
    sources: Sequence[Path],
    into: Path,
    origin: str,
    rights: str,
    events: Events,
    background: str = WHITE,
    tagger: str | None = None,
) -> Gathered:
    """Read sources into a new workshop.

    A folder of pictures is a subset of its name; a folder of folders one subset for each, with its
    repeats where it is called `10_name`; a file is another trainer's data set, or a zip of either.
    Transparent pictures lie on `background`, #rrggbb; `tagger` tags pictures without a caption.
    Raises InputError when nothing is left.
    """
    lying = _checked({"background": background})
    loaded = load_tagger(tagger) if tagger else None
    if (into / "pictures.json").exists():
        raise InputError(
            "into", into, "holds a data set with its decisions already; name another folder"
        )
    found = _Found()
    new = not into.exists()
    try:
        return _gather(sources, into, origin, rights, events, lying, loaded, found)
    except BaseException:
        for folder in found.unpacked:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (into / "unpacked", *([into] if new else [])):
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing of another import is in it
        raise


def _gather(
    sources: Sequence[Path],
    into: Path,
    origin: str,
    rights: str,
    events: Events,
    lying: Mapping[str, str],
    tagger: Tagger | None,
    told: _Found,
) -> Gathered:
    subsets: dict[str, tuple[Path, Reading, int]] = {}
    refused = told.refused
    for source in sources:
        for name, row in _subsets(source, into, told).items():
            if name in subsets:
                raise InputError("sources", name, "two subsets have this name; rename a folder")
            subsets[name] = row
    check_distinct(subsets, "sources")
    pieces: list[Piece] = []
    scanned = {
        name: scan_folder(folder, origin, reading.model_copy(update=lying))
        for name, (folder, reading, _) in subsets.items()
    }
    known = {name: read_known(folder) for name, (folder, *_) in subsets.items()}
    total = sum(len(scan.pictures) for scan in scanned.values())
    with events.task("read pictures", total) as task, Decoder() as decode:
        for subset, scan in scanned.items():
            told.notes += [f"{subset}: {line}" for line in _lines(scan)]
            refused += [
                {"file": f"{subset}/{row.file}", "reason": row.reason} for row in scan.refused
            ]
            names = Names()
            for candidate in scan.pictures:
                task.advance()
                try:
                    path = _resolved(candidate.path)
                    facts = known[subset].of(candidate.path)
                    candidate = replace(candidate, mask=None)
                    picture, _ = check(_with_background(candidate, facts), decode)
                except Refused as reason:
                    refused.append(
                        {"file": f"{subset}/{candidate.name}", "reason": printable(reason)}
                    )
                    continue
                if facts is None or facts.sha256 != picture.sha256:
                    facts = KnownPicture(picture.sha256, origin, rights, FILE, "", {}, {})
                pieces.append(
                    Piece(
                        f"{subset}/{names.free(candidate.path.stem)}",
                        path,
                        picture.sha256,
                        picture.width,
                        picture.height,
                        subset,
                        tags_from_file(candidate.tags, facts.tags),
                        candidate.sentence,
                        facts.origin,
                        facts.rights,
                        picture.background,
                        picture.profile,
                        facts.told,
                        facts.made,
                    )
                )
    if not pieces:
        why = "".join(f"; {note}" for note in told.notes[:1])
        if refused:
            why = f"; the first: {refused[0]['file']}, {refused[0]['reason']}"
        raise InputError("sources", ", ".join(map(str, sources)), f"no picture can be read{why}")
    if tagger is not None:
        pieces = tag_pieces(pieces, tagger, events)
    kept = {piece.subset for piece in pieces}
    models = {
        sha256: lineage
        for sources_of in known.values()
        for sha256, lineage in sources_of.models.items()
    }
    make_workshop(
        into,
        pieces,
        {name: row[2] for name, row in subsets.items() if name in kept},
        refused,
        models,
    )
    return Gathered(len(pieces), refused, told.notes)


def _lines(scan: FolderScan) -> list[str]:
    """Lines about a folder: its captions, its masks, and what is left alone."""
    lines = list(scan.notes)
    if scan.uncaptioned:
        lines.append(f"{scan.uncaptioned} of {len(scan.pictures)} pictures have no caption")
    if masks := sum(picture.mask is not None for picture in scan.pictures):
        lines.append(f"{masks} masks lie beside pictures; an export copies them into masks/")
    return lines


def _resolved(path: Path) -> Path:
    """Where a picture is. Raises Refused where that cannot be written down."""
    path = path.resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise Refused(
            "the bytes of its path are no UTF-8 text; rename it, or the folder that holds it"
        ) from error
    return path


def _checked(setting: Mapping[str, str]) -> Mapping[str, str]:
    try:
        Reading.model_validate(setting)
    except ValidationError as error:
        name, value = next(iter(setting.items()))
        raise InputError(name, value, "write a colour as #rrggbb, e.g. #ffffff") from error
    return setting


def _with_background(candidate: SourcePicture, known: KnownPicture | None) -> SourcePicture:
    """The picture with the background that provenance.json states, where it states one."""
    if known is None or not known.background:
        return candidate
    reading = candidate.reading.model_copy(update={"background": known.background})
    return replace(candidate, reading=reading)


def _subsets(source: Path, into: Path, found: _Found) -> Mapping[str, tuple[Path, Reading, int]]:
    """Subset → folder, how it is read, repeats."""
    name = source.name or source.resolve().name
    if source.is_file() and source.suffix.lower() == ".zip":
        name = source.stem
        source = _unpacked(source, into, found)
    elif source.exists() and not source.is_dir():
        return _as_said(read_config(source), found)
    if (numbered := repeats_of(source)) and not layout_of(source, "sources").numbered:
        return {Names().free(numbered[1]): (source, _PLAIN, numbered[0])}
    layout = layout_of(source, "sources")
    if layout.numbered:
        return _as_said(read_numbered_folders(layout.root, regularisation=False), found)
    for path in layout.links:
        why = "a link to what lies elsewhere; name it as a source of its own"
        found.refused.append({"file": printable(f"{source.name}/{path.name}"), "reason": why})
    found.notes += left_alone(
        [path for path in layout.left if path.name not in (PROVENANCE, *TABLES)],
        "beside the folders",
    )
    if tuple(layout.folders) in ((), (source,)):
        return {Names().free(name): (source, _PLAIN, 1)}
    names = Names()
    return {names.free(path.name): (path, _PLAIN, 1) for path in layout.folders}


def _as_said(foreign: ForeignDataset, found: _Found) -> Mapping[str, tuple[Path, Reading, int]]:
    """The subsets of another trainer's data set. A caption keeps its tags and its sentence apart,
    and a picture without one stays without."""
    found.notes += foreign.notes
    apart = {"join_lines": None, "default_caption": None, "trigger": ""}
    return {
        row.name: (row.folder, row.reading.model_copy(update=apart), row.config.repeats)
        for row in foreign.subsets
    }


def _unpacked(source: Path, into: Path, found: _Found) -> Path:
    """The folder of a zip's files in the workshop."""
    target = into / "unpacked" / writable(source.stem)
    left = unpack(source, target)
    found.unpacked.append(target)
    found.refused += [
        {"file": f"{printable(source.name)}/{shown(name)}", "reason": shown(why, 300)}
        for name, why in left
        if why != STRAY
    ]
    strays = [Path(name) for name, why in left if why == STRAY]
    found.notes += left_alone(strays, f"in {printable(source.name)}")
    return target
