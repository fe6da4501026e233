"""Checks of Anima's files from headers and tokenizers, before anything is loaded."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from onmodel.families.anima.load import source, tokenizer
from onmodel.families.anima.parts import CLASSES
from onmodel.families.anima.spec import CONDITIONER_FACTS
from onmodel.families.anima.text import ZERO_PLACES
from onmodel.families.parts import check
from onmodel.families.protocol import Part, Place


def examine(component: str, place: Place) -> Part:
    """What a component's header shows. Raises InputError when the component does not fit."""
    if component not in CLASSES:
        return Part(tokens=len(tokenizer(component, place)))
    found = source(component, place)
    model = check(found)
    return Part(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=found.config.get("num_layers") or found.config.get("num_hidden_layers") or 0,
        dtypes=tuple(sorted({stored.dtype for stored in found.tensors.places.values()})),
    )


def caption_findings(
    tokenizers: Mapping[str, Any], captions: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """What will not be read of some captions: (what, remedy)."""
    captions = list(captions)
    for component, one in tokenizers.items():
        if component != "t5_tokenizer":
            continue
        rows = [one(caption, verbose=False).input_ids for caption in captions]
        if unknown := sum(one.unk_token_id in row for row in rows):
            what = f"{unknown} captions hold letters that T5 does not know"
            yield what, "write them in Latin letters"


def text_rows(tokenizers: Mapping[str, Any], captions: Collection[str]) -> int | None:
    """Rows of the longest caption as `text.stack` makes them, with the places of its zero rows."""
    if "t5_tokenizer" not in tokenizers or not captions:
        return None
    count = tokenizers["t5_tokenizer"]
    longest = max(len(count(one, truncation=False, verbose=False).input_ids) for one in captions)
    padded = longest < CONDITIONER_FACTS["min_sequence_length"]
    return longest + ZERO_PLACES if padded else longest
