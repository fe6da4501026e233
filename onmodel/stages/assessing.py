"""The assessor that evaluate, tune and search stages measure with, and its floors."""

from onmodel.evaluate.assess import Assessed, Assessor, load_references
from onmodel.policy import check_text
from onmodel.records import Model
from onmodel.sample.suites import SuiteName, suite, vocabulary_of
from onmodel.stages.base import Context, Inputs
from onmodel.stages.generating import Generating


def make_assessor(
    inputs: Inputs,
    settings: Generating,
    suite_name: SuiteName,
    seeds: int,
    context: Context,
    prompts_asked: int | None = None,
) -> Assessor:
    """The plan's assessor from a stage's settings; with `prompts_asked` of only the first prompts
    of the suite."""
    vocabulary = vocabulary_of(context.base_name)
    prompts = suite(suite_name, context.character, vocabulary)[:prompts_asked]
    for prompt in prompts:
        for arm, text in prompt.text.items():
            check_text(text, f"prompt {prompt.id}, arm {arm}")
    observers = settings.observers(context)
    cache, palette = context.scratch / "features", context.character.palette
    references = None
    if settings.references:
        dataset = inputs.artifact(settings.references.stage)
        references = load_references(
            dataset, settings.references.subset, observers, palette, cache, context.events
        )
    return Assessor(
        family=context.family,
        base_sha256=context.base_sha256,
        character=context.character,
        vocabulary=vocabulary,
        suite=suite_name,
        prompts=prompts,
        seeds=seeds,
        sampling=settings.sampling,
        observers=observers,
        references=references,
        pictures=context.pictures,
        cache=cache,
        events=context.events,
    )


def floors(assessor: Assessor, model: Model, context: Context) -> dict[str, Assessed]:
    """What the axes read where there is nothing to read: R, the base under other noise, and Z, a
    null LoRA."""
    from onmodel.evaluate.null import write_null

    path = context.scratch / "null.safetensors"
    write_null(model.path, path, context.family().spec, context.seed)
    (null,), _ = assessor.assess([Model.of("null", path)])
    return {
        "R": assessor.reseeded(),
        "Z": Assessed(null.axes, {"Z": null.pictures["L"]}, null.answers),
    }
