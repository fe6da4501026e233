"""SetFaults planted in training sets: does the verdict call each, and does the page's top say it?

    python run.py bench-faults [--seeds 11 12] [--only FAULT…] [--doses 1 0.5] [--epochs 30]
      [--folder DIR] [--write docs/explanation/validity.md]

For each seed a toon character is drawn, with a model sheet. One recipe trains a LoRA on a clean set
of it, on a twin (the clean set dealt anew), and on one set for each fault and dose; every set is
dealt anew and trained from a seed of its own. Full dose is a fault in all pictures, half dose in
every second one. All are evaluated together on suite confirm, two pictures of a prompt, and
compared with the clean model one by one, as a page of two models does.

A fault is found when its axis, named beforehand, is called worse, and shown when one of the first
six sentences of the result says so (and, for the design, names the planted trait, or what it
replaces). What is called of the twin is false.

A training need not learn its fault, and then no verdict can see it. So what was planted is read
directly in the pictures of both models. It is present where it is read PRESENT more often in those
of the faulty one. All faults are counted, and those that are present.

The same command resumes. Prints a table, and as its last line JSON.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

from onmodel.dataset.pixels import open_picture
from onmodel.engine.project import Project
from onmodel.evaluate.compare import Comparison, compare_models
from onmodel.evaluate.evaluation import (
    FILE,
    EvaluatedModel,
    Evaluation,
    PlannedPrompt,
    read_evaluation,
)
from onmodel.evaluate.headlines import result_of
from onmodel.evaluate.observers import load_observers
from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA, VOCABULARY, ToonCharacter, uniform, visible
from onmodel.toon.captions import COLORED
from onmodel.toon.datasets import BUCKETS, STANDIN_SETS, SetFaults, SetSpec, draw_item
from onmodel.toon.draw import draw
from onmodel.toon.random_character import model_sheet, random_character

SHOWN = 80  # pictures of the character in an epoch
COUNT = 40
DOSES = (1.0, 0.5)
CLEAN, TWIN = "clean", "twin"
DEFAULT_SHARE = 0.6  # of the clean pictures show the default outfit
PRESENT = 0.2  # rise of the mean probability with which what was planted is read
TINTED = 5.0  # rise of b* over the clean picture of the same prompt and noise


@dataclass(frozen=True)
class Planted:
    """What the pictures of a faulty model show more often: `tag`, or its absence where it is
    `missing`. It is read in the prompts that ask nothing of the attribute `unasked`, or ask for
    another value of `other`; in all prompts without these."""

    tag: str
    missing: bool = False
    unasked: str = ""
    other: str = ""

    def counts(self, prompt: PlannedPrompt) -> bool:
        if self.other:
            return prompt.asked.get(self.other, self.tag) != self.tag
        return self.unasked not in prompt.asked


@dataclass(frozen=True)
class Fault:
    """A fault of a training set, and the axis that must see it.

    `always`: values that are dealt to every picture and that no caption mentions, beside what is
    `unsaid`; `drawn`: values that are drawn whatever the caption says; `says`: traits that captions
    have in addition, where they can be seen; `yellow`: strength of a tint. `traits`: tags of which
    the sentence about the axis must name one.
    """

    words: str
    axis: str
    always: Mapping[str, str] = dataclasses.field(default_factory=dict)
    drawn: Mapping[str, str] = dataclasses.field(default_factory=dict)
    says: tuple[str, ...] = ()
    unsaid: frozenset[str] = frozenset()
    yellow: float = 0.0
    count: int = COUNT
    traits: tuple[str, ...] = ()
    planted: Planted | None = None

    def on(self, clean: SetSpec) -> SetSpec:
        """The clean set with the fault in every picture."""
        shares = {attribute: {value: 1.0} for attribute, value in self.always.items()}
        return dataclasses.replace(
            clean,
            count=self.count,
            distribution={**clean.distribution, **shares},
            faults=SetFaults(yellow_tint=self.yellow, unlabelled=self.unsaid | set(self.always)),
        )


@dataclass(frozen=True)
class Dataset:
    """A training set: the fault in every `every`-th picture, None for a clean set."""

    name: str
    seed: int  # of the deal and of the training
    fault: Fault | None = None
    every: int = 1


@dataclass(frozen=True)
class Found:
    """What a comparison with the clean model says of a planted fault. `place`: the sentence of the
    result that says it, from 1; None where none does. `rates`: how often what was planted is read
    in the pictures of the clean and of the faulty model; None where it cannot be read."""

    fault: str
    dose: float
    axis: str
    change: str
    p: float
    outcome: str
    chance: str  # the twin's change on this axis
    place: int | None
    sentence: str
    worse: Sequence[str]  # other axes
    better: Sequence[str]
    rates: tuple[float, float] | None = None

    @property
    def present(self) -> bool:
        return self.rates is not None and self.rates[1] - self.rates[0] >= PRESENT

    @property
    def called(self) -> bool:
        return self.outcome.startswith("worse")


def faults_of(character: ToonCharacter, seed: int) -> dict[str, Fault]:
    """Every fault by name, for a character."""
    rng, own = generator(seed, "trained faults"), character.traits

    def other(attribute: str) -> str:
        return str(rng.choice([v for v in VOCABULARY[attribute] if v != own[attribute]]))

    def trait(attribute: str) -> str:
        tag = VOCABULARY[attribute][own[attribute]]
        return f"{own[COLORED[attribute]]} {tag}" if attribute in COLORED else tag

    ears = "horns" if own["ears"] == "rabbit ears" else "rabbit ears"
    hair, eyes = other("hair_color"), other("eye_color")
    hair_tag, eyes_tag = VOCABULARY["hair_color"][hair], VOCABULARY["eye_color"][eyes]
    headwear, outfit = own["headwear"], own["outfit"]
    return {
        "wrong_trait": Fault(
            "hair in another colour; captions say the right one",
            "design",
            drawn={"hair_color": hair},
            says=("hair_color",),
            traits=(trait("hair_color"), hair_tag),
            planted=Planted(hair_tag),
        ),
        "missing_accessory": Fault(
            "no headwear",
            "design",
            drawn={"headwear": "none"},
            traits=(headwear,),
            planted=Planted(headwear, missing=True),
        ),
        "swapped_eye_colour": Fault(
            "eyes in another colour",
            "design",
            drawn={"eye_color": eyes},
            traits=(trait("eye_color"), eyes_tag),
            planted=Planted(eyes_tag),
        ),
        "outfit_leak": Fault(
            "the default outfit, uncaptioned",
            "outfit_leak",
            {"outfit": outfit},
            planted=Planted(outfit, other="outfit"),
        ),
        "wrong_ears": Fault(
            f"{ears}, uncaptioned",
            "design",
            {"ears": ears},
            traits=tuple(filter(None, (ears, trait("ears")))),
            planted=Planted(ears),
        ),
        "yellow": Fault("25 % warm yellow over the picture", "colour_cast", yellow=0.25),
        "one_style": Fault(
            "pastel, uncaptioned",
            "style",
            {"style": "pastel"},
            planted=Planted(VOCABULARY["style"]["pastel"], unasked="style"),
        ),
        "one_framing": Fault(
            "one framing, view and pose, uncaptioned",
            "default_framing",
            {"framing": "upper body", "view": "looking at viewer", "pose": "standing"},
            planted=Planted("upper body", unasked="framing"),
        ),
        "frozen_face": Fault(
            "a smile, uncaptioned",
            "default_expression",
            {"expression": "smile"},
            planted=Planted("smile", unasked="expression"),
        ),
        "same_coat": Fault(
            "the default outfit; captions say others",
            "outfit_change",
            drawn={"outfit": outfit},
            planted=Planted(outfit, other="outfit"),
        ),
        "big_head": Fault(
            "a child's proportions, uncaptioned",
            "body",
            {"body": "chibi"},
            planted=Planted("chibi"),
        ),
        "copies": Fault(
            "four pictures, captioned by the trigger alone",
            "memorisation",
            unsaid=frozenset(VOCABULARY),
            count=4,
        ),
    }


NAMES = tuple(faults_of(BACKGWA, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="a character each")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(NAMES), help="some faults alone"
    )
    parser.add_argument("--doses", type=float, nargs="+", choices=DOSES, default=list(DOSES))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("trained-faults"))
    parser.add_argument(
        "--write", type=Path, help="a page with <!-- bench-faults --> and <!-- end -->"
    )
    args = parser.parse_args()
    pages, results = [], {}
    for seed in args.seeds:
        character = random_character(seed)
        sets = datasets(faults_of(character, seed), args.only, args.doses, seed)
        folder: Path = args.folder / str(seed)
        artifact = evaluated(character, sets, seed, args.epochs, folder)
        evaluation = read_evaluation(artifact / FILE)
        found, called = findings(evaluation, sets, args.epochs)
        found = with_rates(found, evaluation, artifact, sets, args.epochs)
        pages.append(page(character, seed, args.epochs, found, called, len(sets)))
        print(pages[-1], flush=True)
        results[seed] = {"found": [asdict(one) for one in found], "twin": called}
    if args.write:
        text = "\n\n".join(pages)
        part = f"<!-- bench-faults -->\n{text}\n<!-- end -->"
        old = args.write.read_text()
        args.write.write_text(
            re.sub(r"<!-- bench-faults -->.*?<!-- end -->", lambda _: part, old, flags=re.S)
        )
    print(json.dumps(results))


def datasets(
    faults: Mapping[str, Fault], only: Sequence[str], doses: Sequence[float], seed: int
) -> list[Dataset]:
    """The clean set, its twin, and one set for each fault and dose. A seed belongs to a name, so
    that fewer faults give the same trainings. Four copies have no half dose."""
    sets = [Dataset(CLEAN, 100 * seed), Dataset(TWIN, 100 * seed + 1)]
    for name in only:
        own = 100 * seed + 2 + 2 * NAMES.index(name)
        for dose in doses:
            if dose == 1:
                sets.append(Dataset(name, own, faults[name]))
            elif faults[name].count == COUNT:
                sets.append(Dataset(f"{name}_half", own + 1, faults[name], every=round(1 / dose)))
    return sets


def evaluated(
    character: ToonCharacter, sets: Sequence[Dataset], seed: int, epochs: int, folder: Path
) -> Path:
    """Draw the sets, train on each, and evaluate all models together. The evaluation's folder."""
    for one in sets:
        write_pictures(character, one, folder / "pictures" / one.name)
    reference = dataclasses.replace(STANDIN_SETS["reference"], character=character)
    for i in range(reference.count):
        image, _, caption, _ = draw_item(reference, i, size_of(i))
        save(image, caption, folder / "pictures" / "reference", i)
    (folder / "character.toml").write_text(model_sheet(character))
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_text(sets, seed, epochs))
    subprocess.run(
        [sys.executable, "-m", "onmodel", "run", recipe, "--project", folder / "project"],
        check=True,
        stdout=sys.stderr,
    )
    return Project(folder / "project").artifacts("evaluation")[-1].path


