"""Can the choice of `tune` be believed? Trainings whose best checkpoint and LoRA weight are known
by far more pictures.

    python run.py bench-selection [--runs NAME …] [--folder DIR] [--seeds N]
        [--write docs/explanation/selection.md]

Each run trains five checkpoints on pictures of its own, and a tune stage chooses among them at four
LoRA weights, by suite "choose" and its further prompts. The truth is measured on prompts that no
choice has seen, those of suites check and confirm, under noise of its own: 44 × 11 pictures, five
times the last look's 48 × 2. Pictures without the trigger, which the drift axis alone reads, are 44
× 2. The true set holds what the same rule cannot tell from the best there.

Not everything is measured so long. All twenty are looked at as tune does first, then in the truth
with 44 × 2; what lies more than MARGIN half widths behind the best goes no further. Every choice
that is compared is measured to the end. When all runs have their truth, the whole grid is looked at
with 48 × 2, as a tuning without halving would (but for what the first look told apart). Resumable:
the same command goes on, and what is done stays in DIR/results. `--seeds` below 11 makes the
truth coarser: its true sets hold more candidates. Prints the page, and as its last
line JSON.
"""

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from onmodel.cli.render import on_terminal
from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.evaluate.assess import Assessor, Looked, load_references
from onmodel.evaluate.evaluation import EvaluatedModel, Score
from onmodel.evaluate.halving import RUNGS, Rung, WeightedModel, candidates
from onmodel.evaluate.observers import load_observers
from onmodel.evaluate.selection import Constraints, behind, select
from onmodel.events import Events, Task
from onmodel.hashing import read_json, write_json
from onmodel.recipe import Recipe, load_recipe
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import PictureRequest
from onmodel.sample.sampling import Sampling
from onmodel.sample.suites import Prompt, suite, vocabulary_of, wide_suite
from onmodel.stages.base import read_models
from onmodel.stages.tune import evaluation_rows
from onmodel.toon.attributes import uniform
from onmodel.toon.datasets import BUCKETS, SetFaults, SetSpec, draw_item

WEIGHTS = (0.6, 0.8, 1.0, 1.2)
SAMPLING = Sampling(steps=8, guidance=2.0)
SHOWN = 80  # pictures of her in an epoch
SEEDS = 11  # of a prompt, in the whole truth
FEW = 2  # of the first look at the truth, and of its pictures without the trigger
MARGIN = 1.25  # half widths behind the best; beyond 1 the rule tells them apart
CANDIDATES = 5 * len(WEIGHTS)
WAYS = {
    "tune": "tune",
    "grid": "whole grid, 48 × 2",
    "last": "last checkpoint × 1",
    "loss": "lowest held-out loss × 1",
}
CLEAN = SetFaults()
BALANCED = {name: uniform(name) for name in ("style", "expression", "background", "pose", "view")}


@dataclass(frozen=True)
class Run:
    """A training: `count` pictures of her whose shares and faults are told, beside `others`, for
    `epochs`."""

    words: str
    count: int
    learning_rate: float = 5e-3
    epochs: int = 40
    others: int = 80
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    faults: SetFaults = CLEAN


RUNS = {
    "plain": Run("40 pictures, clean", 40),
    "few": Run("8 pictures, rate 1e-2, no others", 8, 1e-2, epochs=60, others=0),
    "pastel": Run(
        "24 pictures, 90 % pastel and unsaid, rate 1e-2",
        24,
        1e-2,
        shares={"style": {"pastel": 0.9, "comic": 0.1}},
        faults=SetFaults(unlabelled=frozenset({"style"})),
    ),
    "hot": Run("50 pictures, rate 2e-2", 50, 2e-2),
    "yellow": Run(
        "16 pictures, 25 % yellow, rate 1e-2", 16, 1e-2, faults=SetFaults(yellow_tint=0.25)
    ),
    "slow": Run("60 pictures, rate 2e-3", 60, 2e-3),
    "lone": Run("20 pictures, rate 1e-2, 20 others", 20, 1e-2, epochs=60, others=20),
    "mislabelled": Run(
        "30 pictures, 30 % of labels wrong, rate 1e-2",
        30,
        1e-2,
        epochs=60,
        faults=SetFaults(label_errors=0.3),
    ),
    "one_look": Run(
        "12 pictures, one framing and view, 40 others",
        12,
        epochs=50,
        others=40,
        shares={"framing": {"upper body": 1.0}, "view": {"looking at viewer": 1.0}},
    ),
    "tiny": Run("8 pictures", 8),
}


