"""Training steps measured side by side: (a) a plain diffusers + peft loop, (b) onmodel, (c) the
bare matrix products.

    python run.py bench-train            # prints tables; the last line is one JSON object
    .venv/bin/python benchmarks/train.py --width 2048 --blocks 2 --precision bf16 --batches 1

A transformer of Anima's class with random weights: width 512, 8 blocks, heads of 128, text of 512 ×
1024; a LoRA of rank 16 on attention and MLP. Anima itself has width 2048 and 28 blocks. Every
contender has a process of its own, so that peak memory is its own; the processes take turns step by
step, on one thread, and CPU seconds are compared, so that what else runs on the machine cancels
out.

Operations are those of PyTorch that compute or copy, views and allocations not counted, in a last
step that is not timed: on a card each is at least one kernel launch. Reads hand a value to Python;
on a card they wait until its queue is empty. Those of onmodel are told.

(a) is what a user writes: `add_adapter`, AdamW, 512 padded text rows, clipped gradients, the last
two over lists of tensors, as they are on a card. By default both compute in float32; with
--precision bf16 both have bfloat16 weights and take their products in bfloat16 (autocast in (a)).
(c) is the products of the adapted layers and of attention, forward and for the gradients of their
inputs, on the collapsed text: no training that keeps the base frozen can do with fewer.
real_size.py compares the same on a file of Anima's size, on a card too.
"""

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import psutil

