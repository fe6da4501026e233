"""The product on files of Anima's true size, from the command line as a user has it: what each
stage takes, beside what the plan says.

    python run.py bench-real                    # on the processor: prints tables, last line is JSON
    python run.py bench-real --device cuda      # on a card, pictures of 512, 768 and 1024 px

The base has random weights in the published shapes (random_base.py), so pictures are noise and only
time and memory mean something. Every stage is a process of its own. The training is killed after
its first saved state and resumed. Peak memory is the process's largest resident set (`ru_maxrss`),
on a card torch's largest allocation. Then a training step on the same transformer is compared with
a loop on diffusers and peft and with the bare matrix products (train.py).

Takes about 20 minutes on two cores, 14 GiB of memory and 6 GB of disk. The files are deleted
afterwards unless --keep is given.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train import Case, measure

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
PICTURES = 8
SHEET = ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml"
LICENCE = "CircleStone Labs Non-Commercial License: a stand-in for the benchmark."
WRITE_PICTURES = f"""
import sys
from onmodel.toon.datasets import write_set
write_set("backgwa_base", sys.argv[1], size_buckets=[(512, 512)], count={PICTURES})
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
CARD = re.compile(r"largest allocation on the card: ([0-9.]+) GiB")


@dataclass(frozen=True)
class Sizes:
    """What is run, by device. `evaluated` is the side of the evaluation's pictures."""

    trained: tuple[int, ...]
    sampled: int
    evaluated: int
    compared: tuple[int, ...]


SIZES = {
    "cpu": Sizes((256,), 256, 64, (256,)),
    "cuda": Sizes((512, 768, 1024), 1024, 256, (512, 1024)),
}
RECIPE = """
[recipe]
name = "real"
character = "character.toml"
seed = 1
date = "2026-11-30"
threads = {threads}

[recipe.base]
family = "anima"
dit = "base/dit.safetensors"
text_encoder = "base/text_encoder.safetensors"
vae = "base/vae.safetensors"
tokenizers = "{tokenizers}"
dtype = "bfloat16"
device = "{device}"

[stages.data]
do = "curate"
subsets.base = [{{ folder = "pictures", count = 3 }}]
subsets.more = [{{ folder = "pictures" }}]
{trainings}
[stages.drawn]
do = "sample"
model = "{last}"
count = 2
batch = 1
steps = 2
size = {sampled}

[stages.compared]
do = "evaluate"
models = ["{last}@*"]
suite = "choose"
seeds = 1
steps = 1
guidance = 1.0
size = {evaluated}

[stages.merged]
do = "merge"
models = ["{last}@1", "{last}@2"]
weights = "uniform"

[stages.released]
do = "release"
model = "{last}@2"
evaluation = "compared"
title = "Real size"
file_name = "real-size"
license_file = "LICENSE.md"
samples = 1
"""
TRAINING = """
[stages.trained_{side}]
do = "train"
dataset = "data"
data = [{{ subset = "base" }}]
epochs = 2
learning_rate = 2e-5
rank = 32
alpha = 32
batch = 1
resolution = {side}
keep_every = 1
validation = false
preview = {{ prompts = ["1girl, backgwa"], every = 2, steps = 1 }}
"""


@dataclass(frozen=True)
class Measured:
    """What a command took. `peak`: bytes; `forecast`: bytes that the plan says, 0 for none."""

    name: str
    seconds: float
    cpu: float
    peak: float
    forecast: float = 0

    @property
    def ratio(self) -> float | None:
        """Measured over forecast."""
        return round(self.peak / self.forecast, 3) if self.forecast else None

    @property
    def facts(self) -> dict[str, float | None]:
        return {
            "seconds": round(self.seconds, 1),
            "cpu": round(self.cpu, 1),
            "peak_gib": round(self.peak / GIB, 2),
            "forecast_gib": round(self.forecast / GIB, 2) if self.forecast else None,
            "ratio": self.ratio,
        }


def run(
    name: str, command: Sequence[object], folder: Path, until: str | None = None
) -> tuple[Measured, str]:
    """Run a command in `folder`; what it took and what it printed. With `until` it is killed when
    a file of that pattern is there. Ends the benchmark when the command fails."""
    log = folder / "logs" / f"{name}.txt"
    log.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        if until is not None:
            _kill_at(process, folder, until)
        _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text()
    # What is fast may have ended before it was killed.
    if code != 0 and (until is None or code != -signal.SIGKILL):
        raise SystemExit(f"{name}: exit code {code}\n{text[-3000:]}")
    peak = max((float(gib) * GIB for gib in CARD.findall(text)), default=usage.ru_maxrss * 1024)
    cpu = usage.ru_utime + usage.ru_stime
    found = Measured(name, time.monotonic() - started, cpu, peak)
    print(f"{name:16} {found.seconds:7.1f} s {cpu:7.1f} CPU s {peak / GIB:6.2f} GiB", flush=True)
    return found, text


