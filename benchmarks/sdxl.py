"""The SDXL family on the toon base: does the base obey, do its numbers equal diffusers', and what
does the predecessor's recipe give? `python run.py bench-sdxl`.

The recipe's vision model is tools/toon_services.py, started here. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from toon_services import read_toon, serving  # noqa: E402

from onmodel.engine import local  # noqa: E402
from onmodel.engine.project import Project  # noqa: E402
from onmodel.evaluate.evaluation import FILE, read_evaluation  # noqa: E402
from onmodel.evaluate.observers import load_observers  # noqa: E402
from onmodel.events import Events  # noqa: E402
from onmodel.families.registry import SHIPPED, load_base  # noqa: E402
from onmodel.lora.convert import Target, convert  # noqa: E402
from onmodel.lora.layouts import BLOCKS_KEY, written_keys  # noqa: E402
from onmodel.lora.specs import spec_of_loras  # noqa: E402
from onmodel.lora.tensors import read_lora  # noqa: E402
from onmodel.randomness import generator, normal  # noqa: E402
from onmodel.recipe import load_recipe  # noqa: E402
from onmodel.sample.sampler import Job, generate  # noqa: E402
from onmodel.sample.sampling import Sampling  # noqa: E402
from onmodel.toon.attributes import sample_toon, visible  # noqa: E402
from onmodel.toon.captions import sentence, tags  # noqa: E402

BASE = "toon-sdxl"
ATTRIBUTES = {
    "style": "style",
    "hair_colour": "hair_color",
    "framing": "framing",
    "outfit": "outfit",
    "expression": "expression",
}
PROMPT = "1girl, smile, red hair, long hair, blue jacket, upper body, forest"


def obeys(count: int) -> dict[str, float]:
    """Attribute → share of pictures in which the tagger sees what was asked, where it is visible;
    half of the prompts are tags, half sentences."""
    tagger = load_observers("toon", {}, 1).tagger
    assert tagger is not None
    rng = generator(1, "bench-sdxl")
    toons = [sample_toon(rng) for _ in range(count)]
    prompts = [sentence(toon) if i % 2 else ", ".join(tags(toon)) for i, toon in enumerate(toons)]
    jobs = [Job(prompt, "", i, 96, 96) for i, prompt in enumerate(prompts)]
    made = generate(load_base(BASE), jobs, Sampling(steps=20, guidance=5.0, shift=1.0, batch=20))
    right: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for toon, (_, picture) in zip(toons, made, strict=True):
        (row,) = tagger([picture])
        seen = read_toon(dict(zip(tagger.tags, map(float, row), strict=True)))
        for name, attribute in ATTRIBUTES.items():
            if attribute in visible(toon):
                right[name].append(getattr(seen, attribute) == getattr(toon, attribute))
    return {name: round(float(np.mean(found)), 3) for name, found in right.items()}


def velocity_error() -> float:
    """The largest relative difference of the predicted noise from diffusers' own pipeline."""
    family = load_base(BASE)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        SHIPPED[BASE]["folder"], torch_dtype=torch.float32
    )
    states, _, pooled, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    said = {"text_embeds": pooled, "time_ids": torch.tensor([[96, 96, 0, 0, 96, 96]])}
    latents = torch.from_numpy(normal((1, 4, 24, 24), 0, "latents"))
    worst = 0.0
    with torch.no_grad():
        for step in (1, 250, 500, 750, 999):
            theirs = pipeline.unet(
                latents, step, states, added_cond_kwargs=said, return_dict=False
            )[0]
            time_b = torch.tensor([(step + 0.5) / 1000])
            ours = family.denoise(latents, time_b, family.encode_text([PROMPT]))
            worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    return worst


def layouts_error(folder: Path) -> float:
    """The largest relative difference of ΔW after a LoRA of kohya's was written in each layout and
    back."""
    spec = load_base(BASE).spec
    tensors, wanted = {}, {}
    rows = [*spec.targets("attention_mlp"), *spec.text_linears]
    for i, row in enumerate(rows):
        down = torch.from_numpy(normal((4, row.in_features), i, "down"))
        up = torch.from_numpy(normal((row.out_features, 4), i, "up"))
        keys = written_keys(row.name, "kohya")
        for key, value in zip(keys, (down, up, torch.tensor(2.0)), strict=True):
            tensors[str(key)] = value
        wanted[row.name] = 0.5 * up @ down
    source = folder / "source.safetensors"
    save_file(tensors, source, {BLOCKS_KEY: str(spec.blocks)})
    worst = 0.0
    layouts: tuple[Target, ...] = ("common", "kohya", "diffusers")
    for layout in layouts:
        convert(source, target := folder / f"{layout}.safetensors", layout)
        convert(target, back := folder / f"{layout}-back.safetensors", "kohya")
        for path in (target, back):
            lora = read_lora(path, spec_of_loras([path]))
            assert lora.modules.keys() == wanted.keys()
            for name, one in lora.modules.items():
                change = one.scale * one.up @ one.down
                worst = max(worst, float((change - wanted[name]).norm() / wanted[name].norm()))
    return worst


def predecessor(folder: Path) -> tuple[float, float, float]:
    """Seconds of the recipe, the released model's reproduction, and that of the base with the same
    prompts."""
    started = time.perf_counter()
    project = Project(folder / "project")
    recipe_file = ROOT / "recipes" / "predecessor_sdxl.toml"
    with serving() as address:
        text = recipe_file.read_text().replace("http://127.0.0.1:8077/v1", address)
        notes = recipe_file.with_name("predecessor_notes.txt")
        (folder / notes.name).write_text(notes.read_text())
        (folder / "recipe.toml").write_text(text)
        with project.writing():
            local.run(load_recipe(folder / "recipe.toml"), project, Events())
    seconds = time.perf_counter() - started
    (artifact,) = project.artifacts("evaluation")
    evaluation = read_evaluation(artifact.path / FILE)
    (model,) = evaluation.models
    values = [one.score("reproduction") for one in (model, evaluation.controls["B"])]
    found = [float("nan") if one is None else one.value for one in values]
    return seconds, found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200, help="prompts that the base is asked")
    count = parser.parse_args().prompts
    torch.set_num_threads(2)
    said: dict[str, object] = {"obeys": obeys(count)}
    print(said, flush=True)
    said["velocity_error"] = velocity_error()
    with tempfile.TemporaryDirectory() as folder:
        said["layouts_error"] = layouts_error(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        seconds, reproduction, control = predecessor(Path(folder))
    said |= {"predecessor_s": round(seconds), "reproduction": reproduction, "control": control}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
