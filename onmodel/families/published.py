"""Download a published base from the Hugging Face hub: which files there are, how many bytes they
take, and the download itself, which continues where it stopped.

The files are data, in a family's `published.toml`. huggingface_hub deletes a file that it has half
of when the process ends. So the bytes are written to NAME.partial here, and a file gets its name
when its hash is right.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from onmodel.errors import InputError, SpaceError, StateError, VerifyError
from onmodel.events import Events, Task
from onmodel.families.hub import hub_errors
from onmodel.families.licences import LicensedBase
from onmodel.families.registry import FAMILIES, licence_rows
from onmodel.hashing import naming, read_json, sha256_file, write_json
from onmodel.paths import inside
from onmodel.reading import read_toml
from onmodel.text import shown
from onmodel.validation import StrictTable

FIELD = "base"
RECORD = "onmodel-base.json"
PARTIAL = ".partial"
_MIB = 2**20
_HASH = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")


class PublishedFile(StrictTable):
    """A row of `published.toml`, which explains the fields."""

    repository: str
    file: str
    field: str
    into: str = ""
    sha256: str = ""


class PublishedBase(StrictTable):
    """A base of `published.toml`; `licence` is a key of the family's `licences.BASES`."""

    title: str
    licence: str
    files: tuple[PublishedFile, ...]


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file to download: where it is, where it goes, and its hash.

    `sha256` is empty for a small file that the hub keeps in git; `blob` is then git's SHA-1 of it.
    `known` is True when `sha256` is from our table, False when it is the hub's.
    """

    repository: str
    revision: str
    name: str
    field: str
    target: Path
    size: int
    sha256: str
    blob: str
    known: bool

    @property
    def partial(self) -> Path:
        return self.target.with_name(self.target.name + PARTIAL)


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be downloaded. `folder` holds the record; `into` is None for the hub's cache."""

    name: str
    base: PublishedBase
    licence: LicensedBase
    folder: Path
    into: Path | None
    files: tuple[HubFile, ...]

    @property
    def accepted(self) -> bool:
        """Whether its licence was accepted here before."""
        record = _recorded(self.folder)
        return record is not None and record.licence == self.licence.licence.name

    @property
    def missing_bytes(self) -> int:
        """Bytes that are not here yet."""
        return sum(max(0, one.size - _bytes_here(one)) for one in self.files)


class DownloadRecord(StrictTable):
    """The content of RECORD. `accepted`: when the licence was, UTC in ISO 8601; `fields`: of a
    recipe's `base`, with their paths in the folder, once all files are there."""

    base: str
    licence: str
    licence_link: str | None
    accepted: str
    files: list[dict[str, object]]
    fields: dict[str, str] = Field(default_factory=dict)


def published_bases() -> dict[str, PublishedBase]:
    """Name → base, of every family's table."""
    found: dict[str, PublishedBase] = {}
    for package in FAMILIES.values():
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        path = Path(spec.submodule_search_locations[0]) / "published.toml"
        for name, table in read_toml(path, FIELD).items():
            found[name] = PublishedBase.model_validate(table)
    return found


