"""From folders, zips and other trainers' sets to a workshop. Originals stay where they are and as they are; every
refused file is named with its reason."""

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onmodel.curate.foreign import read_config, read_numbered_folders
from onmodel.curate.ingest import MAX_BYTES, Candidate, Reading, Refused, check, scan_folder
from onmodel.curate.provenance import read_known
from onmodel.curate.workshop import FILE, Piece, keep_models, make_workshop, tags_from_file
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.progress import Progress

_ZIP_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, ValueError, RuntimeError, EOFError)
MAX_UNPACKED = 32 * 2**30
_PLAIN = Reading(default_caption="")


def gather(
    sources: Sequence[Path], into: Path, origin: str, rights: str, progress: Progress, paper: str = WHITE
) -> tuple[int, list[dict[str, str]]]:
    """Read sources into a new workshop; returns the number of pictures and what was refused.

    A folder of pictures is a subset of its name; a folder of folders one subset for each, with its repeats where it is
    called `10_name`; a file is another trainer's data set, or a zip of either. Transparent pictures lie on `paper`,
    #rrggbb. Raises InputError when nothing is left.
    """
    if (into / "pictures.json").exists():
        raise InputError("into", into, "holds a data set with its decisions already; name another folder")
    subsets: dict[str, tuple[Path, Reading, int]] = {}
    refused: list[dict[str, str]] = []
    for source in sources:
        for name, row in _subsets(source, into, refused).items():
            if name in subsets:
                raise InputError("sources", name, "two subsets have this name; rename a folder")
            subsets[name] = row
    pieces: list[Piece] = []
    lying = _checked({"paper": paper})
    scanned = {
        name: scan_folder(folder, origin, reading.model_copy(update=lying))
        for name, (folder, reading, _) in subsets.items()
    }
    known = {name: read_known(folder) for name, (folder, *_) in subsets.items()}
    with progress.task("read pictures", sum(len(found) for found, _ in scanned.values())) as task:
        for subset, (found, bad) in scanned.items():
            refused += [{"file": f"{subset}/{row.file}", "reason": row.reason} for row in bad]
            for candidate in found:
                task.advance()
                try:
                    told = known[subset].of(candidate.path)
                    picture, _ = check(_on_its_paper(candidate, told))
                except Refused as reason:
                    refused.append({"file": f"{subset}/{candidate.name}", "reason": str(reason)})
                    continue
                same = told if told.get("sha256") == picture.sha256 else {}
                pieces.append(
                    Piece(
                        f"{subset}/{candidate.path.stem}", candidate.path.resolve(), picture.sha256, picture.width,
                        picture.height, subset, tags_from_file(candidate.tags, same.get("tags", {})),
                        candidate.sentence, same.get("origin", origin), same.get("rights", rights), picture.paper,
                        picture.profile, same.get("told", FILE), same.get("made", {}),
                    )
                )  # fmt: skip
    if not pieces:
        why = f"; the first: {refused[0]['file']}, {refused[0]['reason']}" if refused else ""
        raise InputError("sources", ", ".join(map(str, sources)), f"no picture can be read{why}")
    kept = {piece.subset for piece in pieces}
    for sources_of in known.values():
        keep_models(into, sources_of.models)
    make_workshop(into, pieces, {name: row[2] for name, row in subsets.items() if name in kept}, refused)
    return len(pieces), refused


def _checked(setting: Mapping[str, str]) -> Mapping[str, str]:
    try:
        Reading.model_validate(setting)
    except ValidationError as error:
        name, value = next(iter(setting.items()))
        raise InputError(name, value, "write a colour as #rrggbb, e.g. #ffffff") from error
    return setting


def _on_its_paper(candidate: Candidate, known: Mapping[str, Any]) -> Candidate:
    """A picture that was exported lies on the paper it had."""
    if not known.get("paper"):
        return candidate
    return replace(candidate, reading=candidate.reading.model_copy(update={"paper": known["paper"]}))


def _subsets(source: Path, into: Path, refused: list[dict[str, str]]) -> Mapping[str, tuple[Path, Reading, int]]:
    """Subset → folder, how it is read, repeats."""
    if source.is_file() and source.suffix.lower() == ".zip":
        source = _unpack(source, into, refused)
    elif source.is_file():
        foreign = read_config(source)
        return {row.name: (row.folder, row.reading, row.shown.repeats) for row in foreign.subsets}
    if not source.is_dir():
        raise InputError("sources", source, "no such folder or file")
    inner = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = any(path.is_file() and not path.name.startswith(".") for path in source.iterdir())
    if inner and all(path.name.partition("_")[0].isdecimal() for path in inner) and not files:
        foreign = read_numbered_folders(source, regularisation=False)
        return {row.name: (row.folder, row.reading, row.shown.repeats) for row in foreign.subsets}
    if inner and not files:
        return {path.name: (path, _PLAIN, 1) for path in inner}
    return {source.name: (source, _PLAIN, 1)}


def _unpack(source: Path, into: Path, refused: list[dict[str, str]]) -> Path:
    """A zip's files in the workshop's own folder. Names that leave it, links, and what is too large are refused."""
    target = into / "unpacked" / source.stem
    total = 0
    try:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                parts = Path(info.filename.replace("\\", "/")).parts
                hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
                if info.is_dir() or hidden:
                    continue
                total += info.file_size
                why = (
                    "its name leads out of the zip" if ".." in parts or Path(info.filename).is_absolute()
                    else "is a link" if (info.external_attr >> 16) & 0o170000 == 0o120000
                    else "is larger than 256 MiB" if info.file_size > MAX_BYTES
                    else "the zip holds more than 32 GiB" if total > MAX_UNPACKED
                    else "is encrypted" if info.flag_bits & 1 else ""
                )  # fmt: skip
                if not why:
                    try:
                        with archive.open(info) as file:
                            data = file.read(MAX_BYTES + 1)
                        path = target.joinpath(*parts)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(data)
                    except _ZIP_ERRORS as error:
                        why = f"damaged in the zip ({error})"
                if why:
                    refused.append({"file": f"{source.name}/{info.filename}", "reason": why})
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError("sources", source, f"is no readable zip ({error})") from error
    if not target.exists():
        raise InputError("sources", source, "no file in it can be read")
    rooms = list(target.iterdir())
    return rooms[0] if len(rooms) == 1 and rooms[0].is_dir() else target
