"""Walk every hash of a release and name the first thing that does not match. Reads only; trusts no
file alone.

A file's bytes have three witnesses: `lineage.json`, `checksums.txt` and the newest node of the
history, the release. Where `lineage.json`, `checksums.txt` and the file disagree, the one that the
other two contradict is named. The history is Merkle: a node whose content changed no longer has its
id. What this cannot see is a release that someone built anew as a whole; that takes a signature
(signature.py). docs/reference/verifying.md lists what is promised.
"""

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.evaluation import SCHEMA, Evaluation, evaluation_of
from onmodel.hashing import sha256_bytes
from onmodel.ledger import versions
from onmodel.ledger.lineage import Lineage, Node, check_at, facts_of_others, root
from onmodel.lora import header
from onmodel.reading import parse_json, read_bytes
from onmodel.release.card import card_facts
from onmodel.release.folder import CHECKSUMS, LINEAGE, Statement, checksums, hashes, read_checksums
from onmodel.release.tables import (
    CHANGES,
    EVALUATION,
    TABLE,
    ReleaseResult,
    lint_card,
    lint_tables,
    result,
    values,
)
from onmodel.weights import (
    PAYLOAD_KEY,
    is_canonical,
    payload_sha256,
    read_metadata,
    table_sha256,
)

# What a release of others may hold. The largest of ours has a tenth of it.
LARGEST_CARD, LARGEST_EVALUATION = 2**18, 2**28  # bytes
MOST_NUMBERS = 20_000_000  # of an evaluation
MOST_SHOWN, MOST_PROMPTS = 2_000, 2_000
# A fact of a file's node, and what it binds.
FILE_FACTS = {
    "payload_sha256": "the tensors' bytes",
    "tensors_sha256": "the tensors' names, shapes and types",
    "words": "the words of the header",
}


def verify(path: Path) -> list[str]:
    """The checks that a release folder or one .safetensors file passed. Raises VerifyError for the
    first that fails."""
    try:
        if path.is_dir():
            return list(_verify_folder(path))
        if path.suffix == ".safetensors" and path.is_file():
            return verify_weights(path)[0]
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # the path that was asked for
            raise
        raise VerifyError(
            str(error.filename or path), f"cannot be read ({error.strerror})"
        ) from error
    raise InputError("path", path, "name a release folder or a .safetensors file")


def _verify_folder(folder: Path) -> Iterator[str]:
    for name in (LINEAGE, CHECKSUMS):
        if not (folder / name).is_file():
            raise VerifyError(name, "is missing; this is not a complete release folder")
    found = hashes(folder)
    statement = _statement(folder, found)
    yield f"{len(found)} files have the hashes that lineage.json and checksums.txt give"
    yield (
        f"{len(statement.lineage)} nodes of the history match their ids,"
        f" {root(statement.lineage)[:12]} is the newest"
    )
    yield _check_release(statement)
    for name in sorted(name for name in found if name.endswith(".safetensors")):
        lines, lineage = verify_weights(folder / name)
        yield from lines
        missing = sorted(set(lineage) - set(statement.lineage))
        if missing:
            raise VerifyError(
                f"{lineage[missing[0]]['type']} {missing[0][:12]}",
                f"in the header of {name}, not in {LINEAGE}",
            )
        if statement.generated.get(name, root(lineage)) != root(lineage):
            raise VerifyError(name, f"is not the node that {LINEAGE} says it is")
        yield f"{name}: its history is part of {LINEAGE}"
    if EVALUATION in found:
        yield _check_numbers(folder, statement, found)


