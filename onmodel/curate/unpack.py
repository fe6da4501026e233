"""A zip's pictures and captions as files in a folder. Nothing is written before the cost of all of
it is known.

Not unpacked: what is neither a picture by its first bytes nor a small text, links, zips within the
zip, and names that lead out of the folder. Each of them is named with its reason.
"""

import errno
import io
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

from onmodel.dataset.decoding import MAX_BYTES
from onmodel.dataset.formats import BEGINNING, PICTURE_ENDINGS, unreadable
from onmodel.errors import InputError, SpaceError
from onmodel.hashing import TEMPORARY_PREFIX
from onmodel.paths import folded, inside

MOST_ENTRIES = 100_000
LARGEST_DIRECTORY = 16 * 2**20  # bytes of the list of entries, which is read at once
MOST_UNPACKED = 32 * 2**30  # bytes
MOST_RATIO, FREE = (
    100,
    64 * 2**20,
)  # bytes unpacked for one packed; counts from `FREE` unpacked bytes on
PIECE = 2**20  # bytes that are read at a time
_TEXTS = (".txt", ".caption", ".tags", ".json", ".jsonl", ".csv", ".md", ".toml", ".yaml", ".yml")
_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # the others unpack without a limit for each piece
_LOCAL_HEADER = 30  # bytes before the name of an entry
_DAMAGE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    RuntimeError,
    EOFError,
)
STRAY = "not a picture"
_REMEDY = "unpack it yourself and use its folder"


class _Left(Exception):
    """An entry is left in the zip; the text is the reason."""


class _ZipFile(io.FileIO):
    """A file whose single reads are limited: zipfile reads the list of entries at once, however
    long it says it is."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(
                f"its list of entries is larger than {LARGEST_DIRECTORY >> 20} MiB"
            )
        return super().read(-1 if size is None else size) or b""


def unpack(source: Path, target: Path) -> list[tuple[str, str]]:
    """Write the zip's files into the new folder `target`; returns the entries that are left in it,
    with reasons: STRAY for files that are neither pictures nor texts.

    Raises InputError for a zip that cannot be read or costs too much, SpaceError on a full disk;
    then nothing is left behind.
    """
    if target.exists():
        raise InputError(
            "sources", source, f"{target} exists already; remove it, or rename the zip"
        )
    try:
        with _ZipFile(source) as file, zipfile.ZipFile(file) as archive:
            wanted, left = _judged(archive)
            _check_cost(archive, wanted.values(), source)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=TEMPORARY_PREFIX, dir=target.parent
            ) as temporary:
                folder = Path(temporary) / "unpacked"
                for name, info in wanted.items():
                    try:
                        _write(archive, info, inside(folder, name, "sources"))
                    except _Left as reason:
                        left.append((name, str(reason)))
                if not folder.exists():
                    first = f"; the first: {', '.join(left[0])}" if left else ""
                    raise InputError("sources", source, f"no file in it can be used{first}")
                folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(target) from error
        raise InputError(
            "sources", source, f"cannot be unpacked ({error.strerror or error}); {_REMEDY}"
        ) from error
    except _DAMAGE as error:
        raise InputError("sources", source, f"is no readable zip ({error}); {_REMEDY}") from error
    return left


def _judged(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], list[tuple[str, str]]]:
    """The entries that are wanted, by their names in the folder; and those that are not, with the
    reason."""
    named = [(_name(info), info) for info in archive.infolist()]
    folders = {folded(name[:at]) for name, _ in named for at in _slashes(name)}
    taken: dict[str, str] = {}
    wanted, left = {}, []
    for name, info in named:
        if name.endswith("/"):
            continue
        key = folded(name)
        why = (
            "its name leads out of the zip"
            if re.match("/|[A-Za-z]:", name) or ".." in name.split("/")
            else ""
            if _hidden(name)
            else "is a file and a folder in the zip"
            if key in folders
            else f"is a second file of the name {taken[key]}"
            if key in taken
            else _fault(name, info)
        )
        if why:
            left.append((name, why))
        elif not _hidden(name):
            taken[key] = name
            wanted[name] = info
    return wanted, left


def _name(info: zipfile.ZipInfo) -> str:
    """The name that the zip gives: old Windows programs write "\\" between folders, others begin
    with "./"."""
    return info.orig_filename.replace("\\", "/").removeprefix("./")


def _slashes(name: str) -> list[int]:
    return [match.start() for match in re.finditer("/", name)]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _fault(name: str, info: zipfile.ZipInfo) -> str:
    """What keeps one entry from being unpacked; "" when nothing does."""
    if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        return "is a link or another special file"
    if info.file_size > MAX_BYTES:
        return f"is larger than {MAX_BYTES >> 20} MiB"
    if info.flag_bits & 0x41:
        return f"is encrypted; {_REMEDY}"
    if info.compress_type not in _METHODS:
        return f"is packed by another method than deflate; {_REMEDY}"
    if name.lower().endswith(".zip"):
        return "is a zip within the zip; unpack it and name it as a source of its own"
    try:
        inside(Path("unpacked"), name, "name")
    except InputError as error:
        return error.remedy
    return ""


def _check_cost(
    archive: zipfile.ZipFile, wanted: Collection[zipfile.ZipInfo], source: Path
) -> None:
    """Raise InputError where the entries are too many, too large, or share their bytes."""
    entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len(entries) > MOST_ENTRIES:
        raise InputError("sources", source, f"holds more than {MOST_ENTRIES} entries; {_REMEDY}")
    total = sum(info.file_size for info in wanted)
    packed = sum(info.compress_size for info in wanted)
    if total > MOST_UNPACKED:
        raise InputError(
            "sources", source, f"unpacks to more than {MOST_UNPACKED >> 30} GiB; {_REMEDY}"
        )
    if total > FREE and total > MOST_RATIO * packed:
        raise InputError(
            "sources", source, f"unpacks to more than {MOST_RATIO} times its size; {_REMEDY}"
        )
    ends = [info.header_offset + _LOCAL_HEADER + info.compress_size for info in entries]
    starts = [info.header_offset for info in entries[1:]] + [archive.start_dir]
    if any(end > start for end, start in zip(ends, starts, strict=True)):
        raise InputError(
            "sources", source, f"holds entries that overlap, so it is damaged or a trap; {_REMEDY}"
        )


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """One entry as a file, piece by piece; zipfile stops at the size that the zip's list tells.
    Raises _Left."""
    try:
        with archive.open(info) as file:
            head = file.read(64)
            if head.startswith(b"PK\3\4"):
                raise _Left("is a zip within the zip; unpack it and name it as a source of its own")
            ending = path.suffix.lower()
            if ending not in _TEXTS and not BEGINNING.match(head):
                if ending not in PICTURE_ENDINGS:
                    raise _Left(STRAY)
                raise _Left(unreadable(head) if head else "the file is empty")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                out.write(head)
                while piece := file.read(PIECE):
                    out.write(piece)
    except _DAMAGE as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _Left(f"damaged in the zip ({error})") from error
