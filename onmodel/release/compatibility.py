"""The self-test of a weight file in a clean process: does diffusers load all of it, and does it mean the same there?

    python -m onmodel.release.compatibility FILE --base FOLDER

FOLDER is a base in diffusers' layout, of which only `transformer/config.json` is read: whether a LoRA loads depends on
names and shapes, not on the base's weights, so a test of a 2B base costs no memory. The file is loaded by
`AnimaModularPipeline.load_lora_weights`, as a user would. Passing says nothing about picture quality.
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
    """`keys` of the file, `consumed` of them found in the adapter; relative error of ΔW at the layer `probe`."""

    keys: int
    consumed: int
    probe: str
    error: float


def self_test(file: Path, config: dict[str, Any], scratch: Path) -> Report:
    """Run the test in a new Python process. Raises OnmodelError saying what did not load.

    `config` is the transformer's, written to `scratch` for the process to read.
    """
    write_config(config, scratch)
    command = [sys.executable, "-m", "onmodel.release.compatibility", str(file), "--base", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OnmodelError(f"{file.name}: diffusers does not load it as it is meant ({reason})")
    return Report(**json.loads(done.stdout.splitlines()[-1]))


def write_config(config: dict[str, Any], base: Path) -> None:
    """Make `base` a folder that `load_in_diffusers` takes for a base."""
    folder = base / "transformer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, default=list, sort_keys=True), encoding="utf-8")


def load_in_diffusers(file: Path, base: Path) -> Report:
    """Load the file as a user of diffusers would. Raises ValueError naming what was lost or changed."""
    import torch
    from diffusers import AnimaAutoBlocks, CosmosTransformer3DModel
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    config = CosmosTransformer3DModel.load_config(str(base / "transformer"))
    with torch.device("meta"):
        transformer = CosmosTransformer3DModel.from_config(config)
    transformer = transformer.to_empty(device="cpu")  # memory that is never touched is never taken
    pipeline = AnimaAutoBlocks().init_pipeline()  # type: ignore[attr-defined]
    pipeline.update_components(transformer=transformer)
    pipeline.load_lora_weights(str(file), adapter_name="probe")
    if pipeline.get_list_adapters() != {"transformer": ["probe"]}:
        raise ValueError("no adapter was loaded")

    tensors = load_file(file)
    loaded = get_peft_model_state_dict(transformer, adapter_name="probe")
    if len(loaded) != len(tensors):
        raise ValueError(f"{len(loaded)} of {len(tensors)} tensors were loaded")
    name = min(key for key in tensors if key.endswith(".lora_A.weight"))
    wanted = tensors[name.replace("lora_A", "lora_B")].float() @ tensors[name].float()
    for path, layer in transformer.named_modules():
        if hasattr(layer, "get_delta_weight") and torch.equal(layer.lora_A["probe"].weight, tensors[name]):
            error = float((layer.get_delta_weight("probe").detach() - wanted).norm() / wanted.norm().clamp(min=1e-30))
            if error > TOLERANCE:
                raise ValueError(f"{path} has another ΔW (relative error {error:.1e})")
            return Report(len(tensors), len(loaded), path, error)
    raise ValueError(f"{name} is in no layer")


def main() -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m onmodel.release.compatibility", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    arguments = parser.parse_args()
    report = load_in_diffusers(arguments.file, arguments.base)
    print(json.dumps(vars(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