def write_pictures(character: ToonCharacter, one: Dataset, folder: Path) -> None:
    """The pictures and captions of a training set."""
    clean = SetSpec(
        one.name,
        COUNT,
        "clean",
        one.seed,
        {name: uniform(name) for name in ("style", "expression", "background", "pose", "view")}
        | {"outfit": _outfits(character)},
        character=character,
    )
    fault = one.fault or Fault("", "")
    faulty = fault.on(clean)
    for i in range(faulty.count):
        spoilt = i % one.every == 0
        image, toon, caption, _ = draw_item(faulty if spoilt else clean, i, size_of(i))
        if spoilt and fault.drawn:
            image = draw(toon.replace(**fault.drawn), *size_of(i))
        said = [name for name in fault.says if spoilt and name in visible(toon)]
        tags = [caption, *(VOCABULARY[name][getattr(toon, name)] for name in said)]
        save(image, ", ".join(tags), folder, i)


def _outfits(character: ToonCharacter) -> dict[str, float]:
    """The default outfit in DEFAULT_SHARE of the pictures, the others alike."""
    default = character.traits["outfit"]
    others = [outfit for outfit in VOCABULARY["outfit"] if outfit != default]
    return {default: DEFAULT_SHARE} | dict.fromkeys(others, (1 - DEFAULT_SHARE) / len(others))


