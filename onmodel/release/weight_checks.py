"""What can be wrong inside a LoRA file: layout and who loads it silently wrong, scale, values, header.

What loaders do was measured with the versions in requirements.lock (tests/release/test_loaders.py).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from onmodel.errors import InputError, VerifyError
from onmodel.models import header
from onmodel.models.anima.spec import spec_of_shapes
from onmodel.models.keys import REFUSED, ROLES, name_table
from onmodel.models.lora import Lora
from onmodel.models.weights import PAYLOAD_KEY, open_weights, payload_sha256

FLOAT16_MAX = 65504.0
# Folders of a machine, as Windows, Linux and macOS write them; not the path of an address.
_ROOTS = "home|Users|root|mnt|media|workspace|content|kaggle|data|tmp|var|opt|srv"
_PATHS = re.compile(rf"(?<![\w/:.~-])(?:[A-Za-z]:\\{{1,2}}\w|[A-Za-z]:/\w|\\\\\w|~/\w|/(?:{_ROOTS})/\w)[^\s\"',;)]*")
_CONVERT = "onmodel release convert FILE OUT --to common"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in one line."""

    severity: Literal["error", "warning"]
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity:7}  {self.where}: {self.what} — {self.remedy}"


def error(where: str, what: str, remedy: str) -> Finding:
    return Finding("error", where, what, remedy)


def warning(where: str, what: str, remedy: str) -> Finding:
    return Finding("warning", where, what, remedy)


def author_paths(text: str) -> list[str]:
    """The folders of a machine that a text names; the first three."""
    return list(dict.fromkeys(_PATHS.findall(text)))[:3]


def check_weights(path: Path) -> Iterator[Finding]:
    """Everything that is wrong with one safetensors file."""
    try:
        with open_weights(path, "file") as file:
            words: dict[str, str] = dict(file.metadata() or {})
            tensors = _by_module(list(file.keys()))
            yield from _layout(path.name, list(file.keys()), tensors, words)
            yield from _values(path.name, file, tensors, words)
    except InputError as problem:
        yield error(path.name, "is no complete safetensors file", problem.remedy)
        return
    yield from _header(path, words, _is_anima(tensors))


