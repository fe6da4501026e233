"""release: freeze the weights, draw samples with exactly those, write card, sidecars, history and
checksums, verify.

Makes one folder named after the file, which is published as it is. What is released has tensor for
tensor the bytes that the evaluation measured; only the header is new. Nothing in it depends on the
clock, the machine or the place.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from onmodel.character import Character
from onmodel.errors import InputError, StateError
from onmodel.evaluate.evaluation import FILE, Evaluation, read_evaluation
from onmodel.families.licences import LicensedBase
from onmodel.families.protocol import BaseSettings
from onmodel.hashing import sha256_file, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.paths import check_name, inside
from onmodel.policy import check_text
from onmodel.records import Artifact, Model
from onmodel.release.card import Card, card_facts
from onmodel.release.compatibility import self_test
from onmodel.release.folder import bind, hashes
from onmodel.release.licences import (
    base_of,
    check_said,
    licence_page,
    licence_text,
    notice_text,
)
from onmodel.release.sidecars import (
    Sample,
    civitai_info,
    requests,
    samples,
    thumbnail,
    triggers,
    webui_sidecar,
    write_samples,
)
from onmodel.release.tables import (
    CHANGES,
    EVALUATION,
    TABLE,
    changes_csv,
    lint_card,
    result,
    values,
    values_csv,
)
from onmodel.release.verify import verify
from onmodel.release.weight_checks import who_loads
from onmodel.sample.pictures import render
from onmodel.sample.sampling import Sampling
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    write_models,
)
from onmodel.weights import open_weights, payload_sha256, tensor_payload

MAKES: Kind = "release"
READS = Reads(
    "release", sheet=tuple(Character.model_fields), head=("seed", "date", "threads")
)  # rebuild reads the whole recipe from here
TAKEN = frozenset({"triggers", "lineage"})  # .json files of every release, beside <file_name>.json


class Settings(StageSettings):
    """The settings of a release stage."""

    PUBLISHED_AS: ClassVar = "file_name"

    do: Literal["release"]
    model: str = Field(description="Model to release.")
    evaluation: str = Field(description="Evaluate stage whose numbers are published.")
    title: str = Field(
        min_length=1, max_length=500, description="Title in the header and on the card."
    )
    file_name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the released file and folder, without ending.",
    )
    samples: int = Field(default=6, ge=1, le=1_000, description="Number of sample pictures.")
    sample_prompts: tuple[str, ...] = Field(
        default=(),
        description=(
            "Prompts of the evaluation, by id, that are drawn after one sample of each outfit. Then"
            " follows one prompt of each kind in turn, until there are enough samples."
        ),
    )
    previous: str | None = Field(
        default=None,
        description="Model of that evaluation that the card compares with. Unset: none.",
    )
    license_file: Path | None = Field(
        default=None, description="Text of the base's licence. The toon base's is in the package."
    )
    base_model: str = Field(
        default="",
        description=(
            "Which model the base's files are, e.g. illustrious: its licence follows from it."
            " Needed where the family has several."
        ),
    )
    thumbnail: bool = Field(
        default=False, description="Put the first sample into the file's header."
    )
    train_notes: str = Field(default="", description="The author's notes on the card.")

    @field_validator("file_name")
    @classmethod
    def _own_file(cls, name: str) -> str:
        check_name(name, "file_name")
        if name.casefold() in TAKEN:
            raise ValueError(
                f"a release has a file {name}.json of another kind; choose another name"
            )
        return name

    def check(self, base_name: str, character: Character) -> None:
        """Raises InputError for a licence that does not fit the base. A text that is named and not
        there yet is in the plan's `missing`."""
        base = base_of(self.base_model or base_name, character.license)
        if self.license_file is None or self.license_file.exists():
            licence_text(base, self.license_file)

    def check_base(self, base: BaseSettings) -> None:
        """Raises InputError where the base's files say that they are another model than
        `base_model`."""
        if self.base_model:
            check_said(self.base_model, base)

    def named_stages(self) -> list[NamedStage]:
        evaluation = NamedStage("evaluation", self.evaluation, "evaluation")
        return [NamedStage("model", self.model, "model"), evaluation]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """The samples are drawn anew, since they carry the released file's hash."""
    file = settings.license_file
    lacking = file is not None and not file.exists()
    missing = (
        (InputError("license_file", file, "no such file; it goes with every copy"),)
        if lacking
        else ()
    )
    if (names := before[settings.evaluation].names) is not None:
        _previous_of(names, settings)
    drawn = before[settings.evaluation].drawn
    if drawn is not None:
        drawn = replace(drawn, pictures=min(drawn.pictures, settings.samples))
    names = [settings.file_name]
    pictures = max(settings.samples, len(settings.sample_prompts) + 1)  # and one of each outfit
    return Plan(pictures=pictures, models=1, names=names, drawn=drawn, missing=missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Make the folder.

    Raises InputError for a licence that does not fit the base, a model that was not measured or
    words that are refused, OnmodelError when diffusers does not load the file, VerifyError when a
    number on the card is not a measured one.
    """
    character, name = context.character, settings.file_name
    base = base_of(settings.base_model or context.base_name, character.license)
    licence = licence_text(base, settings.license_file)
    said = f"{settings.title}, {name}, rating {character.rating}"
    check_text(said, f"stages.{context.name}.title")
    source = inputs.model(settings.model)
    measured = _measured(inputs, settings, source)
    evaluation = read_evaluation(measured)
    model = _measured_name(evaluation, source, settings)
    previous = _previous_of(evaluation.names, settings)
    if previous and evaluation.against and previous not in evaluation.against:
        remedy = f"is not in `against` of {settings.evaluation!r}; add it there"
        raise InputError("previous", previous, remedy)
    sampling = evaluation.plan.sampling

    shutil.rmtree(context.out)  # a killed attempt may have left files that no longer belong
    folder = inside(context.out, name, "file_name")
    weights, history = _freeze(source, settings, base, context)
    payload = payload_sha256(weights)
    family = context.family()
    self_test(weights, family.spec, family.configs, context.scratch / "diffusers")

    shown = samples(character, evaluation.plan, settings.samples, settings.sample_prompts)
    drawn = _draw(shown, Model.of(name, weights), sampling, context)
    if settings.thumbnail:  # the header alone is written again
        picture = {"modelspec.thumbnail": thumbnail(drawn[0])}
        weights, history = _freeze(source, settings, base, context, picture)
    write_samples(folder, shown, drawn, name, payload, context.base_sha256, sampling)

    earlier = [inputs.lineage(settings.model), inputs.lineage(settings.evaluation)]
    parents = [context.recipe(READS), history, *earlier]
    told = {
        "name": name,
        "title": settings.title,
        "author": character.author.name,
        "license": base.licence.name,
        "settings": settings.told(),
    }
    card = Card(
        title=settings.title,
        file_name=name,
        date=context.date,
        payload_sha256=payload,
        character=character,
        base_name=context.base_name,
        base=base,
        sampling=sampling,
        samples=shown,
        triggers=triggers(character, sampling, shown),
        evaluation=evaluation,
        model=model,
        previous=previous,
        result=result(evaluation, model, previous),
        lineage=add(parents, "release", date=context.date, **told),  # without the files' hashes
        train_notes=settings.train_notes,
        partial=[name for name, (some, all_) in who_loads(weights).items() if 0 < some < all_],
    )
    write_atomic(folder / EVALUATION, measured.read_bytes())
    _write_texts(
        folder,
        card,
        weights,
        licence_page(base, licence, name, character.author.name, context.date),
    )
    lineage = add(parents, "release", date=context.date, **told, files=hashes(folder))
    bind(folder, lineage, {weights.name: root(history)})
    verify(folder)
    write_models(context.out, [(name, source.epoch, f"{name}/{weights.name}")])
    return context.commit("release", lineage)


def _draw(
    shown: Sequence[Sample], model: Model, sampling: Sampling, context: Context
) -> list[Path]:
    """The samples' pictures, drawn with the released file."""
    wanted = requests(shown, model)
    with context.events.task(f"samples for {context.name}", total=len(wanted)) as task:
        return render(context.family, context.base_sha256, wanted, sampling, context.pictures, task)


def _write_texts(folder: Path, card: Card, weights: Path, licence: str) -> None:
    """Write the card, the licence, the tables and the files that other tools read. Raises
    VerifyError for a number on the card that is not a measured one."""
    text = card.render()
    facts = card_facts(card.evaluation, card.lineage, card.triggers)
    lint_card(text, card.evaluation, card.result, facts)
    write_json(folder / "triggers.json", card.triggers)
    sidecar = webui_sidecar(
        card.character, card.base, card.sampling, f"{card.title}; see README.md"
    )
    write_json(folder / f"{card.file_name}.json", sidecar)
    info = civitai_info(card.character, card.base, card.title, weights, card.samples, card.sampling)
    write_json(folder / f"{card.file_name}.civitai.info", info)
    texts = {
        "README.md": text,
        "LICENSE.md": licence,
        "NOTICE": notice_text(card.base),
        TABLE: values_csv(values(card.evaluation)),
        CHANGES: changes_csv(card.result.changes) if card.previous else None,
    }
    for file, content in texts.items():
        if content is not None:
            write_atomic(folder / file, content.encode())


def _measured(inputs: Inputs, settings: Settings, model: Model) -> Path:
    """The evaluation's numbers, after they and the model's file were held against their hashes:
    neither the disk nor a hand changed them since they were made.
    """
    file, lineage = (
        inputs.artifact(settings.evaluation).path / FILE,
        inputs.lineage(settings.evaluation),
    )
    held = {model.path: model.sha256, file: lineage[root(lineage)].get("evaluation_sha256")}
    for path, sha256 in held.items():
        if (
            sha256 is not None and sha256_file(path) != sha256
        ):  # evaluations of before hold no hash of their numbers
            raise StateError(
                path,
                "is damaged: it was changed since it was made; restore it or start a new project",
            )
    return file


def _freeze(
    source: Model,
    settings: Settings,
    base: LicensedBase,
    context: Context,
    more: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Path, Lineage]:
    """Write the tensors of the measured model, byte for byte, under the released header with `more`
    words in it.

    Returns the file and its history.
    """
    from onmodel.lora.tensors import check_backbone_alone, read_lora

    character, spec = context.character, context.family().spec
    lora = read_lora(source.path, spec)
    text = {str(row.component) for row in spec.text_linears}
    check_backbone_alone(lora, spec, "model", source.name, "not every program loads", text)
    with open_weights(source.path, "model") as file:
        payload = tensor_payload({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    assert payload.sha256 == payload_sha256(source.path), (
        "the tensors to release are not those that were measured"
    )
    named = {
        "name": settings.file_name,
        "title": settings.title,
        "trigger": character.trigger,
        "license": base.licence.name,
    }
    past = header.lineage_of(lora.metadata, source.sha256)
    facts = header.Facts(
        title=settings.title,
        author=character.author.name,
        license=base.licence.name,
        trigger=character.trigger,
        architecture=spec.architecture,
        resolution=0,
        date=context.date,
        blocks=spec.blocks,
        width=spec.width,
        base_sha256=context.base_sha256,
    )
    # What the training wrote stays; what it did not know stays unsaid.
    kept = {key: value for key, value in lora.metadata.items() if key.startswith("ss_")}
    kept |= {
        key: lora.metadata.get(key, "")
        for key in (
            "modelspec.resolution",
            "ss_resolution",
            "modelspec.merged_from",
        )
    }
    changed = [str(row.component) for row in spec.text_linears if row.name in lora.modules]
    kept |= {
        header.TEXT_KEY: ",".join(dict.fromkeys(changed)),
        "ss_output_name": settings.file_name,
        "sshs_model_hash": payload.sha256,
        **more,
    }
    target = context.out / settings.file_name / f"{settings.file_name}.safetensors"
    words = header.build(facts, past, **kept)
    held = header.held(payload.sha256, payload.table_sha256, words)
    history = add([past], "weights", date=context.date, **named, **held)
    payload.write(target, header.sealed(words, history))
    return target, history


def _measured_name(evaluation: Evaluation, model: Model, settings: Settings) -> str:
    """What the evaluation calls this file, found by its hash. Raises InputError where it was not
    measured."""
    for row in evaluation.models:
        if row.sha256 == model.sha256:
            return row.name
    raise InputError(
        "model",
        model.name,
        f"was not measured by {settings.evaluation!r}; add it to that stage's models",
    )


def _previous_of(known: Sequence[str], settings: Settings) -> str | None:
    """The one measured model that `previous` names, itself or by its stage."""
    if settings.previous is None:
        return None
    names = [name for name in known if settings.previous in (name, name.partition("@")[0])]
    if len(names) != 1:
        remedy = (
            f"names {len(names)} models of {settings.evaluation!r}; name one of {', '.join(known)}"
        )
        raise InputError("previous", settings.previous, remedy)
    return names[0]
