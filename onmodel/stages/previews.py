"""Pictures drawn during a training, to look at: no artifact of the run names them."""

from onmodel.families.protocol import Family
from onmodel.freed_memory import return_freed_memory
from onmodel.hashing import write_atomic
from onmodel.sample.pictures import PictureRequest, parameters, png_bytes
from onmodel.sample.sampling import Sampling
from onmodel.stages.base import Context
from onmodel.train.options import Options, Preview


def draw_previews(
    family: Family, preview: Preview, settings: Options, context: Context, epoch: int
) -> None:
    """Draw the preview's prompts with the base as it is being trained."""
    from onmodel.sample.sampler import Job, generate

    return_freed_memory()  # of the last step
    sampling = preview_sampling(preview, settings, family.spec.resolution.step)
    jobs = [
        Job(
            prompt,
            preview.negative,
            preview.seed + i,
            sampling.width,
            sampling.height,
            preview.empty_text,
        )
        for i, prompt in enumerate(preview.prompts)
    ]
    made = generate(family, jobs, sampling)
    for i, (job, image) in enumerate(made):
        text = parameters(
            context.base_sha256, PictureRequest(job.prompt, job.negative, job.seed), sampling
        )
        path = context.out / "previews" / f"epoch-{epoch:04d}-{i:02d}.png"
        write_atomic(path, png_bytes(image, f"{text}, Training: {context.name} epoch {epoch}"))
    family.release()


def preview_sampling(preview: Preview, settings: Options, step: int) -> Sampling:
    """How previews are drawn: on sides that are multiples of `step` pixels."""
    side = max(settings.resolutions) // step * step
    width, height = (
        (preview.size, preview.size)
        if isinstance(preview.size, int)
        else preview.size or (side, side)
    )
    return Sampling(
        preview.steps,
        preview.guidance,
        preview.shift,
        width=width,
        height=height,
        batch=settings.batch,
        sampler=preview.sampler,
        schedule=preview.schedule,
        empty_text=preview.empty_text,
        guidance_rescale=preview.guidance_rescale,
    )
