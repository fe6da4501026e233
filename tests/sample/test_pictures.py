"""The picture cache: nothing is generated twice, a killed run loses a batch at most, the bytes are
always the same."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from onmodel import checked
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import sha256_file
from onmodel.records import Model
from onmodel.sample.pictures import (
    TABLE,
    PictureRequest,
    Sampling,
    key,
    parameters,
    picture_path,
    png_bytes,
    render,
)
from onmodel.weights import read_metadata, write_weights
from tests.support.drawn_family import DrawnFamily, install, lora
from tests.support.events import Recorded

BASE = "b" * 64
SAMPLING = Sampling(width=32, height=32, batch=4)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    return install(monkeypatch)


def requests(model: Model | None, count: int = 6) -> list[PictureRequest]:
    return [
        PictureRequest("1girl, backgwa, smile", "worst quality", seed, model)
        for seed in range(count)
    ]


def go(
    family: DrawnFamily,
    folder: Path,
    wanted: list[PictureRequest],
    sampling: Sampling = SAMPLING,
    events: Events | None = None,
) -> list[Path]:
    with (events or Events()).task("pictures", total=len(wanted)) as task:
        return render(lambda: family, BASE, wanted, sampling, folder, task)  # type: ignore[arg-type,return-value]


def test_every_picture_is_made_once_and_each_lora_applied_once(
    family: DrawnFamily, tmp_path: Path
) -> None:
    one, two = lora(tmp_path, "one"), lora(tmp_path, "two", yellow=0.3)
    wanted = [
        r for pair in zip(requests(one), requests(None), requests(two), strict=True) for r in pair
    ]
    paths = go(family, tmp_path / "cache", wanted)
    assert len(set(paths)) == 18 == family.drawn and family.applications == 2
    assert go(family, tmp_path / "cache", wanted + wanted[:3]) == paths + paths[:3]
    assert family.drawn == 18


def test_all_prompts_are_encoded_before_the_first_picture(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[str], int]] = []
    monkeypatch.setattr(
        family, "encode_prompts", lambda prompts, _: seen.append((set(prompts), family.drawn))
    )
    model = lora(tmp_path, "one")
    later = [PictureRequest("1girl, backgwa, sleeping", "bad hands", 0, model)]
    wanted = requests(None) + requests(model)
    with Events().task("pictures", total=len(wanted)) as task:
        render(lambda: family, BASE, wanted, SAMPLING, tmp_path, task, later)  # type: ignore[arg-type,return-value]
    first, drawn = seen[0]
    assert drawn == 0
    assert first == {text for one in (*wanted, *later) for text in one.texts}


def test_the_base_is_not_loaded_when_nothing_is_missing(
    family: DrawnFamily, tmp_path: Path
) -> None:
    wanted = requests(None)
    paths = go(family, tmp_path, wanted)
    with Events().task("pictures", total=len(wanted)) as task:
        assert render(None, BASE, wanted, SAMPLING, tmp_path, task) == paths  # type: ignore[arg-type]


def test_the_key_names_everything_that_decides_the_pixels(tmp_path: Path) -> None:
    model = lora(tmp_path, "one")
    request = PictureRequest("a", "b", 1, model)
    changed = [
        dataclasses.replace(request, **c)
        for c in ({"prompt": "c"}, {"negative": "c"}, {"seed": 2}, {"lora": None})
    ]
    samplings = [
        dataclasses.replace(SAMPLING, **c)
        for c in (
            {"steps": 9},
            {"guidance": 1.0},
            {"shift": 1.0},
            {"weight": 0.5},
            {"width": 64},
            {"height": 64},
            {"sampler": "er_sde"},
            {"schedule": "simple"},
            {"empty_text": "comfyui"},
        )
    ]
    keys = {key(BASE, request, SAMPLING), key("c" * 64, request, SAMPLING)}
    keys |= {key(BASE, r, SAMPLING) for r in changed} | {key(BASE, request, s) for s in samplings}
    assert len(keys) == 2 + len(changed) + len(samplings)
    assert key(BASE, request, dataclasses.replace(SAMPLING, batch=1)) == key(
        BASE, request, SAMPLING
    )
    elsewhere = dataclasses.replace(
        request, lora=dataclasses.replace(model, name="other", path=Path("/moved"), epoch=3)
    )
    assert key(BASE, elsewhere, SAMPLING) == key(BASE, request, SAMPLING)
    alone = dataclasses.replace(request, lora=None)
    assert key(BASE, alone, dataclasses.replace(SAMPLING, weight=0.5)) == key(BASE, alone, SAMPLING)


@pytest.mark.parametrize("killed_at", [0, 3, 5, 9, 11])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    family: DrawnFamily, tmp_path: Path, killed_at: int
) -> None:
    model = lora(tmp_path, "one", yellow=0.2)
    wanted = requests(None) + requests(model)
    whole = [sha256_file(path) for path in go(family, tmp_path / "whole", wanted)]
    family.drawn, family.stop_after = 0, killed_at
    with pytest.raises(KeyboardInterrupt):
        go(family, tmp_path / "killed", wanted)
    family.faults, family.stop_after = None, None
    assert [sha256_file(path) for path in go(family, tmp_path / "killed", wanted)] == whole
    assert family.drawn <= len(wanted) + SAMPLING.batch - 1
    assert not list((tmp_path / "killed").rglob(".onmodel-*"))


def test_what_shares_a_batch_does_not_depend_on_the_cache(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    draw = __import__("onmodel.sample.sampler", fromlist=["generate"]).generate

    def watched(family, jobs, sampling):  # type: ignore[no-untyped-def]
        seen.append([job.seed for job in jobs])
        return draw(family, jobs, sampling)

    monkeypatch.setattr("onmodel.sample.sampler.generate", watched)
    go(family, tmp_path, requests(None, 8))
    picture_path(tmp_path, key(BASE, requests(None)[5], SAMPLING)).unlink()
    go(family, tmp_path, requests(None, 8))
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]


def test_another_number_of_threads_is_another_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of floats depend on it."""
    names = []
    for threads in (1, 2):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        names.append(key(BASE, requests(None)[0], SAMPLING))
    assert names[0] != names[1]