def _statement(folder: Path, found: dict[str, str]) -> Statement:
    """What `lineage.json` states, after it, `checksums.txt` and the files were held against each
    other."""
    said, data = (_bytes(folder, name) for name in (CHECKSUMS, LINEAGE))
    try:
        statement: Statement | None = Statement.from_bytes(data)
        lineage_error = None
    except VerifyError as error:
        statement, lineage_error = None, error
    listed = read_checksums(said)

    # One witness against two. `lineage.json` has only `checksums.txt` as a witness, but also its
    # own form and node ids.
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
        raise VerifyError(_damaged_node(data) or LINEAGE, lineage_error.what)
    assert statement is not None
    check_at(statement.lineage, LINEAGE)
    for name, id in statement.generated.items():
        if name not in statement.files or id not in statement.lineage:
            raise VerifyError(
                LINEAGE, f"says that {name} is the node {id[:12]}, and one of them does not exist"
            )
    if said != checksums(found):
        raise VerifyError(
            CHECKSUMS,
            f"does not match the files (first: {_first_wrong_line(said, checksums(found))})",
        )
    return statement


def _check_release(statement: Statement) -> str:
    """Compare the files with the hashes in the newest node, which its id proves."""
    node = _newest(statement.lineage)
    if "files" not in node:
        return (
            "not checked: the history does not hold the hashes of the files; an older onmodel"
            " made it"
        )
    with facts_of_others(f"{LINEAGE}, release"):
        held: dict[str, str] = dict(node["files"])
        for name in sorted(set(held) | set(statement.files)):
            if held.get(name) != statement.files.get(name):
                raise VerifyError(
                    name, f"is not the file whose hash the history holds ({node['type']})"
                )
        return f"{len(held)} files have the hashes that the newest node of the history holds"


def verify_weights(path: Path) -> tuple[list[str], Lineage]:
    """Passed checks of one file that onmodel wrote, and the history in its header."""
    try:
        metadata = read_metadata(path)
    except InputError as error:
        raise VerifyError(
            path.name, f"is not a complete safetensors file ({error.remedy})"
        ) from error
    if PAYLOAD_KEY not in metadata or header.RECIPE_KEY not in metadata:
        raise VerifyError(
            path.name, "has no hash or history in its header; onmodel did not write it"
        )
    if not is_canonical(path):
        raise VerifyError(path.name, "its header is not written as onmodel writes it")
    payload = payload_sha256(path)
    if metadata[PAYLOAD_KEY] != payload or metadata.get(header.DIGEST_KEY) != f"0x{payload}":
        raise VerifyError(path.name, "the tensors do not have the hash that the header gives")
    lineage = header.lineage_of(metadata, payload)
    expected = header.history_words(lineage)
    for key in header.HISTORY_KEYS:
        if metadata.get(key) != expected.get(key):
            raise VerifyError(
                f"{path.name}, {key}", "is not what follows from the history in the header"
            )
    node = _newest(lineage)
    _check_node(path, metadata, node)
    lacking = [what for fact, what in FILE_FACTS.items() if fact not in node]
    lines = [
        f"{path.name}: tensors match their hash {payload[:12]}",
        f"{path.name}: {len(lineage)} nodes of the history in its header match their ids",
    ]
    bound = [what for fact, what in FILE_FACTS.items() if fact in node]
    if bound:
        lines.append(f"{path.name}: {', '.join(bound)} are those that the history holds")
    if lacking:
        lines.append(f"{path.name}: not checked, the history does not hold {', '.join(lacking)}")
    return lines, lineage


def _check_node(path: Path, metadata: dict[str, str], node: Node) -> None:
    """Hold a file against the facts of the node that it is."""
    here = header.held(payload_sha256(path), table_sha256(path), metadata)
    for fact in ("payload_sha256", "tensors_sha256"):
        if fact in node and node[fact] != here[fact]:
            raise VerifyError(
                path.name,
                f"{FILE_FACTS[fact]} are not those that the history holds ({node['type']})",
            )
    if "words" not in node:
        return
    with facts_of_others(f"{path.name}, {node['type']}"):
        was: dict[str, str] = dict(node["words"])
        now: dict[str, str] = dict(here["words"])  # type: ignore[call-overload]
    for key in sorted(set(was) | set(now)):
        if was.get(key) != now.get(key):
            how = (
                "added to" if key not in was else "taken out of" if key not in now else "changed in"
            )
            raise VerifyError(
                f"{path.name}, {key}", f"was {how} the header after the file was made"
            )


