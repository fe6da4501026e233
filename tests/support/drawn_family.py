"""A model whose faults are known: it obeys prompts by drawing toons, and its LoRAs are small notes
of what goes wrong.

`install` puts it where pictures are generated, so cache, observers, axes and stages run as they
are. `oracle` is an observer that knows what was drawn, for tests of axes alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from onmodel.character import Character, load_character
from onmodel.evaluate.axes import Evidence, References, Training
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers.colour import colours
from onmodel.evaluate.observers.copy import copy_embedding
from onmodel.evaluate.observers.grain import grain
from onmodel.evaluate.observers.identity import unit
from onmodel.evaluate.observers.layout import figure_box
from onmodel.evaluate.selftest.drawn import SIDE, Faults, picture, training_toons
from onmodel.events import Events
from onmodel.hashing import sha256_file, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora.header import history_words
from onmodel.randomness import generator, normal
from onmodel.records import Artifact, Model
from onmodel.sample.suites import Prompt, noise_seed, suite
from onmodel.stages.base import Context, write_models
from onmodel.toon import attributes
from onmodel.toon.attributes import VOCABULARY, Toon
from onmodel.toon.body import BODIES
from onmodel.toon.captions import ALL_TAGS, tags_of
from onmodel.toon.datasets import STANDIN_SETS as SETS
from onmodel.toon.datasets import deal
from onmodel.toon.draw import draw, layout
from onmodel.toon.pen import Variation
from onmodel.weights import read_metadata, write_weights
from tests.support.contexts import context
from tests.support.onnx_files import write_identity, write_tagger

SHEET = Path(attributes.__file__).parent / "characters" / "backgwa.toml"


def sheet() -> Character:
    return load_character(SHEET)


# --- in the place of the sampler
# -------------------------------------------------------------------------------------


class DrawnFamily:
    """Stands for a loaded base; counts what it draws. `stop_after` raises KeyboardInterrupt like a
    killed run."""

    spec = None

    def __init__(self) -> None:
        self.faults: Faults | None = None
        self.drawn = 0
        self.applications = 0
        self.stop_after: int | None = None
        self.without_negative: dict[str, Any] = {}

    def encode_prompts(self, prompts: Sequence[str], empty_text: str) -> None:
        """It reads the prompts when it draws."""

    def release(self) -> None:
        """It has nothing to free."""

    @contextmanager
    def applied(self, lora: Faults, weight: float) -> Iterator[None]:
        self.faults, self.applications = lora, self.applications + 1
        yield
        self.faults = None


def install(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    """Generate by drawing from now on."""

    def generate(
        family: DrawnFamily, jobs: Sequence[Any], sampling: Any
    ) -> Iterator[tuple[Any, Image.Image]]:
        for job in jobs:
            if family.drawn == family.stop_after:
                raise KeyboardInterrupt
            family.drawn += 1
            faults = family.faults
            if faults is not None and not job.negative and family.without_negative:
                faults = replace(faults, **family.without_negative)
            yield job, picture(job.prompt, job.seed, faults, job.width)[0]

    monkeypatch.setattr("onmodel.sample.sampler.generate", generate)
    monkeypatch.setattr("onmodel.lora.tensors.read_lora", lambda path, spec, dora: faults_of(path))
    monkeypatch.setattr("onmodel.lora.tensors.changes_text", lambda lora, spec: False)
    monkeypatch.setattr(
        "onmodel.lora.tensors.applied", lambda family, lora, weight: family.applied(lora, weight)
    )
    return DrawnFamily()


def faults_of(path: Path) -> Faults:
    """What a file that `lora` wrote holds."""
    return Faults(**json.loads(read_metadata(path)["faults"]))


def lora(
    folder: Path, name: str, epoch: int | None = None, history: Lineage | None = None, **faults: Any
) -> Model:
    """A LoRA file of known faults, and of a known history."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('@', '-')}.safetensors"
    said = json.dumps(asdict(Faults(**faults)), sort_keys=True)
    tensor = torch.tensor(list(said.encode()), dtype=torch.uint8)
    write_weights(
        path, {"faults": tensor}, {"faults": said} | (history_words(history) if history else {})
    )
    return Model.of(name, path, epoch)