def test_leftovers_of_a_killed_write_are_swept(family: DrawnFamily, tmp_path: Path) -> None:
    path = picture_path(tmp_path, key(BASE, requests(None)[0], SAMPLING))
    path.parent.mkdir(parents=True)
    (path.parent / ".onmodel-torn").write_bytes(b"half")
    go(family, tmp_path, requests(None))
    assert not list(tmp_path.rglob(".onmodel-*"))


def test_parameters_are_readable_by_the_usual_tools(family: DrawnFamily, tmp_path: Path) -> None:
    model = lora(tmp_path, "one")
    for wanted in (requests(model)[0], requests(None)[0]):
        (path,) = go(family, tmp_path, [wanted])
        with Image.open(path) as image:
            text = image.info["parameters"]
        prompt, negative, settings = text.split("\n")
        assert prompt == "1girl, backgwa, smile" and negative == "Negative prompt: worst quality"
        assert "Steps: 16, Sampler: Euler" in settings and "Seed: 0, Size: 32x32" in settings
        assert (f'Lora hashes: "{model.weights[:12]}: {model.weights[:12]}"' in settings) == (
            wanted.lora is not None
        )


def test_parameters_name_an_empty_text_that_is_not_the_default() -> None:
    request = PictureRequest("1girl", "", 1)
    comfyui = dataclasses.replace(SAMPLING, empty_text="comfyui")
    assert "Empty text: comfyui" in parameters(BASE, request, comfyui)
    assert "Empty text" not in parameters(BASE, request, SAMPLING)


def test_png_bytes_are_a_function_of_pixels_and_text() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    assert png_bytes(image, "a") == png_bytes(image.copy(), "a") != png_bytes(image, "b")


def flip(path: Path) -> None:
    """One byte of the pixels; size and time stay."""
    facts, data = path.stat(), path.read_bytes()
    place = len(data) - 30
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def swap(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path)


