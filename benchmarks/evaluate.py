"""Pictures made side by side: calls of AnimaModularPipeline, onmodel's generation, and the bare
matrix products.

    python run.py bench-evaluate         # prints tables; the last line is one JSON object

Everyone makes the same pictures, from the prompt to the decoded picture: prompts of suite "choose"
with the negative prompt, two seeds each, the same noise, the same steps and guidance, float32, no
LoRA. They take turns in one process, on one thread, and CPU seconds are compared, so that what else
runs on the machine cancels out.

Two bases: `toon`, which ships with the package, at 96 px, and `random`, a transformer of Anima's
class as in train.py (width 512, 8 blocks, 4 heads of 128, text of 512 × 1024) with random weights,
at 256 px; its VAE is the toon one's.

`loop` is what a user writes: a call for every picture. `batched` calls the pipeline with as many
prompts as onmodel has in a batch. onmodel forgets its encoded texts before every turn; in an
evaluation it does so never. `products` are the products of the blocks' layers and of attention,
forward, for both halves of the guidance, on the collapsed text, whose keys and values are computed
once: no sampler of this base and precision can do with fewer.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # read when torch and tqdm are imported

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from onmodel.sample.sampler import Job

    Contender = Callable[[Sequence[Job]], list[Image.Image]]

ROOT = Path(__file__).resolve().parent.parent
WIDTH, BLOCKS, HEADS, TEXT_WIDTH = 512, 8, 4, 1024  # of the random base
SIZES = {"toon": 96, "random": 256}
GUIDANCE, SHIFT = 3.0, 3.0


@dataclass(frozen=True)
class Case:
    """What is made with the base in `folder`; sides in pixels."""

    folder: Path
    size: int
    steps: int
    batch: int


def write_random_base(folder: Path) -> Path:
    """The toon base with another transformer and text conditioner, random, nothing at zero."""
    import torch
    from diffusers import AnimaTextConditioner, CosmosTransformer3DModel

    from onmodel.toon.base import TOON_BASE

    shutil.copytree(
        TOON_BASE, folder, ignore=shutil.ignore_patterns("transformer", "text_conditioner")
    )
    words = json.loads((TOON_BASE / "text_conditioner" / "config.json").read_text())[
        "target_vocab_size"
    ]
    torch.manual_seed(0)
    models = {
        "transformer": CosmosTransformer3DModel(
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH // HEADS,
            num_layers=BLOCKS,
            text_embed_dim=TEXT_WIDTH,
            adaln_lora_dim=256,
            rope_scale=(1.0, 4.0, 4.0),
            extra_pos_embed_type=None,
        ),
        "text_conditioner": AnimaTextConditioner(
            source_dim=128,
            target_dim=TEXT_WIDTH,
            model_dim=TEXT_WIDTH,
            num_layers=1,
            num_attention_heads=16,
            target_vocab_size=words,
            min_sequence_length=512,
        ),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5)
        model.save_pretrained(folder / name)
    return folder


def make_jobs(count: int, size: int) -> "list[Job]":
    """Suite "choose" on the toon character, every prompt under two seeds."""
    from onmodel.character import load_character
    from onmodel.sample.sampler import Job
    from onmodel.sample.suites import suite, vocabulary_of
    from onmodel.toon.base import TOON_BASE

    sheet = load_character(TOON_BASE.parents[1] / "characters" / "backgwa.toml")
    prompts = suite("choose", sheet, vocabulary_of("toon"))
    return [
        Job(prompt.words("L"), prompt.negative, seed, size, size)
        for prompt in prompts
        for seed in (0, 1)
    ][:count]


def make_pipeline(case: Case) -> Any:
    """AnimaModularPipeline on the folder's own parts."""
    import torch
    from diffusers import (
        AnimaTextConditioner,
        AutoencoderKLQwenImage,
        CosmosTransformer3DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from diffusers.guiders import ClassifierFreeGuidance
    from diffusers.models.transformers import transformer_cosmos
    from diffusers.modular_pipelines.anima import AnimaAutoBlocks
    from transformers import Qwen2Tokenizer, Qwen3Model, T5TokenizerFast

    if not hasattr(
        transformer_cosmos, "transforms"
    ):  # torchvision is missing: it would resize a mask of zeros
        resize = SimpleNamespace(
            resize=lambda mask, size, interpolation: mask.new_zeros(*mask.shape[:-2], *size)
        )
        transformer_cosmos.transforms = SimpleNamespace(
            functional=resize, InterpolationMode=SimpleNamespace(NEAREST="nearest")
        )
    load = {"torch_dtype": torch.float32}
    pipe = AnimaAutoBlocks().init_pipeline()
    pipe.update_components(
        transformer=CosmosTransformer3DModel.from_pretrained(case.folder / "transformer", **load),
        text_conditioner=AnimaTextConditioner.from_pretrained(
            case.folder / "text_conditioner", **load
        ),
        text_encoder=Qwen3Model.from_pretrained(case.folder / "text_encoder", dtype=torch.float32),
        tokenizer=Qwen2Tokenizer.from_pretrained(case.folder / "tokenizer"),
        t5_tokenizer=T5TokenizerFast.from_pretrained(case.folder / "t5_tokenizer"),
        vae=AutoencoderKLQwenImage.from_pretrained(case.folder / "vae", **load),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        guider=ClassifierFreeGuidance(guidance_scale=GUIDANCE),
    )
    return pipe


def pipeline(case: Case, batch: int) -> "Contender":
    """Calls of the pipeline, `batch` pictures in each."""
    import torch

    from onmodel.families.registry import load_base
    from onmodel.sample.sampler import noise

    pipe, family = (
        make_pipeline(case),
        load_base({"folder": case.folder, "device": "cpu"}, "0" * 64),
    )

    def make(jobs: "Sequence[Job]") -> "list[Image.Image]":
        pictures = []
        for start in range(0, len(jobs), batch):
            part = jobs[start : start + batch]
            pictures += pipe(
                prompt=[job.prompt for job in part],
                negative_prompt=[job.negative for job in part],
                height=case.size,
                width=case.size,
                num_inference_steps=case.steps,
                latents=torch.cat([noise(family, job) for job in part]).unsqueeze(2),
            ).get("images")
        return pictures

    return make


def onmodel(case: Case) -> "Contender":
    """What evaluate generates with."""
    from onmodel.families.registry import load_base
    from onmodel.sample.sampler import generate
    from onmodel.sample.sampling import Sampling

    family: Any = load_base({"folder": case.folder, "device": "cpu"}, "0" * 64)

    def make(jobs: "Sequence[Job]") -> "list[Image.Image]":
        family._text._known.clear()
        how = Sampling(steps=case.steps, guidance=GUIDANCE, shift=SHIFT, batch=case.batch)
        made = generate(family, jobs, how)
        return [image for _, image in made]

    return make


def products(case: Case) -> "Contender":
    """Matrix products alone, into tensors that are there already."""
    import torch

    from onmodel.families.registry import load_base

    family: Any = load_base({"folder": case.folder, "device": "cpu"}, "0" * 64)
    config = family.backbone.config
    heads, head, blocks = config.num_attention_heads, config.attention_head_dim, config.num_layers
    width, text_width, tokens = heads * head, config.text_embed_dim, (case.size // 16) ** 2

    def make(jobs: "Sequence[Job]") -> "list[Image.Image]":
        for start in range(0, len(jobs), case.batch):
            part = jobs[start : start + case.batch]
            captions = [job.prompt for job in part] + [job.negative for job in part]
            text_rows = max(len(text.rows_sd) for text in family.encode_text(captions)) + 2
            multiply(len(captions), text_rows)
        return []

    def multiply(rows: int, text_rows: int) -> None:
        """The steps of one batch; a row is a picture under one of the two texts."""
        layers = [torch.randn(width, width)] * 6 + [
            torch.randn(4 * width, width),
            torch.randn(width, 4 * width),
        ]
        x = {inner: torch.randn(rows * tokens, inner) for inner in (width, 4 * width)}
        y = {inner: torch.empty(rows * tokens, inner) for inner in (width, 4 * width)}
        text, text_layer = torch.randn(rows * text_rows, text_width), torch.randn(width, text_width)
        y_text = torch.empty(rows * text_rows, width)
        query, out = torch.randn(heads, tokens, head), torch.empty(heads, tokens, head)
        keys = {count: torch.randn(heads, count, head) for count in {tokens, text_rows}}
        scores = {count: torch.empty(heads, tokens, count) for count in keys}
        for _ in range(2 * blocks):
            torch.mm(text, text_layer.T, out=y_text)
        for _ in range(case.steps * blocks):
            for layer in layers:
                torch.mm(x[layer.shape[1]], layer.T, out=y[layer.shape[0]])
            for _ in range(rows):
                for count in (tokens, text_rows):
                    torch.bmm(query, keys[count].transpose(1, 2), out=scores[count])
                    torch.bmm(scores[count], keys[count], out=out)

    return make


def measure(case: Case, pictures: int, rounds: int) -> dict[str, Any]:
    """CPU seconds per picture of the quickest turn, what disturbs one only makes it longer; the
    largest differences from the loop's pictures, in levels of 255."""
    import numpy as np
    import torch

    jobs = make_jobs(pictures, case.size)
    with torch.inference_mode():
        makers = {
            "loop": pipeline(case, 1),
            "batched": pipeline(case, case.batch),
            "onmodel": onmodel(case),
            "products": products(case),
        }
        seconds: dict[str, list[float]] = {name: [] for name in makers}
        made: dict[str, Any] = {}
        for turn in range(rounds + 1):  # the first, with one picture, warms up
            for name, make in makers.items():
                started = time.process_time()
                found = make(jobs if turn else jobs[:1])
                if turn:
                    seconds[name].append(time.process_time() - started)
                    made[name] = np.array([np.asarray(image, dtype=int) for image in found])
    best = {name: min(values) / pictures for name, values in seconds.items()}
    return {
        "size": case.size,
        "steps": case.steps,
        "batch": case.batch,
        "pictures": pictures,
        "seconds": {name: round(value, 4) for name, value in best.items()},
        "per_second": {name: round(1 / best[name], 3) for name in ("loop", "batched", "onmodel")},
        "differs": {
            name: int(abs(made[name] - made["loop"]).max()) for name in ("batched", "onmodel")
        },
        "speedup": round(best["loop"] / best["onmodel"], 3),
        "speedup_batched": round(best["batched"] / best["onmodel"], 3),
        "limit_ratio": round(best["onmodel"] / best["products"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bases", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--save", action="store_true", help="keep the result as benchmarks/evaluate-<date>.json"
    )
    arguments = parser.parse_args()

    import torch

    from onmodel.toon.base import TOON_BASE

    torch.set_num_threads(1)
    print(
        "           CPU s a picture:      loop   batched   onmodel  products   speed-up  of batched"
        "   of limit"
    )
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for base in arguments.bases:
            where = TOON_BASE if base == "toon" else write_random_base(Path(folder) / base)
            case = Case(where, SIZES[base], arguments.steps, arguments.batch)
            row = rows[base] = measure(case, arguments.pictures, arguments.rounds)
            print(
                f"{base:7} {case.size:4} px, {case.steps:2} steps:",
                *(f"{s:9.3f}" for s in row["seconds"].values()),
                f"{row['speedup']:9.2f}× {row['speedup_batched']:10.2f}×"
                f" {row['limit_ratio']:9.2f}×",
                flush=True,
            )
            print(f"    largest difference from the loop: {row['differs']} of 255 levels")
    if arguments.save:
        facts = {"torch": torch.__version__, "diffusers": version("diffusers"), "bases": rows}
        (ROOT / "benchmarks" / f"evaluate-{date.today()}.json").write_text(
            json.dumps(facts, indent=1) + "\n"
        )
    mean = {
        key: round(math.exp(statistics.fmean(math.log(row[key]) for row in rows.values())), 3)
        for key in ("speedup", "limit_ratio")
    }
    print(
        json.dumps(
            {**mean, "bases": {base: {key: row[key] for key in mean} for base, row in rows.items()}}
        )
    )


if __name__ == "__main__":
    main()
