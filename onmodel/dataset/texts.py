"""Captions as text, encoded once per stage and kept beside its state."""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from onmodel.dataset.cache import map_sealed, write_sealed
from onmodel.events import Events
from onmodel.families.protocol import Family, Text
from onmodel.hashing import sha256_bytes


def encode_captions(
    family: Family,
    captions: Collection[str],
    folder: Path,
    events: Events,
    trained: Collection[str] = (),
) -> dict[str, Text]:
    """The text of every caption, on the CPU. `folder` keeps the tensors of each as
    `<hash of the caption>.<name>`. What lies there of another base, or where other components are
    `trained`, is encoded anew.
    """
    facts = {"base": family.sha256, "trained": sorted(trained)}
    keys = {sha256_bytes(caption.encode()): caption for caption in sorted(captions)}
    sealed = map_sealed(folder, "texts")
    if sealed is not None and sealed[1] == facts:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in sealed[0].items():
            key, _, part = name.partition(".")
            parts.setdefault(key, {})[part] = tensor
        if set(parts) == set(keys):
            return {caption: family.read_text(parts[key]) for key, caption in keys.items()}
    tensors: dict[str, Tensor] = {}
    with events.task("encode captions", total=len(keys)) as task:
        for key, caption in keys.items():
            (text,) = family.encode_text([caption])
            tensors |= {f"{key}.{part}": one for part, one in text.to("cpu").tensors().items()}
            task.advance()
    write_sealed(folder, "texts", tensors, facts)
    return encode_captions(family, captions, folder, events, trained)  # mapped