@pytest.mark.parametrize("damage", [cut, swap, lambda path: path.write_bytes(b"")])
def test_a_damaged_picture_of_the_cache_is_made_again_with_a_note(
    damage: Callable[[Path], object],
    family: DrawnFamily,
    tmp_path: Path,
) -> None:
    told = Recorded()
    paths = go(family, tmp_path, requests(None))
    whole = [sha256_file(path) for path in paths]
    linked = tmp_path / "linked.png"
    os.link(paths[2], linked)
    damage(paths[2])
    assert go(family, tmp_path, requests(None), events=told) == paths
    assert [sha256_file(path) for path in paths] == whole and family.drawn == 6 + SAMPLING.batch
    assert told.text == f"  {paths[2]} is damaged; it is made again\n"
    go(family, tmp_path, requests(None), events=told)
    assert family.drawn == 6 + SAMPLING.batch and told.text.count("made again") == 1
    assert linked.exists()  # an object may hold it; that is for the object's own check


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")])
def test_pictures_without_a_record_are_kept_if_their_own_checksums_fit(
    damage: Callable[[Path], object], family: DrawnFamily, tmp_path: Path
) -> None:
    paths = go(family, tmp_path, requests(None))
    whole = [sha256_file(path) for path in paths]
    for table in tmp_path.rglob(TABLE):
        table.unlink()
    go(family, tmp_path, requests(None))
    assert family.drawn == 6 and list(tmp_path.rglob(TABLE))
    for table in tmp_path.rglob(TABLE):
        table.unlink()
    damage(paths[5])
    go(family, tmp_path, requests(None))
    assert [sha256_file(path) for path in paths] == whole and family.drawn == 6 + 2


@pytest.mark.parametrize(
    "line", [b"{", b"[]\n", b"\xff\n", b'{"file": []}\n', b"[" * 100_000 + b"\n", b"7\n"]
)
def test_a_damaged_record_costs_nothing_but_time(
    line: bytes, family: DrawnFamily, tmp_path: Path
) -> None:
    paths = go(family, tmp_path, requests(None))
    for path in paths:
        (path.parent / TABLE).write_bytes(line)
    go(family, tmp_path, requests(None))
    assert family.drawn == 6
    swap(paths[0])
    go(family, tmp_path, requests(None))
    assert family.drawn == 6 + SAMPLING.batch


def test_whole_pictures_are_not_read_again(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = go(family, tmp_path / "one", requests(None))
    shutil.copytree(tmp_path / "one", tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setattr(checked, "sha256_file", None)
    assert go(family, tmp_path / "one", requests(None)) == paths
    monkeypatch.undo()
    install(monkeypatch)
    go(family, tmp_path / "copy", requests(None))
    monkeypatch.setattr(checked, "sha256_file", None)
    go(family, tmp_path / "copy", requests(None))


def test_words_of_the_header_change_no_picture(family: DrawnFamily, tmp_path: Path) -> None:
    model = lora(tmp_path / "a", "one", yellow=0.3)
    wanted = requests(model)
    before = [path.read_bytes() for path in go(family, tmp_path / "before", wanted)]
    told = tmp_path / "told.safetensors"
    write_weights(told, load_file(model.path), read_metadata(model.path) | {"code": "10"})
    other = Model.of("one", told)
    assert other.sha256 != model.sha256 and other.weights == model.weights
    again = [dataclasses.replace(request, lora=other) for request in wanted]
    assert [path.read_bytes() for path in go(family, tmp_path / "after", again)] == before
    keys = {key(BASE, request, SAMPLING) for request in wanted}
    assert {key(BASE, request, SAMPLING) for request in again} == keys


def test_other_tensors_are_another_model(tmp_path: Path) -> None:
    one = lora(tmp_path, "one")
    tensors = load_file(one.path)
    write_weights(tmp_path / "two.safetensors", {"faults": tensors["faults"] + 1}, {})
    write_weights(tmp_path / "three.safetensors", {"other": tensors["faults"]}, {})
    others = {Model.of(name, tmp_path / f"{name}.safetensors").weights for name in ("two", "three")}
    assert len(others | {one.weights}) == 3


def test_a_prompt_that_is_read_otherwise_than_before_has_another_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)

    def text_of(prompt: str, negative: str = "") -> str:
        return key(BASE, PictureRequest(prompt, negative, 1), SAMPLING)

    # The key of a plain prompt is that of version 0.2.0: cached pictures stay usable.
    plain = "6ef06af9942ad90aec21962cece40d3715a2e6b327747da714c2ea3ffae37a78"
    assert text_of("1girl") == plain
    assert len({text_of("1girl"), text_of("(1girl)"), text_of("a" * 600)}) == 3


@pytest.mark.parametrize("field", ["prompt", "negative"])
def test_a_weight_that_is_no_number_is_refused_before_anything_is_made(
    family: DrawnFamily, tmp_path: Path, field: str
) -> None:
    good = requests(None, 1)[0]
    with pytest.raises(InputError, match=f"{field}.*write a number such as 1.3"):
        go(family, tmp_path, [good, dataclasses.replace(good, **{field: "(1girl:nan)"})])
    assert family.drawn == 0
