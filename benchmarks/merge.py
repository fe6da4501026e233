"""Merging five LoRAs of Anima's true size: onmodel, PEFT, a plain QR core, and the floor that no
tool gets below.

`python run.py bench-merge` makes the files (280 layers, rank 32, bfloat16, 92 MB each) in a
temporary folder and merges them to rank 32, fp32 out. Every contender runs in a process of its own
on one thread, in turns, and reports CPU seconds from the end of its imports to the written file,
and its peak memory above what importing it took. PEFT would take about 20 minutes: it merges one
layer of each kind and its CPU seconds are scaled to 280, which the output says. The last line is
one JSON object. `--json FILE` keeps it with all the rows.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

BLOCKS, FILES, RANK, ROUNDS = 28, 5, 32, 3
D, TEXT, MLP = 2048, 1024, 8192
SHAPES = {  # (out, in) of a block's layers, as the published base has them
    "self_attn.q_proj": (D, D),
    "self_attn.k_proj": (D, D),
    "self_attn.v_proj": (D, D),
    "self_attn.output_proj": (D, D),
    "cross_attn.q_proj": (D, D),
    "cross_attn.k_proj": (D, TEXT),
    "cross_attn.v_proj": (D, TEXT),
    "cross_attn.output_proj": (D, D),
    "mlp.layer1": (MLP, D),
    "mlp.layer2": (D, MLP),
}
SAMPLE = (
    "blocks.0.cross_attn.k_proj",
    "blocks.13.self_attn.q_proj",
    "blocks.27.cross_attn.v_proj",
)  # dense SVDs
PEFT_SAMPLE = {
    "self_attn.q_proj": 6,
    "cross_attn.k_proj": 2,
    "mlp.layer1": 2,
}  # layers of a block that cost the same
GROWTH_BLOCKS = 4
LAYERS = {
    f"blocks.{block}.{name}": shape for block in range(BLOCKS) for name, shape in SHAPES.items()
}
WEIGHTS = (0.4, 0.3, 0.2, 0.2, -0.1)


def make_file(path: Path, seed: int, rank: int, blocks: int = BLOCKS) -> None:
    """A LoRA in the common layout: half of every factor is shared by all files, directions fade by
    5 % each."""
    import numpy as np

    from onmodel.lora.factors import Factors, LayerShape
    from onmodel.lora.writing import FileFormat, LoraTensors
    from onmodel.randomness import generator

    fade = (0.95 ** np.arange(rank)).astype(np.float32)
    shared, own = (
        generator(i, "bench").standard_normal(3 << 19, dtype=np.float32) for i in (0, seed + 1)
    )

    def draw(shape: tuple[int, int], name: str, side: str) -> np.ndarray:
        start = zlib.crc32(f"{name} {side}".encode()) % (
            1 << 20
        )  # a window of the same draws costs nothing
        count = shape[0] * shape[1]
        return 0.7 * (shared[start : start + count] + own[start : start + count]).reshape(shape)

    def factors(name: str) -> Factors[np.ndarray]:
        out, in_ = LAYERS[name]
        down, up = draw((rank, in_), name, "down"), draw((out, rank), name, "up")
        return Factors(down * fade[:, None], up * 0.01, float(rank))

    layers = {
        name: LayerShape(*shape, rank)
        for name, shape in LAYERS.items()
        if int(name.split(".")[1]) < blocks
    }
    LoraTensors(layers, {}, factors, FileFormat(dtype="BF16")).stream(path, {})


def ours(files: list[Path], out: Path, rank: int) -> None:
    """What `onmodel lora merge run` does: hashes and history, Gram core, streamed."""
    from onmodel.lora.header import Facts
    from onmodel.lora.merge_files import merge_files
    from onmodel.lora.merge_job import MergeJob, MergeSize, open_sources
    from onmodel.lora.methods import choose
    from onmodel.lora.specs import spec_of_loras

    spec, names = spec_of_loras(files), [path.stem for path in files]
    with open_sources(list(zip(names, files, strict=True)), spec) as sources:
        blend = choose(names, spec, weights=weights_for(len(files)))
        merge_files(
            out,
            MergeJob(sources, blend, spec, MergeSize(rank=rank)),
            Facts("bench", "", "", "", "anima", 0, ""),
        )


def qr(files: list[Path], out: Path, rank: int) -> None:
    """A QR core as one writes it down: load, stack, two QRs, SVD of the small core, save;
    float32."""
    import torch
    from safetensors.torch import load_file, save_file

    loras, result = [load_file(path) for path in files], {}
    for name in LAYERS:
        key = f"diffusion_model.{name}.lora_"
        down = torch.cat([lora[key + "A.weight"].float() for lora in loras])
        up = torch.cat(
            [
                w * lora[key + "B.weight"].float()
                for lora, w in zip(loras, weights_for(len(files)), strict=True)
            ],
            1,
        )
        q_up, r_up = torch.linalg.qr(up)
        q_down, r_down = torch.linalg.qr(down.T)
        u, sigma, v_t = torch.linalg.svd(r_up @ r_down.T)
        root = sigma[:rank].sqrt()
        result[key + "B.weight"] = (q_up @ (u[:, :rank] * root)).contiguous()
        result[key + "A.weight"] = ((root[:, None] * v_t[:rank]) @ q_down.T).contiguous()
    save_file(result, out)


def peft(files: list[Path], out: Path, rank: int) -> float:
    """`add_weighted_adapter(combination_type="svd")` as documented; returns CPU seconds, scaled to
    all layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors import safe_open

    seconds = 0.0
    for name, count in PEFT_SAMPLE.items():
        out_features, in_features = SHAPES[name]
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"])
        base = torch.nn.Sequential(torch.nn.Linear(in_features, out_features, bias=False))
        model: Any = get_peft_model(base, config, adapter_name="0")  # type: ignore[arg-type]
        for i, path in enumerate(files):
            if i:
                model.add_adapter(str(i), config)
            layer, key = model.base_model.model[0], f"diffusion_model.blocks.0.{name}.lora_"
            with safe_open(path, "pt") as lora, torch.no_grad():
                layer.lora_A[str(i)].weight.copy_(lora.get_tensor(key + "A.weight"))
                layer.lora_B[str(i)].weight.copy_(lora.get_tensor(key + "B.weight"))
        names, weights = [str(i) for i in range(len(files))], list(weights_for(len(files)))
        before = time.process_time()
        model.add_weighted_adapter(names, weights, "merged", combination_type="svd", svd_rank=rank)
        seconds += (time.process_time() - before) * count * BLOCKS
    return seconds


