"""Look over a LoRA file or a folder that is to be published, our own or another's, and say what is
wrong with it.

Each finding is one line: severity, place, what, remedy. An error breaks something, hides something
or tells what is not so; a warning costs users something. What cannot be known from the files
(quality, rights in the pictures) is not judged, and nothing is changed. The weights are checked by
weight_checks.py.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from onmodel.errors import InputError, VerifyError
from onmodel.events import Finding
from onmodel.families.licences import Licence
from onmodel.lora.author_paths import author_paths
from onmodel.policy import check_text
from onmodel.reading import LARGEST_TEXT, open_regular, parse_yaml_in, read_json_of_others
from onmodel.release.folder import CHECKSUMS, LINEAGE, SIDE_FILES
from onmodel.release.licences import base_on_hub, licence_declared, licence_in
from onmodel.release.tables import NUMBER
from onmodel.release.verify import lint_release, verify
from onmodel.release.weight_checks import check_weights, error, warning

PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
TEXTS = {".md", ".txt", ".json", ".csv", ".toml", ".yaml", ".yml", ".info", ".html", ""}
_MEASURED = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]|\d+(?:\.\d+)? ?%")

FrontMatter = dict[str, Any]  # of a model card: anyone may have written it


def check(path: Path) -> list[Finding]:
    """Everything that is wrong with a file or a folder, errors first. Raises InputError when it is
    neither."""
    if os.path.isdir(path):  # which raises nothing, whatever the name
        found = list(_folder(path))
    elif path.suffix in PICKLES:
        found = [_pickle(path.name)]
    elif os.path.isfile(path):
        found = [*check_weights(path), *_trigger_of_a_file(path)]
    else:
        raise InputError("path", path, "name a release folder or a .safetensors file")
    return sorted(found, key=lambda row: row.status)


def _folder(folder: Path) -> Iterator[Finding]:
    files = sorted(
        path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in SIDE_FILES
    )
    files = [path for path in files if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    if not weights:
        yield error(folder.name, "holds no .safetensors file", "put the LoRA there")
    for path in files:
        if path.suffix in PICKLES:
            yield _pickle(path.relative_to(folder).as_posix())
        if path.suffix in TEXTS:
            yield from _paths_in(path, path.relative_to(folder).as_posix())
    for path in weights:
        yield from check_weights(path)
    card = yield from _card(folder)
    yield from _licences(folder, card, weights)
    yield from _pictures(folder, [path for path in files if path.suffix.lower() in PICTURES])
    yield from _triggers(folder, card)
    if (folder / LINEAGE).exists() or (folder / CHECKSUMS).exists():
        yield from _own(folder)
    else:
        yield from _numbers_without_tables(folder, files)


def _paths_in(path: Path, name: str) -> Iterator[Finding]:
    if path.stat().st_size > LARGEST_TEXT:
        yield error(
            name,
            f"has over {LARGEST_TEXT // 2**20} MiB of text, which is not looked at whole",
            "split it",
        )
    for word in author_paths(_text(path)):
        yield error(name, f"names a folder of a machine ({word})", "take it out")


def _text(path: Path) -> str:
    with open_regular(path, "file") as file:
        return file.read(LARGEST_TEXT).decode("utf-8", errors="replace")


def _pickle(name: str) -> Finding:
    return error(
        name, "is a pickle: loading it can run a stranger's code", "publish safetensors only"
    )


def _trigger_of_a_file(path: Path) -> Iterator[Finding]:
    from onmodel.weights import read_metadata

    try:
        words = read_metadata(path)
    except InputError:
        return  # said already
    if not words.get("modelspec.trigger_phrase") and not words.get("ss_tag_frequency"):
        yield warning(
            path.name,
            "names no trigger word",
            "write modelspec.trigger_phrase, or publish it with a card",
        )


def _card(folder: Path) -> Generator[Finding, None, FrontMatter]:
    """Findings of README.md; returns its front matter."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    path = folder / "README.md"
    if not path.exists():
        yield error(
            "README.md",
            "is missing",
            "write a model card with base_model, license and the trigger word",
        )
        return {}
    text = _text(path)
    try:
        if block := REGEX_YAML_BLOCK.search(text):
            parse_yaml_in(block[2], path, "file")  # bounds that the hub's own reader lacks
        data: FrontMatter = ModelCard(text).data.to_dict()
    except (InputError, ValueError, TypeError, yaml.YAMLError) as problem:
        said = problem.remedy if isinstance(problem, InputError) else str(problem)
        reason = said.splitlines()[0]
        yield error(
            "README.md", f"its front matter is not YAML that the hub reads ({reason})", "correct it"
        )
        return {}
    wanted = {
        "base_model": "the hub id of the base",
        "base_model_relation": "adapter",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "instance_prompt": "the trigger words",
    }
    for key, value in wanted.items():
        if not data.get(key):
            severity = error if key == "base_model" else warning
            yield severity("README.md", f"lacks {key}", f"write {key}: {value}")
    if data.get("base_model") and data.get("base_model_relation", "adapter") != "adapter":
        yield error(
            "README.md",
            f"calls a LoRA {data['base_model_relation']!r}",
            "write base_model_relation: adapter",
        )
    if data.get("license") == "other" and not (
        data.get("license_name") and data.get("license_link")
    ):
        yield error(
            "README.md", "license: other without license_name and license_link", "write both"
        )
    if "lora" not in [str(tag).casefold() for tag in data.get("tags") or []]:
        yield warning(
            "README.md", "lacks the tag lora", "add it, or the hub does not list it as one"
        )
    for sample in data.get("widget") or []:
        url = (sample.get("output") or {}).get("url", "") if isinstance(sample, Mapping) else ""
        if not url:
            yield warning("README.md", "a widget has no output.url", "name the sample picture")
        elif "://" not in url and not (folder / url).is_file():
            yield error(
                "README.md", f"its widget shows {url}, which is not there", "correct the path"
            )
    return data


