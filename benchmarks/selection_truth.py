"""Can the choice of `tune` be believed? Trainings whose best checkpoint and LoRA weight are known by far more pictures.

    python run.py bench-selection [--runs NAME …] [--folder DIR] [--write docs/selection.md]

Each run trains five checkpoints on pictures of its own, and a tune stage chooses among them at four LoRA weights, by
suite "choose" and its further prompts. The truth is measured on prompts that no choice has seen, those of suites check
and confirm, under noise of its own: 44 × 11 pictures, five times the last look's 24 × 4. Pictures without the trigger,
which the drift axis alone reads, are 44 × 2. The true set holds what the same rule cannot tell from the best there.

Not everything is measured so long. The grid of all twenty is looked at with 12 × 2, then with 24 × 4, and the truth
with 44 × 2 before 44 × 11; what lies more than MARGIN half widths behind the best goes no further, which is half more
than the rule asks for. Every choice that is compared is measured to the end. Resumable: the same command goes on, and a
run that is done stays in DIR/results. Prints the page, and as its last line JSON.
"""

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from onmodel import pipeline
from onmodel.evaluate.assess import Assessor, Looked, load_references
from onmodel.evaluate.halving import RUNGS, Candidate, candidates
from onmodel.evaluate.observers import load_observers
from onmodel.evaluate.selection import Wishes, behind, select
from onmodel.hashing import read_json, write_json
from onmodel.progress import Progress, Task
from onmodel.project import Project
from onmodel.recipe import Recipe, load_recipe
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import Request, Sampling
from onmodel.sample.suites import Prompt, suite, vocabulary_of, wide_suite
from onmodel.stages.base import read_models
from onmodel.stages.tune import evaluation_rows
from onmodel.toon.attributes import uniform
from onmodel.toon.datasets import BUCKETS, Faults, SetSpec, draw_item

WEIGHTS = (0.6, 0.8, 1.0, 1.2)
SAMPLING = Sampling(steps=8, guidance=2.0)
SHOWN = 80  # pictures of her in an epoch
TRUTH = (2, 11)  # seeds of the first look at the truth, and of the whole
FEW = 2  # seeds of its pictures without the trigger
MARGIN = 1.5  # half widths behind the best at which a candidate is surely not among the best
CANDIDATES = 5 * len(WEIGHTS)
WAYS = {"tune": "tune", "grid": "whole grid, 24 × 4", "last": "last checkpoint × 1", "loss": "lowest held-out loss × 1"}
CLEAN = Faults()
BALANCED = {name: uniform(name) for name in ("style", "expression", "background", "pose", "view")}


@dataclass(frozen=True)
class Run:
    """A training: `count` pictures of her whose shares and faults are told, beside `others`, for `epochs`."""

    words: str
    count: int
    learning_rate: float = 5e-3
    epochs: int = 40
    others: int = 80
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    faults: Faults = CLEAN


RUNS = {
    "plain": Run("40 pictures, clean", 40),
    "few": Run("8 pictures, rate 1e-2, no others", 8, 1e-2, epochs=60, others=0),
    "pastel": Run("24 pictures, 90 % pastel and unsaid, rate 1e-2", 24, 1e-2,
                  shares={"style": {"pastel": 0.9, "comic": 0.1}}, faults=Faults(unlabelled=frozenset({"style"}))),
    "hot": Run("50 pictures, rate 2e-2", 50, 2e-2),
    "yellow": Run("16 pictures, 25 % yellow, rate 1e-2", 16, 1e-2, faults=Faults(yellow_tint=0.25)),
    "slow": Run("60 pictures, rate 2e-3", 60, 2e-3),
    "lone": Run("20 pictures, rate 1e-2, 20 others", 20, 1e-2, epochs=60, others=20),
    "mislabelled": Run("30 pictures, 30 % of labels wrong, rate 1e-2", 30, 1e-2, epochs=60,
                       faults=Faults(label_errors=0.3)),
    "one_look": Run("12 pictures, one framing and view, 40 others", 12, epochs=50, others=40,
                    shares={"framing": {"upper body": 1.0}, "view": {"looking at viewer": 1.0}}),
    "tiny": Run("8 pictures", 8),
}  # fmt: skip


@dataclass(frozen=True)
class FewWithout(Assessor):
    """An assessor that makes no more than FEW pictures of a prompt without the trigger."""

    def _requests(self, letter: str, model: Model | None) -> list[Request]:
        return Assessor._requests(self._sparing(letter), letter, model)

    def _arm(self, letter: str, model: Model | None, task: Task) -> Looked:
        return Assessor._arm(self._sparing(letter), letter, model, task)

    def _sparing(self, letter: str) -> "FewWithout":
        return dataclasses.replace(self, seeds=min(FEW, self.seeds)) if letter in ("N", "BN") else self


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--folder", type=Path, default=Path("selection-truth"))
    parser.add_argument("--write", type=Path, help="a page with <!-- bench-selection --> and <!-- end -->")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for number, name in enumerate(RUNS):
        kept = args.folder / "results" / f"{name}.json"
        if name in args.runs and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, measured(name, number + 1, args.folder))
    results = {name: read_json(args.folder / "results" / f"{name}.json") for name in args.runs}
    text = page(results)
    print(text)
    if args.write:
        old = args.write.read_text()
        part = f"<!-- bench-selection -->\n{text}\n<!-- end -->"
        args.write.write_text(re.sub(r"<!-- bench-selection -->.*?<!-- end -->", lambda _: part, old, flags=re.S))
    print(json.dumps(summary(results)))


