"""A history that anyone may have written is read, or refused in one line: no traceback, no hang, no
second reading."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.engine.proof import check_proof
from onmodel.errors import OnmodelError, VerifyError
from onmodel.hashing import canonical_json, hash_json, sha256_bytes, write_json
from onmodel.ledger.lineage import Lineage, add, check, ordered, parse, title_of
from onmodel.ledger.store import Ledger
from onmodel.lora import header
from onmodel.release.folder import CHECKSUMS, LINEAGE, Statement, checksums, hashes
from onmodel.release.verify import verify
from onmodel.weights import write_weights

SECONDS = 30  # far above what any takes here; a hang would take hours


def chain(length: int, **facts: Any) -> Lineage:
    lineage: Lineage = {}
    used: list[str] = []
    for number in range(length):
        node = {"type": "checkpoint", "used": used, "epoch": number, **facts}
        used = [hash_json(node)]
        lineage[used[0]] = node
    return lineage


def ladder(type: str, rungs: int = 60) -> Lineage:
    """Two nodes on every rung, each made from both below: two to the power of `rungs` ways down."""
    lineage: Lineage = {}
    below: list[str] = []
    for _ in range(rungs):
        nodes = [{"type": type, "used": below, "side": side} for side in ("left", "right")]
        below = sorted(map(hash_json, nodes))
        lineage |= {hash_json(node): node for node in nodes}
    return lineage | {hash_json(top): top for top in [{"type": "release", "used": below}]}


GOOD = add(
    [], "dataset", name="d", root="0" * 64, subsets={"base": {"count": 1}}, origins={"toon": 1}
)
ID = next(iter(GOOD))
CYCLE = {
    "a" * 64: {"type": "run", "used": ["b" * 64]},
    "b" * 64: {"type": "run", "used": ["a" * 64]},
}
FORMS: dict[str, bytes] = {
    "empty": b"",
    "cut": canonical_json(GOOD)[:-5],
    "no table": b"[]",
    "a text": b'"lineage"',
    "a number": b"3",
    "null": b"null",
    "deep": b'{"a":' * 100_000,
    "deep lists": b"[" * 1_000_000,
    "not UTF-8": b'{"\xff\xfe": 1}',
    "key twice": canonical_json(GOOD).replace(b'"name":"d"', b'"name":"e","name":"d"'),
    "node twice": canonical_json(GOOD)[:-1] + b"," + canonical_json(GOOD)[1:],
    "NaN": b'{"a":{"type":"run","used":[],"x":NaN}}',
    "infinite": b'{"a":{"type":"run","used":[],"x":1e999}}',
    "huge number": b'{"a":{"type":"run","used":[],"x":' + b"9" * 100_000 + b"}}",
    "large number": b'{"a":{"type":"run","used":[],"x":9007199254740993}}',
    "half a pair": b'{"a":{"type":"run","used":[],"x":"\\ud800"}}',
    "node of text": json.dumps({ID: "x"}).encode(),
    "node of null": json.dumps({ID: None}).encode(),
    "no type": json.dumps({ID: {"used": []}}).encode(),
    "type of list": json.dumps({ID: {"type": [], "used": []}}).encode(),
    "no used": json.dumps({ID: {"type": "run"}}).encode(),
    "used of text": json.dumps({ID: {"type": "run", "used": "abc"}}).encode(),
    "used of numbers": json.dumps({ID: {"type": "run", "used": [1]}}).encode(),
    "used of lists": json.dumps({ID: {"type": "run", "used": [[]]}}).encode(),
    "cycle": json.dumps(CYCLE).encode(),
    "cycle of one": json.dumps({"a" * 64: {"type": "run", "used": ["a" * 64]}}).encode(),
    "missing parent": canonical_json(
        {hash_json(n): n for n in [{"type": "run", "used": ["a" * 64]}]}
    ),
    "two newest": canonical_json({**GOOD, **add([], "model", origin="unknown", sha256="0" * 64)}),
    "long": canonical_json(chain(501)),
    "10 MB": canonical_json(add([], "run", x="y" * 10_000_000)),
    "many nodes": json.dumps(
        {f"{n:064x}": {"type": "run", "used": []} for n in range(100_000)}
    ).encode(),
    "many newest": canonical_json(
        {hash_json(n): n for n in [{"type": "r", "used": [], "n": n} for n in range(9_000)]}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_history_is_one_line(form: str) -> None:
    begun = time.monotonic()
    with pytest.raises(VerifyError) as error:
        parse(FORMS[form], "here")
    assert error.value.node.startswith("here") and len(str(error.value)) < 400
    assert time.monotonic() - begun < SECONDS


def _statement(lineage: bytes) -> bytes:
    """A statement of a release around a history of any form."""
    return (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"activity":{},"entity":'
        + lineage
        + b',"specializationOf":[],"used":[],"wasDerivedFrom":[],"wasGeneratedBy":[]},'
        b'"predicateType":"urn:onmodel:lineage:1","subject":[]}'
    )


def folder_of(data: bytes, folder: Path) -> Path:
    folder.mkdir()
    (folder / LINEAGE).write_bytes(data)
    (folder / CHECKSUMS).write_bytes(checksums(hashes(folder)))
    return folder


def file_of(data: bytes, file: Path) -> Path:
    recipe = data.decode(errors="replace")
    words = {
        header.RECIPE_KEY: recipe,
        "onmodel.lineage_sha256": sha256_bytes(recipe.encode()),
        "onmodel.schema": "1",
    }
    write_weights(file, {"a": torch.ones(2)}, words)
    return file


def runs(*words: str) -> str:
    """What a command prints. It ends well or with one of onmodel's own errors."""
    begun = time.monotonic()
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, OnmodelError), (
        words,
        result.exc_info,
    )
    assert time.monotonic() - begun < SECONDS, words
    return result.output if result.exception is None else f"error: {result.exception}"


