"""What rewriting alpha in a merge does to the training that follows: held-out loss with alpha kept
and rewritten.

python run.py bench-alpha [--project FOLDER] [--out docs/images] [--epochs 12]

A run on the toon base with alpha 1 is trained, its late checkpoints are merged to the same rank,
and the merge is trained on twice from the same ΔW, on the same pictures in the same order at the
same learning rate: with alpha 1, and with alpha rewritten to the rank. ΔW = alpha/rank · up @ down,
so with balanced factors a small step of Adam moves ΔW √(alpha/rank) times as far as it does at
alpha = rank. Writes alpha_trap.json and alpha_trap.svg; the same project folder goes on where it
stopped. The last line is JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onmodel.cli.render import on_terminal
from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.hashing import write_atomic, write_json
from onmodel.lora.tensors import Lora, read_lora
from onmodel.recipe import load_recipe
from onmodel.report.svg import Scale, element, path, places_of, ticks
from onmodel.stages.base import Inputs
from onmodel.text import decimal

RANK, ALPHA = 16, 1
COLOURS = {"kept": "#1f6feb", "rewritten": "#d1242f"}
RECIPE = """
[recipe]
name = "alpha-trap"
character = "toon:backgwa"
seed = 7
date = "2026-11-22"
threads = 1

[defaults.train]
dataset = "data"
data = [{{ subset = "base" }}]
rank = {rank}
batch = 12
resolution = 96
shuffle_tags = false    # one caption a picture: captions cost more than steps here

[stages.data]
do = "curate"
heldout = 0.25
subsets.base = [{{ toon = "backgwa_base", count = 48 }}]

[stages.source]
do = "train"
alpha = {alpha}
epochs = 16
learning_rate = 2e-2    # four times that of alpha = rank, which gives the same steps of ΔW
keep_every = 4

[stages.merged]
do = "merge"
models = ["source@8", "source@12", "source@16"]
rank = {rank}

[stages.untouched]      # so small a rate leaves the merge as it is: its own loss, at step 0
do = "train"
start = "merged"
alpha = {alpha}
epochs = 1
learning_rate = 1e-9

[stages.kept]
do = "train"
start = "merged"
alpha = {alpha}
epochs = {epochs}
learning_rate = 8e-3

[stages.rewritten]
do = "train"
start = "merged"
alpha = {rank}
epochs = {epochs}
learning_rate = 8e-3
"""


def measure(folder: Path, epochs: int) -> dict[str, Any]:
    """Run the recipe in a project folder. Curves as [step, held-out loss], and how far the first
    epoch moved ΔW."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe_file = folder / "recipe.toml"
    recipe_file.write_text(RECIPE.format(rank=RANK, alpha=ALPHA, epochs=epochs), encoding="utf-8")
    recipe, project = load_recipe(recipe_file), Project(folder)
    with project.writing(), on_terminal() as events:
        artifacts = local.run(recipe, project, events).artifacts
        family, base_sha256 = local.base_of(recipe, events)
    spec, inputs = family().spec, Inputs(artifacts)

    def lora(reference: str) -> Lora:
        return read_lora(inputs.model(reference).path, spec)

    def heldout(stage: str) -> list[list[float]]:
        rows = [
            json.loads(line)
            for line in (artifacts[stage].path / "metrics.jsonl").read_text().splitlines()
        ]
        return [[row["step"], round(row["heldout"], 6)] for row in rows if "heldout" in row]

    ((_, untouched),) = heldout("untouched")
    curves = {name: [[0, untouched], *heldout(name)] for name in COLOURS}
    start = lora("merged")
    moved = {name: round(distance(lora(f"{name}@1"), start), 4) for name in COLOURS}
    return {
        "rank": RANK,
        "alpha": {"kept": ALPHA, "rewritten": RANK},
        "heldout": curves,
        "moved_in_first_epoch": moved,
        "base_sha256": base_sha256,
    }


def distance(one: Lora, other: Lora) -> float:
    """‖ΔW − ΔW'‖ in parts of ‖ΔW'‖."""
    deltas = [
        (one.modules[name].delta(), factors.delta()) for name, factors in other.modules.items()
    ]
    apart, size = (
        sum(float((x**2).sum()) for x in found)
        for found in ([a - b for a, b in deltas], [b for _, b in deltas])
    )
    return float((apart / size) ** 0.5)


def chart(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Both curves as an SVG that stands alone."""
    width, height, left, bottom = 560.0, 300.0, 52.0, 262.0
    points = [point for curve in curves.values() for point in curve]
    x = Scale(0, max(step for step, _ in points), left, width - 150)
    y = Scale.around([loss for _, loss in points], bottom, 34)
    parts = [element("rect", width=width, height=height, fill="#ffffff")]
    parts.append(
        element(
            "text", "Held-out loss while a merge is trained on", x=left, y=18, font_weight="bold"
        )
    )
    marks = ticks(y.low, y.high)
    for mark in marks:
        parts.append(
            element("line", x1=left, x2=width - 150, y1=y(mark), y2=y(mark), stroke="#d8dee4")
        )
        parts.append(
            element(
                "text",
                decimal(mark, places_of(marks)),
                x=left - 6,
                y=y(mark) + 4,
                text_anchor="end",
            )
        )
    for mark in ticks(x.low, x.high, 5):
        parts.append(element("text", f"{mark:g}", x=x(mark), y=bottom + 16, text_anchor="middle"))
    parts.append(
        element("text", "step", x=(left + width - 150) / 2, y=bottom + 32, text_anchor="middle")
    )
    ends = {name: y(curve[-1][1]) for name, curve in curves.items()}
    close = abs(ends["kept"] - ends["rewritten"]) < 32
    for name, curve in curves.items():
        line = path([(x(step), y(loss)) for step, loss in curve])
        parts.append(element("path", d=line, fill="none", stroke=COLOURS[name], stroke_width=2))
        parts += [
            element("circle", cx=x(step), cy=y(loss), r=2.6, fill=COLOURS[name])
            for step, loss in curve
        ]
        at = ends[name] + (0 if not close else 16 if ends[name] == max(ends.values()) else -16)
        alpha = ALPHA if name == "kept" else RANK
        parts.append(
            element(
                "text", f"alpha {name}", x=width - 140, y=at, fill=COLOURS[name], font_weight="bold"
            )
        )
        parts.append(
            element(
                "text", f"alpha {alpha}, rank {RANK}", x=width - 140, y=at + 15, fill=COLOURS[name]
            )
        )
    return str(
        element(
            "svg",
            *parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width:g} {height:g}",
            width=width,
            height=height,
            font_family="sans-serif",
            font_size=12,
            fill="#24292f",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--project", type=Path, help="project folder that is kept; without it a temporary one"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/images"), help="folder of the two files"
    )
    parser.add_argument(
        "--epochs", type=int, default=12, help="of the training that follows; three steps each"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(arguments.project or Path(temporary), arguments.epochs)
    write_json(arguments.out / "alpha_trap.json", found)
    write_atomic(arguments.out / "alpha_trap.svg", chart(found["heldout"]).encode())
    print(
        json.dumps(
            {
                "start": found["heldout"]["kept"][0][1],
                "best": {
                    name: min(loss for _, loss in curve[1:])
                    for name, curve in found["heldout"].items()
                },
                "last": {name: curve[-1][1] for name, curve in found["heldout"].items()},
                "moved_in_first_epoch": found["moved_in_first_epoch"],
            }
        )
    )


if __name__ == "__main__":
    main()
