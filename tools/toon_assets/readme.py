"""Writes assets/README.md from the measured numbers: what the assets can do and how they were
made."""

from __future__ import annotations

import json
from pathlib import Path

from .common import Settings, load_checkpoint, log
from .detector import CONFIDENCE, NAMES, OVERLAP
from .identity import COLUMNS
from .observers import OUTPUTS
from .pictures import CAST

TEXT = """# The toon assets

A small, really trained Anima-class model and four observers, made by `python tools/build_toon_assets.py` from the
renderer in `onmodel/toon` alone. Every number below was measured on the files in this folder, loaded as they are
(bfloat16 weights computed in float32), on toons that no training step saw, {count} where no other number stands. The
stand-in character (light blue hair with cat ears and a beret) is in no training picture. Three pictures in ten have an
accent (a dyed lock and cuffs of one colour), which no caption says: what a design has beyond its tags.

![prompts and what the base draws](grid.png)

## Files
| path | what | bytes |
|---|---|---|
{files}

`base/` is a modular diffusers folder: `AnimaModularPipeline.from_pretrained(folder)`, then `.load_components()`.
Sides are multiples of 16; trained at 96×96, 80×112, 112×80 and a little at 64×64. Defaults: {steps} Euler steps,
guidance {guidance}, scheduler shift {shift}, negative prompt empty; 30 steps, guidance 2.5 to 6 and shift 1 to 3 obey
alike (within 0.015 on 60 prompts). No learned positions; `rope_scale` is {rope} (rotary base 100).

## VAE
{psnr:.2f} dB PSNR at 96×96 (posterior mode). By style: {styles}.

## Does the base obey?
Share of pictures whose visible attribute the tagger reads as asked, half tag prompts, half sentences, all three sizes;
beside it the tagger's ceiling: the same reading of real renders.

| attribute | base | ceiling | tags | sentences |
|---|---|---|---|---|
{obeyed}

## Names and the trigger word
The base has learnt {cast} made-up names, each with a design (`tools/toon_assets/pictures.py`), as real bases know many
characters by name. With the name alone in the prompt {name_alone:.3f} of the design's visible attributes are drawn as
it has them, with a made-up name {name_other:.3f}, with the design described {name_described:.3f}.

`backgwa` was never trained. With it after `1girl`, same noise: agreement with the stand-in's references
{agreement_with:.3f} (without {agreement_without:.3f}, with another made-up word {agreement_other_word:.3f}); mean
change of a tag probability {tag_shift:.4f} (another made-up word {tag_shift_other_word:.4f}); attributes obeyed
{obeyed_with:.3f} (without {obeyed_without:.3f}).

## Tagger (WD v3 format)
{tags} outputs (4 ratings, then `captions.ALL_TAGS` with underscores), 96×96, NHWC BGR 0–255 on a white square, bicubic.
Mean average precision {map:.4f} on unseen renders, over the {tags_measured} tags with at least 5 positives; the same
under {soiled}.
Weakest: {weakest}.

## Identity (CCIP format)
RGB 0–1 with CLIP mean and deviation, plainly resized to 96×96; {features} features: how sure each value of a trait of
the design is seen (hair style and colour, eye colour, ears, headwear, glasses, neck, outfit, their colours, the
accent), all near 0 where the picture hides the trait. Two pictures differ by the share of the traits seen in both that
are not the same (`model_metrics.onnx`). A pair counts as different only where the difference is visible in both
pictures. AUC same against unrelated {auc_random:.4f}, against siblings that differ in one trait {auc_hard:.4f};
threshold {threshold:.4f}. A third of the pictures it learnt from were drawn again by an earlier state of the toon base
from noise of t ≤ 0.5, since it has to read such.
Agreement (1 − difference) of the stand-in's references with each other: {own:.3f}; redrawn with one trait changed:

| changed trait | agreement | same pairs unchanged |
|---|---|---|
{misses}

## Detector (YOLO format)
An Ultralytics export without NMS: RGB 0–1, plainly resized to 96×96; `output0` has x, y, width, height in pixels of the
input and one score a class for each of 288 anchors. `person` is the box of all of the figure's ink, `head` the square
around the skull, without hair, ears and hat. Read at confidence {confidence}, NMS at IoU {nms}:

| {detector_count} pictures | recall at IoU ≥ 0.5 | mean IoU | false boxes a picture |
|---|---|---|---|
{detected}

"Drawn again" are unseen renders that the base drew again from noise of t ≤ 0.5, which keeps all in its place. In
{made_count} pictures that the base drew unaided it finds exactly one person in {one_person:.3f} and one head in
{one_head:.3f}; two of each in {two_person:.3f} and {two_head:.3f} of {pairs_count} pairs of renders side by side;
none in {none_person:.3f} and {none_head:.3f} of {empty_count} empty scenes.

Head height through person height of full figures; the truth is the renderer's, for unaided pictures that of the render
of the same toon:

| pictures | body | n | truth | read | mean error | correlation |
|---|---|---|---|---|---|---|
{ratios}

The ratio tells bodies apart. Within one body it says little: what differs there are hats and ears, by about as much as
the error. It has never seen three persons, one in front of another, or anything but toons.

## Corruption (format of deepghs' classifiers)
RGB, −1…1, plainly resized to 96×96; `output` holds the probabilities of `meta.json`'s labels. Share called corrupted
(above 0.5) and AUC against the whole ones, of {whole_count} unseen renders and {unaided_count} pictures that the base
drew unaided:

| pictures | renders | AUC | base | AUC |
|---|---|---|---|---|
{corrupted}

Whole renders called corrupted, by style: {whole_styles}.
Of 24 pictures of a base really harmed, of which it has seen none, it calls corrupted (matrices are noised by that share
of their own deviation): {broken}.
So weights that fall apart are seen. What is drawn badly but cleanly is not: it
has learnt that what the base draws is whole, a wobbly face too. The faults of the table are
`tools/toon_assets/corruption.py`'s own, and plain.

## How they were made
{made}

Seeds are fixed, but training is timed by the clock, so a rebuild gives like assets and not equal bytes. These files
differ from a plain rebuild in their making: the DiT had six blocks for its first 11,362 steps (rotary base 10000 for
the first 1,128; captions that leave out colours and the everyday style only from step 8,200; learning rate raised again
at step 5,700). Then blocks 3 and 6 were put in as copies whose outputs are zero, the pictures were drawn anew with
accents, and it went on for 6,797 steps of 80 with 0.6 of the learning rate. The cast of named characters and the
syllables of the T5 vocabulary came with the last 10,493 steps (again from 0.5 of the learning rate, stopped at
0.04 of it); the Qwen tokenizer has not seen their names. The VAE's encoder never saw an accent; its decoder and the
tagger went on with them from what they were, the tagger after 1,765 steps with one sigmoid a tag. The VAE's joint phase
saw an earlier state of the renderer (duller pixel art). Tagger, detector and corruption classifier learnt from decoded
pictures of an earlier decoder, in several sittings (the learning rate raised again between them) and beside other
jobs, so longer by the clock than a rebuild. Veils of any colour (`observers.soil`) came with their last sitting, of 20,
7 and 7 minutes; the identity model never saw one.

The base draws like a child: style, framing, background and colours are as asked; faces still wobble, so expression
(aim 0.8) and outfit (aim 0.85) stay below their aims. It is no proof about real anime pictures.
"""


