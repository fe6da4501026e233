"""Does the verdict see the selftest's planted faults, and does it stay quiet among equal models?

python run.py bench-verdict [--pages 20] [--seed 0]

Drawn pictures, the toon observers, suite confirm with two pictures of a prompt. A faulty model and
a clean one of other chance are compared at half and full dose: half means half of the pictures, or
half of the strength. Six equal models are dealt from six sets of noise of one model that errs by
chance, prompt by prompt; a false call is any better or worse on a page of all 15 pairs. Prints two
tables, and as its last line JSON.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from onmodel.character import load_character
from onmodel.evaluate import compare as comparing
from onmodel.evaluate.assess import Assessed, shared_tables
from onmodel.evaluate.axes import AXES, AxisResult
from onmodel.evaluate.compare import compare_models, compare_pairs
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation, PlannedPrompt
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers import load_observers
from onmodel.evaluate.plan import make_plan
from onmodel.evaluate.selftest import check
from onmodel.evaluate.selftest.check import CLEAN, SHEET, TWIN, Laboratory
from onmodel.evaluate.selftest.faults import PLANTED, Planted
from onmodel.events import Events
from onmodel.randomness import generator
from onmodel.sample.sampling import Sampling

MODELS, SEEDS = 6, 2
DOSES = (0.5, 1.0)
PAGE_SWAPS = (499, 4_999)  # of a page: fewer than the verdict's own, for time


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    check.SEEDS = SEEDS
    with Events().task("draw and look", total=1) as task:
        observers = load_observers("toon", {}, threads=1)
        lab = Laboratory(load_character(SHEET), observers, args.seed, task)
        outcomes = detections(lab)
        print(table(outcomes), flush=True)
        calls = false_calls(lab, args.pages)
    print(f"\n{sum(map(bool, calls))} of {len(calls)} pages of six equal models with a false call")
    print(json.dumps({"detections": outcomes, "false_calls": calls}))


def detections(lab: Laboratory) -> dict[str, dict[str, list[str]]]:
    """Fault → axis that must find it → outcome against a clean model at each of DOSES."""
    silent = lab.base["BN"]
    clean = lab.arm("L", CLEAN)
    models = {"clean": lab.measured(clean, silent)}
    for name, planted in PLANTED.items():
        for dose in DOSES:
            models[f"{name} {dose:g}"] = dosed(lab, planted, dose, silent)
    evaluation = evaluation_of(lab, models)
    found: dict[str, dict[str, list[str]]] = {}
    for name, planted in PLANTED.items():
        rows = [compare_models(evaluation, f"{name} {dose:g}", "clean") for dose in DOSES]
        found[name] = {
            axis: [
                f"{one.outcome} {one.change} p {one.p:.2g}"
                for row in rows
                for one in row
                if one.axis.id == axis
            ]
            for axis in planted.moves
        }
    return found


def dosed(
    lab: Laboratory, planted: Planted, dose: float, silent: Features
) -> dict[str, AxisResult]:
    """A model of other chance than the clean one with a dose of a fault."""
    twin = lab.arm("L", TWIN)
    faults = replace(planted.at(dose) if planted.graded else planted.faults, stream=TWIN.stream)
    leaks = lab.arm("N", faults) if faults.leak else silent
    share = 1.0 if planted.graded else dose
    return lab.measured(
        lab.dosed(twin, lab.arm("L", faults), share), lab.dosed(silent, leaks, share)
    )


def false_calls(lab: Laboratory, pages: int) -> list[list[str]]:
    """What each page of six equal models calls."""
    comparing.JOINT_SWAPS, comparing.SWAPS = PAGE_SWAPS
    sets = [(lab.mixed("L", SEEDS * k), lab.mixed("N", SEEDS * k)) for k in range(MODELS)]
    on, without = sets[0]
    for more_on, more_without in sets[1:]:
        on, without = on.join(more_on), without.join(more_without)
    prompts, found = len(lab.prompts), []
    for page in range(pages):
        rng = generator(lab.seed, "dealt page", page)
        deals = np.stack([rng.permutation(MODELS) for _ in range(prompts)], axis=1)  # [models, P]
        places = deals * prompts + np.arange(prompts)
        models = {
            f"m{k}": lab.measured(on.take(row), without.take(row)) for k, row in enumerate(places)
        }
        evaluation = evaluation_of(lab, models)
        rows = compare_pairs(evaluation, list(combinations(models, 2)))
        found.append(
            [f"{a} {b} {one.axis.id}" for (a, b), row in rows.items() for one in row if one.called]
        )
    return found


def evaluation_of(lab: Laboratory, models: dict[str, dict[str, AxisResult]]) -> Evaluation:
    """The measured models as one evaluation."""
    prompts = [PlannedPrompt.of(prompt, tuple(range(SEEDS))) for prompt in lab.prompts]
    plan = make_plan("", "confirm", prompts, SEEDS, Sampling(), lab.observers.sha256, "")
    assessed = [Assessed(dict(axes), {}, {}) for axes in models.values()]
    rows: Sequence[EvaluatedModel] = [
        one.row(name, None, "") for name, one in zip(models, assessed, strict=True)
    ]
    axes = {id: AXES[id][0] for id in lab.axes}
    return Evaluation("", plan, axes, {}, rows, {}, shared=shared_tables(assessed))


def table(found: dict[str, dict[str, list[str]]]) -> str:
    """A row for each fault and axis."""
    lines = ["| fault | axis | half dose | full dose |", "|---|---|---|---|"]
    for name, axes in found.items():
        lines += [f"| {name} | `{axis}` | {' | '.join(cells)} |" for axis, cells in axes.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