def floor(files: list[Path], out: Path, rank: int, precise: bool = True) -> None:
    """What any Gram core must do: read the files from the page cache, R×R Gram matrices, the last
    product, write."""
    import numpy as np

    total, kind = RANK * len(files), np.float64 if precise else np.float32
    buffer = bytearray(1 << 20)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    made: dict[int, Any] = {
        n: np.ones((total, n), kind) for shape in SHAPES.values() for n in shape
    }
    mix, result = np.ones((rank, total), kind), {n: np.ones((rank, n), np.float32) for n in made}
    with out.open("wb") as target:
        for shape in LAYERS.values():
            for n in shape:
                made[n] @ made[n].T
                result[n][...] = mix @ made[n]
                target.write(result[n].data)


def floor32(files: list[Path], out: Path, rank: int) -> None:
    """The same in float32, which is not enough for the answer: the cheapest conceivable."""
    floor(files, out, rank, precise=False)


CONTENDERS = {"ours": ours, "qr": qr, "peft": peft, "floor": floor, "floor32": floor32}
IMPORTS = {
    "ours": (
        "import onmodel.lora.merge_files, onmodel.lora.methods, onmodel.lora.specs,"
        " onmodel.families.anima.spec"
    ),
    "qr": "import torch, safetensors.torch",
    "peft": "import torch, safetensors.torch, peft",
    "floor": "import numpy",
    "floor32": "import numpy",
}


def weights_for(count: int) -> tuple[float, ...]:
    return tuple(WEIGHTS[i % len(WEIGHTS)] for i in range(count))


