"""What can be wrong inside a LoRA file: layout and who loads it silently wrong, scale, values,
header.

What loaders do was measured with the versions in requirements.lock (tests/release/test_loaders.py).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from onmodel.errors import InputError, VerifyError
from onmodel.events import Finding
from onmodel.families.protocol import FamilySpec
from onmodel.families.registry import known_specs, spec_of_shapes
from onmodel.lora import header
from onmodel.lora.author_paths import author_paths
from onmodel.lora.file import WHOLE, LoraFile
from onmodel.lora.layouts import BLOCKS_KEY, REFUSED, split_key
from onmodel.lora.peft_config import header_config
from onmodel.lora.specs import family_of, spec_of_loras
from onmodel.lora.tensors import Lora
from onmodel.text import shown
from onmodel.weights import PAYLOAD_KEY, WeightsFile, decode, payload_sha256

FLOAT16_MAX = 65504.0
_LONGEST = 600  # characters of a finding's words
_CONVERT = (  # said only of a file that our own reader takes
    "onmodel lora convert FILE -o OUT --to common"
)


def error(where: str, what: str, remedy: str) -> Finding:
    return Finding(shown(where), "fail", shown(what, _LONGEST), shown(remedy, _LONGEST))


def warning(where: str, what: str, remedy: str) -> Finding:
    return Finding(shown(where), "warn", shown(what, _LONGEST), shown(remedy, _LONGEST))


def refusal(where: str, problem: InputError) -> Finding:
    """An InputError as a finding. Its remedy is the part after the last semicolon."""
    what, _, remedy = problem.remedy.rpartition("; ")
    return error(where, what or remedy, remedy if what else "export it again")


def check_weights(path: Path) -> Iterator[Finding]:
    """Everything that is wrong with one safetensors file, a LoRA's or the one of a PEFT folder."""
    try:
        file = WeightsFile(path, "file")
    except InputError as problem:
        yield refusal(path.name, problem)
        return
    with file:
        tensors = _by_module(file.entries)
        refused = _refused(path, file.metadata)
        if refused is None:
            yield from _layout(path.name, list(file.entries), tensors)
            yield from _values(path.name, file, tensors)
        else:
            yield refusal(path.name, refused)
        yield from _header(path, file.metadata, _spec_of(file.entries), readable=refused is None)


def _refused(path: Path, words: Mapping[str, str]) -> InputError | None:
    """Why the reader of training, sampling and merging does not take a LoRA; None when it reads
    every value of it and every layer has its base's size.
    """
    source = path.parent if path.name == "adapter_model.safetensors" else path
    try:
        with LoraFile(source, _base_of(source, words), dora=True) as lora:
            for name in lora.layers:
                lora.factors(name)
    except InputError as problem:
        return problem
    return None


def _base_of(source: Path, words: Mapping[str, str]) -> FamilySpec:
    """The known base that most layers of a LoRA fit. For a base of one's own, which the header
    tells by its number of blocks, only what the file itself says. Raises InputError when the file
    is not a LoRA.
    """
    own = spec_of_loras([source], dora=True)
    if BLOCKS_KEY in words and words[BLOCKS_KEY] not in {
        str(spec.blocks) for spec in known_specs()
    }:
        return own
    layers = set(own.linears)
    return max(known_specs(), key=lambda spec: len(layers.intersection(spec.linears)))


