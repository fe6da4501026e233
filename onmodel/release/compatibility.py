"""The self-test of a weight file in a clean process: does diffusers load all of it, and does it
mean the same there?

    python -m onmodel.release.compatibility FILE --family NAME --base FOLDER

FOLDER is a base in diffusers' layout, of which only the backbone's `config.json` is read: whether a
LoRA loads depends on names and shapes, not on the base's weights, so a test of a 2B base costs no
memory. The file is loaded by `load_lora_weights` of the family's pipeline, as a user would. Passing
says nothing about picture quality.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import OnmodelError
from onmodel.families.protocol import FamilySpec

TOLERANCE = 1e-6


@dataclass(frozen=True)
class LoadReport:
    """`keys` of the file, `consumed` of them in the adapter of so many `layers`; `error`: the
    largest relative one."""

    keys: int
    consumed: int
    layers: int
    error: float


def self_test(
    file: Path, spec: FamilySpec, config: Mapping[str, object], scratch: Path
) -> LoadReport:
    """Run the test in a new Python process. Raises OnmodelError saying what did not load.

    `config` is that of the base's backbone, written to `scratch` for the process to read.
    """
    write_config(spec, config, scratch)
    command = [
        sys.executable,
        "-m",
        "onmodel.release.compatibility",
        str(file),
        "--family",
        spec.name,
        "--base",
        str(scratch),
    ]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OnmodelError(f"{file.name}: diffusers does not load it as it is meant ({reason})")
    return LoadReport(**json.loads(done.stdout.splitlines()[-1]))


def write_config(spec: FamilySpec, config: Mapping[str, object], base: Path) -> None:
    """Write the config that makes `base` a folder that `load_in_diffusers` accepts as a base."""
    folder = base / spec.backbone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(config, default=list, sort_keys=True), encoding="utf-8"
    )


def load_in_diffusers(file: Path, family: str, base: Path) -> LoadReport:
    """Load the file as a user of diffusers would. Raises ValueError naming what was lost or
    changed."""
    from peft import get_peft_model_state_dict

    from onmodel.families.registry import empty_pipeline
    from onmodel.lora.tensors import read_lora
    from onmodel.weights import open_weights

    pipeline, backbone, spec = empty_pipeline(family, base)
    pipeline.load_lora_weights(str(file), adapter_name="probe")
    if pipeline.get_list_adapters() != {spec.backbone: ["probe"]}:
        raise ValueError("no adapter was loaded")

    loaded = get_peft_model_state_dict(backbone, adapter_name="probe")
    with open_weights(file, "lora") as opened:
        keys = len(opened.keys())
    if len(loaded) != keys:
        raise ValueError(f"{len(loaded)} of {keys} tensors were loaded")
    layers = dict(backbone.named_modules())
    names = {linear.name: linear.diffusers for linear in spec.linears}
    wanted = read_lora(file, spec).modules
    errors = {name: _error(layers[names[name]], factors) for name, factors in wanted.items()}
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] > TOLERANCE:
        raise ValueError(f"{names[worst]} has another ΔW (relative error {errors[worst]:.1e})")
    return LoadReport(keys, len(loaded), len(errors), errors[worst])


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
    parser.add_argument("--family", required=True)
    parser.add_argument("--base", type=Path, required=True)
    arguments = parser.parse_args()
    report = load_in_diffusers(arguments.file, arguments.family, arguments.base)
    sys.stdout.write(f"{json.dumps(vars(report))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