def _licences(folder: Path, card: FrontMatter, weights: list[Path]) -> Iterator[Finding]:
    """Check that every licence named in the folder is the base's, and that its conditions are
    met."""
    from onmodel.weights import read_metadata

    said: dict[str, Licence] = {}
    if card and not card.get("license"):
        yield error("README.md", "names no license", "write the one of the base")
    name = str(card.get("license_name") or card.get("license") or "")
    if named := licence_declared(name):
        said["README.md"] = named
    text_file = next((path for path in sorted(folder.glob("LICENSE*")) if path.is_file()), None)
    text = _text(text_file) if text_file else ""
    if text_file and (held := licence_in(text)):
        said[text_file.name] = held
    for path in weights:
        try:
            declared = read_metadata(path).get("modelspec.license", "")
        except InputError:
            continue  # said already
        if found := licence_declared(declared):
            said[path.name] = found

    models = card.get("base_model") or []
    bases = [
        (model, base_on_hub(model)) for model in ([models] if isinstance(models, str) else models)
    ]
    for model, base in bases:
        if base is None:
            yield warning(
                "README.md",
                f"{model} is not a base whose licence is known here",
                "compare the licence by hand",
            )
            continue
        for where, licence in said.items():
            if licence.marks != base.licence.marks:
                remedy = f"{model} is under {base.licence.title}: {base.licence.link}"
                yield error(where, f"says {licence.title}", remedy)
        if name and "README.md" not in said:
            yield error(
                "README.md",
                f"says the licence is {name!r}",
                f"{model} is under {base.licence.title}",
            )
        if "text" in base.licence.demands and (not text_file or licence_in(text) is None):
            yield error(
                "LICENSE",
                f"lacks the text of the {base.licence.title}",
                f"add it: {base.licence.link}",
            )
        notice = folder / "NOTICE"
        kept = " ".join(_text(notice).split()) if notice.is_file() else ""
        if not all(" ".join(words.split()) in kept for words in base.notice):
            yield error(
                "NOTICE", f"lacks notices that the {base.licence.title} asks to be kept", "add them"
            )
    if not any(base for _, base in bases) and len({licence.marks for licence in said.values()}) > 1:
        told = ", ".join(f"{where} says {licence.title}" for where, licence in said.items())
        yield error(
            folder.name, f"contradicts itself: {told}", "name the base's licence everywhere"
        )


