"""The self-test of a weight file in a clean process: does diffusers load all of it, and does it
mean the same there?

    python -m onmodel.release.compatibility FILE --base FOLDER

FOLDER is a base in diffusers' layout, of which only `transformer/config.json` is read: whether a
LoRA loads depends on names and shapes, not on the base's weights, so a test of a 2B base costs no
memory. The file is loaded by `AnimaModularPipeline.load_lora_weights`, as a user would. Passing
says nothing about picture quality.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import OnmodelError

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Report:
    """`keys` of the file, `consumed` of them in the adapter of so many `layers`; `error`: the
    largest relative one."""

    keys: int
    consumed: int
    layers: int
    error: float


def self_test(file: Path, config: dict[str, Any], scratch: Path) -> Report:
    """Run the test in a new Python process. Raises OnmodelError saying what did not load.

    `config` is the transformer's, written to `scratch` for the process to read.
    """
    write_config(config, scratch)
    command = [
        sys.executable,
        "-m",
        "onmodel.release.compatibility",
        str(file),
        "--base",
        str(scratch),
    ]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OnmodelError(f"{file.name}: diffusers does not load it as it is meant ({reason})")
    return Report(**json.loads(done.stdout.splitlines()[-1]))


def write_config(config: dict[str, Any], base: Path) -> None:
    """Make `base` a folder that `load_in_diffusers` takes for a base."""
    folder = base / "transformer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(config, default=list, sort_keys=True), encoding="utf-8"
    )


def load_in_diffusers(file: Path, base: Path) -> Report:
    """Load the file as a user of diffusers would. Raises ValueError naming what was lost or
    changed."""
    import torch
    from diffusers import AnimaAutoBlocks, CosmosTransformer3DModel
    from peft import get_peft_model_state_dict

    from onmodel.families.anima.spec import make_spec
    from onmodel.lora.tensors import read_lora
    from onmodel.weights import open_weights

    config = CosmosTransformer3DModel.load_config(str(base / "transformer"))
    with torch.device("meta"):
        transformer = CosmosTransformer3DModel.from_config(config)
    spec = make_spec(transformer)
    transformer = transformer.to_empty(device="cpu")  # memory that is never touched is never taken
    pipeline = AnimaAutoBlocks().init_pipeline()  # type: ignore[attr-defined]
    pipeline.update_components(transformer=transformer)
    pipeline.load_lora_weights(str(file), adapter_name="probe")
    if pipeline.get_list_adapters() != {"transformer": ["probe"]}:
        raise ValueError("no adapter was loaded")

    loaded = get_peft_model_state_dict(transformer, adapter_name="probe")
    with open_weights(file, "lora") as opened:
        keys = len(opened.keys())
    if len(loaded) != keys:
        raise ValueError(f"{len(loaded)} of {keys} tensors were loaded")
    layers = dict(transformer.named_modules())
    names = {linear.name: linear.diffusers for linear in spec.linears}
    wanted = read_lora(file, spec).modules
    errors = {name: _error(layers[names[name]], factors) for name, factors in wanted.items()}
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] > TOLERANCE:
        raise ValueError(f"{names[worst]} has another ΔW (relative error {errors[worst]:.1e})")
    return Report(keys, len(loaded), len(errors), errors[worst])


def _error(layer: Any, wanted: Any) -> float:
    """Relative error of the factors that the adapter multiplies; when they are equal, so is their
    product ΔW."""
    down, up = layer.lora_A["probe"].weight, layer.scaling["probe"] * layer.lora_B["probe"].weight
    pairs = ((down.detach().float(), wanted.down), (up.detach().float(), wanted.scale * wanted.up))
    return max(float((there - here).norm() / here.norm().clamp(min=1e-30)) for there, here in pairs)


def main() -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m onmodel.release.compatibility", description=__doc__
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    arguments = parser.parse_args()
    report = load_in_diffusers(arguments.file, arguments.base)
    print(json.dumps(vars(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
