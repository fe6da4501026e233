"""From folders, zips and other trainers' sets to a workshop. Originals stay where they are and as
they are; every refused file is named with its reason."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from onmodel.curate.ingest import Reading, SourcePicture, check, scan_folder
from onmodel.curate.other_tools.options import ForeignDataset
from onmodel.curate.other_tools.registry import read_config
from onmodel.curate.other_tools.sd_scripts import read_numbered_folders
from onmodel.curate.provenance import NAME as PROVENANCE
from onmodel.curate.provenance import KnownPicture, read_known
from onmodel.curate.unpack import unpack
from onmodel.curate.workshop import FILE, Piece, make_workshop, tags_from_file
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import Refused
from onmodel.dataset.formats import BEGINNING
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.paths import Names, check_distinct, leads_out, writable
from onmodel.text import printable, shown

_PLAIN = Reading(default_caption="")


def gather(
    sources: Sequence[Path],
    into: Path,
    origin: str,
    rights: str,
    events: Events,
    background: str = WHITE,
) -> tuple[int, list[dict[str, str]]]:
    """Read sources into a new workshop; returns the number of pictures and what was refused.

    A folder of pictures is a subset of its name; a folder of folders one subset for each, with its
    repeats where it is called `10_name`; a file is another trainer's data set, or a zip of either.
    Transparent pictures lie on `paper`,
    #rrggbb. Raises InputError when nothing is left.
    """
    lying = _checked({"paper": background})
    if (into / "pictures.json").exists():
        raise InputError(
            "into", into, "holds a data set with its decisions already; name another folder"
        )
    unpacked: list[Path] = []
    new = not into.exists()
    try:
        return _gather(sources, into, origin, rights, events, lying, unpacked)
    except BaseException:
        for folder in unpacked:
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
    unpacked: list[Path],
) -> tuple[int, list[dict[str, str]]]:
    subsets: dict[str, tuple[Path, Reading, int]] = {}
    refused: list[dict[str, str]] = []
    for source in sources:
        for name, row in _subsets(source, into, refused, unpacked).items():
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
    total = sum(len(found) for found, _ in scanned.values())
    with events.task("read pictures", total) as task, Decoder() as decode:
        for subset, (found, bad) in scanned.items():
            refused += [{"file": f"{subset}/{row.file}", "reason": row.reason} for row in bad]
            names = Names()
            for candidate in found:
                task.advance()
                try:
                    path = _resolved(candidate.path)
                    facts = known[subset].of(candidate.path)
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
        why = f"; the first: {refused[0]['file']}, {refused[0]['reason']}" if refused else ""
        raise InputError("sources", ", ".join(map(str, sources)), f"no picture can be read{why}")
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
    return len(pieces), refused


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
    reading = candidate.reading.model_copy(update={"paper": known.background})
    return replace(candidate, reading=reading)


def _subsets(
    source: Path, into: Path, refused: list[dict[str, str]], unpacked: list[Path]
) -> Mapping[str, tuple[Path, Reading, int]]:
    """Subset → folder, how it is read, repeats."""
    if source.is_file() and source.suffix.lower() == ".zip":
        source = _unpacked(source, into, refused, unpacked)
    elif source.exists() and not source.is_dir():
        return _as_said(read_config(source))
    paths = _content(source)
    if not any(path.is_dir() for path in paths) or any(map(_is_picture, paths)):
        return {Names().free(source.name or source.resolve().name): (source, _PLAIN, 1)}
    names = Names()
    folders = {}
    for path in paths:
        if leads_out(path, source):
            why = "a link to what lies elsewhere; name it as a source of its own"
        elif path.is_dir():
            folders[names.free(path.name)] = path
            continue
        elif path.name == PROVENANCE:
            continue
        else:
            why = "left alone: beside folders of pictures"
        refused.append({"file": printable(f"{source.name}/{path.name}"), "reason": why})
    if folders and all(path.name.partition("_")[0].isdecimal() for path in folders.values()):
        return _as_said(read_numbered_folders(source, regularisation=False))
    return {name: (path, _PLAIN, 1) for name, path in folders.items()}


def _as_said(foreign: ForeignDataset) -> Mapping[str, tuple[Path, Reading, int]]:
    return {row.name: (row.folder, row.reading, row.config.repeats) for row in foreign.subsets}


def _content(source: Path) -> list[Path]:
    """What lies in a source, by name. Hidden files and folders do not count."""
    try:
        return sorted(path for path in source.iterdir() if not path.name.startswith("."))
    except (OSError, ValueError) as error:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        raise InputError("sources", source, why) from error


def _is_picture(path: Path) -> bool:
    """Whether a file begins as pictures do."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return BEGINNING.match(file.read(64)) is not None
    except OSError:
        return False


def _unpacked(
    source: Path, into: Path, refused: list[dict[str, str]], unpacked: list[Path]
) -> Path:
    """The folder of a zip's files in the workshop; where they all lie in one folder, that one."""
    target = into / "unpacked" / writable(source.stem)
    left = unpack(source, target)
    unpacked.append(target)
    refused += [
        {"file": f"{printable(source.name)}/{shown(name)}", "reason": shown(why, 300)}
        for name, why in left
    ]
    rooms = list(target.iterdir())
    return rooms[0] if len(rooms) == 1 and rooms[0].is_dir() else target