def commands(path: Path, work: Path) -> dict[str, tuple[str, ...]]:
    Ledger(work / "onmodel.db").close()
    (work / "one.png").write_bytes(b"x")
    return {
        "verify": ("release", "verify", str(path)),
        "lineage": ("release", "lineage", str(path)),
        "html": ("release", "lineage", str(path), "--html", str(work / "x.html")),
        "cyclonedx": (
            "release",
            "lineage",
            str(path),
            "--export",
            "cyclonedx",
            str(work / "x.json"),
        ),
        "json": ("release", "lineage", str(path), "--json"),
        "rebuild": ("release", "rebuild", str(path), "--out", str(work / "rebuilt")),
        "prove": (
            "release",
            "prove",
            str(work / "one.png"),
            str(path),
            "--project",
            str(work),
            "--out",
            str(work / "p.json"),
        ),
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_command_refuses_it_in_a_release_an_artifact_and_a_header(
    form: str, tmp_path: Path
) -> None:
    data = FORMS[form]
    places = {folder_of(_statement(data), tmp_path / "release"): ["verify", "rebuild", "prove"]}
    places[folder_of(data, tmp_path / "artifact")] = ["lineage"]
    if len(data) < 1_000_000:
        places[file_of(data, tmp_path / "x.safetensors")] = ["verify"]
    for place, names in places.items():
        for name in names[: 1 if len(data) > 10_000 else None]:
            said = runs(*commands(place, tmp_path)[name])
            assert said.startswith("error: ") and len(said) < 600, (place.name, name, said)


STATEMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no subject": lambda table: table.pop("subject"),
    "subject of text": lambda table: table.update(subject="x"),
    "name of number": lambda table: table.update(subject=[{"name": 3, "digest": {"sha256": "0"}}]),
    "name of list": lambda table: table.update(subject=[{"name": [], "digest": {"sha256": "0"}}]),
    "hash of null": lambda table: table.update(subject=[{"name": "a", "digest": {"sha256": None}}]),
    "file outside": lambda table: table.update(
        subject=[{"name": "../../etc/passwd", "digest": {"sha256": "0" * 64}}]
    ),
    "no predicate": lambda table: table.update(predicate=None),
    "node of list": lambda table: table["predicate"].update(entity=[]),
    "specialization of list": lambda table: table["predicate"].update(
        specializationOf=[{"specificEntity": "a", "generalEntity": []}]
    ),
    "unknown node": lambda table: table["predicate"].update(
        specializationOf=[{"generalEntity": "0" * 64, "specificEntity": "a"}]
    ),
    "more": lambda table: table.update(more=1),
}


@pytest.mark.parametrize("form", STATEMENTS)
def test_a_statement_of_another_form_is_one_line(form: str, tmp_path: Path) -> None:
    table = json.loads(Statement({}, GOOD, {}).to_bytes())
    STATEMENTS[form](table)
    place = folder_of(canonical_json(table), tmp_path / "release")
    for name in (
        ("verify", "lineage") if form not in ("unknown node", "file outside") else ("verify",)
    ):
        assert runs(*commands(place, tmp_path)[name]).startswith("error: "), name


def _node(type: str, **facts: Any) -> Lineage:
    return add([GOOD], type, **facts)


