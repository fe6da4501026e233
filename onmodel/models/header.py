"""The words in a LoRA file's header: modelspec 1.0.1, what kohya's tools read, and onmodel's own history.

Values are strings and never a path or a clock of the machine. The hash of the tensors is added when the file is
written (weights.py). https://github.com/Stability-AI/ModelSpec
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onmodel.errors import InputError, VerifyError
from onmodel.hashing import canonical_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, check

if TYPE_CHECKING:
    from onmodel.models.lora import Lora
    from onmodel.models.lora_file import LoraFile
    from onmodel.models.weights import WeightsFile

SCHEMA = "1"
RECIPE_KEY = "onmodel.recipe"
LIMIT = 64 * 1024  # bytes; sites that show LoRA files cut longer headers


@dataclass(frozen=True, slots=True)
class Facts:
    """What any LoRA's header says, trained or merged. `resolution`: side in pixels, 0 unknown; `date`: the recipe's."""

    title: str
    author: str
    license: str
    trigger: str
    architecture: str
    resolution: int
    date: str
    merged_from: str = ""


def build(facts: Facts, lineage: Lineage, **kohya: str) -> dict[str, str]:
    """The header's words; `kohya` adds keys such as `ss_epoch`. Empty values are left out.

    Raises InputError when they are longer than 64 KiB.
    """
    side = facts.resolution
    words = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{facts.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": facts.title,
        "modelspec.author": facts.author,
        "modelspec.license": facts.license,
        "modelspec.date": facts.date,
        "modelspec.trigger_phrase": facts.trigger,
        "modelspec.resolution": f"{side}x{side}" if side else "",
        "modelspec.merged_from": facts.merged_from,
        "ss_base_model_version": facts.architecture.partition("-")[0],
        "ss_sd_model_name": facts.architecture,
        "ss_network_module": "networks.lora",
        "ss_resolution": f"({side}, {side})" if side else "",
        **history_words(lineage),
        **kohya,
    }
    words = {key: value for key, value in words.items() if value}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in words.items())
    if size > LIMIT:
        raise InputError(
            "header", f"{size} bytes", f"longer than {LIMIT}; merge fewer models or shorten the author's words"
        )
    return words


def history_words(lineage: Lineage) -> dict[str, str]:
    """The words that carry the history, whatever the file is."""
    recipe = canonical_json(lineage)
    roots = sorted({node["root"] for node in lineage.values() if node["type"] == "dataset"})
    return {
        "onmodel.schema": SCHEMA,
        "onmodel.dataset_root": ",".join(roots),
        "onmodel.lineage_sha256": sha256_bytes(recipe),
        RECIPE_KEY: recipe.decode(),
    }


def lineage_of(lora: "Lora | LoraFile | WeightsFile", sha256: str) -> Lineage:
    """The history that a file's header carries; a file from elsewhere is one node of unknown origin with its hash.

    Raises VerifyError when the history does not match its own hashes.
    """
    recipe = lora.metadata.get(RECIPE_KEY)
    if recipe is None:
        return add([], "model", origin="unknown", sha256=sha256)
    try:
        lineage: Lineage = json.loads(recipe)
        check(lineage)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerifyError(RECIPE_KEY, f"the history in the header is damaged ({error})") from error
    return lineage
