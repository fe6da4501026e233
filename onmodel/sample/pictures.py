"""The picture cache: a picture is named by everything that decides its pixels, so none is ever
generated twice.

    <folder>/<key[:2]>/<key>.png      with the `parameters` text that A1111, Forge and ComfyUI nodes
                                      read
    <folder>/<key[:2]>/hashes.jsonl   what its bytes were when it was made (checked.py)

The key does not follow from the bytes, so a picture is used only if it is as it was made; else it
is made again. A killed `render` loses at most the batch it was in. This file decides what to
generate; sampler.py generates.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from onmodel.checked import Checked, append_table, read_table
from onmodel.errors import InputError
from onmodel.events import Task
from onmodel.families.modes import Modes
from onmodel.hashing import hash_json, sweep, write_atomic
from onmodel.policy import check_text
from onmodel.prompt_syntax import Segment, segments
from onmodel.records import Model
from onmodel.sample.sampling import Sampling

if TYPE_CHECKING:
    from onmodel.families.protocol import Family
    from onmodel.lora.tensors import Lora

TABLE = "hashes.jsonl"


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """One picture: a prompt and a noise seed, under a LoRA or (None) the base alone."""

    prompt: str
    negative: str
    seed: int
    lora: Model | None = None

    @property
    def texts(self) -> tuple[str, str]:
        return self.prompt, self.negative


Pending = tuple[PictureRequest, Path]


def key(base_sha256: str, request: PictureRequest, sampling: Sampling) -> str:
    """SHA-256 of everything that decides the pixels. The base's own pictures do not depend on the
    LoRA weight. Sums of floats depend on torch's number of threads."""
    import torch

    return hash_json(
        {
            "base": base_sha256,
            "lora": _weights(request.lora),
            "weight": sampling.weight if request.lora else None,
            "prompt": request.prompt,
            "negative": request.negative,
            "seed": request.seed,
            "size": [sampling.width, sampling.height],
            "steps": sampling.steps,
            "guidance": sampling.guidance,
            "shift": sampling.shift,
            "sampler": sampling.sampler_version,
            "threads": torch.get_num_threads(),
            **(_NEW_TEXT if any(map(_read_anew, (request.prompt, request.negative))) else {}),
        }
    )


# Pictures of versions before 0.3.0, which read the syntax as letters and cut long prompts, have the
# other key.
_NEW_TEXT = {"text": "weights and escapes, any length"}
_LONG = 512  # bytes, from which a prompt may have more than 512 tokens


def _read_anew(prompt: str) -> bool:
    return len(prompt.encode()) >= _LONG or segments(prompt) != [Segment(prompt)]


def check_prompt(prompt: str, field: str) -> None:
    """Raises InputError for a prompt with a weight that is no number."""
    try:
        segments(prompt)
    except ValueError as error:
        raise InputError(field, prompt, str(error)) from error


def picture_path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.png"


def cached(folder: Path) -> list[Path]:
    """Every picture of the cache, sorted."""
    return sorted(
        path for path in folder.glob("??/*.png") if re.fullmatch("[0-9a-f]{64}", path.stem)
    )


def render(
    family: "Callable[[], Family]",
    base_sha256: str,
    requests: Sequence[PictureRequest],
    sampling: Sampling,
    folder: Path,
    task: Task,
    later: Sequence[PictureRequest] = (),
) -> list[Path]:
    """Make what the cache lacks and return the path of every request, in order. Loads the base only
    if needed. The prompts of `later` calls are encoded too, so that the text encoder is not read
    again beside the backbone. Raises InputError for a prompt that the content policy refuses:
    nothing generates pictures but through here. `task` moves by requests.

    Requests are cut into batches before the cache is asked, one LoRA after another, so that what
    shares a batch, and with it the last bit of every pixel, does not depend on where an earlier run
    was killed.
    """
    from onmodel.lora.tensors import applied, changes_text

    for request in (*requests, *later):
        check_text(request.prompt, "prompt")
        check_prompt(request.prompt, "prompt")
        check_prompt(request.negative, "negative prompt")
    paths = picture_paths(base_sha256, requests, sampling, folder)
    for path in remove_damaged(paths):
        task.note(f"{path} is damaged; it is made again")
    todo = _lacking(requests, paths, sampling.batch)
    task.advance(len(requests) - sum(len(batch) for batch in todo))
    for parent in sorted({path.parent for batch in todo for _, path in batch}):
        if parent.exists():
            sweep(parent)
    missing = [request for batch in todo for request, _ in batch]
    all_texts = [text for one in (*missing, *later) for text in one.texts]
    for _, same_lora in groupby(todo, key=lambda batch: _weights(batch[0][0].lora)):
        group = list(same_lora)
        requested = [request for batch in group for request, _ in batch]
        texts = [text for one in requested for text in one.texts]
        loaded = family()
        lora = _read(loaded, requested[0].lora)
        encodes = lora is not None and changes_text(lora, loaded.spec)
        if not encodes:  # before the backbone is read, so that the two are not there at once
            loaded.encode_prompts(all_texts, sampling.empty_text)
            loaded.release()
        with nullcontext() if lora is None else applied(loaded, lora, sampling.weight):
            if encodes:
                loaded.encode_prompts(texts, sampling.empty_text)
                loaded.release()
            for batch in group:
                _generate(loaded, base_sha256, batch, sampling)
                task.advance(len(batch))
    return paths