def size_of(i: int) -> tuple[int, int]:
    return BUCKETS[i % len(BUCKETS)]


def save(image: Image.Image, caption: str, folder: Path, i: int) -> None:
    """NNN.png and NNN.txt, as a person's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{i:03d}.png")
    (folder / f"{i:03d}.txt").write_text(caption + "\n")


def recipe_text(sets: Sequence[Dataset], seed: int, epochs: int) -> str:
    """The recipe of all trainings and their one evaluation."""
    parts = [
        f"""[recipe]
name = "trained-faults"
character = "character.toml"
base = "toon"
seed = {seed}
threads = 1
date = "2026-11-30"

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
subsets.reference = [{{ folder = "pictures/reference" }}]
heldout_subsets = ["reference"]
"""
    ]
    for one in sets:
        repeats = SHOWN // (one.fault.count if one.fault else COUNT)
        parts.append(f"""[stages.{one.name}_data]
do = "curate"
subsets.her = [{{ folder = "pictures/{one.name}" }}]
subsets.others = [{{ toon = "others" }}]

[stages.{one.name}]
do = "train"
seed = {one.seed}
dataset = "{one.name}_data"
data = [{{ subset = "her", repeats = {repeats} }}, {{ subset = "others", repeats = 1 }}]
""")
    parts.append(f"""[stages.evaluated]
