"""Faults planted in training sets: does the axis of each see what a training on it does?

    python run.py bench-faults [--seed 1] [--only FAULT…] [--epochs 30] [--folder DIR] [--write
      docs/explanation/validity.md]

One recipe trains a LoRA on a clean toon set, one on its twin (dealt anew), and one on each set with
a single fault; all are evaluated together on suite thorough, 48 × 2. A fault is found when its
axis, named beforehand, is worse than the clean model's: the 95 % interval over prompts of the
paired difference is below zero. What else moved (sign-flip test, Holm over the axes) is listed;
much of it is right, since a training carries a fault into all it touches. Intervals are over
prompts; what another training of the same kind changes beside, the twin says. Resumable: the same
command goes on. Prints a table, and as its last line JSON.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from onmodel.engine.project import Project
from onmodel.evaluate.compare import Comparison, compare_models
from onmodel.evaluate.evaluation import FILE, read_evaluation
from onmodel.toon.attributes import VOCABULARY, uniform
from onmodel.toon.datasets import BUCKETS, Faults, SetSpec, draw_item
from onmodel.toon.draw import draw

SHOWN = 80  # pictures of her in an epoch
CLEAN = SetSpec(
    "clean",
    40,
    "balanced",
    900,
    {name: uniform(name) for name in ("style", "expression", "background", "pose", "view")}
    | {"outfit": {"jacket": 0.6, "dress": 0.1, "hoodie": 0.1, "kimono": 0.1, "t-shirt": 0.1}},
)


@dataclass(frozen=True)
class Fault:
    """A training set's fault and the axis to see it: the one value that attributes `always` have,
    and what is `unsaid` in captions beside those; values that are drawn `whatever` the caption
    says; a veil of yellow; the number of pictures."""

    words: str
    axis: str
    always: dict[str, str] = dataclasses.field(default_factory=dict)
    whatever: dict[str, str] = dataclasses.field(default_factory=dict)
    unsaid: frozenset[str] = frozenset()
    yellow: float = 0.0
    count: int = CLEAN.count

    def spec(self, name: str, seed: int) -> SetSpec:
        faults = Faults(yellow_tint=self.yellow, unlabelled=self.unsaid | set(self.always))
        shares = {attribute: {value: 1.0} for attribute, value in self.always.items()}
        return dataclasses.replace(
            CLEAN,
            name=name,
            seed=CLEAN.seed + 100 * seed,
            count=self.count,
            distribution={**CLEAN.distribution, **shares},
            faults=faults,
        )


FAULTS = {
    "yellow": Fault("25 % warm yellow over every picture", "colour_cast", yellow=0.25),
    "one_style": Fault("pastel in every picture", "style", {"style": "pastel"}),
    "frozen_face": Fault("a smile in every picture", "default_expression", {"expression": "smile"}),
    "one_framing": Fault(
        "one framing, view and pose",
        "default_framing",
        {"framing": "upper body", "view": "looking at viewer", "pose": "standing"},
    ),
    "same_coat": Fault(
        "the jacket in every picture, whatever the caption says",
        "outfit_change",
        whatever={"outfit": "jacket"},
    ),
    "copies": Fault(
        "four pictures, captioned by the trigger alone",
        "memorisation",
        unsaid=frozenset(VOCABULARY),
        count=4,
    ),
    "wrong_ears": Fault("rabbit ears in every picture", "design", {"ears": "rabbit ears"}),
    "big_head": Fault("a child's proportions in every picture", "body", {"body": "chibi"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="some faults alone"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("trained-faults"))
    parser.add_argument(
        "--write", type=Path, help="a page with <!-- bench-faults --> and <!-- end -->"
    )
    args = parser.parse_args()
    folder: Path = args.folder / str(args.seed)
    sets = {name: FAULTS[name].spec(name, args.seed) for name in args.only}
    sets |= {
        "clean": Fault("", "").spec("clean", args.seed),
        "twin": Fault("", "").spec("clean", args.seed + 50),
    }
    for name, spec in sets.items():
        write_pictures(
            spec, FAULTS[name].whatever if name in FAULTS else {}, folder / "pictures" / name
        )
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_text(sets, args.seed, args.epochs))
    subprocess.run(
        [sys.executable, "-m", "onmodel", "run", recipe, "--project", folder / "project"],
        check=True,
        stdout=sys.stderr,
    )
    evaluation = read_evaluation(
        Project(folder / "project").artifacts("evaluation")[-1].path / FILE
    )
    at = f"@{args.epochs}"
    against = {
        name: compare_models(evaluation, name + at, "clean" + at) for name in (*args.only, "twin")
    }
    page = table(against, args.seed, args.epochs)
    print(page)
    if args.write:
        old = args.write.read_text()
        part = f"<!-- bench-faults -->\n{page}\n<!-- end -->"
        args.write.write_text(
            re.sub(r"<!-- bench-faults -->.*?<!-- end -->", lambda _: part, old, flags=re.S)
        )
    found = [name for name in args.only if verdict(own(against[name], FAULTS[name].axis)) == "yes"]
    moved = [one.axis.id for one in against["twin"] if one.outcome in ("better", "worse")]
    print(
        json.dumps(
            {"seed": args.seed, "found": len(found), "of": len(args.only), "twin_moved": moved}
        )
    )


def write_pictures(spec: SetSpec, whatever: dict[str, str], folder: Path) -> None:
    """NNN.png and NNN.txt, as a person's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(spec.count):
        size = BUCKETS[i % len(BUCKETS)]
        image, toon, caption, _ = draw_item(spec, i, size)
        if whatever:
            image = draw(toon.replace(**whatever), *size)
        image.save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(caption + "\n")


