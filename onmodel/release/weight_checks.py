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
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.families.registry import known_specs, loader_rules, lora_blocks, spec_of_shapes
from onmodel.lora import header
from onmodel.lora.author_paths import author_paths
from onmodel.lora.file import WHOLE, LoraFile
from onmodel.lora.layouts import BLOCKS_KEY, REFUSED, name_table, parse_key, split_key
from onmodel.lora.peft_config import header_config
from onmodel.lora.specs import family_of, spec_of_loras
from onmodel.release.loaders import LOADERS, loaded_layers
from onmodel.text import shown
from onmodel.weights import PAYLOAD_KEY, WeightsFile, decode, payload_sha256

FLOAT16_MAX = 65504.0
_LONGEST = 600  # characters of a finding's words
_CONVERT = (  # said only of a file that our own reader takes
    "onmodel lora convert FILE -o OUT --to common"
)


_MARK = {"LoKr": ".lokr_", "LoHa": ".hada_"}
_RESIZE = "onmodel lora resize FILE -o OUT --rank 32"


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
        source = path.parent if path.name == "adapter_model.safetensors" else path
        spec = refused = None
        try:
            spec = spec_of_loras([source], dora=True)
            _read(source, spec)
        except InputError as problem:
            refused = problem
        if refused is None and spec is not None:
            yield from _fit(source, file.metadata, spec)
            yield from _loading(path.name, list(file.entries), spec)
            yield from _values(path.name, file, tensors)
        elif refused is not None:
            yield refusal(path.name, refused)
        family = _spec_of(file.entries)
        yield from _header(path, file.metadata, family, readable=refused is None)


def _read(source: Path, spec: FamilySpec) -> None:
    """Read every value of a LoRA. Raises InputError as the reader of training, sampling and merging
    does."""
    with LoraFile(source, spec, dora=True) as lora:
        for name in lora.layers:
            lora.factors(name)


def _fit(source: Path, words: Mapping[str, str], own: FamilySpec) -> Iterator[Finding]:
    """Whether a LoRA fits the known base that most of its layers fit. A base of one's own, which
    the header tells by its number of blocks, is not known here."""
    bases = [spec for spec in known_specs() if spec.name == own.name]
    known = {str(spec.blocks) for spec in bases}
    if words.get(BLOCKS_KEY, "") not in ("", *known):
        return
    layers = set(own.lora_linears)
    base = max(bases, key=lambda spec: len(layers.intersection(spec.lora_linears)))
    try:
        with LoraFile(source, base, dora=True) as lora:
            for note in lora.notes:
                yield warning(source.name, note, f"write {BLOCKS_KEY}, the base's number of blocks")
    except InputError as problem:
        yield refusal(source.name, problem)


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
    return None if family is None else spec_of_shapes(family, lora_blocks(family, keys))


def _loading(name: str, keys: list[str], spec: FamilySpec) -> Iterator[Finding]:
    """What ComfyUI and diffusers load of a file that our reader takes. It is an error where neither
    loads it whole, or diffusers stops."""
    if any(part in key for part in REFUSED for key in keys):
        yield warning(
            name,
            "is DoRA: loaders that do not know it load it as something else",
            "export a plain LoRA",
        )
        return
    table = name_table(spec)
    layers = {key: found[0] for key in keys if (found := parse_key(key, table)) is not None}
    names = {row.name for row in layers.values()}
    rules = loader_rules(spec.name)
    in_comfyui = loaded_layers("ComfyUI", layers, rules)
    stops = rules.diffusers_stops(keys)
    in_diffusers = set() if stops else loaded_layers("diffusers", layers, rules)
    encoder = {row.name for row in layers.values() if row.component in rules.left_out}
    whole = in_comfyui == names or in_diffusers == names - encoder
    if in_comfyui != names:
        severity = warning if whole and not in_comfyui else error
        what = _loads("ComfyUI", in_comfyui, names, layers)
        yield severity(name, f"{what}; it only logs this", _CONVERT)
    kinds = {kind for kind in ("LoKr", "LoHa") if any(_MARK[kind] in key for key in keys)}
    if kinds and in_diffusers != names:
        severity = warning if whole else error
        does = f"stops with {stops[0].error}" if stops else "loads nothing of it"
        what = f"is {' and '.join(sorted(kinds))}: diffusers {does}"
        yield severity(name, what, f"{_RESIZE} writes a plain LoRA")
    elif stops and any(key.endswith((".diff", ".w_norm")) for key in keys):
        severity = warning if whole else error
        what = f"changes norms or whole weights: diffusers stops with {stops[0].error}"
        yield severity(name, what, f"{_CONVERT} --leave-out diff writes the rest")
    elif stops:
        for stop in stops:
            what = f"diffusers stops with {stop.error}: {len(stop.keys)} of {len(keys)} tensors"
            yield error(name, f"{what} {stop.reason} ({stop.keys[0]})", _CONVERT)
    elif in_diffusers != names - encoder:
        severity = warning if whole and not in_diffusers else error
        what = _loads("diffusers", in_diffusers, names, layers)
        yield severity(name, f"{what}; it says nothing", _CONVERT)
    elif encoder:
        what = f"changes {len(encoder)} layers of the text encoder, which diffusers leaves out"
        yield warning(name, what, f"{_CONVERT} --leave-out text_encoder makes it alike everywhere")


def who_loads(path: Path) -> dict[str, tuple[int, int]]:
    """Program → (layers that it loads, layers) of a LoRA; empty for what our reader refuses."""
    try:
        spec = spec_of_loras([path], dora=True)
        with WeightsFile(path, "file") as file:
            keys = list(file.entries)
    except InputError:
        return {}
    table = name_table(spec)
    layers = {key: found[0] for key in keys if (found := parse_key(key, table)) is not None}
    total = len({row.name for row in layers.values()})
    rules = loader_rules(spec.name)
    loaded = {loader: len(loaded_layers(loader, layers, rules)) for loader in LOADERS}
    if rules.diffusers_stops(keys):
        loaded["diffusers"] = 0
    return {loader: (count, total) for loader, count in loaded.items()}


def _loads(
    loader: str, loaded: Collection[str], names: Collection[str], layers: Mapping[str, Linear]
) -> str:
    example = next(key for key, row in layers.items() if row.name not in loaded)
    stem = split_key(example)[0]
    return f"{loader} loads {len(loaded) or 'none'} of its {len(names)} layers ({stem})"


def _values(
    name: str, file: WeightsFile, modules: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Ranks, alphas and numbers, of a file that our reader takes."""
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    large, dead, matrices = list[str](), dict[str, None](), set[str]()
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
            if role in ("up", "diff") or role.startswith(("lokr", "hada")):
                matrices.add(module)
                if not values.any():
                    dead[module] = None
    if large:
        yield warning(
            name,
            f"{len(large)} tensors overflow in float16 ({large[0]})",
            "publish bfloat16, or less alpha",
        )
    if dead and len(dead) == len(matrices):
        yield error(name, "changes nothing: every product is zero", "publish a trained checkpoint")
    elif dead:
        yield warning(
            name,
            f"{len(dead)} layers change nothing ({next(iter(dead))})",
            "leave them out to save room",
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
    kohya = any(module.startswith("lora_unet_") for module in ranks)
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
    elif spec and not _names(architecture.casefold(), spec):
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
        header.lineage_of(words, payload)
    except VerifyError as problem:
        yield error(path.name, str(problem), "get the file again")


def _names(architecture: str, spec: FamilySpec) -> bool:
    """Whether modelspec's words name a family."""
    return spec.name in architecture or architecture.startswith(spec.architecture)
