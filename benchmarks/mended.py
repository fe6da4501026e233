"""Does mending a data set make the LoRA better? Heap with planted faults → audit → mend → train →
evaluate, against the same heap as it was found.

    python run.py bench-mended [--seeds 1 2 3] [--count 400] [--epochs 8] [--folder mended] [--out
      FILE]

For each seed a heap of its own is planted, imported, audited, and every finding that has a fix is
mended (`onmodel dataset fix` for all kinds). Of the heap as found so many pictures are drawn by
lot as the mended one keeps: both trainings show equally many pictures equally often, and the same
pictures of others. One recipe a seed trains both and evaluates them together on suite confirm.
Positive differences are better for the mended set; intervals (95 %) are over prompts, each prompt's
difference being the mean of the seeds'. Three seeds say little about other seeds; each stands
beside. The same command goes on where it was stopped. Prints an estimate first, a table, and as its
last line JSON.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from onmodel.character import load_character
from onmodel.cli.plan import clock
from onmodel.cli.render import on_terminal
from onmodel.curate.audit import run_audit
from onmodel.curate.decisions import fix_decision, still_apply
from onmodel.curate.export import export
from onmodel.curate.gather import gather
from onmodel.curate.lettering import load_reader
from onmodel.curate.workshop import Decision, open_workshop
from onmodel.engine.plan import TOON_RATES
from onmodel.engine.project import Project
from onmodel.evaluate.axes.base import Axis, prompt_costs
from onmodel.evaluate.compare import FEWEST, Comparison, compare_costs, compare_models, decide
from onmodel.evaluate.evaluation import FILE, Evaluation, read_evaluation
from onmodel.evaluate.observers import load_observers
from onmodel.hashing import read_json, write_json
from onmodel.randomness import generator
from onmodel.sample.suites import SUITES
from onmodel.toon.datasets import STANDIN_SETS
from onmodel.toon.heap import plant_heap

SHEET = Path(__file__).parents[1] / "onmodel" / "toon" / "characters" / "backgwa.toml"
MENDED, FOUND = "mended", "as_found"
SEEDS = 2  # pictures of a prompt
KEPT = 0.75  # of a heap, about, after mending
AUDIT = 0.15  # CPU seconds a picture: planting, looking, reading letters, comparing
OTHERS = STANDIN_SETS["others"].count
BATCH, REPEATS = 16, 2  # of the others


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--count", type=int, default=400, help="pictures of a heap")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--suite", default="confirm", choices=list(SUITES))
    parser.add_argument("--folder", type=Path, default=Path("mended"))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name(f"mended-{date.today()}.json")
    )
    args = parser.parse_args()
    seconds = estimate(args.count, args.epochs, args.suite)
    print(
        f"about {clock(len(args.seeds) * seconds)} of CPU time, {clock(seconds)} a seed",
        file=sys.stderr,
        flush=True,
    )
    evaluations, sets = {}, {}
    for seed in args.seeds:
        folder = args.folder / f"{args.count}-{args.epochs}-{args.suite}" / str(seed)
        sets[seed] = make_sets(folder, args.count, seed)
        recipe = folder / "recipe.toml"
        recipe.write_text(recipe_text(sets[seed]["subsets"], args.epochs, args.suite, seed))
        command = [sys.executable, "-m", "onmodel", "run", recipe, "--project", folder / "project"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        artifact = Project(folder / "project").artifacts("evaluation")[-1]
        evaluations[seed] = read_evaluation(artifact.path / FILE)
    at = f"@{args.epochs}"
    seeds = {
        seed: compare_models(row, MENDED + at, FOUND + at) for seed, row in evaluations.items()
    }
    together = over_seeds(list(evaluations.values()), MENDED + at, FOUND + at)
    print(table(together, seeds))
    result = {
        "command": (
            f"benchmarks/mended.py --count {args.count} --epochs {args.epochs} --suite {args.suite}"
        ),
        "sets": sets,
        "axes": [as_row(one) for one in together],
        "seeds": {seed: [as_row(one) for one in row] for seed, row in seeds.items()},
    }
    write_json(args.out, result)
    print(
        json.dumps(
            {
                word: [one.axis.id for one in together if one.outcome == word]
                for word in ("better", "worse")
            }
        )
    )


def estimate(count: int, epochs: int, suite: str) -> float:
    """CPU seconds of a seed, by the pipeline's rates for the toon base on two cores."""
    steps = 2 * epochs * math.ceil((KEPT * count + REPEATS * OTHERS) / BATCH)
    pictures = len(SUITES[suite]) * SEEDS * (3 + 2 * 2)  # three arms of the base, two of each model
    return count * AUDIT + 2 * (steps * TOON_RATES["step"] + pictures * TOON_RATES["picture"])