def _by_module(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Module → role → key. A key of no known role stands under its own name with the role "?"."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        stem, role = split_key(key)
        found[stem][role or "?"] = key
    return dict(found)


def _spec_of(keys: Collection[str]) -> FamilySpec | None:
    """The facts of the family whose layers the keys name."""
    family = family_of(keys)
    return None if family is None else spec_of_shapes(family, 1)


def _layout(name: str, keys: list[str], modules: Mapping[str, object]) -> Iterator[Finding]:
    """What loaders make of the names of layers, of a file that our reader takes."""
    if any(part in key for part in REFUSED for key in keys):
        yield warning(
            name,
            "is DoRA: loaders that do not know it load it as something else",
            "export a plain LoRA",
        )
        return
    layouts = {_layout_of(module) for module in modules}
    if len(layouts) > 1:
        yield error(
            name,
            f"mixes layouts ({', '.join(sorted(layouts))}): every loader takes a part of it",
            _CONVERT,
        )
    if "kohya" in layouts:
        yield warning(
            name, "is in kohya's layout: diffusers loads nothing of it and says nothing", _CONVERT
        )
    if "lycoris" in layouts:
        yield error(
            name, "has names with lycoris_: ComfyUI and diffusers load nothing of it", _CONVERT
        )
    if layouts & {"diffusers", "peft"}:
        yield warning(
            name, "has diffusers' own names: ComfyUI leaves them out and says nothing", _CONVERT
        )
    for layout, prefix in (("dotted", "diffusion_model."), ("diffusers", "transformer.")):
        if layout in layouts and any(key.endswith(".alpha") for key in keys):
            yield error(
                name, f"has .alpha under {prefix}: diffusers stops with a ValueError", _CONVERT
            )
        if layout in layouts and any(".lora_down." in key for key in keys):
            yield error(
                name, f"has lora_down under {prefix}: diffusers stops with an IndexError", _CONVERT
            )


def _layout_of(module: str) -> str:
    if module.startswith("lora_unet_"):
        return "kohya"
    if module.startswith("lycoris_"):
        return "lycoris"
    if module.startswith("base_model.model."):
        return "peft"
    if module.startswith("transformer."):
        return "diffusers"
    return "dotted"


def _values(
    name: str, file: WeightsFile, modules: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Ranks, alphas and numbers, of a file that our reader takes."""
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    large, dead = [], []
    for module, roles in modules.items():
        for role, key in roles.items():
            if role == "alpha" and roles.keys() >= WHOLE:
                continue  # nothing is scaled by it
            entry = file.entries[key]
            values = decode(file.raw(key), entry)
            if entry.dtype != "F16" and float(np.abs(values).max()) > FLOAT16_MAX:
                large.append(key)
            if role == "alpha":
                alphas[module] = float(values.item())
            if role == "down":
                ranks[module] = values.shape[0]
            if role == "up" and not values.any():
                dead.append(module)
    if large:
        yield warning(
            name,
            f"{len(large)} tensors overflow in float16 ({large[0]})",
            "publish bfloat16, or less alpha",
        )
    if ranks and len(dead) == len(ranks):
        yield error(name, "changes nothing: every up is zero", "publish a trained checkpoint")
    elif dead:
        yield warning(
            name, f"{len(dead)} layers change nothing ({dead[0]})", "leave them out to save room"
        )
    yield from _scale(file.path, ranks, alphas, file.metadata)


def _scale(
    path: Path, ranks: Mapping[str, int], alphas: Mapping[str, float], words: Mapping[str, str]
) -> Iterator[Finding]:
    """What rank and alpha the tensors have, against what the header says of them."""
    name = path.name
    dim, alpha = words.get("ss_network_dim", ""), words.get("ss_network_alpha", "")
    known = sorted(set(ranks.values()))
    if len(known) > 1 and dim != "Dynamic":
        said = f"the header says {dim}" if dim else "the header does not say so"
        yield warning(
            name, f"has ranks {known[0]} to {known[-1]}, {said}", "write ss_network_dim = Dynamic"
        )
    elif len(known) == 1 and dim.isdecimal() and int(dim) != known[0]:
        yield warning(name, f"has rank {known[0]}, the header says {dim}", "correct ss_network_dim")
    if any(value == 0 for value in alphas.values()):
        yield error(
            name, "has an alpha of 0: it changes nothing", "write the alpha of its training"
        )
    kohya = any(_layout_of(module) == "kohya" for module in ranks)
    try:
        header_alpha = float(alpha) if alpha else None
    except ValueError:
        header_alpha = None
    if (
        kohya
        and header_alpha is not None
        and len(known) == 1
        and not alphas
        and header_alpha != known[0]
    ):
        yield error(
            name,
            f"has no alpha tensors, so programs scale by 1, but was trained at"
            f" {header_alpha:g}/{known[0]}",
            "add .alpha to every layer",
        )
    elif header_alpha is not None and alphas and set(alphas.values()) != {header_alpha}:
        yield warning(
            name,
            f"has alpha {min(alphas.values()):g}, the header says {header_alpha:g}",
            "correct ss_network_alpha",
        )
    config = header_config(path, words)
    if config and config.get("lora_alpha") != config.get("r"):
        yield error(
            name,
            f"its lora_adapter_metadata has alpha {config.get('lora_alpha')} at rank"
            f" {config.get('r')}: diffusers scales by it, ComfyUI does not",
            _CONVERT,
        )


def _header(
    path: Path, words: Mapping[str, str], spec: FamilySpec | None, readable: bool
) -> Iterator[Finding]:
    """The header's words, held against the tensors and against each other."""
    size = sum(len(key.encode()) + len(value.encode()) for key, value in words.items())
    if size > header.LIMIT:
        yield warning(
            path.name,
            f"its header's words take {size} bytes: sites cut them at {header.LIMIT}",
            "shorten ss_tag_frequency or the thumbnail",
        )
    for key, value in words.items():
        remedy = (
            f"{_CONVERT} leaves it out"
            if readable and key != header.RECIPE_KEY
            else "write it again without it"
        )
        for place in author_paths(value):
            yield error(path.name, f"{shown(key)} names a folder of a machine ({place})", remedy)
    architecture = words.get("modelspec.architecture", "")
    if not architecture:
        yield warning(
            path.name, "does not say which base it is for", "write modelspec.architecture"
        )
    elif spec and spec.name not in architecture.casefold():
        yield error(
            path.name,
            f"says it is for {architecture}, its layers are {spec.title}'s",
            "correct modelspec.architecture",
        )
    prediction = words.get("modelspec.prediction_type", "")
    if spec and prediction and spec.prediction not in prediction.casefold():
        what = f"says prediction_type = {prediction}; {spec.title} predicts {spec.prediction}"
        yield error(path.name, what, "leave it out")
    if not words.get("modelspec.license"):
        yield warning(path.name, "names no licence", "write modelspec.license, the base's")

    payload = payload_sha256(path)
    for key in (PAYLOAD_KEY, "modelspec.hash_sha256", "sshs_model_hash"):
        if words.get(key, payload).removeprefix("0x") != payload:
            yield error(
                path.name,
                f"its tensors do not have the hash that {key} gives",
                "write the header again",
            )
    try:
        header.lineage_of(Lora({}, dict(words)), payload)
    except VerifyError as problem:
        yield error(path.name, str(problem), "get the file again")
