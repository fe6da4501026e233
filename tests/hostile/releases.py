"""Releases and histories that were tampered with, or made by someone who wishes harm."""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.hashing import canonical_json, hash_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora.factors import LayerShape
from onmodel.lora.header import Facts, build
from onmodel.lora.writing import LoraTensors
from onmodel.release.folder import bind
from tests.hostile.case import Case, Place, Run, run
from tests.hostile.pictures import encoded
from tests.support.evaluations import evaluation
from tests.support.lora_files import SHAPES, factors

DEEP = "[" * 200_000
FACTS = Facts("Tiny", "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22")


def history(**facts: Any) -> Lineage:
    """A data set, a training and its checkpoint; `facts` stand in the training's node."""
    data = add(
        [],
        "dataset",
        name="data",
        root="d" * 64,
        subsets={"base": {"count": 4, "heldout": 1}},
        origins={"toon": 4},
    )
    run = add(
        [data],
        "run",
        **{
            "name": "look",
            "seed": 1,
            "settings": {
                "do": "train",
                "epochs": 2,
                "rank": 2,
                "alpha": 2.0,
                "batch": 2,
                "resolution": 32,
                "learning_rate": 1e-3,
            },
            "steps": 4,
            "shares": [{"subset": "base", "repeats": 2, "stage": None}],
            **facts,
        },
    )
    return add([add([run], "checkpoint", epoch=2)], "weights", name="tiny")


