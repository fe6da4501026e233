"""What stands beside the weights for people and programs: triggers.json, the A1111/Forge sidecar, the sample pictures.

Samples are the first seed of their prompt, never picked. Generating them is sample/pictures.py's work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from onmodel.character import Character, Outfit
from onmodel.evaluate.features import open_picture
from onmodel.hashing import write_atomic
from onmodel.policy import check_text
from onmodel.records import Model
from onmodel.sample.pictures import Request, Sampling, parameters, png_bytes
from onmodel.sample.suites import NEGATIVE, QUALITY, noise_seed


@dataclass(frozen=True)
class Sample:
    """One picture of the release: `file` in its folder; `outfit`: id of the outfit that it is there to show."""

    file: str
    prompt: str
    negative: str
    seed: int
    outfit: str | None = None


def samples(character: Character, plan: Mapping[str, Any], count: int) -> list[Sample]:
    """One sample per outfit, then the evaluation's own prompts, one of each kind in turn, until there are `count`."""
    found = [_sample(f"outfit-{o.id}", ", ".join([*QUALITY, trigger_text(character, o)]), NEGATIVE, o.id)
             for o in outfits(character)]  # fmt: skip
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for prompt in plan["prompts"]:
        kinds.setdefault(prompt["kind"], []).append(prompt)
    rounds = (prompt for row in zip_longest(*kinds.values()) for prompt in row if prompt is not None)
    for prompt in rounds:
        if len(found) >= count:
            break
        found.append(_sample(prompt["id"], prompt["text"]["L"], prompt["negative"]))
    for sample in found:
        check_text(f"{sample.prompt}, rating {character.rating}", f"sample {sample.file}")
    return found


def outfits(character: Character) -> list[Outfit]:
    """The sheet's outfits; a character without any has the one that the trigger alone gives."""
    return character.outfits or [Outfit(id="default", label=character.name, tags=[])]


def trigger_text(character: Character, outfit: Outfit) -> str:
    """The prompt words that call this character in this outfit."""
    return ", ".join([character.count_tag, character.trigger, *outfit.tags])


def triggers(character: Character, sampling: Sampling, shown: Sequence[Sample]) -> list[dict[str, Any]]:
    """triggers.json: one set per outfit. `weight` is the one that everything on the card was measured and drawn at."""
    by_outfit = {sample.outfit: sample for sample in shown}
    return [
        {
            "id": outfit.id, "label": outfit.label, "text": trigger_text(character, outfit), "negative": NEGATIVE,
            "weight": {"min": sampling.weight, "max": sampling.weight}, "sample": by_outfit[outfit.id].file,
        }
        for outfit in outfits(character)
    ]  # fmt: skip


def webui_sidecar(character: Character, sampling: Sampling, note: str) -> dict[str, Any]:
    """`<name>.json` as A1111's and Forge's extra-networks tab reads it."""
    return {
        "description": character.description,
        "sd version": "Other",
        "activation text": trigger_text(character, outfits(character)[0]),
        "negative text": NEGATIVE,
        "preferred weight": sampling.weight,
        "notes": note,
    }


def requests(shown: Sequence[Sample], weights: Model) -> list[Request]:
    """What the sampler is asked for."""
    return [Request(sample.prompt, sample.negative, sample.seed, weights) for sample in shown]


def write_samples(folder: Path, shown: Sequence[Sample], pictures: Sequence[Path], name: str, payload_sha256: str,
                  base_sha256: str, sampling: Sampling) -> None:  # fmt: skip
    """Write the samples, and the first as `<name>.preview.png`, with A1111's `parameters` text.

    There the LoRA is called by its file name in the prompt and by the hash of its tensors, as A1111 computes it, so
    that the text can be pasted back.
    """
    for i, (sample, picture) in enumerate(zip(shown, pictures, strict=True)):
        prompt = f"{sample.prompt} <lora:{name}:{sampling.weight:g}>"
        request = Request(prompt, sample.negative, sample.seed, Model(name, picture, payload_sha256))
        short = payload_sha256[:12]
        text = parameters(base_sha256, request, sampling).replace(f'"{short}: {short}"', f'"{name}: {short}"')
        data = png_bytes(open_picture(picture), text)
        write_atomic(folder / sample.file, data)
        if i == 0:
            write_atomic(folder / f"{name}.preview.png", data)


def _sample(id: str, prompt: str, negative: str, outfit: str | None = None) -> Sample:
    return Sample(f"images/{id}.png", prompt, negative, noise_seed("release", id, 0), outfit)
