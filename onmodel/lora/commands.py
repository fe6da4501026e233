"""Plain LoRA files merged, resized, compared and extracted: what `onmodel lora` calls.

Every function reads files and settings, and returns a report. A file that exists is never
overwritten.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.registry import components, locate, parse_base_rows
from onmodel.lora import full_checkpoints
from onmodel.lora import remap as remapping
from onmodel.lora.full_checkpoints import open_checkpoint
from onmodel.lora.layouts import Layout
from onmodel.lora.merge_files import facts_of, merge_files
from onmodel.lora.merge_job import MergeJob, MergeSize, open_sources
from onmodel.lora.merge_plan import compare, plan
from onmodel.lora.methods import choose
from onmodel.lora.names import names_of
from onmodel.lora.settings import DTYPES, MergeSettings, ResultSettings
from onmodel.lora.specs import is_checkpoint, spec_of_loras
from onmodel.lora.writing import FileFormat

Report = dict[str, Any]  # JSON values


@dataclass(frozen=True)
class Merge:
    """Files to merge. `base`, as on the command line, is needed where a full checkpoint is among
    them."""

    files: Sequence[Path]
    settings: MergeSettings
    result: ResultSettings
    base: Sequence[str] | None = None


def plan_merge(merge: Merge, events: Events) -> Report:
    """What a merge would give: cosines, energy by rank, size, strength, alpha, warnings. Writes
    nothing. `factored` has a row for each full checkpoint among the files."""
    with _opened(merge, events) as (job, factored):
        found: Report = plan(job, facts_of(job.sources, job.spec, "merged"), events)
    return found | {"factored": factored}


def run_merge(out: Path, merge: Merge, title: str, events: Events) -> Report:
    """Write the merge to `out`. Raises InputError when it exists or a setting is wrong."""
    check_new(out)
    with _opened(merge, events) as (job, factored):
        facts = facts_of(job.sources, job.spec, title or out.stem)
        _, report = merge_files(out, job, facts, events=events)
    written = {"file": str(out), "bytes": out.stat().st_size, "factored": factored}
    return report.as_dict() | written


def resize(file: Path, out: Path, result: ResultSettings, title: str, events: Events) -> Report:
    """Write the best LoRA of another rank, energy or size; without any, the same change in another
    layout or dtype."""
    settings = MergeSettings(weights="1", method="weighted")
    return run_merge(out, Merge([file], settings, result), title, events)


def extract(
    tuned: Path,
    base: Sequence[str],
    out: Path,
    rank: int,
    dtype: str,
    title: str,
    events: Events,
) -> Report:
    """Write the difference of a full fine-tune to its base as a LoRA."""
    check_new(out)
    kind = DTYPES[ResultSettings(dtype=dtype).dtype]
    file = transformer_of(base)
    report = full_checkpoints.extract(out, tuned, file, rank, title or out.stem, kind, events)
    return {"file": str(out), "bytes": out.stat().st_size, **asdict(report)}


def add_into(
    checkpoint: Path,
    loras: Sequence[Path],
    out: Path,
    settings: MergeSettings,
    title: str,
    events: Events,
) -> Report:
    """Write a full checkpoint with LoRAs added, in its own dtype. Only weights and block factors of
    `settings` are used."""
    check_new(out)
    target, names = open_checkpoint(checkpoint, "checkpoint"), names_of(loras)
    with (
        target.file,
        open_sources(list(zip(names, loras, strict=True)), target.spec) as sources,
    ):
        blend = choose(names, target.spec, None, settings.given_weights, blocks=settings.factors)
        report = full_checkpoints.into(
            out, checkpoint, sources, blend, target, title or out.stem, events
        )
    return {"file": str(out), "bytes": out.stat().st_size, **report.as_dict()}


def remap(
    file: Path, smaller: Sequence[str], base: Sequence[str], out: Path, events: Events
) -> Report:
    """Write a LoRA of a smaller base for a relative made by inserting copies of blocks."""
    check_new(out)
    few, many = transformer_of(smaller, "--from"), transformer_of(base)
    report = remapping.remap(file, few, many, out, events)
    return {"file": str(out), "bytes": out.stat().st_size, **asdict(report)}


def diff(one: Path, other: Path) -> Report:
    """Strength, cosine and distance of two LoRAs, by block and type of layer, and their headers."""
    names, spec = names_of([one, other]), spec_of_loras([one, other])
    with open_sources(list(zip(names, [one, other], strict=True)), spec) as sources:
        linears = MergeJob(sources, choose(names, spec), spec).linears
        found: Report = compare(sources[0], sources[1], linears)
        return found


def transformer_of(rows: Sequence[str], option: str = "--base") -> Path:
    """The transformer file of a base as on the command line, which may also be that file alone.
    `option` names it in errors."""
    if len(rows) == 1 and rows[0].endswith(".safetensors") and "=" not in rows[0]:
        return Path(rows[0])
    settings = parse_base_rows(rows)
    backbone = next(p for p in components(settings.family) if p.kind in ("transformer", "unet"))
    place = locate(settings, download=False)[backbone.name]
    if isinstance(place, InputError):
        raise place
    files = [place.path] if place.single else sorted(place.path.glob("*.safetensors"))
    if len(files) != 1:
        remedy = f"name the {backbone.kind} file: {option} {backbone.field}=FILE"
        raise InputError(option, " ".join(rows), remedy)
    return files[0]


@contextmanager
def _opened(merge: Merge, events: Events) -> Iterator[tuple[MergeJob, Report]]:
    """The merge with its files open, and a row for each full checkpoint among them."""
    result, settings = merge.result, merge.settings
    size = MergeSize(result.rank, result.energy, result.bytes)
    base = transformer_of(merge.base) if merge.base else None
    files, names, factored = list(merge.files), names_of(merge.files), Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="onmodel-")))
        for i, (name, path) in enumerate(zip(names, merge.files, strict=True)):
            if not is_checkpoint(path):
                continue
            if base is None:
                remedy = f"{path} is a full checkpoint; name the base it was tuned from"
                raise InputError("--base", "missing", remedy)
            files[i] = folder / f"{i}.safetensors"
            factored[name] = asdict(
                full_checkpoints.extract(
                    files[i], path, base, settings.checkpoint_rank, name, events=events
                )
            )
        if base is None:
            spec = spec_of_loras(files)
        else:
            known = open_checkpoint(base, "base")
            stack.enter_context(known.file)
            spec = known.spec
        sources = stack.enter_context(open_sources(list(zip(names, files, strict=True)), spec))
        blend = choose(
            names,
            spec,
            settings.method or None,
            settings.given_weights,
            settings.decay,
            settings.density,
            settings.factors,
        )
        form = FileFormat(cast(Layout, result.layout), DTYPES[result.dtype])
        yield (
            MergeJob(sources, blend, spec, size, result.written_alpha, form),
            factored,
        )


def check_new(out: Path) -> None:
    """Raises InputError when `out` exists or is not called .safetensors."""
    if out.suffix != ".safetensors":
        raise InputError("--out", out, "name a .safetensors file")
    if out.exists():
        raise InputError("--out", out, "exists already; choose another name, or remove it first")
