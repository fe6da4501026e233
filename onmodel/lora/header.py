"""The words in a LoRA file's header: modelspec 1.0.1, what kohya's tools read, and onmodel's own
history.

Values are strings and never a path or a clock of the machine. The hash of the tensors is added when
the file is written (weights.py). https://github.com/Stability-AI/ModelSpec
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onmodel.errors import InputError
from onmodel.hashing import canonical_json, hash_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, parse
from onmodel.lora.author_paths import without_author_paths
from onmodel.lora.layouts import BASE_KEY, BLOCKS_KEY, WIDTH_KEY
from onmodel.weights import PAYLOAD_KEY

SCHEMA = "1"
RECIPE_KEY = "onmodel.recipe"
TEXT_KEY = "onmodel.trained_text"  # the components that encode text and were trained, by commas
DIGEST_KEY = "modelspec.hash_sha256"  # 0x and the same hash as PAYLOAD_KEY's
HISTORY_KEYS = ("onmodel.schema", "onmodel.dataset_root", "onmodel.lineage_sha256", RECIPE_KEY)
LIMIT = 64 * 1024  # bytes; sites that show LoRA files cut longer headers
# What a history keeps of a stranger's header: what people ask of a LoRA, not the lists that fill a
# header.
CLAIMS = (
    *(
        f"modelspec.{word}"
        for word in (
            "title",
            "author",
            "license",
            "date",
            "architecture",
            "implementation",
            "trigger_phrase",
            "usage_hint",
            "resolution",
            "merged_from",
        )
    ),
    *(
        f"ss_{word}"
        for word in (
            "output_name",
            "sd_model_name",
            "sd_model_hash",
            "base_model_version",
            "network_module",
            "network_dim",
            "network_alpha",
            "network_args",
            "resolution",
            "num_train_images",
            "dataset_dirs",
            "total_batch_size",
            "epoch",
            "num_epochs",
            "steps",
            "max_train_steps",
            "learning_rate",
            "unet_lr",
            "optimizer",
            "lr_scheduler",
            "seed",
            "training_comment",
        )
    ),
    "sshs_model_hash",
    "lora_adapter_metadata",
    "software",
)
CLAIM_LENGTH = 400  # characters


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in the header of any LoRA, trained or merged. `resolution`: side in pixels, 0
    unknown; `blocks`, `width`: number of blocks of its base and the size of their inputs, 0
    unknown; `base_sha256`: the base's identity. A release sets the recipe's `author`, `license` and
    `date`; checkpoints and merges leave them ""."""

    title: str
    author: str
    license: str
    trigger: str
    architecture: str
    resolution: int
    date: str
    merged_from: str = ""
    blocks: int = 0
    width: int = 0
    base_sha256: str = ""


def build(facts: Facts, lineage: Lineage, **kohya: str) -> dict[str, str]:
    """The header's words; `kohya` adds keys such as `ss_epoch`. Empty values are left out, and of a
    path of the machine only its last part stays.

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
        BLOCKS_KEY: str(facts.blocks or ""),
        WIDTH_KEY: str(facts.width or ""),
        BASE_KEY: facts.base_sha256,
        **history_words(lineage),
        **kohya,
    }
    return _limited(words)


def sealed(words: Mapping[str, str], lineage: Lineage) -> dict[str, str]:
    """The same words with another history, one whose newest node holds their hashes (`held`)."""
    return _limited({**words, **history_words(lineage)})


def held(payload_sha256: str, tensors_sha256: str, words: Mapping[str, str]) -> dict[str, object]:
    """What a node holds of the file that it is: hashes of the tensors' bytes (`payload_sha256`), of
    their table (`table_sha256`) and of each word.

    The words of the history and of the tensors' hash are left out: they follow from the node.
    """
    own = {
        key: sha256_bytes(words[key].encode())
        for key in sorted(words)
        if key not in (*HISTORY_KEYS, PAYLOAD_KEY, DIGEST_KEY)
    }
    return {
        "payload_sha256": payload_sha256,
        "tensors_sha256": tensors_sha256,
        "words": own,
    }


def _limited(words: Mapping[str, str]) -> dict[str, str]:
    words = {
        key: value if key in HISTORY_KEYS else without_author_paths(value)
        for key, value in words.items()
    }
    words = {key: value for key, value in words.items() if value}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in words.items())
    if size > LIMIT:
        raise InputError(
            "header",
            f"{size} bytes",
            f"longer than {LIMIT}; merge fewer models or shorten the author's words",
        )
    return words


def history_words(lineage: Lineage) -> dict[str, str]:
    """The words that carry the history, whatever the file is."""
    recipe = canonical_json(lineage)
    roots = sorted(
        {str(node.get("root", "")) for node in lineage.values() if node["type"] == "dataset"}
    )
    words = {
        "onmodel.schema": SCHEMA,
        "onmodel.dataset_root": ",".join(roots),
        "onmodel.lineage_sha256": sha256_bytes(recipe),
        RECIPE_KEY: recipe.decode(),
    }
    return {key: value for key, value in words.items() if value}


def lineage_of(words: Mapping[str, str], sha256: str) -> Lineage:
    """The history that the words of a file's header carry; a file from elsewhere is one node of
    unknown origin with its hash.

    What a stranger's header says is kept under `claims`. Raises VerifyError when the history does
    not match its hashes.
    """
    recipe = words.get(RECIPE_KEY)
    if recipe is None:
        return add([], "model", origin="unknown", sha256=sha256, **_claimed(words))
    return parse(recipe.encode(), RECIPE_KEY)


def imported(words: Mapping[str, str], sha256: str, name: str) -> Lineage:
    """The history of a file that others made. Its own history, if it has one, stands below a node
    that says so: its hashes fit together, but nothing below that node was seen here.
    """
    claims = _claimed(words)
    if RECIPE_KEY not in words:
        return add([], "model", name=name, origin="unknown", sha256=sha256, **claims)
    past = lineage_of(words, sha256)
    return add([past], "model", name=name, origin="onmodel", sha256=sha256, **claims)


def _claimed(metadata: Mapping[str, str]) -> dict[str, object]:
    """`claims`: the header's words about itself, each cut to 400 characters and without the folders
    of a machine; `claims_sha256`: hash of the whole header, so that it can be held against the file
    later. Empty without a header.
    """
    if not metadata:
        return {}
    claims = {
        key: _claim(metadata[key]) for key in CLAIMS if metadata.get(key) not in (None, "", "None")
    }
    return {"claims": claims, "claims_sha256": hash_json(dict(metadata))}


def _claim(value: str) -> str:
    if re.match(r"([A-Za-z]:|~)?[\\/]", value):  # a path, of one part too
        value = re.split(r"[\\/]", value)[-1]
    value = without_author_paths(value)
    return (
        value
        if len(value) <= CLAIM_LENGTH
        else value[: CLAIM_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
