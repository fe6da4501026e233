"""A project with an evaluation whose pictures are single colours: red says which model, green which
prompt, blue the noise. So a simulated judge sees what a person sees, pixels, and its truth is
known."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from onmodel.engine.project import Project
from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.hashing import write_atomic, write_json
from onmodel.ledger.store import RunStart
from onmodel.records import Artifact
from onmodel.sample.pictures import png_bytes
from tests.support import evaluations as made_up

MODELS = ("release_1@20", "release_2@30", "merged")
VALUES: Mapping[str, Mapping[str, float]] = {
    "reproduction": {
        "release_1@20": 0.2,
        "release_2@30": 0.5,
        "merged": 0.9,
    },  # up: as a judge who likes the last
    "colour_cast": {
        "release_1@20": -1.0,
        "release_2@30": 4.0,
        "merged": -9.0,
    },  # nearer to 0 is better
    "drift": {"release_1@20": 0.3, "release_2@30": 0.3, "merged": 0.3},
}


def add_evaluation(
    project: Project,
    models: tuple[str, ...] = MODELS,
    prompts: int = 12,
    seeds: int = 2,
    values: Mapping[str, Mapping[str, float]] = VALUES,
    stage: str = "fresh",
    file: str | None = None,
) -> Artifact:
    """Make an evaluation as the stage would, and record it. `file` stands in place of the first
    picture's name."""
    scratch = project.scratch(stage * 12)
    out = scratch / "out"
    ids = [f"choose/{at:02}" for at in range(prompts)]
    rows = []
    for m, name in enumerate(models):
        pictures: dict[str, list[str]] = {}
        for p, id in enumerate(ids):
            pictures[id] = []
            for s in range(seeds):
                made = f"pictures/{m}{p:02}{s}.png"
                image = Image.new("RGB", (8, 12), (m * 40, p * 5, s * 9))
                write_atomic(out / made, png_bytes(image, f"Lora hashes: {name}"))
                pictures[id].append(file if file and m == p == s == 0 else made)
        per_prompt = {axis: dict.fromkeys(ids, row.get(name, 0.5)) for axis, row in values.items()}
        row = made_up.model(name, per_prompt)
        rows.append(replace(row, pictures={"L": pictures}))
    prompts = [made_up.prompt(id) for id in ids]
    plan = replace(made_up.plan(prompts, seeds), size=(8, 12))
    signature = f"onm|{stage}|P:{len(ids)}|S:{seeds}"
    evaluation = made_up.evaluation(rows, plan, list(values), signature=signature)
    write_evaluation(out / FILE, evaluation)
    write_json(out / "lineage.json", {})
    artifact = project.commit(scratch, "evaluation")
    run = project.ledger.start(
        RunStart(stage, "r", stage, "evaluate", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
    )
    project.ledger.finish(run, "evaluation", artifact.hash, 1.0, "2026-11-22T00:00:01+00:00")
    return artifact


def model_seen(png: bytes) -> int:
    """Which model drew this picture, by its place in `models`."""
    with Image.open(io.BytesIO(png)) as image:
        pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel[0] // 40


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