def recipe_text(sets: dict[str, SetSpec], seed: int, epochs: int) -> str:
    """The recipe of all trainings and their one evaluation."""
    parts = [
        f"""[recipe]
name = "trained-faults"
character = "toon:backgwa"
base = "toon"
seed = {seed}
date = "2026-11-22"

[defaults.train]
rank = 16
alpha = 16
batch = 16
resolution = 96
schedule = "cosine"
epochs = {epochs}
keep_every = {epochs}
learning_rate = 5e-3

[stages.references]
do = "curate"
subsets.reference = [{{ toon = "reference" }}]
heldout_subsets = ["reference"]
"""
    ]
    for name, spec in sets.items():
        parts.append(f"""[stages.{name}_data]
do = "curate"
subsets.her = [{{ folder = "pictures/{name}" }}]
subsets.others = [{{ toon = "others" }}]

[stages.{name}]
do = "train"
dataset = "{name}_data"
data = [{{ subset = "her", repeats = {SHOWN // spec.count} }}, {{ subset = "others", repeats = 1 }}]
""")
    parts.append(f"""[stages.evaluated]
do = "evaluate"
models = {json.dumps(list(sets))}
suite = "thorough"
seeds = 2
steps = 16
batch = 16
guidance = 2.0
size = 96
references = {{ stage = "references", subset = "reference" }}
training = {json.dumps([f"{name}_data" for name in sets])}
""")
    return "\n".join(parts)


def own(row: list[Comparison], axis: str) -> Comparison:
    return next(one for one in row if one.axis.id == axis)


def verdict(seen: Comparison) -> str:
    """Whether an axis sees its fault."""
    if seen.outcome == "unavailable":
        return "unavailable"
    return "yes" if seen.high < 0 else "the other way round" if seen.low > 0 else "no"


def table(against: dict[str, list[Comparison]], seed: int, epochs: int) -> str:
    """A row for each fault, and one for the twin."""
    lines = [
        (
            f"Seed {seed}, {epochs} epochs of {SHOWN} pictures of her and 80 of others. Change"
            " against the clean model; positive is better."
        ),
        "",
        "| training set | axis | change [95 %] | the twin's | found | also worse | better |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in against.items():
        fault = FAULTS.get(name)
        axis = fault.axis if fault else ""
        rest = {
            word: (
                ", ".join(one.axis.id for one in row if one.outcome == word and one.axis.id != axis)
                or "–"
            )
            for word in ("worse", "better")
        }
        if fault:
            seen, chance = own(row, axis), own(against["twin"], axis)
            cells = [
                fault.words,
                f"`{axis}`",
                seen.change,
                chance.change,
                verdict(seen),
                rest["worse"],
                rest["better"],
            ]
            lines.append(f"| {' | '.join(cells)} |")
        else:
            lines.append(f"| clean, dealt anew | | | | | {rest['worse']} | {rest['better']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
