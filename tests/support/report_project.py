"""A made-up finished run in the true formats: drawn pictures, numbers from a stated model. Nothing
here was trained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from onmodel.character import Author, Character
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.choice import Choice, SearchRecord
from onmodel.evaluate.evaluation import Evaluation, PlannedPrompt, evaluation_of
from onmodel.evaluate.observers.colour import SECTORS
from onmodel.evaluate.selection import RULE
from onmodel.evaluate.statistics import geometric_interval, mean_interval
from onmodel.hashing import sha256_bytes
from onmodel.ledger.lineage import Lineage, add
from onmodel.randomness import generator
from onmodel.records import Item
from onmodel.report.source import ReportSource
from onmodel.toon.attributes import BACKGWA, sample_toon
from onmodel.toon.captions import sentence, tags
from onmodel.toon.draw import draw
from tests.support.evaluations import plan

RECIPE = """# onmodel run recipes/made_up.toml
[recipe]
name = "backgwa-release-2"
character = "toon:backgwa"
date = "2026-11-22"

[stages.release_2]
do = "train"
epochs = 40
"""
SUBSETS = {
    "backgwa_base": ("basic appearance and core features", 40, 2),
    "backgwa_alignment": (
        "invariant identity; counters the bias of additional and of Release 1",
        20,
        4,
    ),
    "backgwa_additional": (
        "expression and prompt response under changes of body, clothing, detail",
        40,
        1,
    ),
}
DATA = [{"subset": name, "repeats": repeats} for name, (_, _, repeats) in SUBSETS.items()]
STAGES: dict[str, dict[str, Any]] = {
    "pictures": {"do": "curate"},
    "preview": {
        "do": "train",
        "epochs": 20,
        "dataset": "pictures",
        "data": [{"subset": "backgwa_base", "repeats": 4}],
    },
    "release_1": {"do": "train", "epochs": 20, "dataset": "pictures", "data": DATA[:2]},
    "release_2": {"do": "train", "epochs": 40, "dataset": "pictures", "data": DATA},
    "candidates": {"do": "evaluate", "models": ["preview", "release_1", "release_2@*"]},
    "five": {"do": "select", "candidates": "candidates", "count": 4},
    "merged": {"do": "merge", "models": "five"},
    "refined": {
        "do": "train",
        "epochs": 10,
        "start": "merged",
        "dataset": "pictures",
        "data": [{"subset": "backgwa_alignment"}],
    },
    "fresh": {
        "do": "evaluate",
        "models": ["preview", "release_1", "five", "merged", "refined"],
        "training": ["pictures"],
    },
    "dosed": {"do": "tune", "models": ["release_2@*"]},
    "release": {"do": "release", "model": "refined@10", "evaluation": "fresh"},
}
# How on-model each model is, 0..1; every number and every picture follows from it.
GOODNESS = {
    "preview@20": 0.15,
    "release_1@20": 0.42,
    "merged": 0.8,
    "refined@5": 0.82,
    "refined@10": 0.9,
}
# What these made-up evaluations measure; a report shows the axes of its evaluation, whatever there
# are today.
MEASURED = (
    "reproduction",
    "responsiveness",
    "expression",
    "composition",
    "style",
    "colour_cast",
    "colour_area",
    "drift",
)
KINDS = {
    "expression": ("expression", ("smile", "sad", "angry", "surprised", "wink")),
    "framing": ("framing", ("close-up", "full body")),
    "style": ("style", ("pixel art", "lineart", "pastel")),
    "background": ("background", ("forest", "beach", "night sky")),
    "plain": ("expression", ("expressionless",)),
}


def made_up(
    folder: Path, prompts: int = 10, seeds: int = 2, epochs: tuple[int, ...] = (10, 20, 30, 40)
) -> ReportSource:
    """Write pictures below `folder` and return the source of a report about a run of every
    stage."""
    folders = {name: folder / "objects" / name for name in STAGES}
    candidates = ["preview@20", "release_1@20", *(f"release_2@{epoch}" for epoch in epochs)]
    chosen = ["preview@20", "release_1@20", *(f"release_2@{epoch}" for epoch in epochs[-2:])]
    pictures = data_set(folders["pictures"])
    release = folder / "release" / "backgwa"
    for file, text in (
        ("backgwa.safetensors", "weights"),
        ("README.md", "# card"),
        ("images/01.png", "picture"),
    ):
        (release / file).parent.mkdir(parents=True, exist_ok=True)
        (release / file).write_text(text)
    return ReportSource(
        title="backgwa-release-2",
        recipe_text=RECIPE,
        stages=STAGES,
        character=character(),
        evaluations={
            "candidates": evaluation(
                folders["candidates"], "choose", candidates, max(prompts // 2, 3), 1
            ),
            "fresh": evaluation(
                folders["fresh"],
                "fresh",
                [*chosen, "merged", "refined@5", "refined@10"],
                prompts,
                seeds,
                pictures,
            ),
        },
        folders=folders,
        selections={"five": selection(candidates, chosen), "dosed": dosed(epochs[-2:])},
        training={
            name: training(table["epochs"])
            for name, table in STAGES.items()
            if table["do"] == "train"
        },
        datasets={"pictures": pictures},
        merges={"merged": merge(chosen)},
        searches={"merged": search(chosen)},
        seconds={name: 3.0 + 41.7 * (len(name) % 4) for name in STAGES},
        final="refined@10",
        confirm="fresh",
        release=release,
        project=folder,
        lineage=lineage(epochs),
    )


def character() -> Character:
    return Character(
        name="BACKGWA",
        trigger="backgwa",
        tags=["light blue hair", "cat ears"],
        free=["expression"],
        description=(
            "Pale blue bob, cat ears, golden eyes, navy beret, red ribbon, blue jacket with"
            " oversized sleeves."
        ),
        palette={
            "hair": "#98d8fa",
            "eyes": "#fcca18",
            "beret": "#2a3674",
            "ribbon": "#de2c34",
            "jacket": "#3c6cd6",
        },
        outfits=[],
        author=Author(name="a made-up author"),
        license="circlestone-labs-non-commercial-license",
        rating="safe",
    )


def goodness(name: str) -> float:
    """Release 2 rises over its epochs and then turns."""
    if name in GOODNESS:
        return GOODNESS[name]
    epoch = int(name.partition("@")[2])
    return 0.35 + 0.4 * np.sin(np.pi * min(epoch, 40) / 64)


def evaluation(
    folder: Path,
    suite: str,
    names: list[str],
    prompts: int,
    seeds: int,
    pictures: dict[str, Any] | None = None,
) -> Evaluation:
    """An evaluation of these models, with pictures; with a data set's, its first ones are told as
    nearest to those of each model."""
    rows = [prompt(suite, at) for at in range(prompts)]
    observers = "tagger:0f1e2d3c|identity:a1b2c3d4"
    size = f"P:{prompts}|S:{seeds}|cfg:3|steps:16|v:9c1d"
    signature = f"onm|suite:{suite}-ab12cd34|{observers}|{size}"
    ids = [row.id for row in rows]
    models = [model(folder, name, ids, rows, seeds, signature, goodness(name)) for name in names]
    controls = {
        arm: model(folder, arm, ids, rows, seeds, signature, level)
        for arm, level in (("B", 0.0), ("D", 0.6))
    }
    for row in controls.values():
        row["pictures"] = {row["name"]: row["pictures"]["L"]}
        for axis in ("style", "colour_cast", "colour_area", "drift"):
            del row["axes"][axis], row["per_prompt"][axis]
    models[-1]["negative"] = negative(models[-1])
    for row in models:
        row["axes"]["drift"] = {
            "axis": "drift",
            "value": None,
            "why": "arm N was not generated",
            "signature": signature,
        }
        row["per_prompt"]["drift"] = {}
    if pictures:
        copied(models, pictures)
    table = {
        "signature": signature,
        "plan": asdict(plan(rows, seeds, suite=suite)),
        "axes": {id: AXES[id][0].as_dict() for id in MEASURED},
        "observers": {
            "tagger": [{"from": "toon", "licence": "mit"}],
            "copy_embedding": [{"from": "hf://somebody/copies", "licence": None}],
        },
        "models": models,
        "controls": controls,
    }
    return evaluation_of(table)


def negative(row: dict[str, Any]) -> dict[str, Any]:
    """A negative prompt that helps against the cast and harms responsiveness."""
    effect = {
        "colour_cast": {
            "gain": 0.4,
            "low": 0.3,
            "high": 0.5,
            "n": 12,
            "left": 0.2,
            "remains": True,
            "p": 0.001,
        },
        "responsiveness": {
            "gain": -0.2,
            "low": -0.3,
            "high": -0.1,
            "n": 12,
            "left": 0.1,
            "remains": True,
            "p": 0.02,
        },
        "style": {
            "gain": 0.1,
            "low": -0.1,
            "high": 0.3,
            "n": 4,
            "left": 0.0,
            "remains": False,
            "p": 0.6,
        },
    }
    return {
        "effect": effect,
        "without": {axis: row["axes"][axis] | {"value": 9.25} for axis in effect},
    }


def prompt(suite: str, at: int) -> PlannedPrompt:
    kind = list(KINDS)[at % len(KINDS)]
    attribute, values = KINDS[kind]
    value = values[at // len(KINDS) % len(values)]
    text = f"1girl, backgwa, {value}, upper body, <b>& at ease</b>"
    words = {
        "L": text,
        "B": text,
        "N": text.replace("backgwa, ", ""),
        "D": text.replace("backgwa", "light blue hair, cat ears"),
    }
    id = f"{kind}-{value.replace(' ', '-')}-{at}"
    return PlannedPrompt(id, kind, {attribute: value}, (value,), words, "worst quality")


def model(
    folder: Path,
    name: str,
    ids: list[str],
    prompts: list[PlannedPrompt],
    seeds: int,
    signature: str,
    level: float,
) -> dict[str, Any]:
    """One row of `models`: per-prompt numbers from the model's goodness and a prompt's own ease,
    and drawn pictures."""
    rng = generator(7, "numbers", int(sha256_bytes(name.encode())[:6], 16))
    ease = generator(7, "ease", len(ids)).normal(0, 1, len(ids))
    noise = {axis: rng.normal(0, 1, len(ids)) for axis in MEASURED}
    away = 1 - level
    values = {
        "reproduction": np.clip(
            0.35 + 0.6 * level + 0.06 * ease + 0.05 * noise["reproduction"], 0, 1
        ),
        "responsiveness": np.clip(
            0.5 + 0.4 * level + 0.08 * ease + 0.06 * noise["responsiveness"], -1, 1
        ),
        "expression": np.clip(
            0.45 + 0.55 * level + 0.1 * ease + 0.08 * noise["expression"], 0, None
        ),
        "composition": np.exp(-0.6 * away + 0.05 * ease + 0.08 * noise["composition"]),
        "style": np.clip(0.75 * away + 0.08 * ease + 0.08 * noise["style"], 0, 1),
        "colour_cast": 6.5 * away + 0.8 * ease + 0.9 * noise["colour_cast"],
        "colour_area": 11 * away + 1.6 * ease + 1.2 * noise["colour_area"],
        "drift": np.abs(0.5 * away + 0.05 * noise["drift"]),
    }
    axes = {}
    for axis, found in values.items():
        three = geometric_interval(found) if axis == "composition" else mean_interval(found)
        axes[axis] = {
            "axis": axis,
            "value": three.value,
            "low": three.low,
            "high": three.high,
            "n": three.n,
            "arm": "L",
            "signature": signature,
        }
    arms = {
        arm: {
            row.id: [picture(folder, row, seed, level, arm) for seed in range(seeds)]
            for row in prompts
        }
        for arm in ("L", "N")
    }
    return {
        "name": name,
        "epoch": int(name.partition("@")[2]) if "@" in name else None,
        "sha256": sha256_bytes(name.encode()),
        "axes": axes,
        "per_prompt": {
            axis: dict(zip(ids, map(float, found), strict=True)) for axis, found in values.items()
        },
        "details": details(prompts, seeds, level, values["reproduction"]),
        "answers": {row.id: answers(row, seeds, level) for row in prompts},
        "pictures": arms,
    }


def answers(row: PlannedPrompt, seeds: int, level: float) -> dict[str, dict[str, list[float]]]:
    """The better a model, the surer the asked value; the rest goes to the next value, more of it at
    the second seed."""
    ((attribute, asked),) = row.asked.items()
    values = list(
        dict.fromkeys(
            value for name, found in KINDS.values() if name == attribute for value in found
        )
    )
    other = values[(values.index(asked) + 1) % len(values)]
    sure = [round(min(1.0, level + 0.3 - 0.2 * seed), 3) for seed in range(seeds)]
    return {
        attribute: {
            value: (
                sure
                if value == asked
                else [round(1 - one, 3) for one in sure]
                if value == other
                else [0.0] * seeds
            )
            for value in values
        }
    }


def details(
    prompts: list[PlannedPrompt], seeds: int, level: float, hits: np.ndarray
) -> dict[str, Any]:
    """What the axes tell beside their numbers: yellow gained and blue lost, more so in the
    background."""
    away = 1 - level
    gained = [
        9 * away if hue == "yellow" else -3 * away if hue == "blue" else 0.0 for hue in SECTORS
    ]
    by_prompt = {
        row.id: {
            "whole": [one * (1 + at / 10) for one in gained],
            "background": [2 * one for one in gained],
        }
        for at, row in enumerate(prompts)
        if row.asked.get("background") != "beach"
    }
    regions = {
        region: dict(
            zip(
                SECTORS,
                np.mean([one[region] for one in by_prompt.values()], 0).tolist(),
                strict=True,
            )
        )
        for region in ("whole", "background")
    }
    shifts = {
        "expression": {"style": 0.3 * away, "framing": 0.0},
        "style": {"expression": -0.02},
        "framing": {},
    }
    agreement = {
        row.id: [float(hit) - 0.1 * seed for seed in range(seeds)]
        for row, hit in zip(prompts, hits, strict=True)
    }
    return {
        "reproduction": {"threshold": 0.6, "agreement": agreement},
        "colour_area": regions | {"prompts": by_prompt},
        "entanglement": {"matrix": shifts},
        "style": {
            "pull": 0.5 * away,
            "pull_towards": "comic",
            "pull_by_subset": {"comics": 1.2 * away, "plain": None},
        },
    }


def copied(models: list[dict[str, Any]], pictures: dict[str, Any]) -> None:
    """Tell the nearest training pictures of each model: the first one is a copy."""
    names = [f"{item['subset']}/{item['image'].rpartition('/')[2]}" for item in pictures["items"]]
    for row in models:
        prompts = list(row["pictures"]["L"])
        nearest = [
            {"prompt": prompts[at], "seed": 0, "similarity": 0.99 - 0.1 * at, "training": names[at]}
            for at in range(3)
        ]
        row["details"]["memorisation"] = {"threshold": 0.9, "nearest": nearest}


def dosed(epochs: tuple[int, ...]) -> Choice:
    """The choice of a tuning of two checkpoints at three weights; reproduction rises with the
    weight."""

    def look(epoch: int, weight: float) -> dict[str, Any]:
        value = weight * epoch / 100
        score = {
            "axis": "reproduction",
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "n": 12,
            "arm": "L",
            "signature": f"onm|w:{weight:g}",
        }
        lost = {
            "axis": "drift",
            "value": None,
            "why": "arm N was not generated",
            "signature": f"onm|w:{weight:g}",
        }
        return {
            "name": f"release_2@{epoch} × {weight:g}",
            "model": f"release_2@{epoch}",
            "weight": weight,
            "axes": {"reproduction": score, "drift": lost},
        }

    looks = [
        [look(epoch, 1.0) for epoch in epochs],
        [look(epoch, weight) for epoch in epochs for weight in (0.5, 1.0, 1.2)],
    ]
    names = [[row["name"] for row in rows] for rows in looks]
    winner = names[1][-1]
    rounds = [
        {
            "rung": {"prompts": 12, "seeds": 2},
            "looked": names[0],
            "kept": names[0],
            "dropped": {names[0][0]: "worse <by> 0.2"},
        },
        {"rung": {"prompts": 24, "seeds": 2}, "looked": names[1], "kept": [winner], "dropped": {}},
    ]
    rows = [
        {
            "name": name,
            "epoch": None,
            "chosen": name == winner,
            "bias": 0.3,
            "low": 0.2,
            "high": 0.4,
            "front": 1.0,
            "violation": 0.0,
            "reason": "number 1 by bias",
        }
        for name in names[1]
    ]
    table = {
        "signature": "onm|suite:choose",
        "rule": RULE,
        "count": 1,
        "at_least": {},
        "at_most": {},
        "chosen": [winner],
        "too_close_to_call": True,
        "constraints_met": True,
        "axes": ["reproduction"],
        "candidates": rows,
        "weight": 1.2,
        "records": {id: AXES[id][0].as_dict() for id in ("reproduction", "drift")},
        "rounds": [row | {"measured": look} for row, look in zip(rounds, looks, strict=True)],
    }
    return TypeAdapter(Choice).validate_python(table)


def picture(folder: Path, row: PlannedPrompt, seed: int, level: float, arm: str) -> str:
    """A drawing that misses what was asked the more, and is the yellower, the lower the level."""
    at = int(sha256_bytes(row.id.encode())[:6], 16)
    free = dict(row.asked)
    toon = (
        BACKGWA.toon(framing="upper body", nuisance=at % 1000 + seed)
        if arm == "L"
        else sample_toon(generator(1, "toon", at, seed))
    )
    if generator(2, "miss", at, seed, int(level * 100)).random() < level + 0.2:
        toon = toon.replace(**free)
    pixels = np.asarray(draw(toon), dtype=np.float32)
    veil = np.array([255, 235, 120], dtype=np.float32)
    share = 0.45 * (1 - level) if arm == "L" else 0.0
    return save(folder, Image.fromarray((pixels * (1 - share) + veil * share).astype(np.uint8)))


def save(folder: Path, image: Image.Image) -> str:
    """A PNG below `pictures/` named by its pixels."""
    name = f"pictures/{sha256_bytes(image.tobytes())[:32]}.png"
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    return name


def data_set(folder: Path) -> dict[str, Any]:
    items = []
    for at, (subset, (_, count, _)) in enumerate(SUBSETS.items()):
        for index in range(count):
            rng = generator(3, "data", at, index)
            toon = sample_toon(
                rng, {}, **{**BACKGWA.traits, "style": "flat color" if at else "pastel"}
            )
            image = save(folder, draw(toon))
            items.append(
                Item(
                    image=image,
                    sha256="0" * 64,
                    width=96,
                    height=96,
                    subset=subset,
                    group=index,
                    origin="toon",
                    tags=", ".join(tags(toon, trigger="backgwa")),
                    sentence=sentence(toon, trigger="backgwa"),
                    split="heldout" if index % 8 == 7 else "train",
                ).as_dict()
            )
    subsets = {
        name: {"purpose": purpose, "count": count} for name, (purpose, count, _) in SUBSETS.items()
    }
    return {"subsets": subsets, "items": items, "refused": [{"file": "a.png", "reason": "damaged"}]}


def selection(names: list[str], chosen: list[str]) -> Choice:
    rows = [
        {
            "name": name,
            "epoch": None,
            "chosen": name in chosen,
            "bias": (1 - goodness(name)) / 2,
            "low": (1 - goodness(name)) / 2 - 0.04,
            "high": (1 - goodness(name)) / 2 + 0.04,
            "front": goodness(name),
            "violation": 0.0,
            "reason": (
                "number 2 by Pareto front and bias"
                if name in chosen
                else "worse than release_2@40: style fixation by 0.2"
            ),
        }
        for name in names
    ]
    table = {
        "signature": "onm|suite:choose",
        "rule": RULE,
        "count": len(chosen),
        "at_least": {"reproduction": 0.5},
        "at_most": {},
        "chosen": chosen,
        "too_close_to_call": True,
        "constraints_met": True,
        "axes": list(MEASURED),
        "candidates": rows,
    }
    return TypeAdapter(Choice).validate_python(table)


def merge(names: list[str]) -> dict[str, Any]:
    count = len(names)
    return {
        "method": "uniform",
        "paper": "",
        "rank": 8,
        "alpha": 8.0,
        "energy_kept": 0.973,
        "strength": 2.31,
        "models": [
            {
                "model": "0" * 64,
                "name": name,
                "weight": 1 / count,
                "sha256": "0" * 64,
                "strength": 2.0 + 0.1 * at,
            }
            for at, name in enumerate(names)
        ],
        "cosines": [[1.0 if i == j else 0.4 for j in range(count)] for i in range(count)],
    }


def search(names: list[str]) -> SearchRecord:
    """A search of which nothing better came than the last model alone."""
    count = len(names)
    alone = [[float(i == k) for i in range(count)] for k in range(count)]
    trials = [
        {"weights": row, "block": 0, "why": "start", "value": 1.2 - 0.1 * k}
        for k, row in enumerate(alone)
    ]
    trials.append({"weights": [1 / count] * count, "block": 0, "why": "start", "value": 0.85})
    trials.append({"weights": [1 / count] * count, "block": 1, "why": "repeat", "value": 0.95})
    trials.append(
        {"weights": [0.0] * (count - 2) + [0.4, 0.6], "block": 0, "why": "explore", "value": 0.8}
    )
    table = {
        "objective": "bias",
        "models": [{"name": name, "sha256": "0" * 64} for name in names],
        "trials": trials,
        "expected": [trial["value"] + 0.02 for trial in trials],
        "noise": 0.05,
        "found": trials[-1]["weights"],
        "taken": alone[-1],
        "axes": [{} for _ in trials],
        "signature": "s",
        "check": "c",
    }
    return TypeAdapter(SearchRecord).validate_python(table)


def training(epochs: int) -> list[dict[str, Any]]:
    rng = generator(5, "loss", epochs)
    steps = epochs * 12
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        row = {
            "step": step,
            "epoch": step // 12,
            "loss": 0.16 + 0.12 * np.exp(-step / 90) + float(rng.normal(0, 0.02)),
        }
        if step % 24 == 0:
            row["heldout"] = 0.17 + 0.1 * np.exp(-step / 110) + 0.00008 * max(0, step - 250)
        rows.append(row)
    return rows


def lineage(epochs: tuple[int, ...]) -> Lineage:
    """The whole history of the made-up release."""
    base = add([], "base", name="toon base", sha256="1f" * 32)
    data = {
        name: add([], "dataset", name=name, count=count, root=sha256_bytes(name.encode()))
        for name, (_, count, _) in SUBSETS.items()
    }

    def trained(stage: str, epoch: int, subsets: list[str], start: Lineage) -> Lineage:
        run = add(
            [start, *(data[name] for name in subsets)],
            "run",
            stage=stage,
            epochs=epoch,
            learning_rate="0.002",
            rank=8,
        )
        return add(
            [run], "checkpoint", epoch=epoch, sha256=sha256_bytes(f"{stage}{epoch}".encode())
        )

    names = list(SUBSETS)
    parents = [trained("preview", 20, names[:1], base), trained("release_1", 20, names[:2], base)]
    run = add(
        [base, *data.values()], "run", stage="release_2", epochs=40, learning_rate="0.002", rank=8
    )
    parents += [
        add(
            [run], "checkpoint", name=f"release_2@{epoch}", sha256=sha256_bytes(str(epoch).encode())
        )
        for epoch in epochs[-2:]
    ]
    merged = add(
        parents,
        "merge",
        name="merged",
        method="linear",
        weights=["0.1", "0.2", "0.3", "0.4"],
        rank=8,
    )
    return add(
        [trained("refined", 10, names[1:2], merged)], "release", name="backgwa", license="made up"
    )