@dataclass(frozen=True, kw_only=True)
class FewWithout(Assessor):
    """An assessor that makes no more than FEW pictures of a prompt without the trigger."""

    def _requests(self, letter: str, model: Model | None) -> list[PictureRequest]:
        return Assessor._requests(self._sparing(letter), letter, model)

    def _arm(self, letter: str, model: Model | None, task: Task) -> Looked:
        return Assessor._arm(self._sparing(letter), letter, model, task)

    def _sparing(self, letter: str) -> "FewWithout":
        return (
            dataclasses.replace(self, seeds=min(FEW, self.seeds)) if letter in ("N", "BN") else self
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--folder", type=Path, default=Path("selection-truth"))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of a prompt, in the truth")
    parser.add_argument(
        "--write", type=Path, help="a page with <!-- bench-selection --> and <!-- end -->"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = {name: args.folder / "results" / f"{name}-{args.seeds}.json" for name in args.runs}
    for name, path in kept.items():
        if not path.exists():
            with opened(name, args.folder) as lab:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, tuned(lab, args.seeds))
    for name, path in kept.items():
        if "grid" not in (result := read_json(path)):
            with opened(name, args.folder) as lab:
                write_json(path, with_grid(lab, result, args.seeds))
    results = {name: read_json(path) for name, path in kept.items()}
    text = page(results)
    print(text)
    if args.write:
        old = args.write.read_text()
        part = f"<!-- bench-selection -->\n{text}\n<!-- end -->"
        args.write.write_text(
            re.sub(r"<!-- bench-selection -->.*?<!-- end -->", lambda _: part, old, flags=re.S)
        )
    print(json.dumps(summary(results)))


@dataclass(frozen=True)
class Lab:
    """A run that is trained and tuned, and what all looks at it have in common."""

    name: str
    recipe: Recipe
    artifacts: Mapping[str, Artifact]
    common: Mapping[str, Any]

    @property
    def grid(self) -> list[WeightedModel]:
        return candidates(read_models(self.artifacts["trained"]), WEIGHTS)

    def choosing(self, looked: Sequence[WeightedModel], rung: Rung) -> list[dict[str, Any]]:
        """Rows of a look as tune's."""
        prompts = wide_suite(self.recipe.character, self.common["vocabulary"])[: rung.prompts]
        return self._rows(
            Assessor(suite="choose", prompts=prompts, seeds=rung.seeds, **self.common), looked
        )

    def truth(self, looked: Sequence[WeightedModel], seeds: int) -> list[dict[str, Any]]:
        """Rows on the prompts of suites check and confirm."""
        prompts = fresh_prompts(self.recipe)
        return self._rows(
            FewWithout(suite="truth", prompts=prompts, seeds=seeds, **self.common), looked
        )

    def running(
        self, looked: Sequence[WeightedModel], rows: Sequence[Mapping[str, Any]]
    ) -> list[WeightedModel]:
        """Those that may still be among the best."""
        gaps, halves = behind(models_of(rows), self.recipe.seed)
        return [
            one for one, gap, half in zip(looked, gaps, halves, strict=True) if gap <= MARGIN * half
        ]

    def among(self, looked: Sequence[WeightedModel], names: Collection[str]) -> list[WeightedModel]:
        """The candidates looked at and those of these names, in the grid's order."""
        return [one for one in self.grid if one in looked or one.name in names]

    def _rows(self, assessor: Assessor, looked: Sequence[WeightedModel]) -> list[dict[str, Any]]:
        rows = [slim(row) for row in evaluation_rows(assessor, looked)]
        look = f"{assessor.suite}: {len(looked)} at {len(assessor.prompts)} × {assessor.seeds}"
        print(
            f"{self.name}: {look} after {time.process_time():.0f} CPU s",
            file=sys.stderr,
            flush=True,
        )
        return rows


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Lab]:
    """Train and tune what is not yet."""
    write_pictures(name, folder / "pictures" / name)
    path = folder / f"{name}.toml"
    path.write_text(recipe_text(name))
    recipe, project = load_recipe(path), Project(folder / "project")
    with project.writing(), on_terminal() as events:
        artifacts = local.run(recipe, project, events).artifacts
        yield Lab(
            name, recipe, artifacts, assessing(recipe, project, artifacts["references"], events)
        )