def make_sets(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Both data sets of a seed, `mended/` and `as_found/` of one folder per subset; how many, and
    what was mended."""
    told = folder / "sets.json"
    if told.exists():
        return dict(read_json(told))
    shutil.rmtree(folder, ignore_errors=True)
    plant_heap(folder / "heap", count, seed)
    with on_terminal() as events:
        for name in (MENDED, FOUND):
            gather([folder / "heap"], folder / f"{name}_work", "toon renderer", "MIT", events)
        workshop = open_workshop(folder / f"{MENDED}_work")
        observers, reader = load_observers("toon", {}, 1), load_reader(1)
        audit = run_audit(workshop, load_character(SHEET), observers, events, reader)
        rows = still_apply(workshop, [row for row in map(fix_decision, audit.findings) if row])
        workshop = workshop.decide(rows)
        found = open_workshop(folder / f"{FOUND}_work")
        first = {
            piece.sha256: piece.name for piece in reversed(found.kept)
        }  # a curate stage takes a picture once
        lot = generator(seed, "bench-mended").permutation(sorted(first.values()))
        drawn = set(lot[: len(workshop.kept)].tolist())
        found = found.decide(
            [
                Decision(0, "aside", "rule: lot", p.name, why="not drawn")
                for p in found.kept
                if p.name not in drawn
            ]
        )
        exported = {
            name: export(row, folder / name, False, events)
            for name, row in ((MENDED, workshop), (FOUND, found))
        }
    sets = {
        "subsets": exported,
        "heap": count,
        "pictures": {name: sum(rows.values()) for name, rows in exported.items()},
        "letters_read": reader is not None,
        "mended": dict(Counter(row.why.split(" ", 1)[1].partition(":")[0] for row in rows)),
    }
    write_json(told, sets)
    return sets


def recipe_text(
    subsets: Mapping[str, Mapping[str, int]], epochs: int, suite: str, seed: int
) -> str:
    """The recipe of both trainings and their one evaluation. `subsets`: data set → subset →
    pictures."""
    parts = [
        f"""[recipe]
name = "mended"
character = "toon:backgwa"
base = "toon"
seed = {seed}
date = "2026-11-22"

[stages.references]
do = "curate"
subsets.reference = [{{ toon = "reference" }}]
heldout_subsets = ["reference"]
"""
    ]
    for name, counts in subsets.items():
        sources = "\n".join(
            f'subsets.{subset} = [{{ folder = "{name}/{subset}" }}]' for subset in counts
        )
        shown = "\n".join(f'  {{ subset = "{subset}" }},' for subset in counts)
        parts.append(f"""[stages.{name}_data]
do = "curate"
{sources}
subsets.others = [{{ toon = "others" }}]

[stages.{name}]
do = "train"
dataset = "{name}_data"
data = [
{shown}
  {{ subset = "others", repeats = {REPEATS} }},
]
rank = 16
alpha = 16
batch = {BATCH}
resolution = 96
schedule = "cosine"
epochs = {epochs}
keep_every = {epochs}
learning_rate = 5e-3
""")
    parts.append(f"""[stages.evaluated]
do = "evaluate"
models = {json.dumps(list(subsets))}
suite = "{suite}"
seeds = {SEEDS}
steps = 16
batch = 16
guidance = 2.0
size = 96
references = {{ stage = "references", subset = "reference" }}
training = {json.dumps([f"{name}_data" for name in subsets])}
""")
    return "\n".join(parts)


def over_seeds(evaluations: Sequence[Evaluation], model: str, against: str) -> list[Comparison]:
    """Both models on every axis: each prompt's difference is the mean of its evaluations', one
    family of tests."""
    axes = evaluations[0].axes.values()
    return decide([_together(axis, evaluations, model, against) for axis in axes])


def _together(
    axis: Axis, evaluations: Sequence[Evaluation], model: str, against: str
) -> Comparison:
    rows = {
        name: [evaluation.model(name).values(axis.id) for evaluation in evaluations]
        for name in (model, against)
    }
    shared = sorted(set.intersection(*(set(row) for found in rows.values() for row in found)))
    if len(shared) < FEWEST:
        return Comparison(axis, against, "unavailable")
    ours, theirs = (
        np.mean([prompt_costs(axis, np.array([row[p] for p in shared])) for row in found], axis=0)
        for found in rows.values()
    )
    return compare_costs(axis, against, ours, theirs)


def as_row(one: Comparison) -> dict[str, Any]:
    numbers = {
        name: None if math.isnan(x) else round(x, 5)
        for name, x in (("gain", one.gain), ("low", one.low), ("high", one.high))
    }
    return {"axis": one.axis.id, "outcome": one.outcome, **numbers, "p": one.p}


def table(together: Sequence[Comparison], seeds: Mapping[int, Sequence[Comparison]]) -> str:
    """A row for each axis: the mean over the seeds with its interval, and each seed."""
    lines = [
        (
            "| axis | mended against as found [95 %] | |"
            f" {' | '.join(f'seed {seed}' for seed in seeds)} |"
        ),
        "|---" * (3 + len(seeds)) + "|",
    ]
    for i, one in enumerate(together):
        own = " | ".join(row[i].change for row in seeds.values())
        lines.append(f"| `{one.axis.id}` | {one.change} | {one.outcome} | {own} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