ROOT = Path(__file__).resolve().parent.parent
HEAD_WIDTH, RANK, TEXT_ROWS, TEXT_WIDTH = 128, 16, 512, 1024
SIZES, BATCHES = (256, 512, 768), (1, 4)
CAPTION_ROWS = (64, 82, 97, 51)  # rows that are not padding, of the captions of a batch
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]
MIB = 1 << 20
NO_WORK = {"detach", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty"}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
WHOLE_RUN = """
[recipe]
name = "whole"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1

[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 6 }]

[stages.look]
do = "train"
dataset = "data"
data = [{ subset = "base" }]
epochs = 8
batch = 3
resolution = 96
learning_rate = 2e-3
validation = false
keep_every = 8
"""

Steps = Iterator[None]  # each `next` takes one step


class Counts(TypedDict):
    """Operations of a step, and how many of them hand a value to Python."""

    operations: int
    reads: int


@dataclass(frozen=True)
class Case:
    """`dit`: the file of Anima's transformer; without it a small random one is made."""

    size: int
    batch: int
    precision: str
    width: int = 512
    blocks: int = 8
    dit: str = ""
    device: str = "cpu"

    @property
    def dtype(self) -> Any:
        """Of products."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def shape(self) -> tuple[int, int, int]:
        """Width, blocks and heads of the transformer."""
        if not self.dit:
            return self.width, self.blocks, self.width // HEAD_WIDTH
        from onmodel.families.anima.spec import PUBLISHED

        config = PUBLISHED["transformer"]
        heads, blocks = config["num_attention_heads"], config["num_layers"]
        return heads * config["attention_head_dim"], blocks, heads

    @property
    def side(self) -> int:
        """Of the latents."""
        return self.size // 8

    @property
    def tokens(self) -> int:
        """Of one picture."""
        return (self.side // 2) ** 2

    @property
    def rounds(self) -> int:
        """Timed steps: more where a step is short."""
        if self.dit:
            return 1 if self.device == "cpu" else 5
        return {256: 6, 512: 4, 768: 2}[self.size] if self.batch == 1 else 2

    @property
    def memory(self) -> int:
        """Bytes that the contenders together take, with a margin (measured: 2.8 GB at 512 px, one
        picture, width 512 and 8 blocks)."""
        activations = 3.2e9 * self.batch * (self.size / 512) ** 2 * self.width * self.blocks / 4096
        return int(activations + 10 * 17 * self.width**2 * self.blocks)


def make_transformer(case: Case) -> Any:
    """The base: random, with nothing at zero, so that every gradient flows."""
    import torch
    from diffusers import CosmosTransformer3DModel

    if case.dit:
        from onmodel.families.anima.single_file import single_source
        from onmodel.families.parts import build

        source = single_source("transformer", Path(case.dit), "dit")
        model = build(source, torch.bfloat16, case.device)
        model.register_to_config(concat_padding_mask=False)
        return model
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if case.precision == "bf16" else torch.float32)
    model = CosmosTransformer3DModel(
        in_channels=17,
        out_channels=16,
        num_attention_heads=case.width // HEAD_WIDTH,
        attention_head_dim=HEAD_WIDTH,
        num_layers=case.blocks,
        text_embed_dim=TEXT_WIDTH,
        adaln_lora_dim=256,
        rope_scale=(1.0, 4.0, 4.0),
        extra_pos_embed_type=None,
        concat_padding_mask=False,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5)
    torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False)


def make_texts(batch: int) -> list[Any]:
    """The captions' own rows [n, 1024]."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return [torch.randn(CAPTION_ROWS[i], TEXT_WIDTH, generator=generator) for i in range(batch)]


def peft_steps(case: Case) -> Steps:
    """(a): the loop that diffusers' and peft's pages lead to."""
    import torch
    from peft import LoraConfig
    from torch.nn import functional

    model = make_transformer(case)
    bf16 = case.precision == "bf16"
    model.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights="gaussian")
    )
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for factor in factors:
        factor.data = factor.data.float()
    optimizer = torch.optim.AdamW(factors, lr=1e-4, weight_decay=0.01, foreach=True)
    latents = torch.randn(case.batch, 16, 1, case.side, case.side, device=case.device)
    text = torch.zeros(case.batch, TEXT_ROWS, TEXT_WIDTH, device=case.device)
    for row, own in zip(text, make_texts(case.batch), strict=True):
        row[: len(own)] = own

    while True:
        noise = torch.randn_like(latents)
        t = torch.sigmoid(torch.randn(case.batch, device=case.device))
        t_b1111 = t.view(-1, 1, 1, 1, 1)
        noisy = (1 - t_b1111) * latents + t_b1111 * noise
        noisy = torch.cat([noisy, torch.zeros_like(noisy[:, :1])], dim=1)
        with torch.autocast(case.device, torch.bfloat16, enabled=bf16):
            velocity = model(noisy, t, text, return_dict=False)[0]
        loss = functional.mse_loss(velocity.float(), noise - latents)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(factors, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        yield


def onmodel_steps(case: Case) -> Steps:
    """(b): the step of onmodel's own loop."""
    import torch

    from onmodel.families.anima.family import AnimaDenoiser
    from onmodel.families.anima.text import AnimaText
    from onmodel.records import Item
    from onmodel.train import loop
    from onmodel.train.adapters import attached
    from onmodel.train.networks import make_network, trained_layers
    from onmodel.train.options import Options

    family: Any = AnimaDenoiser(make_transformer(case))
    options = Options(epochs=1, learning_rate=1e-4, rank=RANK, alpha=RANK, batch=case.batch)
    adapters = make_network(
        family, options, trained_layers(family.spec, options), 0, torch.device(case.device)
    )
    optimizer = torch.optim.AdamW([adapters.flat], weight_decay=0.01, fused=True)
    item = Item("x.png", "0" * 64, case.size, case.size, "base", "", "", 0, "train", "toon")
    texts = {
        str(i): AnimaText(rows, TEXT_ROWS - len(rows))
        for i, rows in enumerate(make_texts(case.batch))
    }
    latents = torch.randn(case.batch, 16, case.side, case.side)
    examples = [loop.Example(item, latents[i], 1, [str(i)]) for i in range(case.batch)]
    batch = [loop.Shown(i, 0) for i in range(case.batch)]
    training = loop.TrainingInputs(family, examples, [], texts, options, seed=0, dtype=case.dtype)
    with attached(family, adapters, case.dtype), family.training():
        for number in itertools.count():
            step = loop.prepare(training, number, [batch], torch.device(case.device))
            loop.fill_gradient(training, adapters, step)
            loop.clip_gradient(adapters, options.grad_clip)
            optimizer.step()
            yield


def products_steps(case: Case) -> Steps:
    """(c): matrix products alone, into tensors that are there already."""
    import torch

    width, blocks, head_count = case.shape
    like: dict[str, Any] = {"dtype": case.dtype, "device": case.device}
    rows = case.batch * case.tokens
    text_rows = max(CAPTION_ROWS[: case.batch]) + 2
    shapes = [(rows, width, width)] * 6 + [(rows, width, 4 * width), (rows, 4 * width, width)]
    weights = [torch.randn(out, inner, **like) for _, inner, out in shapes]
    text_weight = torch.randn(width, TEXT_WIDTH, **like)
    text = torch.randn(case.batch * text_rows, TEXT_WIDTH, **like)
    x = {inner: torch.randn(rows, inner, **like) for inner in (width, 4 * width)}
    y = {inner: torch.empty(rows, inner, **like) for inner in (width, 4 * width)}
    y_text = torch.empty(len(text), width, **like)
    heads = torch.randn(case.batch * head_count, case.tokens, width // head_count, **like)

    def attention(keys: int) -> None:
        key = torch.randn(len(heads), keys, width // head_count, **like)
        scores = torch.empty(1, case.tokens, keys, **like)
        for i in range(len(heads)):
            for _ in range(
                2
                # forward: scores, output; backward: the values' and the scores' gradients, q's and
                # k's
            ):
                torch.bmm(heads[i : i + 1], key[i : i + 1].transpose(1, 2), out=scores)
                torch.bmm(scores, key[i : i + 1])
            torch.bmm(scores.transpose(1, 2), heads[i : i + 1])
            torch.bmm(scores.transpose(1, 2), heads[i : i + 1])

    while True:
        for _ in range(blocks):
            for (_, inner, out), weight in zip(shapes, weights, strict=True):
                torch.mm(x[inner], weight.T, out=y[out])
                torch.mm(x[out], weight, out=y[inner])
            for _ in range(2):
                torch.mm(text, text_weight.T, out=y_text)
            attention(case.tokens)
            attention(text_rows)
        yield


CONTENDERS = {"peft": peft_steps, "onmodel": onmodel_steps, "products": products_steps}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    if os.name == "nt":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def count(steps: Steps) -> Counts:
    """Take a step and count its operations."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        operations = reads = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            returns = func._schema.returns
            aliases = [one.alias_info for one in returns]
            view = bool(aliases) and all(one is not None and not one.is_write for one in aliases)
            if not view and func.overloadpacket.__name__ not in NO_WORK:
                self.operations += 1
            self.reads += func.overloadpacket.__name__ == "_local_scalar_dense"
            return func(*args, **(kwargs or {}))

    with Counting() as counting:
        next(steps)
    return {"operations": counting.operations, "reads": counting.reads}


def work(contender: str, case: Case) -> None:
    """A contender's process: a step for every line on stdin, its CPU seconds and the peak so far on
    stdout; for the line "count", its operations instead."""
    import torch

    # Imported here so that `before` holds the libraries.
    from diffusers import CosmosTransformer3DModel  # noqa: F401
    from peft import LoraConfig  # noqa: F401

    def now() -> float:
        if case.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.monotonic()

    torch.set_num_threads(1)
    before = peak_bytes()
    steps = CONTENDERS[contender](case)
    for line in sys.stdin:
        if line.strip() == "count":
            print(json.dumps(count(steps)), flush=True)
            continue
        started = now()
        next(steps)
        seconds, peak = now() - started, peak_bytes() - before
        if case.device != "cpu":
            peak = torch.cuda.max_memory_allocated()
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


class Worker:
    """A contender's process, seen from the one that compares."""

    def __init__(self, contender: str, case: Case) -> None:
        command = [sys.executable, __file__, "--work", contender, json.dumps(asdict(case))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.contender = contender
        self.seconds: list[float] = []
        self.peak = 0

    def ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender}: its process ended with {self.process.wait()}")
        return dict(json.loads(line))

    def step(self, timed: bool) -> None:
        answer = self.ask("step")
        self.peak = answer["peak"]
        if timed:
            self.seconds.append(answer["seconds"])

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(case: Case) -> dict[str, Any]:
    """CPU seconds of the quickest step (what disturbs one only makes it longer), and peak MiB
    beyond the imports."""
    workers = {name: Worker(name, case) for name in CONTENDERS}
    try:
        for turn in range(case.rounds + 1):  # the first warms up
            for worker in workers.values():
                worker.step(timed=turn > 0)
        counts = {name: workers[name].ask("count") for name in ("peft", "onmodel")}
    finally:
        for worker in workers.values():
            worker.close()
    seconds = {name: min(worker.seconds) for name, worker in workers.items()}
    return {
        "size": case.size,
        "batch": case.batch,
        "precision": case.precision,
        "width": case.shape[0],
        "blocks": case.shape[1],
        "counts": counts,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "peak_mib": {name: round(worker.peak / MIB) for name, worker in workers.items()},
        "speedup": seconds["peft"] / seconds["onmodel"],
        "limit_ratio": seconds["onmodel"] / seconds["products"],
        "memory_ratio": workers["onmodel"].peak / workers["peft"].peak,
    }


def whole_run() -> None:
    """A process of its own: 24 steps on 6 pictures of the toon world, from the command to the last
    file."""
    import tempfile

    import diffusers
    import torch  # noqa: F401  the imports are not counted

    _ = diffusers.AnimaTextConditioner, diffusers.AutoencoderKLQwenImage
    _ = diffusers.CosmosTransformer3DModel
    from transformers import Qwen2Tokenizer, Qwen3Model, T5Tokenizer  # noqa: F401

    from onmodel.cli.run import Output, execute

    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "whole.toml"
        recipe.write_text(WHOLE_RUN)
        wall, cpu = time.monotonic(), time.process_time()
        execute(recipe, Path(folder) / "project", "look", Output())
        print(json.dumps({"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}))


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per size, the geometric mean over its rows."""
    keys = ("speedup", "limit_ratio", "memory_ratio")
    return {
        str(size): {
            key: round(
                math.exp(
                    statistics.fmean(math.log(row[key]) for row in rows if row["size"] == size)
                ),
                3,
            )
            for key in keys
        }
        for size in sorted({row["size"] for row in rows})
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", nargs=2, metavar=("CONTENDER", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--whole-run", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES)
    parser.add_argument("--batches", nargs="+", type=int, choices=BATCHES, default=BATCHES)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--width", type=int, default=512, help="a multiple of 128")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument(
        "--save",
        action="store_true",
        help="keep the result as benchmarks/train-<date>-<precision>.json",
    )
    arguments = parser.parse_args()
    if arguments.work:
        contender, case = arguments.work
        return work(contender, Case(**json.loads(case)))
    if arguments.whole_run:
        return whole_run()
    print(f"{arguments.precision}     {'CPU s a step':>26} {'peak MiB':>24} {'operations':>52}")
    print(
        "  px  batch",
        *(f"{name:>9}" for name in CONTENDERS),
        "   peft  onmodel   speed-up   of limit   memory    peft  onmodel    reads",
    )
    rows = []
    for size in arguments.sizes:
        for batch in arguments.batches:
            case = Case(size, batch, arguments.precision, arguments.width, arguments.blocks)
            if case.memory > psutil.virtual_memory().available:
                print(
                    f"{size:4} {batch:6}  left out: takes about {case.memory / 1e9:.0f} GB, more"
                    " than is free",
                    flush=True,
                )
                continue
            row = measure(case)
            rows.append(row)
            seconds, peak, counts = row["seconds"], row["peak_mib"], row["counts"]
            print(
                f"{size:4} {batch:6}",
                *(f"{seconds[name]:9.3f}" for name in CONTENDERS),
                f"{peak['peft']:7} {peak['onmodel']:8} {row['speedup']:9.2f}×"
                f" {row['limit_ratio']:9.2f}× {row['memory_ratio']:8.2f}"
                f" {counts['peft']['operations']:7} {counts['onmodel']['operations']:8}"
                f" {counts['onmodel']['reads']:8}",
                flush=True,
            )
    ran = subprocess.run(
        [sys.executable, __file__, "--whole-run"],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        check=True,
    )
    whole = json.loads(ran.stdout.splitlines()[-1])
    print(
        f"whole run, 24 steps on 6 pictures: {whole['cpu']:.1f} CPU s, {whole['wall']:.1f} s on the"
        " clock, beyond the imports"
    )
    if arguments.save:
        facts = {"machine": machine(), "rows": rows, "whole_run": whole, "summary": summary(rows)}
        path = ROOT / "benchmarks" / f"train-{date.today()}-{arguments.precision}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(summary(rows)))


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "diffusers", "peft")}
    return {"platform": platform.platform(), "processor": platform.processor(), **packages}


if __name__ == "__main__":
    main()