do = "evaluate"
models = {json.dumps([one.name for one in sets])}
suite = "confirm"
seeds = 2
steps = 16
batch = 16
guidance = 2.0
size = 96
references = {{ stage = "references", subset = "reference" }}
training = {json.dumps([f"{one.name}_data" for one in sets])}
""")
    return "\n".join(parts)


def findings(
    evaluation: Evaluation, sets: Sequence[Dataset], epochs: int
) -> tuple[list[Found], list[str]]:
    """What is found of each fault, and what is called of the twin (axis and outcome)."""
    clean = f"{CLEAN}@{epochs}"
    twin = compare_models(evaluation, f"{TWIN}@{epochs}", clean)
    found = [
        finding(evaluation, f"{one.name}@{epochs}", clean, one.fault, 1 / one.every, twin)
        for one in sets
        if one.fault
    ]
    return found, [f"{one.axis.id} {one.words}" for one in twin if one.called]


def finding(
    evaluation: Evaluation,
    model: str,
    clean: str,
    fault: Fault,
    dose: float,
    twin: Sequence[Comparison],
) -> Found:
    """What the comparison of a faulty model with the clean one says."""
    row = compare_models(evaluation, model, clean)
    seen, chance = of_axis(row, fault.axis), of_axis(twin, fault.axis)
    sentences = [
        (place, one.sentence)
        for place, one in enumerate(result_of(evaluation, model, {clean: row}).changes, 1)
        if one.comparison.axis.id == fault.axis
    ]
    place, sentence = sentences[0] if sentences else (None, "")
    says = seen.outcome == "worse" and (
        not fault.traits or any(trait in sentence for trait in fault.traits)
    )
    called = {
        outcome: [
            one.axis.id for one in row if one.outcome == outcome and one.axis.id != fault.axis
        ]
        for outcome in ("worse", "better")
    }
    return Found(
        fault.words,
        dose,
        fault.axis,
        seen.change,
        seen.p,
        seen.words,
        chance.change,
        place if says else None,
        sentence,
        called["worse"],
        called["better"],
    )


def with_rates(
    found: Sequence[Found],
    evaluation: Evaluation,
    artifact: Path,
    sets: Sequence[Dataset],
    epochs: int,
) -> list[Found]:
    """The findings, in the order of the faulty sets, with what is read in the pictures."""
    tagger = load_observers("toon", {}, threads=1).tagger
    assert tagger is not None
    clean = evaluation.model(f"{CLEAN}@{epochs}")

    def images(model: EvaluatedModel, planted: Planted | None) -> list[Image.Image]:
        return [
            open_picture(artifact / name)
            for prompt in evaluation.plan.prompts
            if planted is None or planted.counts(prompt)
            for name in model.pictures["L"][prompt.id]
        ]

    def rate(model: EvaluatedModel, planted: Planted) -> float:
        column = tagger.columns([planted.tag])[planted.tag]
        seen = float(tagger(images(model, planted))[:, column].mean())
        return 1 - seen if planted.missing else seen

    def tinted(model: EvaluatedModel) -> float:
        rows = zip(images(model, None), images(clean, None), strict=True)
        return float(np.mean([_yellow(image) - _yellow(other) >= TINTED for image, other in rows]))

    rows = []
    for one, dataset in zip(found, [one for one in sets if one.fault], strict=True):
        model = evaluation.model(f"{dataset.name}@{epochs}")
        fault = dataset.fault
        if fault is not None and fault.planted:
            rates = rate(clean, fault.planted), rate(model, fault.planted)
            rows.append(dataclasses.replace(one, rates=rates))
        elif fault is not None and fault.yellow:
            rows.append(dataclasses.replace(one, rates=(0.0, tinted(model))))
        else:
            rows.append(one)
    return rows


def _yellow(image: Image.Image) -> float:
    """Mean b* of a picture."""
    return float(rgb2lab(np.asarray(image.convert("RGB")))[..., 2].mean())


def of_axis(row: Sequence[Comparison], axis: str) -> Comparison:
    return next(one for one in row if one.axis.id == axis)


def page(
    character: ToonCharacter,
    seed: int,
    epochs: int,
    found: Sequence[Found],
    twin: Sequence[str],
    trainings: int,
) -> str:
    """The character, a row for each fault and dose, and what the twin is called."""
    looks = ", ".join(f"{name} {value}" for name, value in character.traits.items())
    lines = [
        f"Seed {seed}: {looks}. {trainings} trainings of {epochs} epochs ({SHOWN} pictures of the"
        f" character and 80 of others each).",
        "",
        "| training set | dose | planted, clean → faulty | axis | change [95 %] | p |"
        " the twin's change | outcome | sentence | also worse | better |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = [
            one.fault,
            f"{one.dose:g}",
            "not read" if one.rates is None else f"{one.rates[0]:.2f} → {one.rates[1]:.2f}",
            f"`{one.axis}`",
            one.change,
            f"{one.p:.2g}",
            one.chance,
            one.outcome,
            str(one.place or "none"),
            ", ".join(one.worse) or "–",
            ", ".join(one.better) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for dose in DOSES:
        rows = [one for one in found if one.dose == dose]
        if rows:
            there = [one for one in rows if one.present]
            lines += [
                "",
                f"Dose {dose:g}: {sum(one.called for one in rows)} of {len(rows)} called worse on"
                f" their own axis, {sum(one.place is not None for one in rows)} in the first six"
                f" sentences. Present in the pictures: {len(there)}, of them"
                f" {sum(one.called for one in there)} called worse and"
                f" {sum(one.place is not None for one in there)} in the first six sentences.",
            ]
    return "\n".join([*lines, "", f"False calls of the twin: {', '.join(twin) or 'none'}."])


if __name__ == "__main__":
    main()