# --- an observer that knows
# ------------------------------------------------------------------------------------------


def oracle(made: Sequence[tuple[Image.Image, Toon]], noise: float = 0.03) -> Features:
    """Features of drawn pictures: nearly right tags, an identity that is a sum of the traits'
    vectors, real colours."""
    palette = sheet().palette
    tags, identity = [], []
    for i, (_, toon) in enumerate(made):
        true = tags_of(toon)
        jitter = normal((len(ALL_TAGS) + 32,), toon.nuisance, "oracle", i) * noise
        tags.append(
            np.clip([0.94 if tag in true else 0.03 for tag in ALL_TAGS] + jitter[:-32], 0, 1)
        )
        traits = [
            normal((32,), 0, "trait", name, getattr(toon, name))
            for name in ("hair_color", "ears", "headwear", "eye_color", "hair_style")
        ]
        identity.append(np.sum(traits, axis=0) + jitter[-32:] * 4)
    found = [colours(image, palette) for image, _ in made]
    return Features(
        tags=np.array(tags, dtype=np.float32),
        identity=np.array(identity, dtype=np.float32),
        lab=np.stack([lab for lab, _ in found]),
        sectors=np.stack([sectors for _, sectors in found]),
        box=np.stack([figure_box(image) for image, _ in made]),
        copy=np.stack([copy_embedding(image) for image, _ in made]),
        grain=np.stack([grain(image) for image, _ in made]),
        parts=np.stack([parts_of(toon, image.size) for image, toon in made]),
        heads=np.ones(len(made)),
        corruption=np.full(len(made), 0.02),
        aesthetic=np.full(len(made), 0.5),
        style=np.zeros((len(made), 0)),
        content=np.zeros((len(made), 0)),
    )


def parts_of(toon: Toon, size: tuple[int, int]) -> np.ndarray:
    """The boxes of person and head [2, 5] of a drawing, as a detector that knows tells them."""
    radius, (x, y) = layout(toon, Variation.of(toon.nuisance), size)
    low, high = max(y - 1.3 * radius, 0), min(y + BODIES[toon.body].foot * radius, size[1])
    person = (x, (low + high) / 2, 2 * radius, high - low)
    boxes = np.array([person, (x, y, 2 * radius, 2 * radius)]) / (*size, *size)
    return np.concatenate([boxes, [[0.9], [0.9]]], axis=1)


Look = Callable[[Sequence[tuple[Image.Image, Toon]]], Features]
Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]


def half_of_one_minus_cosine(a_nf: np.ndarray, b_mf: np.ndarray) -> np.ndarray:
    """CCIP's own difference."""
    return (1 - unit(a_nf) @ unit(b_mf).T) / 2


def evidence(
    faults: Faults | None,
    prompts: Sequence[Prompt] | None = None,
    seeds: int = 3,
    look: Look = oracle,
    tags: Sequence[str] = ALL_TAGS,
    suite_name: Any = "choose",
    compare: Compare = half_of_one_minus_cosine,
) -> Evidence:
    """What is known of a LoRA with these faults (None: no LoRA at all); `tags` are the columns of
    what `look` sees."""
    character = sheet()
    prompts = prompts or suite(suite_name, character, VOCABULARY)
    arms = {}
    for letter in ("L", "N", "B", "D", "BN"):
        words = tuple((prompt.id, prompt.words(letter)) for prompt in prompts)
        if letter in "LN":
            arms[letter] = _arm(look, suite_name, seeds, words, faults)
        else:
            arms[letter] = _base_arm(look, suite_name, seeds, words)
    toons, trained = tuple(deal(SETS["reference"])), training_toons()
    references = References(_drawn(look, toons), np.arange(len(toons)), compare)
    columns = {tag: i for i, tag in enumerate(tags)}
    learnt = _drawn(look, trained)
    training = Training(learnt, [f"base/{i:04d}.png" for i in range(len(trained))])
    return Evidence(character, prompts, VOCABULARY, columns, arms, references, training)