# Nodes that match their ids, so that nothing but their facts is wrong.
FACTS: dict[str, Lineage] = {
    **{
        f"bare {type}": _node(type)
        for type in (
            "run",
            "merge",
            "checkpoint",
            "checkpoints",
            "pictures",
            "evaluation",
            "selection",
            "search",
            "model",
            "service",
            "weights",
            "release",
            "dataset",
            "recipe",
            "code",
            "environment",
            "character",
            "base",
            "conversion",
            "\x1b[31m",
            "",
        )
    },
    "sets of text": add([], "dataset", name="d", root="0", subsets="x", origins=3),
    "counts of text": add(
        [], "dataset", name="d", root="0", subsets={"a": {"count": "many"}}, origins={}
    ),
    "origin unheard of": add(
        [], "dataset", name="d", root="0", subsets={"a": {"count": 1}}, origins={"?": 1}
    ),
    "root of list": add([], "dataset", name="d", root=[1], subsets={}, origins={}),
    "settings of text": _node("run", settings="x", steps=1, shares=[], name="r"),
    "verb unheard of": _node("run", settings={"do": "os.system"}, steps=1, shares=[], name="r"),
    "verb of list": _node("run", settings={"do": ["x"]}, steps=1, shares=[], name="r"),
    "no epochs": _node(
        "run",
        name="r",
        steps=1,
        root="0",
        exposures={"b": 1},
        settings={"dataset": "d", "epochs": 0},
        shares=[{"subset": "b", "repeats": 1, "stage": None}],
    ),
    "claims of list": _node("model", origin="unknown", sha256="0" * 64, claims=[1]),
    "hash of number": _node("model", origin="unknown", sha256=3),
    "signature of dots": _node("evaluation", signature="a|b:c", models=3),
    "name of a path": _node("release", name="../../x", settings={"do": "release"}),
    "files of number": _node("release", files=3),
    "files of list": _node("release", files=[1, 2]),
    "words of text": _node("weights", words="x", payload_sha256=3, tensors_sha256=None),
    "evaluation of list": add(
        [_node("evaluation", evaluation_sha256=[], signature="s", models=[])], "release"
    ),
    "two recipes": add([add([], "recipe", seed=1), add([], "recipe", seed="x")], "release"),
    "a recipe of text": add(
        [add([], "recipe", seed="x", date=1, threads=[]), add([], "base")], "r"
    ),
    "long": chain(500),
    "long and named": chain(500, name="n", type="merge"),
    "ladder": ladder("checkpoints"),
    "ladder of runs": ladder("run"),
}


@pytest.mark.parametrize("form", FACTS)
def test_facts_of_another_kind_are_read_or_refused_in_one_line(form: str, tmp_path: Path) -> None:
    lineage = FACTS[form]
    check(lineage)
    place = folder_of(Statement({}, lineage, {}).to_bytes(), tmp_path / "release")
    for name, words in commands(place, tmp_path).items():
        said = runs(*words)
        assert "\x1b" not in said or name == "json"
    artifact = folder_of(canonical_json(lineage), tmp_path / "artifact")
    runs("release", "rebuild", str(artifact))
    assert not list(tmp_path.parent.glob("rebuild-*"))
    if len(lineage) < 100:
        runs("release", "verify", str(file_of(canonical_json(lineage), tmp_path / "x.safetensors")))


def test_a_chain_that_is_longer_than_the_stack_is_put_in_order() -> None:
    lineage = chain(4_000)
    assert ordered(lineage) == list(lineage)
    assert title_of(lineage, ordered(lineage)[-1]).endswith("@3998@3999")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"type": "x", "type": "urn:onmodel:picture-proof:1"}',
        "\ud800",
        "[1]",
        "3",
        "null",
        "{}",
        *(
            json.dumps({"type": "urn:onmodel:picture-proof:1", "proofs": proofs})
            for proofs in (
                3,
                [3],
                [[]],
                [{"node": [], "leaf": {}, "path": []}],
                [{"node": ID, "leaf": 3, "path": []}],
                [{"node": ID, "leaf": {"x": 1e400}, "path": []}],
                [{"node": ID, "leaf": {}, "path": [["left", "zz"]]}],
                [{"node": ID, "leaf": {}, "path": [[1]]}],
                [{"node": ID, "leaf": {"image": {}}, "path": 3}],
            )
        ),
    ],
)
def test_a_hostile_proof_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(OnmodelError, match=r"proof"):
        check_proof(tmp_path / "proof.json", GOOD)


def test_what_a_proof_says_is_printed_without_signs_that_a_terminal_obeys(tmp_path: Path) -> None:
    from onmodel.dataset.merkle import merkle_root

    leaf = {"image": "0" * 64, "subset": "b", "tags": "\x1b[2J\u202e"}
    lineage = add([], "dataset", name="d\x1b", root=merkle_root([leaf]), subsets={}, origins={})
    write_json(
        tmp_path / "p.json",
        {
            "type": "urn:onmodel:picture-proof:1",
            "proofs": [{"node": next(iter(lineage)), "leaf": leaf, "path": []}],
        },
    )
    place = folder_of(Statement({}, lineage, {}).to_bytes(), tmp_path / "release")
    said = runs("release", "verify", str(place), "--proof", str(tmp_path / "p.json"))
    assert "tags: \\x1b[2J\\u202e" in said and "\x1b" not in said


@pytest.mark.parametrize("kind", ["pipe", "name", "loop"])
def test_what_is_no_plain_file_of_a_plain_name_is_named(kind: str, tmp_path: Path) -> None:
    import os

    place = folder_of(Statement({}, GOOD, {}).to_bytes(), tmp_path / "release")
    if kind == "pipe":
        os.mkfifo(place / "pipe")
    elif kind == "loop":
        (place / "loop").symlink_to(place)
    else:
        Path(os.fsdecode(os.fsencode(place) + b"/na\xffme")).write_bytes(b"x")
    with pytest.raises(VerifyError, match=r"pipe|loop|na\\udcffme"):
        verify(place)