def _by_module(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Module → role → key. A key of no known role stands under its own name with the role "?"."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        ending = next((ending for ending in ROLES if key.endswith(ending)), None)
        if ending is None:
            found[key]["?"] = key
        else:
            found[key.removesuffix(ending)][ROLES[ending]] = key
    return dict(found)


def _is_anima(modules: Mapping[str, object]) -> bool:
    table = name_table(spec_of_shapes(_blocks(modules)))
    return any(module in table for module in modules)


def _blocks(modules: Iterable[str]) -> int:
    numbers = [int(match[1]) for name in modules if (match := re.search(r"blocks[._](\d+)[._]", name))]
    return min(1 + max(numbers, default=0), 200)


def _layout(
    name: str, keys: list[str], modules: Mapping[str, Mapping[str, str]], words: Mapping[str, str]
) -> Iterator[Finding]:
    """The names of layers, and what loaders make of them."""
    for part, kind in REFUSED.items():
        if any(part in key for key in keys):
            yield warning(
                name, f"is {kind}: loaders that do not know it load it as something else", "export a plain LoRA"
            )
            return
    if not keys:
        yield error(name, "holds no tensors", "export it again")
        return
    layouts = {_layout_of(module) for module in modules}
    if len(layouts) > 1:
        yield error(name, f"mixes layouts ({', '.join(sorted(layouts))}): every loader takes a part of it", _CONVERT)
    if not _is_anima(modules):
        if "?" in {role for roles in modules.values() for role in roles}:
            yield error(name, f"holds tensors that are no part of a LoRA ({keys[0]})", "export the LoRA alone")
        elif "kohya" not in layouts:
            yield warning(name, "is for no model family that is known here", "try it in the programs that you name")
        return
    table = name_table(spec_of_shapes(_blocks(modules)))
    unknown = [module for module in modules if module not in table]
    if unknown:
        what = f"{len(unknown)} layers are none of Anima's ({unknown[0]}): loaders drop them and say nothing"
        yield error(name, what, "train on the transformer alone and export again")
    if "kohya" in layouts:
        yield warning(name, "is in kohya's layout: diffusers loads nothing of it and says nothing", _CONVERT)
    if layouts & {"diffusers", "peft"}:
        yield warning(name, "has diffusers' own names: ComfyUI leaves them out and says nothing", _CONVERT)
    if "dotted" in layouts and any(key.endswith(".alpha") for key in keys):
        yield error(name, "has .alpha under diffusion_model.: diffusers stops with a ValueError", _CONVERT)
    if "dotted" in layouts and any(".lora_down." in key for key in keys):
        yield error(name, "has lora_down under diffusion_model.: diffusers stops with an IndexError", _CONVERT)


def _layout_of(module: str) -> str:
    if module.startswith(("lora_unet_", "lora_te", "lycoris_")):
        return "kohya"
    if module.startswith("base_model.model."):
        return "peft"
    if module.startswith(("transformer.", "unet.", "text_encoder")):
        return "diffusers"
    return "dotted"


def _values(
    name: str, file: Any, modules: Mapping[str, Mapping[str, str]], words: Mapping[str, str]
) -> Iterator[Finding]:
    """Ranks, alphas and numbers."""
    import torch

    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    broken, large, dead, halves = [], [], [], []
    for module, roles in modules.items():
        for key in roles.values():
            tensor = file.get_tensor(key)
            if not tensor.is_floating_point():
                yield warning(name, f"{key} is {tensor.dtype}, not a float", "export it in bfloat16 or float32")
                continue
            if not tensor.float().isfinite().all():
                broken.append(key)
            elif tensor.dtype != torch.float16 and tensor.numel() and float(tensor.float().abs().max()) > FLOAT16_MAX:
                large.append(key)
            if ROLES.get(f".{key.rpartition('.')[2]}") == "alpha":
                alphas[module] = float(tensor)
            if key == roles.get("down"):
                ranks[module] = tensor.shape[0]
            if key == roles.get("up") and not tensor.any():
                dead.append(module)
        if len({"down", "up"} & set(roles)) == 1:
            halves.append(module)
    if broken:
        yield error(name, f"{len(broken)} tensors hold NaN or infinity ({broken[0]})", "publish an earlier checkpoint")
    if large:
        yield warning(name, f"{len(large)} tensors overflow in float16 ({large[0]})", "publish bfloat16, or less alpha")
    if halves:
        yield error(name, f"{len(halves)} layers have up or down alone ({halves[0]})", "export it again")
    if ranks and len(dead) == len(ranks):
        yield error(name, "changes nothing: every up is zero", "publish a trained checkpoint")
    elif dead:
        yield warning(name, f"{len(dead)} layers change nothing ({dead[0]})", "leave them out to save room")
    yield from _scale(name, ranks, alphas, words)


def _scale(
    name: str, ranks: Mapping[str, int], alphas: Mapping[str, float], words: Mapping[str, str]
) -> Iterator[Finding]:
    """What rank and alpha the tensors have, against what the header says of them."""
    dim, alpha = words.get("ss_network_dim", ""), words.get("ss_network_alpha", "")
    known = sorted(set(ranks.values()))
    if len(known) > 1 and dim != "Dynamic":
        said = f"the header says {dim}" if dim else "the header does not say so"
        yield warning(name, f"has ranks {known[0]} to {known[-1]}, {said}", "write ss_network_dim = Dynamic")
    elif len(known) == 1 and dim.isdecimal() and int(dim) != known[0]:
        yield warning(name, f"has rank {known[0]}, the header says {dim}", "correct ss_network_dim")
    if any(value == 0 for value in alphas.values()):
        yield error(name, "has an alpha of 0: it changes nothing", "write the alpha of its training")
    kohya = any(_layout_of(module) == "kohya" for module in ranks)
    try:
        told = float(alpha) if alpha else None
    except ValueError:
        told = None
    if kohya and told is not None and len(known) == 1 and not alphas and told != known[0]:
        yield error(name, f"has no alpha tensors, so programs scale by 1, but was trained at {told:g}/{known[0]}",
                    "add .alpha to every layer")  # fmt: skip
    elif told is not None and alphas and set(alphas.values()) != {told}:
        yield warning(name, f"has alpha {min(alphas.values()):g}, the header says {told:g}", "correct ss_network_alpha")
    config = _peft_config(words)
    if config and config.get("lora_alpha") != config.get("r"):
        yield error(name, f"its lora_adapter_metadata has alpha {config.get('lora_alpha')} at rank {config.get('r')}: "
                    "diffusers scales by it, ComfyUI does not", _CONVERT)  # fmt: skip


def _peft_config(words: Mapping[str, str]) -> dict[str, Any]:
    import json

    try:
        table = json.loads(words.get("lora_adapter_metadata", "{}"))
        return {key.removeprefix("transformer.").removeprefix("unet."): value for key, value in table.items()}
    except (ValueError, AttributeError):
        return {}


def _header(path: Path, words: Mapping[str, str], anima: bool) -> Iterator[Finding]:
    """The header's words, held against the tensors and against each other."""
    size = sum(len(key.encode()) + len(value.encode()) for key, value in words.items())
    if size > header.LIMIT:
        yield warning(path.name, f"its header's words take {size} bytes: sites cut them at {header.LIMIT}",
                      "shorten ss_tag_frequency or the thumbnail")  # fmt: skip
    for key, value in words.items():
        for place in author_paths(value):
            yield error(path.name, f"{key} names a folder of a machine ({place})", "write the header again without it")
    architecture = words.get("modelspec.architecture", "")
    if not architecture:
        yield warning(path.name, "does not say which base it is for", "write modelspec.architecture")
    elif anima and "anima" not in architecture.casefold():
        yield error(
            path.name, f"says it is for {architecture}, its layers are Anima's", "correct modelspec.architecture"
        )
    prediction = words.get("modelspec.prediction_type", "")
    if anima and prediction and "flow" not in prediction.casefold():
        yield error(path.name, f"says prediction_type = {prediction}; Anima predicts a flow", "leave it out")
    if not words.get("modelspec.license"):
        yield warning(path.name, "names no licence", "write modelspec.license, the base's")

    payload = payload_sha256(path)
    for key in (PAYLOAD_KEY, "modelspec.hash_sha256", "sshs_model_hash"):
        if words.get(key, payload).removeprefix("0x") != payload:
            yield error(path.name, f"its tensors do not have the hash that {key} gives", "write the header again")
    try:
        header.lineage_of(Lora({}, dict(words)), payload)
    except VerifyError as problem:
        yield error(path.name, str(problem), "get the file again")