def _arm(
    look: Look,
    suite_name: Any,
    seeds: int,
    words: tuple[tuple[str, str], ...],
    faults: Faults | None,
) -> Features:
    """Features [prompt, seed, …] of the pictures of one arm; `words` are (prompt id, text)."""
    made = [
        picture(text, noise_seed(suite_name, id, i), faults)
        for id, text in words
        for i in range(seeds)
    ]
    return look(made).take(np.arange(len(made)).reshape(len(words), seeds))


@lru_cache(maxsize=16)  # the same for every LoRA
def _base_arm(
    look: Look, suite_name: Any, seeds: int, words: tuple[tuple[str, str], ...]
) -> Features:
    return _arm(look, suite_name, seeds, words, None)


@lru_cache(maxsize=4)
def _drawn(look: Look, toons: tuple[Toon, ...]) -> Features:
    return look([(draw(toon, SIDE, SIDE), toon) for toon in toons])


# --- what stages are given
# -------------------------------------------------------------------------------------------


def drawn_context(
    folder: Path,
    family: DrawnFamily,
    name: str = "stage",
    events: Events | None = None,
    seed: int = 1,
) -> Context:
    """A context whose artifact stays in `folder`/<name>/out; stages share the picture cache."""
    pictures = folder / "pictures"
    return context(folder / name, lambda: family, name, seed, sheet(), pictures, events)


def trained(
    folder: Path, stage: str, epochs: Mapping[int, Mapping[str, Any]], *data: Lineage
) -> Artifact:
    """A train artifact: a LoRA of known faults for each epoch; `data` is what it was trained on."""
    path, history = folder / stage, add(data, "run", name=stage)
    for epoch, faults in epochs.items():
        lora(path, f"{stage}@{epoch}", epoch, history, **faults)
    write_models(path, [(f"{stage}@{e}", e, f"{stage}-{e}.safetensors") for e in epochs])
    write_json(path / "lineage.json", history)
    return Artifact("run", stage, path)


def drawn_dataset(folder: Path, count: int = 8, split: str = "heldout") -> Artifact:
    """A curate artifact whose subset "reference" is held out."""
    path = folder / "references"
    (path / "images").mkdir(parents=True)
    items = []
    for i, toon in enumerate(deal(SETS["reference"])[:count]):
        file = path / "images" / f"{i}.png"
        draw(toon, SIDE, SIDE).save(file)
        items.append(
            {
                "image": f"images/{i}.png",
                "sha256": sha256_file(file),
                "subset": "reference",
                "group": i,
                "tags": ", ".join(sorted(tags_of(toon))),
                "split": split,
            }
        )
    write_json(path / "manifest.json", {"items": items})
    write_json(path / "lineage.json", add([], "dataset", count=count))
    return Artifact("dataset", "references", path)


def training_dataset(folder: Path, name: str = "training", count: int | None = None) -> Artifact:
    """A curate artifact of the pictures (the first `count`) that `Faults.copies` draws again."""
    path = folder / name
    (path / "images").mkdir(parents=True)
    items = []
    for i, toon in enumerate(training_toons()[:count]):
        file = path / "images" / f"{i}.png"
        draw(toon, SIDE, SIDE).save(file)
        items.append(
            {
                "image": f"images/{i}.png",
                "sha256": sha256_file(file),
                "subset": name,
                "split": "train",
            }
        )
    write_json(path / "manifest.json", {"items": items})
    write_json(path / "lineage.json", add([], "dataset", name=name, root=""))
    return Artifact("dataset", name, path)


def colour_observers(folder: Path) -> dict[str, Path]:
    """Tiny observers in the real formats that look at mean colours: enough for a stage to run."""
    rng = generator(0, "tiny observers")
    tags = [("general", 9), *((tag, 0) for tag in ALL_TAGS)]
    return {
        "tagger": write_tagger(folder / "tagger", tags, rng.normal(0, 3, (len(tags), 3))),
        "identity": write_identity(folder / "identity", rng.normal(0, 1, (8, 3))),
    }