def memory(key: str) -> float:
    """VmRSS or VmHWM of this process in MB (2^20 bytes); nan where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1]) / 1024


def work(name: str, files: list[Path], out: Path, rank: int) -> None:
    """One contender, in a process of its own; prints its row."""
    exec(IMPORTS[name])
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    imported, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    scaled = CONTENDERS[name](files, out, rank)  # type: ignore[func-returns-value]
    row = {
        "cpu_s": scaled or time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "import_mb": imported,
        "peak_over_import_mb": memory("VmHWM") - imported,
    }
    print(json.dumps(row))


def measure(name: str, files: list[Path], out: Path, rank: int = RANK) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [
        sys.executable,
        __file__,
        "--worker",
        name,
        "--rank",
        str(rank),
        "--out",
        str(out),
        *map(str, files),
    ]
    done = subprocess.run(
        command, env={**os.environ, **threads}, check=True, stdout=subprocess.PIPE, text=True
    )
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def best_truncation(files: list[Path], name: str) -> Any:
    """The optimal rank-32 sum of one layer by a dense SVD in fp64."""
    import numpy as np

    total = np.zeros(LAYERS[name])
    for path, weight in zip(files, weights_for(len(files)), strict=True):
        down, up = factors_of(path, name)
        total += weight * (up @ down)
    left, sigma, right = np.linalg.svd(total, full_matrices=False)
    return (left[:, :RANK] * sigma[:RANK]) @ right[:RANK]


def factors_of(path: Path, name: str) -> tuple[Any, Any]:
    import numpy as np

    from onmodel.weights import WeightsFile

    with WeightsFile(path, "file") as file:
        found = [
            file.read(f"diffusion_model.{name}.lora_{side}.weight").astype(np.float64)
            for side in "AB"
        ]
    return found[0], found[1]


def error_of(out: Path, name: str, best: Any) -> float:
    """‖ours − best‖ / ‖best‖ of one layer."""
    import numpy as np

    down, up = factors_of(out, name)
    return float(np.linalg.norm(up @ down - best) / np.linalg.norm(best))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worker", choices=list(CONTENDERS))
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path, help="Write all rows there.")
    parser.add_argument(
        "--quick", action="store_true", help="Without PEFT, the dense reference and the growth."
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"Turns of every contender; {ROUNDS}."
    )
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.files, options.out, options.rank)
        return
    with tempfile.TemporaryDirectory(prefix="onmodel-bench-") as folder:
        run(Path(folder), options.rounds, options.quick, options.json)


def run(folder: Path, rounds: int, quick: bool, keep: Path | None) -> None:
    """Make the files, take turns, print the table and the last line."""
    files = [folder / f"lora_{i}.safetensors" for i in range(FILES)]
    for i, path in enumerate(files):
        make_file(path, i, RANK)
    size = files[0].stat().st_size / 1e6
    print(
        f"{FILES} LoRAs of {len(LAYERS)} layers, rank {RANK}, {size:.1f} MB each; to rank {RANK},"
        " fp32, one thread"
    )

    rows: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in ("ours", "floor", "floor32", "qr"):
            rows[name].append(measure(name, files, folder / f"{name}.safetensors"))
    if not quick:
        print(
            f"PEFT: {len(PEFT_SAMPLE)} of {len(LAYERS)} layers measured, CPU seconds scaled to all;"
            " not run whole"
        )
        rows["peft"].append(measure("peft", files, folder / "peft.safetensors"))
    table = {
        name: {key: statistics.median(row[key] for row in found) for key in found[0]}
        for name, found in rows.items()
        if found
    }
    errors: dict[str, float] = {}
    if not quick:
        for name in SAMPLE:
            best = best_truncation(files, name)
            for tool in ("ours", "qr"):
                error = error_of(folder / f"{tool}.safetensors", name, best)
                errors[tool] = max(errors.get(tool, 0.0), error)
    print(
        f"\n{'':10} {'CPU s':>8} {'× floor':>8} {'peak over import, MB':>21}"
        f" {'off the optimum':>16}"
    )
    for name, row in table.items():
        off = f"{errors[name]:.1e}" if name in errors else "–"
        ratio = row["cpu_s"] / table["floor"]["cpu_s"]
        print(
            f"{name:10} {row['cpu_s']:8.2f} {ratio:8.2f} {row['peak_over_import_mb']:21.0f}"
            f" {off:>16}"
        )
    print(
        f"median of {rounds} rounds; off the optimum: ‖merged − best‖/‖best‖, the largest of"
        f" {len(SAMPLE)} layers"
    )
    growth = {} if quick else grow(folder)
    last = {
        "cpu_s": table["ours"]["cpu_s"],
        "floor_s": table["floor"]["cpu_s"],
        "qr_cpu_s": table["qr"]["cpu_s"],
        "peft_cpu_s": table.get("peft", {}).get("cpu_s"),
        "peak_over_import_mb": table["ours"]["peak_over_import_mb"],
        "error": errors.get("ours"),
    }
    last = {key: None if value is None else float(f"{value:.4g}") for key, value in last.items()}
    if keep is not None:
        about = {
            "rounds": rounds,
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
        }
        whole = {
            **last,
            "peft": f"scaled from {len(PEFT_SAMPLE)} of {len(LAYERS)} layers",
            "table": table,
            "errors": errors,
            "growth": growth,
            **about,
        }
        keep.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(last))


def grow(folder: Path) -> dict[str, float]:
    """CPU seconds of ours with more inputs and with larger ranks, on four blocks; the result keeps
    the inputs' rank."""
    found = {}
    for count, rank in ((2, RANK), (5, RANK), (10, RANK), (5, 8), (5, 16), (5, 64)):
        files = [folder / f"grow_{i}.safetensors" for i in range(count)]
        for i, path in enumerate(files):
            make_file(path, i, rank, GROWTH_BLOCKS)
        found[f"K={count} R={rank}"] = measure("ours", files, folder / "grown.safetensors", rank)[
            "cpu_s"
        ]
    rows = " · ".join(f"{key} {value:.2f}" for key, value in found.items())
    print(f"growth with K inputs of rank R, {GROWTH_BLOCKS} of {BLOCKS} blocks, CPU s: {rows}")
    return found


if __name__ == "__main__":
    main()