def _check_numbers(folder: Path, statement: Statement, found: dict[str, str]) -> str:
    """Hold the published numbers against the evaluation's node, and card and tables against the
    numbers."""
    newest = _newest(statement.lineage)
    nodes = [statement.lineage[id] for id in newest["used"]]
    held = [node["evaluation_sha256"] for node in nodes if "evaluation_sha256" in node]
    if not held:
        return f"{EVALUATION}: not checked, the history does not hold the hash of the numbers"
    if found[EVALUATION] not in held:
        raise VerifyError(EVALUATION, "does not hold the numbers of the evaluation in the history")
    if not any(
        node["type"] == "code"
        and (node.get("verb"), node.get("code")) == ("release", versions.VERBS["release"])
        for node in statement.lineage.values()
    ):
        return (
            f"{EVALUATION}: the numbers are those of the history; the card is of another version,"
            " so not checked"
        )
    count = lint_release(folder)
    return (
        f"{EVALUATION}: the numbers are those of the history, and so are {count} numbers of"
        " README.md"
    )


def lint_release(folder: Path) -> int:
    """Hold the card and the CSV files against evaluation.json (tables.py); how many of its numbers
    the card shows.

    Raises VerifyError for the first line or file that says another number, or that cannot be read.
    """
    lineage = Statement.from_bytes(_bytes(folder, LINEAGE)).lineage
    try:
        with facts_of_others("README.md"):
            return _lint(folder, lineage)
    except InputError as error:
        raise VerifyError("README.md", str(error)) from error


def _lint(folder: Path, lineage: Lineage) -> int:
    text = _bytes(folder, "README.md", LARGEST_CARD).decode()
    evaluation = published(_bytes(folder, EVALUATION, LARGEST_EVALUATION))
    shown = max(len(values(evaluation)), len(evaluation.axes))
    if shown > MOST_SHOWN or len(evaluation.plan.prompts) > MOST_PROMPTS:
        raise VerifyError(
            EVALUATION, f"holds more than {MOST_SHOWN} values or {MOST_PROMPTS} prompts"
        )
    model = re.search(r"it is called `(.+?)`", text)
    previous = re.search(r"^###? (?:Every axis|What improved) since `(.+?)`", text, re.M)
    found = result(evaluation, model[1], previous and previous[1]) if model else ReleaseResult()
    count = lint_card(
        text, evaluation, found, card_facts(evaluation, lineage, _json(folder, "triggers.json"))
    )
    # The changes.csv of an older form has the outcomes and p of the tests of its day.
    names = [TABLE, *([CHANGES] if found.changes and evaluation.schema == SCHEMA else [])]
    lint_tables(evaluation, found.changes, {name: _bytes(folder, name).decode() for name in names})
    return count


def published(data: bytes) -> Evaluation:
    """The evaluation of a release that anyone may have written. Raises VerifyError naming the
    field that is damaged."""
    try:
        with facts_of_others(EVALUATION):
            return evaluation_of(parse_json(data.decode(), MOST_NUMBERS))
    except InputError as error:
        raise VerifyError(EVALUATION, str(error)) from error


def _newest(lineage: Lineage) -> Node:
    return lineage[root(lineage)]


def _bytes(folder: Path, name: str, most: int = 2**24) -> bytes:
    try:
        return read_bytes(folder / name, name, most)
    except InputError as error:
        raise VerifyError(name, error.remedy) from error


def _json(folder: Path, name: str, most: int = 2**24) -> Any:
    return parse_json(_bytes(folder, name, most).decode(), MOST_NUMBERS)


def _damaged_node(data: bytes) -> str | None:
    """The node of `lineage.json` whose bytes do not have the hash that is their id, where the file
    can not be read.

    A node stands in the statement in its canonical form, so its own bytes are what was hashed.
    """
    text = data.decode("utf-8", "surrogateescape")
    place = 0
    while match := re.compile(r'"([0-9a-f]{64})":').search(text, place):
        try:
            _, place = json.JSONDecoder().raw_decode(text, match.end())
            whole = (
                sha256_bytes(text[match.end() : place].encode("utf-8", "surrogateescape"))
                == match[1]
            )
        except (ValueError, RecursionError):
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