@dataclass(frozen=True, slots=True)
class PictureOrder:
    """Pictures that a stage will request at once, so that others may generate them before it runs.
    `modes`: how the base computes."""

    requests: Sequence[PictureRequest]
    sampling: Sampling
    modes: Modes

    def lacking(self, base_sha256: str, folder: Path) -> list[list[PictureRequest]]:
        """The batches that `render` would generate into the cache."""
        paths = picture_paths(base_sha256, self.requests, self.sampling, folder)
        remove_damaged(paths)
        todo = _lacking(self.requests, paths, self.sampling.batch)
        return [[request for request, _ in batch] for batch in todo]


def picture_paths(
    base_sha256: str, requests: Sequence[PictureRequest], sampling: Sampling, folder: Path
) -> list[Path]:
    """Where the cache has, or will have, the picture of each request."""
    return [picture_path(folder, key(base_sha256, request, sampling)) for request in requests]


def keep_picture(path: Path, png: bytes) -> None:
    """Put a picture into the cache, unless it is there."""
    if not path.exists():
        write_atomic(path, png)
        append_table(path.parent / TABLE, {path.name: Checked.of(path, path.stat())})


def _lacking(
    requests: Sequence[PictureRequest], paths: Sequence[Path], size: int
) -> list[list[Pending]]:
    """The batches of which a picture is not in the cache."""
    batches = _batches(zip(requests, paths, strict=True), size)
    return [batch for batch in batches if not all(path.exists() for _, path in batch)]


def remove_damaged(paths: Iterable[Path]) -> list[Path]:
    """Remove the pictures of the cache that are not as they were made; returns them. What is as it
    was is recorded."""
    found = []
    shards: dict[Path, dict[str, Path]] = {}
    for path in paths:
        shards.setdefault(path.parent, {})[path.name] = path
    for shard, inside in shards.items():
        table, now = read_table(shard / TABLE), {}
        for name, path in inside.items():
            if not path.exists():
                continue
            now[name] = Checked.of(path, path.stat(), table.get(name))
            if is_damaged(path, now[name], table.get(name)):
                del now[name]
                path.unlink()
                found.append(path)
        if new := {name: file for name, file in now.items() if table.get(name) != file}:
            append_table(shard / TABLE, new)
    return found


def is_damaged(path: Path, now: Checked, before: Checked | None) -> bool:
    """Is a picture of the cache not as it was made? Of one without a record, the PNG's own
    checksums say it."""
    if before is not None:
        return now.sha256 != before.sha256
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True
    return False


def parameters(base_sha256: str, request: PictureRequest, sampling: Sampling) -> str:
    """The `parameters` text in A1111's form: prompt, negative prompt, settings, hashes.

    The LoRA is called by the hash of its tensors: one file may have several names, and its header
    decides no pixel.
    """
    lora = request.lora.weights[:12] if request.lora else None
    settings = {
        "Steps": sampling.steps,
        "Sampler": sampling.sampler_title,
        "Schedule type": sampling.schedule.replace("_", " ").capitalize(),
        "CFG scale": sampling.guidance,
        "Shift": sampling.shift,
        "Seed": request.seed,
        "Size": f"{sampling.width}x{sampling.height}",
        "Model hash": base_sha256[:10],
        **({"Lora hashes": f'"{lora}: {lora}"', "Lora weight": sampling.weight} if lora else {}),
        **({"CFG rescale": sampling.guidance_rescale} if sampling.guidance_rescale else {}),
        **({"Empty text": sampling.empty_text} if sampling.empty_text != "diffusers" else {}),
        "Version": "onmodel",
    }
    said = ", ".join(f"{name}: {value}" for name, value in settings.items())
    return f"{request.prompt}\nNegative prompt: {request.negative}\n{said}"


def png_bytes(image: Image.Image, text: str) -> bytes:
    """A PNG with a `parameters` text: the same pixels and text give the same bytes."""
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("parameters", text)
    image.save(buffer, "PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def _batches(pairs: Iterable[Pending], size: int) -> Iterator[list[Pending]]:
    """One LoRA after another in order of first appearance, each request once, cut into batches."""
    by_lora: dict[str | None, dict[Path, PictureRequest]] = {}
    for request, path in pairs:
        by_lora.setdefault(_weights(request.lora), {}).setdefault(path, request)
    for group in by_lora.values():
        rows = [(request, path) for path, request in group.items()]
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _weights(lora: Model | None) -> str | None:
    return lora.weights if lora else None


def _read(family: "Family", lora: Model | None) -> "Lora | None":
    from onmodel.lora.tensors import read_lora

    return None if lora is None else read_lora(lora.path, family.spec, dora=True)


def _generate(
    family: "Family", base_sha256: str, batch: Sequence[Pending], sampling: Sampling
) -> None:
    from onmodel.sample.sampler import Job, generate

    size = sampling.width, sampling.height
    jobs = [Job(r.prompt, r.negative, r.seed, *size, sampling.empty_text) for r, _ in batch]
    made = generate(family, jobs, sampling)
    for (request, path), (_, image) in zip(batch, made, strict=True):
        keep_picture(path, png_bytes(image, parameters(base_sha256, request, sampling)))
