"""Checks of SDXL's files from headers and tokenizers, before anything is loaded."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from onmodel.families.parts import check
from onmodel.families.protocol import Part, Place
from onmodel.families.sdxl.load import source, tokenizer
from onmodel.families.sdxl.parts import CLASSES
from onmodel.families.sdxl.text import CHUNK


def examine(component: str, place: Place) -> Part:
    """What a component's header shows. Raises InputError when the component does not fit."""
    if component not in CLASSES:
        return Part(tokens=len(tokenizer(component, place)))
    found = source(component, place)
    model = check(found)
    return Part(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=found.config.get("num_hidden_layers") or 0,
        dtypes=tuple(sorted({stored.dtype for stored in found.tensors.places.values()})),
    )


def caption_findings(
    tokenizers: Mapping[str, Any], captions: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """What will not be read of some captions: (what, remedy)."""
    for one in list(tokenizers.values())[:1]:
        long = sum(len(one(caption, verbose=False).input_ids) - 2 > CHUNK for caption in captions)
        if long:
            what = f"{long} captions have over {CHUNK} tokens"
            yield what, "they take a second chunk of 77 rows; shorten them if that was not meant"


def text_rows(tokenizers: Mapping[str, Any], captions: Collection[str]) -> int | None:
    """Rows of the longest caption, whole chunks of 77."""
    if "tokenizer" not in tokenizers or not captions:
        return None
    count = tokenizers["tokenizer"]
    longest = max(len(count(one, truncation=False, verbose=False).input_ids) for one in captions)
    return (CHUNK + 2) * max(-(-(longest - 2) // CHUNK), 1)