def _kill_at(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    """Kill the process once `folder` has a file of this pattern, unless it ends before."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while not any(folder.glob(pattern)):
        if os.waitid(os.P_PID, process.pid, look):
            return
        time.sleep(0.2)
    process.kill()


def write_project(folder: Path, device: str, tokenizers: Path) -> list[str]:
    """The recipe with its sheet, pictures and licence text. Returns the names of the trainings."""
    run("pictures", ["-c", WRITE_PICTURES, "pictures"], folder)
    sides = SIZES[device]
    trainings = [f"trained_{side}" for side in sides.trained]
    licence = 'license = "CircleStone Labs Non-Commercial License"'
    sheet = re.sub("(?m)^license = .*$", licence, SHEET.read_text())
    (folder / "character.toml").write_text(sheet)
    (folder / "LICENSE.md").write_text(LICENCE + "\n")
    recipe = RECIPE.format(
        threads=usable(),
        tokenizers=tokenizers,
        device=device,
        trainings="".join(TRAINING.format(side=side) for side in sides.trained),
        last=trainings[-1],
        sampled=sides.sampled,
        evaluated=sides.evaluated,
    )
    (folder / "recipe.toml").write_text(recipe)
    return trainings


def run_stages(folder: Path, trainings: Sequence[str]) -> list[Measured]:
    """Every stage as a user runs it, beside the plan's forecast."""
    onmodel, project = ("-m", "onmodel"), ("--project", "project")
    rows = [run("doctor", [*onmodel, "doctor", "recipe.toml"], folder)[0]]
    planned, text = run("plan", [*onmodel, "run", "recipe.toml", "--dry-run", "--json"], folder)
    rows.append(planned)
    forecasts = _forecasts(text)

    def stage(name: str, until: str | None = None) -> None:
        command = [*onmodel, "run", "recipe.toml", "--until", name, *project]
        label = f"{name}, killed" if until else name
        row, _ = run(label, command, folder, until)
        rows.append(row if until else replace(row, forecast=forecasts.get(name, 0)))

    stage("data")
    stage(trainings[0], until="project/scratch/*/state.json")
    for name in trainings:
        stage(name)
    for name in ("drawn", "compared", "merged", "released"):
        stage(name)
    first, second = sorted((folder / "project" / "objects").glob("*/*/epoch-000[12].safetensors"))[
        -2:
    ]
    merge = [*onmodel, "lora", "merge", "run", first, second, "-o", "merged.safetensors"]
    rows.append(run("lora merge", merge, folder)[0])
    convert = [*onmodel, "lora", "convert", first, "-o", "kohya.safetensors", "--to", "kohya"]
    rows.append(run("lora convert", convert, folder)[0])
    verify = [*onmodel, "release", "verify", "project/release/real-size"]
    rows.append(run("release verify", verify, folder)[0])
    return rows


def _forecasts(text: str) -> dict[str, float]:
    """Stage → bytes that the plan says it takes at most."""
    stages = json.loads(text[text.index("\n{") :])["stages"]
    return {row["stage"]: row["memory"]["bytes"] for row in stages if row.get("memory")}


def compare_steps(folder: Path, sides: Sequence[int], device: str) -> list[dict[str, Any]]:
    """A step of each contender of train.py on the same transformer, in turns."""
    dit = folder / "base" / "dit.safetensors"
    return [measure(Case(side, 1, "bf16", dit=str(dit), device=device)) for side in sides]


def usable() -> int:
    """Threads to compute with."""
    return min(os.cpu_count() or 1, 8)


def report(rows: Sequence[Measured], steps: Sequence[dict[str, Any]]) -> None:
    """The table, and everything as one line of JSON."""
    print(f"\n{'stage':22} {'s':>8} {'CPU s':>8} {'peak GiB':>9} {'plan GiB':>9} {'error':>7}")
    for row in rows:
        planned = f"{row.forecast / GIB:9.2f}" if row.forecast else " " * 9
        error = f"{row.forecast / row.peak - 1:+7.1%}" if row.forecast else ""
        print(
            f"{row.name:22} {row.seconds:8.1f} {row.cpu:8.1f} {row.peak / GIB:9.2f}"
            f" {planned} {error}"
        )
    for step in steps:
        seconds, peak = step["seconds"], step["peak_mib"]
        print(f"\na step at {step['size']} px: CPU s, on a card s; and peak MiB")
        for name, value in seconds.items():
            print(f"{name:22} {value:8.2f} {peak[name]:8}")
    ratios = {row.name: row.ratio for row in rows if row.ratio}
    print(
        json.dumps(
            {
                "train_peak_ratio": next((r for n, r in ratios.items() if "trained" in n), None),
                "sample_peak_ratio": ratios.get("drawn"),
                "step_s": steps[-1]["seconds"]["onmodel"],
                "step_vs_plain": round(steps[-1]["speedup"], 3),
                "limit_ratio": round(steps[-1]["limit_ratio"], 3),
                "stages": {row.name: row.facts for row in rows},
                "steps": steps,
            }
        )
    )


@contextmanager
def _folder(given: Path | None, keep: bool) -> Iterator[Path]:
    """Where the benchmark works: a folder of its own in `given` or among the temporary ones. It is
    deleted unless it is kept."""
    parent = given or Path(tempfile.gettempdir())
    folder = parent.resolve() / "onmodel-real-size"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--tokenizers", type=Path, help="the real ones; default: made up")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all files")
    arguments = parser.parse_args()
    with _folder(arguments.folder, arguments.keep) as folder:
        if not (folder / "base" / "tokenizers").exists():  # an earlier run may have kept it
            run("files", [ROOT / "benchmarks" / "random_base.py", "base"], folder)
        tokenizers = (arguments.tokenizers or folder / "base" / "tokenizers").resolve()
        shutil.rmtree(folder / "project", ignore_errors=True)
        trainings = write_project(folder, arguments.device, tokenizers)
        rows = run_stages(folder, trainings)
        steps = compare_steps(folder, SIZES[arguments.device].compared, arguments.device)
    report(rows, steps)


if __name__ == "__main__":
    main()