def tuned(lab: Lab, most: int) -> dict[str, Any]:
    """What tune chose, and what was true."""
    chosen = read_json(lab.artifacts["tuned"].path / "selection.json")
    steps = [
        json.loads(line)
        for line in (lab.artifacts["trained"].path / "metrics.jsonl").read_text().splitlines()
    ]
    choices = {"tune": chosen["chosen"][0], **naive(read_models(lab.artifacts["trained"]), steps)}
    alive = lab.running(lab.grid, lab.choosing(lab.grid, RUNGS[0]))
    for seeds in sorted({min(FEW, most), most}):
        looked = lab.among(alive, choices.values())
        rows = lab.truth(looked, seeds)
        alive = lab.running(looked, rows)
    return {
        "seed": lab.recipe.seed,
        "choices": choices,
        "close": chosen["too_close_to_call"],
        "share": share(chosen["rounds"]),
        "rounds": chosen["rounds"],
        "truth": rows,
    }


def with_grid(lab: Lab, result: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """The same with the choice of the whole grid, which the truth may not have held yet."""
    alive = lab.running(lab.grid, lab.choosing(lab.grid, RUNGS[0]))
    rows = lab.choosing(alive, RUNGS[-1])
    whole = select(models_of(rows), Constraints(), lab.recipe.seed)
    choices = {**result["choices"], "grid": whole.chosen[0]}
    names = {row["name"] for row in result["truth"]}
    truth = (
        result["truth"]
        if choices["grid"] in names
        else lab.truth(lab.among([], names | {choices["grid"]}), seeds)
    )
    return {
        **result,
        "choices": choices,
        "grid_close": whole.too_close_to_call,
        "grid": rows,
        "truth": truth,
    }


def write_pictures(name: str, folder: Path) -> None:
    """NNN.png and NNN.txt, as a person's folder."""
    run = RUNS[name]
    spec = SetSpec(
        name, run.count, "truth", 1000 + seed_of(name), {**BALANCED, **run.shares}, run.faults
    )
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(spec.count):
        image, _, caption, _ = draw_item(spec, i, BUCKETS[i % len(BUCKETS)])
        image.save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(caption + "\n")


def recipe_text(name: str) -> str:
    """A training with held-out pictures and five checkpoints, and the tuning of them."""
    run = RUNS[name]
    data = [f'{{ subset = "her", repeats = {round(SHOWN / run.count)} }}']
    data += ['{ subset = "others", regularisation = true }'] * (run.others > 0)
    others = f'subsets.others = [{{ toon = "others", count = {run.others} }}]' if run.others else ""
    return f"""[recipe]
name = "selection-truth-{name}"
character = "toon:backgwa"
base = "toon"
seed = {seed_of(name)}
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


def seed_of(name: str) -> int:
    return list(RUNS).index(name) + 1


def assessing(
    recipe: Recipe, project: Project, references: Artifact, events: Events
) -> dict[str, Any]:
    """What every look has in common: the base, her sheet, who looks, and where pictures are
    kept."""
    family, base_sha256 = local.base_of(recipe, events)
    observers, cache, palette = (
        load_observers("toon", {}, 1),
        project.folder / "features",
        recipe.character.palette,
    )
    judge = load_references(references, None, observers, palette, cache, events)
    return {
        "family": family,
        "base_sha256": base_sha256,
        "character": recipe.character,
        "vocabulary": vocabulary_of("toon"),
        "sampling": SAMPLING,
        "observers": observers,
        "references": judge,
        "pictures": project.pictures,
        "cache": cache,
        "events": events,
    }


def fresh_prompts(recipe: Recipe) -> list[Prompt]:
    """The prompts of suites check and confirm."""
    return [
        dataclasses.replace(prompt, id=f"{name}-{prompt.id}")
        for name in ("check", "confirm")
        for prompt in suite(name, recipe.character, vocabulary_of("toon"))
    ]


def naive(models: Sequence[Model], steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is chosen without looking: the last checkpoint, and that of the lowest held-out loss,
    both at weight 1."""
    loss = {row["epoch"]: row["heldout"] for row in steps if "heldout" in row}
    best = min(models, key=lambda model: loss[model.epoch])
    return {
        name: WeightedModel(model, 1.0).name
        for name, model in (("last", models[-1]), ("loss", best))
    }


def share(rounds: Sequence[Mapping[str, Any]]) -> float:
    """Pictures that a tuning made of its candidates, of those that the whole grid would take."""
    size = {
        name: one["rung"]["prompts"] * one["rung"]["seeds"]
        for one in rounds
        for name in one["looked"]
    }
    models = {row["model"] for row in rounds[0]["measured"]}
    return sum(size.values()) / (len(models) * len(WEIGHTS) * RUNGS[-1].prompts * RUNGS[-1].seeds)


def slim(row: EvaluatedModel) -> dict[str, Any]:
    """What the rule reads of a row, as it is stored."""
    values = {id: {"value": row.scores[id].value if row.score(id) else None} for id in row.axes}
    return {
        "name": row.name,
        "epoch": row.epoch,
        "axes": values,
        "per_prompt": row.per_prompt,
    }


def models_of(rows: Sequence[Mapping[str, Any]]) -> list[EvaluatedModel]:
    """Stored rows as the rule reads them; no interval is stored."""
    found = []
    for row in rows:
        values = {id: score["value"] for id, score in row["axes"].items()}
        scores = {
            id: Score(id, value, value, value, 0, "L", "")
            for id, value in values.items()
            if value is not None
        }
        found.append(EvaluatedModel(row["name"], scores, row["per_prompt"], row["epoch"]))
    return found


@dataclass(frozen=True)
class Found:
    """A run's truth: the names that are as good as the best, and of each way of choosing whether it
    took one of them and by how many faults its choice is behind the best."""

    best: str
    alike: list[str]
    hit: dict[str, bool]
    regret: dict[str, float]


def found(result: Mapping[str, Any]) -> Found:
    """The truth by the rule of selection, from the rows that were measured to the end."""
    rows, choices = models_of(result["truth"]), result["choices"]
    names = [row.name for row in rows]
    gaps = dict(zip(names, behind(rows, result["seed"])[0].tolist(), strict=True))
    alike = select(rows, Constraints(), result["seed"]).alike
    hit = {who: name in alike for who, name in choices.items()}
    return Found(
        min(names, key=gaps.__getitem__),
        alike,
        hit,
        {who: gaps[name] for who, name in choices.items()},
    )


def summary(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Over the runs: how often each way of choosing hits the true set, with Wilson's interval, and
    its mean regret.

    `lot` is the share of the candidates that are in a true set, `close` the runs that tune called
    too close.
    """
    truths = [found(result) for result in results.values()]
    told: dict[str, Any] = {
        "runs": len(truths),
        "share": float(np.mean([result["share"] for result in results.values()])),
        "lot": float(np.mean([len(truth.alike) / CANDIDATES for truth in truths])),
        "close": sum(result["close"] for result in results.values()),
    }
    for who in WAYS:
        known = [truth for truth in truths if who in truth.hit]  # the grid comes last
        if known:
            hits, regret = (
                sum(truth.hit[who] for truth in known),
                [truth.regret[who] for truth in known],
            )
            interval = binomtest(hits, len(known)).proportion_ci(method="wilson")
            told[who] = {
                "hits": hits,
                "of": len(known),
                "low": float(interval.low),
                "high": float(interval.high),
                "regret": float(np.mean(regret)),
                "worst": max(regret),
            }
    return told


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each run, and what they say together."""
    told = summary(results)
    ways = {who: words for who, words in WAYS.items() if who in told}
    heads = ["training", "tune chose", "truly the best", "true set", *ways.values()]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, result in results.items():
        truth, chosen = found(result), result["choices"]["tune"]
        row = [
            RUNS[name].words,
            short(chosen),
            short(truth.best),
            f"{len(truth.alike)} of {CANDIDATES}",
        ]
        row[1] += ", open" if result["close"] else ""
        row += [
            (
                f"{'yes' if truth.hit[who] else '**no**'}, {truth.regret[who]:.3f}"
                if who in truth.hit
                else "–"
            )
            for who in ways
        ]
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "| choice | in the true set | Wilson 95 % | mean regret | worst |",
        "|---|---|---|---|---|",
    ]
    for who, words in ways.items():
        one = told[who]
        lines.append(
            f"| {words} | {one['hits']} of {one['of']} | {one['low']:.0%} to {one['high']:.0%} | "
            f"{one['regret']:.3f} | {one['worst']:.3f} |"
        )
    said = (
        f"`tune` made {told['share']:.1%} of the grid's pictures; open:"
        f" {told['close']} of {told['runs']}."
    )
    lines += [
        "",
        (
            f"{said} A candidate drawn by lot would be in the true set in {told['lot']:.0%} of the"
            " runs."
        ),
    ]
    return "\n".join(lines)


def short(name: str) -> str:
    return name.removeprefix("trained@")


if __name__ == "__main__":
    main()
