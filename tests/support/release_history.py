"""A made-up evaluation and history in the true formats, for tests of the card. Nothing here was
measured."""

from dataclasses import asdict
from typing import Any

import numpy as np

from onmodel.character import Author, Character, Outfit
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import SCHEMA, Evaluation, PlannedPrompt, evaluation_of
from onmodel.evaluate.statistics import mean_interval
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.randomness import generator
from onmodel.sample.suites import suite, vocabulary_of
from tests.support.evaluations import plan

CHOICE = "onm|suite:choose-cd34ef56|P:12|S:2"
NAMES = ["preview@20", "release_1@20", "release_2@30", "merged", "refined@15"]
LEVEL = dict(zip(NAMES, (0.3, 0.5, 0.7, 0.75, 0.85), strict=True))
RUN = {"batch": 16, "alpha": 8.0, "rank": 8, "resolution": 96, "learning_rate": 2e-3}


def character() -> Character:
    return Character(
        name="BACKGWA",
        trigger="backgwa",
        tags=["light blue hair", "cat ears"],
        license="MIT (toon world)",
        rating="safe",
        free=["expression", "framing", "view", "pose", "background", "style", "outfit"],
        description="A girl with light blue hair in a bob cut, cat ears and yellow eyes.",
        palette={"hair": "#98d8fa"},
        outfits=[
            Outfit(id="default", label="Blue jacket", tags=["blue jacket", "white shirt"]),
            Outfit(id="beach", label="Beach | summer", tags=["dress"]),
        ],
        author=Author(
            name="someone",
            disclaimer="She depicts nobody.",
            terms="Share the pictures as you like.",
        ),
    )


def evaluation(sha256: dict[str, str] | None = None) -> Evaluation:
    """Numbers of five models on the confirm suite; `drift` is unavailable."""
    prompts = [
        PlannedPrompt.of(p, (1, 2)) for p in suite("confirm", character(), vocabulary_of("toon"))
    ]
    ids = [prompt.id for prompt in prompts]
    table = {
        "schema": SCHEMA,
        "signature": "onm|base:1f2e3d4c|suite:confirm-ab12cd34|P:24|S:2|cfg:3|steps:2",
        "plan": asdict(plan(prompts, size=32)),
        "axes": {id: axis.as_dict() for id, (axis, _) in AXES.items()},
        "observers": {},
        "models": [
            {
                "name": name,
                "epoch": None,
                "sha256": (sha256 or {}).get(name, "0" * 64),
                **row(ids, LEVEL[name], name),
            }
            for name in NAMES
        ],
        "controls": {"B": row(ids, 0.1, "B"), "D": row(ids, 0.6, "D")},
    }
    return evaluation_of(table)


def row(ids: list[str], level: float, name: str) -> dict[str, Any]:
    axes, per_prompt = {}, {}
    for axis, (record, _) in AXES.items():
        if axis == "drift":
            axes[axis] = {
                "axis": axis,
                "value": None,
                "why": "arm N was not generated",
                "signature": "s",
            }
            continue
        aim = {"up": level, "one": level, "down": 1 - level, "zero": 3 * (1 - level)}[
            record.direction
        ]
        shared, own = (
            generator(1, "ease", axis).normal(0, 0.1, len(ids)),
            generator(1, "noise", axis, name).normal(0, 0.05, len(ids)),
        )
        values = aim + shared + own
        interval = mean_interval(np.array(values))
        axes[axis] = {
            "axis": axis,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
            "arm": record.arm,
            "signature": "s",
        }
        per_prompt[axis] = dict(zip(ids, map(float, values), strict=True))
    return {"axes": axes, "per_prompt": per_prompt, "pictures": {}}


def history() -> Lineage:
    """preview and release_1 → merge → refined; with the data sets and a selection."""
    base = add([], "base", name="toon", sha256="b" * 64)

    def dataset(name: str, *parents: Lineage, **subsets: int) -> Lineage:
        counts = {
            subset: {"count": count, "heldout": count // 10} for subset, count in subsets.items()
        }
        return add(
            parents,
            "dataset",
            root=name * 16,
            subsets=counts,
            origins={"toon": sum(subsets.values())},
        )

    def run(
        name: str, data: Lineage, epochs: int, repeats: dict[str, int], *parents: Lineage
    ) -> Lineage:
        rows = [
            {"subset": subset, "repeats": count, "stage": None} for subset, count in repeats.items()
        ]
        settings = {**RUN, "dataset": f"{name}_data", "epochs": epochs + 10}
        facts = {"settings": settings, "shares": rows, "steps": 300}
        made = add([base, data, *parents], "run", name=name, seed=1, version="0.1.0", **facts)
        return add([made], "checkpoint", epoch=epochs, step=200, payload_sha256="c" * 64)

    preview = run("preview", dataset("a1b2", preview=24), 20, {"preview": 10})
    first = run("release_1", dataset("c3d4", release_1=32), 20, {"release_1": 8})
    generated = add([first], "pictures", model_sha256="e" * 64, count=96, kept=16)
    second = run(
        "release_2",
        dataset("e5f6", generated, backgwa_base=40, backgwa_alignment=20, backgwa_additional=40),
        30,
        {"backgwa_base": 2, "backgwa_alignment": 4, "backgwa_additional": 1},
    )
    found = add([preview, first, second], "evaluation", signature=CHOICE, models=["1" * 64] * 10)
    chosen = add([found], "selection", chosen=["1" * 64] * 2, signature=CHOICE)
    parts = [
        {"model": root(one), "name": name, "weight": 1 / 3}
        for one, name in (
            (preview, "preview@20"),
            (first, "release_1@20"),
            (second, "release_2@30"),
        )
    ]
    stranger = add([], "model", origin="unknown", sha256="f" * 64)
    merged = add(
        [preview, first, second, stranger],
        "merge",
        name="merged",
        method="uniform",
        parts=parts,
        rank=8,
        exact=False,
        alpha=8.0,
        energy_kept=0.9713,
        base="b" * 64,
    )
    refined = run("refined", dataset("0789", refinement=19), 15, {"refinement": 1}, merged)
    weights = add([refined], "weights", name="backgwa")
    return add([weights, chosen], "release", name="backgwa", date="2026-11-22")
