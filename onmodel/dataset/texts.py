"""Captions as text, encoded once per stage and kept beside its state."""

from collections.abc import Collection
from pathlib import Path

from onmodel.dataset.cache import map_sealed, write_sealed
from onmodel.events import Events
from onmodel.families.protocol import Family, Text
from onmodel.hashing import sha256_bytes


def encode_captions(
    family: Family, captions: Collection[str], folder: Path, events: Events
) -> dict[str, Text]:
    """The text of every caption, on the CPU. Their hash is the key under which `folder` keeps them.

    Only the captions' own rows are kept; how many zero rows follow them is a number. What lies
    there of another base is encoded anew.
    """
    keys = {caption: sha256_bytes(caption.encode()) for caption in sorted(captions)}
    sealed = map_sealed(folder, "texts")
    if sealed is None or sealed[1]["base"] != family.sha256 or set(sealed[0]) != set(keys.values()):
        texts: dict[str, Text] = {}
        with events.task("encode captions", total=len(keys)) as task:
            for caption in keys:
                (text,) = family.encode_text([caption])
                texts[caption] = Text(text.rows_sd.cpu(), text.zero_rows)
                task.advance()
        zero_rows = {key: texts[caption].zero_rows for caption, key in keys.items()}
        rows = {key: texts[caption].rows_sd for caption, key in keys.items()}
        write_sealed(folder, "texts", rows, {"base": family.sha256, "zero_rows": zero_rows})
        return encode_captions(family, captions, folder, events)  # mapped
    tensors, facts = sealed
    return {caption: Text(tensors[key], facts["zero_rows"][key]) for caption, key in keys.items()}