def _made(settings: Settings) -> str:
    names = {
        "vae_joint": "VAE, encoder and decoder",
        "vae_decoder": "decoder alone",
        "base": "DiT and conditioner",
        "tagger": "tagger",
        "identity": "identity model",
        "detector": "detector",
        "corruption": "corruption classifier",
    }
    rows = ["| part | steps | wall min | process CPU min |", "|---|---|---|---|"]
    for name, label in names.items():
        saved = load_checkpoint(settings.work / f"{name}.pt")
        if saved:
            clock = saved["clock"]
            rows.append(
                f"| {label} | {saved['step']} | {clock['wall'] / 60:.0f} |"
                f" {clock['cpu'] / 60:.0f} |"
            )
    return (
        "\n".join(rows)
        + "\n\nTwo shared virtual cores without a GPU, bfloat16 autocast, Muon and AdamW."
    )


def _files(folder: Path) -> str:
    about = {
        "base/transformer": "CosmosTransformer3DModel",
        "base/text_conditioner": "AnimaTextConditioner",
        "base/text_encoder": "Qwen3Model, random and frozen",
        "base/tokenizer": "Qwen2 byte-level BPE",
        "base/t5_tokenizer": "T5 unigram: whole words, syllables, characters",
        "base/vae": "AutoencoderKLQwenImage",
        "base/scheduler": "FlowMatchEulerDiscreteScheduler",
        "tagger": "model.onnx, selected_tags.csv",
        "identity": "model_feat.onnx, model_metrics.onnx, metrics.json",
        "detector": "model.onnx",
        "corruption": "model.onnx, meta.json",
        "grid.png": "examples",
    }
    rows = []
    for name, text in about.items():
        path = folder / name
        parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
        rows.append(f"| `{name}` | {text} | {sum(part.stat().st_size for part in parts):,} |")
    return "\n".join(rows)


