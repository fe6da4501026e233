"""Walk every hash of a release and name the first thing that does not match. Reads only; trusts no file alone.

A file's bytes have two witnesses, `lineage.json` and `checksums.txt`; where one of the three disagrees with the other
two, it is named. The history is Merkle: a node whose content changed no longer has its id. What this cannot see is a
release that someone built anew as a whole; that takes a signature.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from onmodel.errors import InputError, VerifyError
from onmodel.hashing import sha256_bytes
from onmodel.ledger.lineage import Lineage, check, root
from onmodel.models import header
from onmodel.models.lora import Lora
from onmodel.models.weights import PAYLOAD_KEY, payload_sha256, read_metadata
from onmodel.release.folder import CHECKSUMS, LINEAGE, Statement, checksums, hashes, read_checksums


def verify(path: Path) -> list[str]:
    """The checks that a release folder or one .safetensors file passed. Raises VerifyError for the first that fails."""
    if path.is_dir():
        return list(_verify_folder(path))
    if path.suffix == ".safetensors" and path.is_file():
        return list(_verify_weights(path)[0])
    raise InputError("path", path, "name a release folder or a .safetensors file")


def _verify_folder(folder: Path) -> Iterator[str]:
    for name in (LINEAGE, CHECKSUMS):
        if not (folder / name).is_file():
            raise VerifyError(name, "is missing; this is no complete release folder")
    said = (folder / CHECKSUMS).read_bytes()
    found = hashes(folder)
    try:
        statement: Statement | None = Statement.from_bytes((folder / LINEAGE).read_bytes())
        lineage_error = None
    except VerifyError as error:
        statement, lineage_error = None, error
    listed = read_checksums(said)

    # One witness against two. `lineage.json` has only `checksums.txt` as a witness, but also its own form and node ids.
    for name in sorted(set(found) | set(listed) | (set(statement.files) if statement else set())):
        if name == LINEAGE or statement is None:
            continue
        here, written, stated = found.get(name), listed.get(name), statement.files.get(name)
        if here == written == stated:
            continue
        if here == written:
            raise VerifyError(LINEAGE, f"does not state the hash that {name} has")
        if here == stated:
            raise VerifyError(CHECKSUMS, f"does not list the hash that {name} has")
        raise VerifyError(name, _difference(here))
    if lineage_error:
        raise VerifyError(_damaged_node((folder / LINEAGE).read_bytes()) or LINEAGE, lineage_error.what)
    assert statement is not None
    try:
        check(statement.lineage)
    except VerifyError as error:
        raise VerifyError(f"{LINEAGE}, {error.node}", error.what) from error
    for name, id in statement.generated.items():
        if name not in statement.files or id not in statement.lineage:
            raise VerifyError(LINEAGE, f"says that {name} is the node {id[:12]}, and one of them does not exist")
    if said != checksums(found):
        raise VerifyError(CHECKSUMS, f"does not match the files (first: {_first_wrong_line(said, checksums(found))})")
    yield f"{len(found)} files have the hashes that lineage.json and checksums.txt give"
    yield f"{len(statement.lineage)} nodes of the history match their ids, {root(statement.lineage)[:12]} is the newest"

    for name in sorted(name for name in found if name.endswith(".safetensors")):
        lines, lineage = _verify_weights(folder / name)
        yield from lines
        missing = sorted(set(lineage) - set(statement.lineage))
        if missing:
            raise VerifyError(
                f"{lineage[missing[0]]['type']} {missing[0][:12]}", f"in the header of {name}, not in {LINEAGE}"
            )
        yield f"{name}: its history is part of {LINEAGE}"


def _verify_weights(path: Path) -> tuple[list[str], Lineage]:
    """Passed checks and the history in the header."""
    try:
        metadata = read_metadata(path)
    except InputError as error:
        raise VerifyError(path.name, "is not a complete safetensors file") from error
    if PAYLOAD_KEY not in metadata or header.RECIPE_KEY not in metadata:
        raise VerifyError(path.name, "has no hash or history in its header; onmodel did not write it")
    payload = payload_sha256(path)
    if metadata[PAYLOAD_KEY] != payload or metadata.get("modelspec.hash_sha256") != f"0x{payload}":
        raise VerifyError(path.name, "the tensors do not have the hash that the header gives")
    lineage = header.lineage_of(Lora({}, metadata), payload)
    if metadata.get("onmodel.lineage_sha256") != sha256_bytes(metadata[header.RECIPE_KEY].encode()):
        raise VerifyError(path.name, "the history does not have the hash that the header gives")
    return [
        f"{path.name}: tensors match their hash {payload[:12]}",
        f"{path.name}: {len(lineage)} nodes of the history in its header match their ids",
    ], lineage


def _damaged_node(data: bytes) -> str | None:
    """The node of `lineage.json` whose bytes do not have the hash that is their id, where the file can not be read.

    A node stands in the statement in its canonical form, so its own bytes are what was hashed.
    """
    text = data.decode("utf-8", "surrogateescape")
    for match in re.finditer(r'"([0-9a-f]{64})":', text):
        try:
            _, end = json.JSONDecoder().raw_decode(text, match.end())
            whole = sha256_bytes(text[match.end() : end].encode("utf-8", "surrogateescape")) == match[1]
        except ValueError:
            whole = False
        if not whole:
            type = re.search(r'"type":"(\w+)"', text[match.end() :])
            return f"{LINEAGE}, {type[1] if type else 'node'} {match[1][:12]}"
    return None


def _difference(here: str | None) -> str:
    return "is missing" if here is None else "was changed or added after the release"


def _first_wrong_line(said: bytes, right: bytes) -> str:
    pairs = zip(said.splitlines(), right.splitlines(), strict=False)
    return next((repr(a.decode(errors="replace")) for a, b in pairs if a != b), "its end")
