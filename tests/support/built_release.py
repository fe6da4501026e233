"""A whole release of the tiny base, made by the release stage."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.families.registry import load_base
from onmodel.hashing import sha256_file, write_json
from onmodel.ledger.lineage import add
from onmodel.lora import header
from onmodel.lora.tensors import Factors, Lora, write_lora
from onmodel.randomness import normal
from onmodel.records import Artifact
from onmodel.release.folder import Statement, bind
from onmodel.stages import release
from onmodel.stages.base import Inputs, write_models
from tests.support.contexts import context
from tests.support.release_history import CHOICE, character, evaluation, history

NAME = "backgwa-release-2"


def build(
    work: Path, base: Path, damage: str = "", text: Collection[str] = (), **changed: Any
) -> Artifact:
    """The release stage on a random LoRA of the tiny base, with a made-up evaluation. Also run in
    another process. Layers of the components `text` are in it too.

    `damage` is a file whose last byte is another one since it was made.
    """
    family = load_base({"family": "anima", "folder": base, "device": "cpu"})
    past = history()
    (weights_id,) = [id for id, node in past.items() if node["type"] == "weights"]
    checkpoint = past[weights_id]["used"][0]
    wanted, todo = set(), [checkpoint]
    while todo:
        wanted.add(todo[-1])
        todo.extend(past[todo.pop()]["used"])
    own = {id: past[id] for id in wanted}

    model = work / "final"
    modules = {}
    rows = [row for row in family.spec.text_linears if row.component in text]
    for linear in [*family.spec.targets("attention_mlp"), *rows]:
        down = torch.from_numpy(normal((4, linear.in_features), 1, "down", linear.name)) * 0.3
        up = torch.from_numpy(normal((linear.out_features, 4), 1, "up", linear.name)) * 0.1
        modules[linear.name] = Factors(down, up, 2.0)
    facts = header.Facts(
        "refined epoch 15", "someone", "MIT", "backgwa", family.spec.architecture, 96, "2026-11-22"
    )
    model.mkdir(parents=True)
    write_lora(
        model / "epoch-0015.safetensors", Lora(modules), header.build(facts, own, ss_epoch="15")
    )
    write_models(model, [("refined@15", 15, "epoch-0015.safetensors")])
    write_json(model / "lineage.json", add([own], "selection", chosen=["1" * 64], signature=CHOICE))
    measured = work / "confirmed"
    sha256 = {"refined@15": sha256_file(model / "epoch-0015.safetensors")}
    write_evaluation(measured / FILE, evaluation(sha256))
    write_json(
        measured / "lineage.json",
        add(
            [own],
            "evaluation",
            signature="onm|suite:confirm-ab12cd34|P:24|S:2",
            models=list(sha256.values()),
            evaluation_sha256=sha256_file(measured / "evaluation.json"),
        ),
    )

    if damage:
        data = (work / damage).read_bytes()
        (work / damage).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    scratch = work / "scratch"
    where = context(
        scratch, lambda: family, "release", character=character(), pictures=work / "pictures"
    )
    table = {
        "do": "release",
        "model": "final",
        "evaluation": "confirmed",
        "title": "BACKGWA Release 2",
        "file_name": NAME,
        "samples": 4,
        "previous": "release_1",
        "thumbnail": True,
        "train_notes": "Sleeves may merge.",
    } | changed
    inputs = Inputs(
        {
            "final": Artifact("selection", "f", model),
            "confirmed": Artifact("evaluation", "e", measured),
        }
    )
    return release.run(inputs, release.Settings.model_validate(table), where)


def rebind(folder: Path) -> None:
    """As someone would who changes a file and writes the hashes anew."""
    statement = Statement.from_bytes((folder / "lineage.json").read_bytes())
    bind(folder, statement.lineage, statement.generated)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change
