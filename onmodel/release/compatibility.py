"""The self-test of a weight file in a clean process: does diffusers load all of it, and does it
mean the same there?

    python -m onmodel.release.compatibility FILE --family NAME --base FOLDER

FOLDER is a base in diffusers' layout, of which only the `config.json` of the components into which
diffusers loads a LoRA are read: whether one loads depends on names and shapes, not on the base's
weights, so a test of a 2B base costs no memory. The file is loaded by `load_lora_weights` of the
family's pipeline, as a user would; layers of other components are left out there. Passing says
nothing about picture quality.
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
    """`keys` of the file, `consumed` of them in the adapters of so many `layers`; `error`: the
    largest relative one."""

    keys: int
    consumed: int
    layers: int
    error: float


def self_test(
    file: Path, spec: FamilySpec, configs: Mapping[str, Mapping[str, object]], scratch: Path
) -> LoadReport:
    """Run the test in a new Python process. Raises OnmodelError saying what did not load.

    `configs` are the family's own, written to `scratch` for the process to read.
    """
    write_configs(configs, scratch)
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


def write_configs(configs: Mapping[str, Mapping[str, object]], base: Path) -> None:
    """Write the configs that make `base` a folder that `load_in_diffusers` accepts as a base."""
    for component, config in configs.items():
        folder = base / component
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(
            json.dumps(config, default=list, sort_keys=True), encoding="utf-8"
        )


def load_in_diffusers(file: Path, family: str, base: Path) -> LoadReport:
    """Load the file as a user of diffusers would. Raises ValueError naming what was lost or
    changed."""
    from peft import get_peft_model_state_dict

    from onmodel.families.registry import empty_pipeline, spec_of_shapes
    from onmodel.lora.layouts import name_table, parse_key
    from onmodel.lora.specs import spec_of_loras
    from onmodel.lora.tensors import read_lora
    from onmodel.weights import open_weights

    pipeline, models, spec = empty_pipeline(family, base)
    pipeline.load_lora_weights(str(file), adapter_name="probe")
    adapted = pipeline.get_list_adapters()
    if not adapted:
        raise ValueError("no adapter was loaded")

    table = name_table(spec_of_shapes(family, spec.blocks))
    with open_weights(file, "lora") as opened:
        # an alpha becomes the adapter's scale
        keys = [key for key in list(opened.keys()) if not key.endswith(".alpha")]
    rows = {key: found[0] for key in keys if (found := parse_key(key, table)) is not None}
    parts = {row: row.component or spec.backbone for row in rows.values()}
    possible = len(keys) - sum(parts[row] not in models for row in rows.values())
    loaded = sum(
        len(get_peft_model_state_dict(models[part], adapter_name="probe")) for part in adapted
    )
    if loaded != possible:
        raise ValueError(f"{loaded} of {possible} tensors were loaded")
    wanted = read_lora(file, spec_of_loras([file])).modules
    errors = {
        row.diffusers: _error(models[part].get_submodule(row.diffusers), wanted[row.name])
        for row, part in parts.items()
        if part in models
    }
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] > TOLERANCE:
        raise ValueError(f"{worst} has another ΔW (relative error {errors[worst]:.1e})")
    return LoadReport(len(keys), loaded, len(errors), errors[worst])


def _error(layer: Any, wanted: Any) -> float:
    """Relative error of the factors that the adapter multiplies; when they are equal, so is their
    product ΔW."""
    down, up = layer.lora_A["probe"].weight, layer.scaling["probe"] * layer.lora_B["probe"].weight
    pairs = ((down, wanted.down), (up, wanted.scale * wanted.up))
    return max(
        float((there.detach().float().flatten(1) - here).norm() / here.norm().clamp(min=1e-30))
        for there, here in pairs
    )


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