@cache
def whole(**facts: str) -> dict[str, bytes]:
    """The files of a small release that verifies."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "tiny"
        weights = history(**facts)
        LoraTensors(
            {name: LayerShape(*shape, 2) for name, shape in SHAPES.items()},
            dict.fromkeys(SHAPES, 2.0),
            lambda layer: factors(layer, 1, 2),
        ).stream(folder / "tiny.safetensors", build(FACTS, weights))
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n", encoding="utf-8")
        (folder / "images").mkdir()
        (folder / "images" / "a.png").write_bytes(encoded())
        write_evaluation(folder / "evaluation" / FILE, evaluation([]))
        bind(
            folder,
            add([weights], "release", name="tiny", date="2026-11-22"),
            {"tiny.safetensors": root(weights)},
        )
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def put(place: Place, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        place.put(name, data, below="tiny")


def _with(**files: bytes | None) -> Callable[[Place], None]:
    """A whole release with other content in some files; None removes a file."""
    names = {
        "lineage": "lineage.json",
        "checksums": "checksums.txt",
        "weights": "tiny.safetensors",
        "card": "README.md",
        "numbers": "evaluation/evaluation.json",
        "picture": "images/a.png",
        "more": "more.txt",
    }

    def build(place: Place) -> None:
        now = whole() | {names[key]: data for key, data in files.items() if data is not None}
        put(
            place,
            {
                name: data
                for name, data in now.items()
                if name not in {names[key] for key, data in files.items() if data is None}
            },
        )

    return build


def _statement(
    change: Callable[[dict[str, Any]], object], seal: bool = True
) -> Callable[[Place], None]:
    """A release whose statement was changed; with `seal`, in canonical form again."""

    def build(place: Place) -> None:
        files = whole()
        table = json.loads(files["lineage.json"])
        change(table)
        data = canonical_json(table) if seal else json.dumps(table, ensure_ascii=False).encode()
        rows = files["checksums.txt"].decode().splitlines()
        sums = [
            f"{sha256_bytes(data)}  lineage.json" if row.endswith("  lineage.json") else row
            for row in rows
        ]
        put(
            place,
            files | {"lineage.json": data, "checksums.txt": ("\n".join(sums) + "\n").encode()},
        )

    return build


def _nodes(change: Callable[[dict[str, Any]], object]) -> Callable[[Place], None]:
    """A history whose nodes were changed; every id is right again, also in what names it."""

    def build(place: Place) -> None:
        lineage = {
            id: dict(node)
            for id, node in add([history()], "release", name="tiny", date="2026-11-22").items()
        }
        for node in lineage.values():
            change(node)
        new: dict[str, str] = {}
        while len(new) < len(lineage):
            for id, node in lineage.items():
                if id not in new and all(parent in new for parent in node["used"]):
                    node["used"] = sorted(new[parent] for parent in node["used"])
                    new[id] = hash_json(node)
        files = {name: data for name, data in whole().items() if name != "tiny.safetensors"}
        put(place, files)
        bind(place.given / "tiny", {new[id]: node for id, node in lineage.items()}, {})

    return build


def _runs(*codes: int, lineage: tuple[int, ...] = (1, 2)) -> tuple[Run, ...]:
    return (
        run("release", "verify", "{in}/tiny", codes=codes or (1, 2)),
        run("release", "lineage", "{in}/tiny", codes=lineage),
        run("release", "rebuild", "{in}/tiny", "--out", "{out}/again", codes=(1, 2)),
        run("release", "check", "{in}/tiny", codes=(0, 1, 2), findings=True),
    )


def _linked(place: Place, name: str, target: str) -> None:
    put(place, whole())
    os.symlink(target, place.given / "tiny" / name)


def _fifo(place: Place) -> None:
    put(place, whole())
    os.mkfifo(place.given / "tiny" / "pipe.txt")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


ODD = "\x1b[31m\u202e\u2028[/x]<script>alert(1)</script>"
# What is no release any more: every command that reads its history refuses it.
BROKEN: dict[str, Callable[[Place], None]] = {
    "lineage-empty": _with(lineage=b""),
    "lineage-text": _with(lineage=b"no json"),
    "lineage-deep": _with(lineage=DEEP.encode()),
    "lineage-deep-table": _with(lineage=b'{"a":' * 200_000),
    "lineage-list": _with(lineage=b"[]"),
    "lineage-number": _with(lineage=b"5"),
    "lineage-null": _with(lineage=b"null"),
    "lineage-utf-16": _with(lineage="{}".encode("utf-16")),
    "lineage-not-utf8": _with(lineage=b'{"\xff": 1}'),
    "lineage-cut": _with(lineage=_cut(whole()["lineage.json"])),
    "lineage-nan": _with(lineage=b'{"subject": NaN}'),
    "lineage-digits": _with(lineage=b'{"a": ' + b"9" * 6_000 + b"}"),
    "lineage-empty-table": _with(lineage=b"{}"),
    "own-odd": _with(lineage=b'{"a": 5}'),
    "own-cycle": _with(
        lineage=b'{"a":{"type":"run","used":["b"]},"b":{"type":"run","used":["a"]}}'
    ),
    "own-used-number": _with(lineage=b'{"a":{"type":"run","used":5}}'),
    "own-no-used": _with(lineage=b'{"a":{"type":"run"}}'),
    "subject-text": _statement(lambda t: t.update(subject="x")),
    "subject-row": _statement(lambda t: t["subject"].append(5)),
    "subject-digest": _statement(lambda t: t["subject"][0].update(digest=5)),
    "predicate-list": _statement(lambda t: t.update(predicate=[])),
    "entity-list": _statement(lambda t: t["predicate"].update(entity=[])),
    "node-number": _statement(lambda t: t["predicate"]["entity"].update({"a" * 64: 5})),
    "node-null": _statement(lambda t: t["predicate"]["entity"].update({"a" * 64: None})),
    "node-cycle": _statement(
        lambda t: t["predicate"]["entity"].update(
            {"a" * 64: {"type": "weights", "used": ["a" * 64]}}
        )
    ),
    "node-tampered": _statement(
        lambda t: next(iter(t["predicate"]["entity"].values())).update(name="other")
    ),
    "node-gone": _statement(
        lambda t: t["predicate"]["entity"].pop(next(iter(t["predicate"]["entity"])))
    ),
    "generated-row": _statement(lambda t: t["predicate"].update(specializationOf=[5])),
    "not-canonical": _statement(lambda t: None, seal=False),
    "key-surrogate": _with(lineage=b'{"\\ud800": {"type": "run", "used": []}}'),
}
# Whose history is whole, while a file is not what it says.
CHANGED: dict[str, Callable[[Place], None]] = {
    "weights-cut": _with(weights=_cut(whole()["tiny.safetensors"])),
    "weights-empty": _with(weights=b""),
    "weights-pickle": _with(weights=b"\x80\x04cposix\nsystem\n(V touch pwned\ntR."),
    "weights-gone": _with(weights=None),
    "checksums-empty": _with(checksums=b""),
    "checksums-up": _with(
        checksums=whole()["checksums.txt"] + b"0" * 64 + b"  ../../elsewhere/secret.txt\n"
    ),
    "checksums-binary": _with(checksums=bytes(range(256))),
    "checksums-gone": _with(checksums=None),
    "checksums-escape": _with(checksums=b"\x1b[31m  \x1b[2J\n"),
    "card-other": _with(card=b"# Other"),
    "card-not-utf8": _with(card=b"\xff\xfe"),
    "card-yaml-bomb": _with(card=b"---\na: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n--- \nx"),
    "card-yaml-call": _with(card=b"---\na: !!python/object/apply:os.system ['touch pwned']\n---\n"),
    "card-deep": _with(card=b"---\na: " + DEEP.encode() + b"\n---\n"),
    "numbers-deep": _with(numbers=DEEP.encode()),
    "numbers-list": _with(numbers=b"[]"),
    "picture-text": _with(picture=b"no picture"),
    "more": _with(more=b"more"),
    "link": lambda place: _linked(place, "link.txt", "../../elsewhere/secret.txt"),
    "link-folder": lambda place: _linked(place, "up", "../.."),
    "link-loop": lambda place: _linked(place, "loop", "loop"),
    "link-device": lambda place: _linked(place, "zero.txt", "/dev/zero"),
    "pipe": _fifo,
    "subject-up": _statement(
        lambda t: t["subject"].append(
            {"name": "../../elsewhere/secret.txt", "digest": {"sha256": "0" * 64}}
        )
    ),
    "subject-absolute": _statement(
        lambda t: t["subject"].append({"name": "/etc/passwd", "digest": {"sha256": "0" * 64}})
    ),
    "subject-nul": _statement(
        lambda t: t["subject"].append({"name": "z\0", "digest": {"sha256": "0" * 64}})
    ),
    "subject-escape": _statement(
        lambda t: t["subject"].append({"name": "z" + ODD, "digest": {"sha256": "0" * 64}})
    ),
    "subject-twice": _statement(lambda t: t["subject"].append(t["subject"][0])),
    "generated-up": _statement(
        lambda t: t["predicate"]["specializationOf"].append(
            {"specificEntity": "../x", "generalEntity": "a" * 64}
        )
    ),
}
# Every hash is right, but the content is odd. It may pass; it must not break anything.
SEALED: dict[str, Callable[[Place], None]] = {
    "names": _nodes(lambda node: node.update(name=ODD)),
    "names-up": _nodes(lambda node: node.update(name="../../../../elsewhere/pwned")),
    "names-number": _nodes(lambda node: node.update(name=5)),
    "names-list": _nodes(lambda node: node.update(name=[{}])),
    "settings": _nodes(lambda node: node.update(settings=5)),
    "settings-do": _nodes(lambda node: node.update(settings={"do": "../../x"})),
    "settings-exec": _nodes(
        lambda node: node.update(settings={"do": "train", "dataset": ODD, "epochs": "x"})
    ),
    "types": _nodes(lambda node: node.update(type=ODD)),
    "types-number": _nodes(lambda node: node.update(type=5)),
    "subsets": _nodes(lambda node: node.update(subsets=5)),
    "subsets-odd": _nodes(lambda node: node.update(subsets={ODD: {"count": "many"}})),
    "deep": _nodes(lambda node: node.update(facts=json.loads("[" * 60 + "]" * 60))),
    "large": _nodes(lambda node: node.update(facts="x" * 300_000)),
    "floats": _nodes(lambda node: node.update(facts=1e308)),
    "used-twice": _nodes(lambda node: node.update(used=[*node["used"], *node["used"]])),
    "recipe": _nodes(
        lambda node: (
            node.update(type="recipe", seed=1, date="x", threads=1)
            if node["type"] == "dataset"
            else None
        )
    ),
}


def _chain(count: int) -> Callable[[Place], None]:
    """A history that is right and as deep as a recursion cannot follow."""

    def build(place: Place) -> None:
        lineage: Lineage = {}
        last: list[str] = []
        for i in range(count):
            node = {"type": "run", "used": last, "name": f"n{i}", "seed": 1}
            last = [hash_json(node)]
            lineage[last[0]] = node
        put(place, {name: data for name, data in whole().items() if name != "tiny.safetensors"})
        bind(place.given / "tiny", lineage, {})

    return build


PROOFS: dict[str, bytes] = {
    "empty": b"",
    "text": b"no json",
    "list": b"[]",
    "number": b"5",
    "deep": DEEP.encode(),
    "type": b'{"type": [1]}',
    "not-utf8": b"\xff",
    "none": b'{"type": "urn:onmodel:picture-proof:1", "proofs": []}',
    "rows": b'{"type": "urn:onmodel:picture-proof:1", "proofs": [5]}',
    "path": b'{"type": "urn:onmodel:picture-proof:1", "proofs": [{"node": "x", "path": 5}]}',
    "escape": b'{"type": "\\u001b[31m\\u2028"}',
}


def _proof(data: bytes) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        put(place, whole())
        place.put("proof.json", data)

    return build


CASES = (
    *(Case(f"release-{id}", build, _runs()) for id, build in BROKEN.items()),
    *(Case(f"release-{id}", build, _runs(lineage=(0, 1, 2))) for id, build in CHANGED.items()),
    *(
        Case(
            f"release-sealed-{id}",
            build,
            (
                *_runs(0, 1, 2, lineage=(0, 1, 2)),
                run(
                    "lineage",
                    "{in}/tiny",
                    "--html",
                    "{out}/page.html",
                    "--svg",
                    "{out}/drawing.svg",
                    codes=(0, 1, 2),
                ),
            ),
            lambda place: _page(place),
        )
        for id, build in SEALED.items()
    ),
    Case(
        "release-sealed-long",
        _chain(3_000),
        (
            run("release", "verify", "{in}/tiny", codes=(0, 1, 2)),
            run("release", "lineage", "{in}/tiny", codes=(0, 1, 2)),
            run("release", "rebuild", "{in}/tiny", "--out", "{out}/again", codes=(1, 2)),
        ),
    ),
    *(
        Case(
            f"release-{id}",
            make,
            (
                run("release", "verify", "{in}/tiny"),
                run("release", "lineage", "{in}/tiny"),
                run("release", "check", "{in}/tiny"),
            ),
        )
        for id, make in {
            "missing": lambda place: None,
            "pipe-itself": lambda place: os.mkfifo(place.given / "tiny"),
            "loop-itself": lambda place: (place.given / "tiny").symlink_to("tiny"),
        }.items()
    ),
    *(
        Case(
            f"proof-{id}",
            _proof(data),
            (run("release", "verify", "{in}/tiny", "--proof", "{in}/proof.json", codes=(1, 2)),),
        )
        for id, data in PROOFS.items()
    ),
)


def _page(place: Place) -> list[str]:
    found = []
    for name in ("page.html", "drawing.svg"):
        path = place.out / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        found += [
            f"{name} holds {sign!r} as it is"
            for sign in ("<script>alert", "\x1b", "\u202e")
            if sign in text
        ]
    return found
