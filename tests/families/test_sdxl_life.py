"""A LoRA's life on the toon SDXL base: the stages know no family."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onmodel.doctor.files import lora_findings
from onmodel.engine import local
from onmodel.engine.plan import make_plan
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.families.registry import SHIPPED, load_base, outline
from onmodel.families.sdxl.single_file import export_single_files
from onmodel.hashing import read_json
from onmodel.recipe import load_recipe
from onmodel.release.verify import verify
from onmodel.sample.sampler import Job, sample
from onmodel.sample.sampling import Sampling
from onmodel.weights import write_weights
from tests.support.events import Recorded

RECIPE = """
[recipe]
name = "life"
character = "toon:backgwa"
base = "toon-sdxl"
seed = 3
date = "2026-12-01"
threads = 1

[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 8 }]
subsets.reference = [{ toon = "reference" }]
heldout_subsets = ["reference"]

[stages.first]
do = "train"
dataset = "data"
data = [{ subset = "base", repeats = 2 }]
epochs = 2
keep_every = 1
rank = 4
targets = "locon"
ranks = [{ layers = "*layers*", rank = 2 }]
batch = 8
resolution = 96
learning_rate = 2e-3

[stages.merged]
do = "merge"
models = ["first@1", "first@2"]
weights = "uniform"

[stages.measured]
do = "evaluate"
models = ["first@2", "merged"]
suite = "check"
seeds = 1
steps = 2
sampler = "dpmpp_2m"
references = { stage = "data", subset = "reference" }

[stages.release]
do = "release"
model = "merged"
evaluation = "measured"
title = "Life"
file_name = "life"
samples = 1
"""


def test_a_recipe_runs_from_pictures_to_a_release(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    project = Project(tmp_path / "project")
    recipe = load_recipe(tmp_path / "recipe.toml")
    with project.writing():
        local.run(recipe, project, Recorded())
    (release,) = project.artifacts("release")
    folder = release.path / "life" if (release.path / "life").is_dir() else release.path
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    stems = Counter(key.split("_")[1] for key in tensors)
    downs = [value.shape for key, value in tensors.items() if "in_layers_2.lora_down" in key]
    assert downs and all(shape[2:] == (3, 3) for shape in downs)  # convolutions, merged too
    assert set(stems) == {"unet"}  # kohya's names, which every program reads
    verify(folder)
    assert read_json(folder / "life.json")["sd version"] == "SDXL"
    told = list(lora_findings(file, outline("toon-sdxl")))
    assert [row.status for row in told] == ["ok"] and "129 of 133 layers" in told[0].text
    again = local.run(recipe, project, Recorded())
    assert again.artifacts["release"] == release


@pytest.mark.parametrize(
    ("base", "base_model", "said"),
    [
        ('hub = "Laxhar/noobai-XL-1.0"', "sdxl-1.0", "the hub id says NoobAI XL"),
        ('hub = "someone/illustrious-noobai-mix"', "illustrious", "the hub id says NoobAI XL"),
        (
            'checkpoint = "ponyV6.safetensors"',
            "illustrious",
            "the name of base.checkpoint says Pony",
        ),
        (
            'checkpoint = "x.safetensors"',
            "sdxl-1.0",
            "modelspec.title of base.checkpoint says Illus",
        ),
    ],
)
def test_a_base_that_says_to_be_another_model_is_refused(
    tmp_path: Path, base: str, base_model: str, said: str
) -> None:
    for name in ("ponyV6", "x"):
        words = {"modelspec.title": "Illustrious-XL v0.1"} if name == "x" else {}
        write_weights(tmp_path / f"{name}.safetensors", {"a": torch.zeros(1)}, words)
    table = f'base = {{ family = "sdxl", {base} }}'
    text = RECIPE.replace('base = "toon-sdxl"', table) + f'base_model = "{base_model}"\n'
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(InputError, match=rf"release.base_model: {base_model} — {said}"):
        make_plan(load_recipe(tmp_path / "recipe.toml"))


def test_a_model_that_the_files_are_has_the_licence_of_its_row(tmp_path: Path) -> None:
    base = {"family": "sdxl", "folder": str(SHIPPED["toon-sdxl"]["folder"])}
    table = ", ".join(f'{key} = "{value}"' for key, value in base.items())
    text = RECIPE.replace('base = "toon-sdxl"', f"base = {{ {table} }}")
    for name, match in (("", "set base_model"), ("pony", "nothing made from it is released")):
        asked = text + (f'base_model = "{name}"\n' if name else "")
        (tmp_path / "recipe.toml").write_text(asked)
        project = Project(tmp_path / f"project-{name}")
        with pytest.raises(InputError, match=match), project.writing():
            local.run(load_recipe(tmp_path / "recipe.toml"), project, Recorded())


def test_one_file_is_the_whole_base(tmp_path: Path) -> None:
    folder = Path(str(SHIPPED["toon-sdxl"]["folder"]))
    (checkpoint,) = export_single_files(folder, tmp_path)
    own = {"family": "sdxl", "dtype": "float32", "device": "cpu"}
    whole = load_base({**own, "folder": folder})
    single = load_base({**own, "checkpoint": checkpoint, "tokenizers": folder})
    jobs = [Job("1girl, red hair", "", 1, 64, 64)]
    found = [sample(family, jobs, Sampling(2, 3.0, 1.0)) for family in (whole, single)]
    assert torch.equal(*found)
    assert torch.equal(*(family.decode_latents(found[0]) for family in (whole, single)))