def _pictures(folder: Path, pictures: list[Path]) -> Iterator[Finding]:
    silent = []
    for path in pictures:
        name = path.relative_to(folder).as_posix()
        try:
            with Image.open(path) as image:
                text = str(image.info.get("parameters", "")) or str(
                    image.getexif().get_ifd(0x8769).get(0x9286, "")
                )
                workflow = "workflow" in image.info or "prompt" in image.info  # ComfyUI's own
        except OSError:
            yield error(name, "is not a picture that can be opened", "make it again")
            continue
        if not text and not workflow:
            silent.append(name)
        for word in author_paths(text):
            yield error(name, f"names a folder of a machine ({word})", "save it without")
        yield from _allowed(name, text.partition("\nNegative prompt:")[0])
    if silent:
        yield warning(
            silent[0],
            (
                f"and {len(silent) - 1} more have no parameters: their settings are unknown"
                if len(silent) > 1
                else "has no parameters: its settings are unknown"
            ),
            "save samples with their prompt and seed",
        )


def _triggers(folder: Path, card: FrontMatter) -> Iterator[Finding]:
    explicit = "not-for-all-audiences" in [str(tag).casefold() for tag in card.get("tags") or []]
    rating = ", nsfw" if explicit else ""
    if card.get("instance_prompt"):
        yield from _allowed("README.md", f"{card['instance_prompt']}{rating}")
    for sample in card.get("widget") or []:
        yield from _allowed(
            "README.md", str(sample.get("text", "")) if isinstance(sample, Mapping) else ""
        )
    path = folder / "triggers.json"
    if not path.exists():
        return
    try:
        for row in read_json_of_others(path, "file"):
            yield from _allowed(path.name, f"{row['label']}, {row['text']}{rating}")
            if not (folder / row["sample"]).is_file():
                yield error(
                    path.name,
                    f"{row['id']} shows {row['sample']}, which is not there",
                    "correct the path",
                )
    except (InputError, LookupError, TypeError, AttributeError):
        yield error(
            path.name,
            "is not a list of trigger sets",
            "write id, label, text, negative, weight, sample for each",
        )


def _allowed(where: str, text: str) -> Iterator[Finding]:
    try:
        check_text(text, where)
    except InputError as problem:
        yield error(where, str(problem.value), problem.remedy)


def _own(folder: Path) -> Iterator[Finding]:
    """A release that onmodel made: every hash, and the card against the tables that lie beside
    it."""
    problems: dict[tuple[str, str], None] = {}
    for look in (verify, lint_release):
        try:
            look(folder)
        except VerifyError as problem:
            problems[problem.node, problem.what] = None
    for node, what in problems:
        yield error(node, what, "build the release again from its recipe")


def _numbers_without_tables(folder: Path, files: list[Path]) -> Iterator[Finding]:
    """Numbers of another's card that look measured and that no table beside it holds."""
    card = folder / "README.md"
    if not card.exists():
        return
    tables = " ".join(_text(path) for path in files if path.suffix in (".csv", ".json"))
    text = re.sub(r"^---\n.*?\n---\n|```.*?```", "", _text(card), flags=re.S)
    alone = [
        number for number in _MEASURED.findall(text) if number.split()[0].rstrip("%") not in tables
    ]
    if alone:
        yield warning(
            "README.md",
            f"{len(alone)} numbers look measured ({alone[0]}) and stand in no table beside it",
            "publish the table, or leave them out",
        )