def measured(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train, tune, and find out what was true."""
    started = time.process_time()

    def say(what: str) -> None:
        print(f"{name}: {what} after {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)

    write_pictures(name, seed, folder / "pictures" / name)
    recipe_path = folder / f"{name}.toml"
    recipe_path.write_text(recipe_text(name, seed))
    recipe, project = load_recipe(recipe_path), Project(folder / "project")
    with project.writing(), Progress() as progress:
        done = pipeline.run(recipe, project, progress).artifacts
        say("trained and tuned")
        tuned = read_json(done["tuned"].path / "selection.json")
        models = read_models(done["trained"])
        steps = [json.loads(line) for line in (done["trained"].path / "metrics.jsonl").read_text().splitlines()]
        choices = {"tune": tuned["chosen"][0], **naive(models, steps)}
        common = assessing(recipe, project, done["references"], progress)

        alive = candidates(models, WEIGHTS)
        for rung in (RUNGS[0], RUNGS[-1]):
            prompts = wide_suite(recipe.character, vocabulary_of("toon"))[: rung.prompts]
            grid = evaluation_rows(Assessor(suite="choose", prompts=prompts, seeds=rung.seeds, **common), alive)
            say(f"grid: {len(alive)} at {rung.prompts} × {rung.seeds}")
            alive = running(alive, grid, recipe.seed)
        whole = select(grid, Wishes(), recipe.seed)
        choices["grid"] = whole.chosen[0]

        prompts = fresh_prompts(recipe)
        named = [one for one in candidates(models, WEIGHTS) if one.name in choices.values()]
        for seeds in TRUTH:
            alive += [one for one in named if one not in alive]
            truth = evaluation_rows(FewWithout(suite="truth", prompts=prompts, seeds=seeds, **common), alive)
            say(f"truth: {len(alive)} at {len(prompts)} × {seeds}")
            alive = running(alive, truth, recipe.seed)
    return {
        "seed": seed, "choices": choices, "rounds": tuned["rounds"],
        "close": tuned["too_close_to_call"], "grid_close": whole.too_close_to_call, "share": share(tuned["rounds"]),
        "grid": [slim(row) for row in grid], "truth": [slim(row) for row in truth],
        "cpu_seconds": round(time.process_time() - started),
    }  # fmt: skip


def write_pictures(name: str, seed: int, folder: Path) -> None:
    """NNN.png and NNN.txt, as a person's folder."""
    run = RUNS[name]
    spec = SetSpec(name, run.count, "truth", 1000 + seed, {**BALANCED, **run.shares}, run.faults)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(spec.count):
        image, _, caption, _ = draw_item(spec, i, BUCKETS[i % len(BUCKETS)])
        image.save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(caption + "\n")


def recipe_text(name: str, seed: int) -> str:
    """A training with held-out pictures and five checkpoints, and the tuning of them."""
    run = RUNS[name]
    data = [f'{{ subset = "her", repeats = {round(SHOWN / run.count)} }}']
    data += ['{ subset = "others", regularisation = true }'] * (run.others > 0)
    others = f'subsets.others = [{{ toon = "others", count = {run.others} }}]' if run.others else ""
    return f"""[recipe]
name = "selection-truth-{name}"
character = "toon:backgwa"
base = "toon"
seed = {seed}
date = "2026-11-22"
threads = 1

[stages.references]
do = "curate"
subsets.reference = [{{ toon = "reference" }}]
heldout_subsets = ["reference"]

[stages.data]
do = "curate"
heldout = 0.15
subsets.her = [{{ folder = "pictures/{name}" }}]
{others}

[stages.trained]
do = "train"
dataset = "data"
data = [{", ".join(data)}]
rank = 16
alpha = 16
batch = 16
resolution = 96
schedule = "cosine"
epochs = {run.epochs}
keep_every = {run.epochs // 5}
learning_rate = {run.learning_rate}

[stages.tuned]
do = "tune"
models = ["trained@*"]
weights = {list(WEIGHTS)}
steps = {SAMPLING.steps}
guidance = {SAMPLING.guidance}
batch = {SAMPLING.batch}
references = "references"
"""


def assessing(recipe: Recipe, project: Project, references: Artifact, progress: Progress) -> dict[str, Any]:
    """What every look has in common: the base, her sheet, who looks, and where pictures are kept."""
    family, base_sha256 = pipeline.base_of(recipe, progress)
    observers, cache, palette = (
        load_observers("toon", None, None, 1),
        project.folder / "features",
        recipe.character.palette,
    )
    judge = load_references(references, None, observers, palette, cache, progress)
    return {
        "family": family, "base_sha256": base_sha256, "character": recipe.character,
        "vocabulary": vocabulary_of("toon"), "sampling": SAMPLING, "observers": observers, "references": judge,
        "pictures": project.pictures, "cache": cache, "progress": progress,
    }  # fmt: skip


def fresh_prompts(recipe: Recipe) -> list[Prompt]:
    """The prompts of suites check and confirm."""
    return [
        dataclasses.replace(prompt, id=f"{name}-{prompt.id}")
        for name in ("check", "confirm")
        for prompt in suite(name, recipe.character, vocabulary_of("toon"))
    ]


def naive(models: Sequence[Model], steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is chosen without looking: the last checkpoint, and that of the lowest held-out loss, both at weight 1."""
    loss = {row["epoch"]: row["heldout"] for row in steps if "heldout" in row}
    best = min(models, key=lambda model: loss[model.epoch])
    return {name: Candidate(model, 1.0).name for name, model in (("last", models[-1]), ("loss", best))}


def running(looked: Sequence[Candidate], rows: Sequence[Mapping[str, Any]], seed: int) -> list[Candidate]:
    """Those that may still be among the best."""
    gaps, halves = behind(rows, seed)
    return [one for one, gap, half in zip(looked, gaps, halves, strict=True) if gap <= MARGIN * half]


def share(rounds: Sequence[Mapping[str, Any]]) -> float:
    """Pictures that a tuning made of its candidates, of those that the whole grid would take."""
    size = {name: one["rung"]["prompts"] * one["rung"]["seeds"] for one in rounds for name in one["looked"]}
    models = {row["model"] for row in rounds[0]["measured"]}
    return sum(size.values()) / (len(models) * len(WEIGHTS) * RUNGS[-1].prompts * RUNGS[-1].seeds)


def slim(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the rule reads of a row."""
    values = {id: {"value": score["value"]} for id, score in row["axes"].items()}
    return {"name": row["name"], "epoch": row["epoch"], "axes": values, "per_prompt": row["per_prompt"]}


@dataclass(frozen=True)
class Found:
    """A run's truth: the names that are as good as the best, and how far behind it each choice lies, in faults."""

    best: str
    alike: list[str]
    regret: dict[str, float]

    def hit(self, choices: Mapping[str, str], who: str) -> bool:
        return choices[who] in self.alike


def found(result: Mapping[str, Any]) -> Found:
    """The truth by the rule of selection, from the rows that were measured to the end."""
    rows = result["truth"]
    names = [row["name"] for row in rows]
    gaps = dict(zip(names, behind(rows, result["seed"])[0].tolist(), strict=True))
    alike = select(rows, Wishes(), result["seed"]).alike
    return Found(min(names, key=gaps.__getitem__), alike, {who: gaps[name] for who, name in result["choices"].items()})


def summary(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Over the runs: how often each way of choosing hits the true set, with Wilson's interval, and its mean regret."""
    truths = {name: found(result) for name, result in results.items()}
    told: dict[str, Any] = {"runs": len(results), "share": float(np.mean([row["share"] for row in results.values()]))}
    for who in WAYS:
        hits = sum(truths[name].hit(result["choices"], who) for name, result in results.items())
        interval = binomtest(hits, len(results)).proportion_ci(method="wilson")
        regret = [truth.regret[who] for truth in truths.values()]
        told[who] = {"hits": hits, "low": float(interval.low), "high": float(interval.high),
                     "regret": float(np.mean(regret)), "worst": max(regret)}  # fmt: skip
    told["lot"] = float(np.mean([len(truth.alike) for truth in truths.values()])) / CANDIDATES
    told["close"] = sum(row["close"] for row in results.values())
    return told


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each run, and what they say together."""
    told = summary(results)
    lines = [
        f"| training | tune chose | truly the best | true set, of {CANDIDATES} | pictures | "
        + " | ".join(WAYS.values())
        + " |",
        "|---|---|---|---|---|" + "---|" * len(WAYS),
    ]
    for name, result in results.items():
        truth, choices = found(result), result["choices"]
        cells = [f"{'yes' if truth.hit(choices, who) else '**no**'}, {truth.regret[who]:.3f}" for who in WAYS]
        close = " (too close to call)" if result["close"] else ""
        lines.append(
            f"| {RUNS[name].words} | {short(choices['tune'])}{close} | {short(truth.best)} | {len(truth.alike)} | "
            f"{result['share']:.1%} | {' | '.join(cells)} |"
        )
    lines += ["", "| way | in the true set | Wilson 95 % | mean regret | worst |", "|---|---|---|---|---|"]
    for who, words in WAYS.items():
        row = told[who]
        lines.append(f"| {words} | {row['hits']} of {told['runs']} | {row['low']:.0%} to {row['high']:.0%} | "
                     f"{row['regret']:.3f} | {row['worst']:.3f} |")  # fmt: skip
    lines += ["", f"A candidate drawn by lot would be in the true set in {told['lot']:.0%} of the runs."]
    return "\n".join(lines)


def short(name: str) -> str:
    return name.removeprefix("trained@")


if __name__ == "__main__":
    main()