def _detector(measured: dict) -> dict[str, object]:
    """What the detector's section says."""
    sources = {"render": "unseen renders", "redrawn": "drawn again", "made": "unaided"}
    detected = [
        f"| {sources[source]}, {name} | {row['recall']:.3f} | {row['iou']:.3f} |"
        f" {row['false']:.3f} |"
        for source in ("render", "redrawn")
        for name, row in ((name, measured[source][name]) for name in NAMES)
    ]
    ratios = [
        f"| {label} | {body} | {row['count']} | {row['truth']:.3f} | {row['read']:.3f} |"
        f" {row['error']:.3f} | {row['correlation']:.2f} |"
        for source, label in sources.items()
        for body, row in measured[f"ratio_{source}"].items()
    ]
    counts = {
        f"{word}_{name}": measured[key][word][name]
        for key, word in (("made", "one"), ("pairs", "two"), ("empty", "none"))
        for name in NAMES
    }
    return {
        "confidence": CONFIDENCE,
        "nms": OVERLAP,
        "detector_count": f"{measured['render']['count']:,} and {measured['redrawn']['count']}",
        "detected": "\n".join(detected),
        "ratios": "\n".join(ratios),
        **counts,
        **{f"{key}_count": measured[key]["count"] for key in ("made", "pairs", "empty")},
    }


def _corruption(measured: dict) -> dict[str, object]:
    """What the corruption classifier's section says."""
    render, unaided = measured["render"], measured["base"]
    rows = [
        f"| whole | {render['whole_called_corrupted']:.3f} | |"
        f" {unaided['whole_called_corrupted']:.3f} | |"
    ]
    for kind, auc in render["auc"].items():
        shares = render["found"][kind], unaided["found"][kind]
        rows.append(
            f"| {kind} | {shares[0]:.3f} | {auc:.4f} | {shares[1]:.3f} |"
            f" {unaided['auc'][kind]:.4f} |"
        )
    rows.append(f"| all faults | | {render['auc_all']:.4f} | | {unaided['auc_all']:.4f} |")
    styles = measured["whole_called_corrupted_by_style"]
    return {
        "whole_count": render["count"],
        "unaided_count": unaided["count"],
        "corrupted": "\n".join(rows),
        "broken": ", ".join(f"{cause} {share:.2f}" for cause, share in measured["broken"].items()),
        "whole_styles": ", ".join(f"{style} {share:.3f}" for style, share in styles.items()),
    }


def write(settings: Settings) -> None:
    """README.md from work/measured.json."""
    result = json.loads((settings.work / "measured.json").read_text())
    rope = json.loads((settings.out / "base" / "transformer" / "config.json").read_text())[
        "rope_scale"
    ]
    standin = result["standin"]
    obeyed = "\n".join(
        "| "
        + " | ".join(
            [
                name,
                *(
                    f"{result[kind].get(name, float('nan')):.3f}"
                    for kind in ("obeyed", "ceiling", "obeyed_tags", "obeyed_sentences")
                ),
            ]
        )
        + " |"
        for name in result["obeyed"]
    )
    misses = "\n".join(
        f"| {key} | {value:.3f} |"
        f" {standin['own where ' + key.partition('=')[0] + ' is visible']:.3f} |"
        for key, value in standin.items()
        if "=" in key
    )
    identity = {key: result["identity"][key] for key in ("auc_random", "auc_hard", "threshold")}
    text = TEXT.format(
        count=result["count"],
        files=_files(settings.out),
        **result["sampler"],
        rope=rope,
        psnr=result["vae_psnr"],
        styles=", ".join(f"{k} {v:.1f}" for k, v in result["vae_psnr_by_style"].items()),
        obeyed=obeyed,
        **result["trigger"],
        **result["names"],
        cast=len(CAST),
        tags=len(OUTPUTS),
        map=result["tagger_map"],
        soiled=", ".join(f"{name} {score:.4f}" for name, score in result["tagger_soiled"].items()),
        tags_measured=result["tags_measured"],
        features=len(COLUMNS),
        **identity,
        own=standin["own"],
        misses=misses,
        **_detector(result["detector"]),
        **_corruption(result["corruption"]),
        made=_made(settings),
        weakest=", ".join(f"{k} {v:.2f}" for k, v in result["tagger_weakest"].items()),
    )
    (settings.out / "README.md").write_text(text)
    total = sum(path.stat().st_size for path in settings.out.rglob("*") if path.is_file())
    log(settings, "readme", f"assets {total / 1e6:.2f} MB")