def plan_download(name: str, into: Path | None = None) -> Download:
    """Ask the hub for the files of a base. Downloads nothing.

    Raises InputError for an unknown name, no connection, no access, or a repository that lacks a
    file.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    bases = published_bases()
    if name not in bases:
        raise InputError(FIELD, name, f"unknown; known: {', '.join(bases)}")
    base = bases[name]
    cache = Path(HF_HUB_CACHE)
    files: list[HubFile] = []
    listings: dict[str, Any] = {}
    for row in base.files:
        if row.repository not in listings:
            listings[row.repository] = _listing(row.repository)
        files += _files(row, listings[row.repository], into, cache)
    folder = into or _in_cache(cache, base.files[0].repository)
    return Download(name, base, licence_rows()[base.licence], folder, into, tuple(files))


def download(plan: Download, events: Events) -> dict[str, Path]:
    """Download what is not here yet and check every file; a recipe's `base` fields and their
    paths. Whoever calls it has the licence accepted.

    Raises SpaceError before the first byte, VerifyError for a file with a wrong hash, and
    InputError when the hub does not answer.
    """
    missing = plan.missing_bytes
    if missing > shutil.disk_usage(_existing(plan.folder)).free:
        raise SpaceError(plan.folder, f"{missing / 1e9:.2f} GB do not fit on the disk")
    _record(plan, (), {})
    fields: dict[str, Path] = {}
    with events.task("download", total=_mib(missing), unit="MiB") as task:
        for one in plan.files:
            _fetch(one, task)
            path = one.target if plan.into else _pointer(one)
            depth = len(Path(one.name).parts) if one.field in ("folder", "tokenizers") else 0
            fields.setdefault(one.field, path.parents[depth - 1] if depth else path)
    _record(plan, plan.files, fields if plan.into else {})
    return fields


def downloaded_rows(folder: Path) -> list[str]:
    """The rows of `--base` for what `download` wrote into a folder; none before it is whole."""
    record = _recorded(folder)
    fields = record.fields if record else {}
    with suppress(InputError):  # a record that leads out of the folder is none of ours
        return [f"{name}={inside(folder, path, FIELD)}" for name, path in fields.items()]
    return []


def base_line(fields: dict[str, Path]) -> str:
    """The line of a recipe that names these paths, with "/" on every system."""
    rows = [
        f"{name} = {json.dumps(path.absolute().as_posix(), ensure_ascii=False)}"
        for name, path in fields.items()
    ]
    return f"base = {{ {', '.join(rows)} }}"


def _listing(repository: str) -> Any:
    """The hub's `ModelInfo` of a repository, with its files' sizes and hashes."""
    from huggingface_hub import HfApi

    with hub_errors(FIELD, repository):
        return HfApi().model_info(repository, files_metadata=True)


def _files(row: PublishedFile, info: Any, into: Path | None, cache: Path) -> Iterator[HubFile]:
    """The files of a repository that a row names."""
    whole = "/" in row.file
    found = [
        one
        for one in info.siblings or ()
        if fnmatchcase(one.rfilename if whole else one.rfilename.rpartition("/")[2], row.file)
    ]
    if not found or (not whole and len(found) > 1):
        count = "no" if not found else "several"
        remedy = f"has {count} {row.file}; download its files yourself and name them in the recipe"
        raise InputError(FIELD, row.repository, remedy)
    for one in found:
        inside(Path(), one.rfilename, FIELD)  # a listing is a stranger's: no name leads out
        sha256, blob = one.lfs.sha256 if one.lfs else "", one.blob_id or ""
        if not _HASH.fullmatch(sha256 or blob):
            remedy = f"gives no hash of {shown(one.rfilename)}; use another endpoint"
            raise InputError(FIELD, row.repository, remedy)
        if into is not None:
            inner = one.rfilename if whole else one.rfilename.rpartition("/")[2]
            target = into / row.into / inner
        else:
            target = _in_cache(cache, row.repository) / "blobs" / (sha256 or blob)
        yield HubFile(
            row.repository,
            info.sha,
            one.rfilename,
            row.field,
            target,
            one.size,
            row.sha256 or sha256,
            blob,
            bool(row.sha256),
        )


def _in_cache(cache: Path, repository: str) -> Path:
    """The folder of a repository in the hub's cache."""
    return cache / f"models--{repository.replace('/', '--')}"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _mib(size: int) -> int:
    return -(-size // _MIB)


def _bytes_here(one: HubFile) -> int:
    for path in (one.target, one.partial):
        if path.is_file():
            return path.stat().st_size
    return 0


def _fetch(one: HubFile, task: Task) -> None:
    """Make a file's target be there and right."""
    if one.target.is_file():
        _check(one, one.target)
        return
    with (
        hub_errors(FIELD, one.repository),
        naming(one.partial),
    ):  # a full disk is no fault of the hub
        one.target.parent.mkdir(parents=True, exist_ok=True)
        if one.partial.is_file() and one.partial.stat().st_size > one.size:
            one.partial.unlink()
        with one.partial.open("ab") as file:
            _append(one, file, task)
    _check(one, one.partial)
    one.partial.replace(one.target)


def _append(one: HubFile, file: Any, task: Task) -> None:
    """Download the bytes of a file that `file` lacks; huggingface_hub tries again after a
    fault of the connection."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """Passes on what huggingface_hub reports, and prints nothing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self.rest = 0
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            whole, self.rest = divmod(self.rest + int(n or 0), _MIB)
            task.advance(whole, one.name)
            return None

    http_get(
        hf_hub_url(one.repository, one.name, revision=one.revision),
        file,
        resume_size=file.tell(),
        headers={**build_hf_headers(), "Accept-Encoding": "identity"},
        expected_size=one.size,
        tqdm_class=Bar,
    )


def _check(one: HubFile, path: Path) -> None:
    """Raises VerifyError for a file that is not what the table or the hub says. Only our own
    download is removed; what was there before may be the user's."""
    if one.sha256:
        kind, wanted, found = "SHA-256", one.sha256, sha256_file(path)
    else:  # git's name of a file: SHA-1 over its size and bytes
        data = path.read_bytes()
        kind, wanted = "git SHA-1", one.blob
        found = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if found != wanted:
        remedy = f"move {path} away"
        if path == one.partial:
            path.unlink()
            remedy = "it was removed"
        raise VerifyError(
            one.name,
            f"has {kind} {found}, not {wanted}; {remedy}, run the same command again",
        )


def _recorded(folder: Path) -> DownloadRecord | None:
    """What was written down before; None for nothing, and for a file that is none of ours."""
    path = folder / RECORD
    try:
        return DownloadRecord.model_validate(read_json(path)) if path.is_file() else None
    except (ValueError, StateError):
        return None


def _pointer(one: HubFile) -> Path:
    """The file's path in the hub's cache, which now has its bytes."""
    from huggingface_hub import hf_hub_download

    with hub_errors(FIELD, one.repository):
        return Path(hf_hub_download(one.repository, one.name, revision=one.revision))


def _record(plan: Download, files: Sequence[HubFile], fields: Mapping[str, Path]) -> None:
    """Write down what was accepted, when, and what was downloaded."""
    old = _recorded(plan.folder)
    rows = [
        {
            "repository": one.repository,
            "revision": one.revision,
            "file": one.name,
            "size": one.size,
            "sha256": one.sha256 or sha256_file(one.target),
            "checked_against": "onmodel's table" if one.known else "the hub",
        }
        for one in files
    ]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    table = {
        "base": plan.name,
        "licence": plan.licence.licence.name,
        "licence_link": plan.licence.licence.link,
        "accepted": old.accepted if old is not None and plan.accepted else now,
        "files": rows or (old.files if old is not None else []),
        "fields": {name: path.relative_to(plan.folder).as_posix() for name, path in fields.items()},
    }
    write_json(plan.folder / RECORD, table)
