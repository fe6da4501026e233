"""Files beside the weights: triggers.json, the sidecars of A1111/Forge and Civitai, the sample
pictures.

Samples are the first seed of their prompt, never selected. sample/pictures.py generates them.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from onmodel.character import Character, Outfit
from onmodel.dataset.pixels import open_picture
from onmodel.errors import InputError
from onmodel.evaluate.evaluation import EvaluationPlan, PlannedPrompt
from onmodel.families.licences import LicensedBase
from onmodel.hashing import sha256_file, write_atomic
from onmodel.paths import inside
from onmodel.policy import check_text
from onmodel.prompt_syntax import escaped
from onmodel.records import Model
from onmodel.sample.pictures import PictureRequest, parameters, png_bytes
from onmodel.sample.sampling import Sampling
from onmodel.sample.suites import NEGATIVE, QUALITY, noise_seed
from onmodel.weights import payload_sha256


@dataclass(frozen=True)
class Sample:
    """One picture of the release: `file` in its folder; `outfit`: id of the outfit that it is there
    to show."""

    file: str
    prompt: str
    negative: str
    seed: int
    outfit: str | None = None


def samples(
    character: Character, plan: EvaluationPlan, count: int, chosen: Sequence[str] = ()
) -> list[Sample]:
    """One sample per outfit, then the `chosen` prompts of the evaluation, then its others, one of
    each kind in turn, until there are `count`. Raises InputError for a prompt that it lacks."""
    found = [
        _sample(f"outfit-{o.id}", ", ".join([*QUALITY, trigger_text(character, o)]), NEGATIVE, o.id)
        for o in outfits(character)
    ]
    by_id = {prompt.id: prompt for prompt in plan.prompts}
    for id in chosen:
        if id not in by_id:
            raise InputError("sample_prompts", id, f"the evaluation has {', '.join(by_id)}")
        found.append(_sample(id, by_id[id].text["L"], by_id[id].negative))
    kinds: dict[str, list[PlannedPrompt]] = {}
    for prompt in plan.prompts:
        if prompt.id not in chosen:
            kinds.setdefault(prompt.kind, []).append(prompt)
    rounds = (
        prompt for row in zip_longest(*kinds.values()) for prompt in row if prompt is not None
    )
    for prompt in rounds:
        if len(found) >= count:
            break
        found.append(_sample(prompt.id, prompt.text["L"], prompt.negative))
    for sample in found:
        check_text(f"{sample.prompt}, rating {character.rating}", f"sample {sample.file}")
    return found


def outfits(character: Character) -> list[Outfit]:
    """The sheet's outfits. A character without any has one, with the trigger alone."""
    return character.outfits or [Outfit(id="default", label=character.name, tags=[])]


def trigger_text(character: Character, outfit: Outfit) -> str:
    """The prompt that calls this character in this outfit, escaped."""
    return escaped(", ".join([character.count_tag, character.trigger, *outfit.tags]))


def triggers(
    character: Character, sampling: Sampling, shown: Sequence[Sample]
) -> list[dict[str, object]]:
    """triggers.json: one set per outfit. `weight` is the one that everything on the card was
    measured and drawn at."""
    by_outfit = {sample.outfit: sample for sample in shown}
    return [
        {
            "id": outfit.id,
            "label": outfit.label,
            "text": trigger_text(character, outfit),
            "negative": NEGATIVE,
            "weight": {"min": sampling.weight, "max": sampling.weight},
            "sample": by_outfit[outfit.id].file,
        }
        for outfit in outfits(character)
    ]


def webui_sidecar(
    character: Character, base: LicensedBase, sampling: Sampling, note: str
) -> dict[str, object]:
    """`<name>.json` as A1111's and Forge's extra-networks tab reads it."""
    return {
        "description": character.description,
        "sd version": base.a1111,
        "activation text": trigger_text(character, outfits(character)[0]),
        "negative text": NEGATIVE,
        "preferred weight": sampling.weight,
        "notes": note,
    }


def civitai_info(
    character: Character,
    base: LicensedBase,
    title: str,
    weights: Path,
    shown: Sequence[Sample],
    sampling: Sampling,
) -> dict[str, object]:
    """`<name>.civitai.info`: a model version as Civitai's interface gives it, and as tools that
    read sidecars expect.

    Hashes are Civitai's: AutoV2 the first ten digits of the file's SHA-256, AutoV3 the first twelve
    of its tensors'. There are no ids: it was not uploaded there.
    """
    sha256 = sha256_file(weights).upper()
    return {
        "name": title,
        "baseModel": base.civitai,
        "trainedWords": [trigger_text(character, outfit) for outfit in outfits(character)],
        "description": character.description,
        "model": {
            "name": title,
            "type": "LORA",
            "nsfw": character.rating == "explicit",
            "poi": False,
        },
        "files": [
            {
                "name": weights.name,
                "type": "Model",
                "primary": True,
                "sizeKB": weights.stat().st_size / 1024,
                "metadata": {"format": "SafeTensor"},
                "hashes": {
                    "AutoV2": sha256[:10],
                    "AutoV3": payload_sha256(weights)[:12].upper(),
                    "SHA256": sha256,
                },
            }
        ],
        "images": [
            {
                "url": sample.file,
                "width": sampling.width,
                "height": sampling.height,
                "meta": {
                    "prompt": sample.prompt,
                    "negativePrompt": sample.negative,
                    "seed": sample.seed,
                    "steps": sampling.steps,
                    "cfgScale": sampling.guidance,
                    "sampler": sampling.sampler_title,
                },
            }
            for sample in shown
        ],
    }


def requests(shown: Sequence[Sample], weights: Model) -> list[PictureRequest]:
    """The sample pictures as requests to the sampler."""
    return [
        PictureRequest(sample.prompt, sample.negative, sample.seed, weights) for sample in shown
    ]


def write_samples(
    folder: Path,
    shown: Sequence[Sample],
    pictures: Sequence[Path],
    name: str,
    payload_sha256: str,
    base_sha256: str,
    sampling: Sampling,
) -> None:
    """Write the samples, and the first as `<name>.preview.png`, with A1111's `parameters` text.

    There the LoRA is called by its file name in the prompt and by the hash of its tensors, as A1111
    computes it, so that the text can be pasted back.
    """
    for i, (sample, picture) in enumerate(zip(shown, pictures, strict=True)):
        prompt = f"{sample.prompt} <lora:{name}:{sampling.weight:g}>"
        model = Model(name, picture, payload_sha256, payload_sha256)
        request = PictureRequest(prompt, sample.negative, sample.seed, model)
        short = payload_sha256[:12]
        text = parameters(base_sha256, request, sampling).replace(
            f'"{short}: {short}"', f'"{name}: {short}"'
        )
        data = png_bytes(open_picture(picture), text)
        write_atomic(inside(folder, sample.file, "outfits.id"), data)
        if i == 0:
            write_atomic(folder / f"{name}.preview.png", data)


def thumbnail(picture: Path) -> str:
    """A sample as modelspec's thumbnail: a JPEG of at most 256 pixels a side in a data URL, about
    12 kB."""
    image, buffer = open_picture(picture), io.BytesIO()
    image.thumbnail((256, 256), Image.Resampling.LANCZOS)
    image.convert("RGB").save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sample(id: str, prompt: str, negative: str, outfit: str | None = None) -> Sample:
    return Sample(f"images/{id}.png", prompt, negative, noise_seed("release", id, 0), outfit)
