"""`onmodel base get`, a process of its own against a local stand-in of the hub. The real
repositories were not reached."""

import hashlib
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.families.published import RECORD, published_bases
from onmodel.families.registry import licence_rows
from tests.support.command_line import onmodel
from tests.support.hub import REVISION, Hub, running

DIT = "split/anima-base-v1.0.safetensors"
FILES = {
    DIT: bytes(range(256)) * 40,
    "split/qwen_3_06b_base.safetensors": b"encoder" * 100,
    "split/qwen_image_vae.safetensors": b"vae" * 100,
    "tokenizer/vocab.json": b'{"a": 1}',
    "t5_tokenizer/tokenizer.json": b'{"b": 1}',
    "transformer/config.json": b"{ }",
    "transformer/model.safetensors": b"transformer",
    "text_conditioner/config.json": b"{  }",
    "text_encoder/config.json": b"{   }",
    "vae/config.json": b"{}",
    "LICENSE.md": b"words",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        hub.files |= FILES
        for name in ("circlestone-labs/Anima", "circlestone-labs/Anima-Base-v1.0-Diffusers"):
            hub.repositories[name] = {}
        yield hub


def get(
    hub: Hub, home: Path, *words: object, address: str = ""
) -> "subprocess.CompletedProcess[str]":
    return onmodel(
        *("base", "get", *words),
        HF_ENDPOINT=address or hub.address,
        HF_TOKEN=hub.token,
        HF_HOME=str(home / "hf"),
        HF_HUB_DISABLE_XET="1",
        NO_PROXY="127.0.0.1",
    )


def downloads(hub: Hub) -> list[str]:
    return [row for row in hub.requests if row.startswith("GET ") and "/resolve/" in row]


@pytest.mark.parametrize("name", ["../../escaped.txt", "a/../../escaped.txt", "C:\\x.txt"])
def test_a_listing_cannot_lead_out_of_the_folder(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.files[f"tokenizer/{name}"] = b"x"
    into = tmp_path / "a" / "b"
    run = get(hub, tmp_path, "anima", "--into", into, "--accept-licence")
    assert run.returncode == 2 and run.stderr.startswith("onmodel: base: ")
    assert not list(tmp_path.rglob("*escaped*")) and not into.exists()


@pytest.mark.parametrize("text", ["[1]", "no json", '{"licence": "x"}'])
def test_a_damaged_record_is_written_again(hub: Hub, tmp_path: Path, text: str) -> None:
    into = tmp_path / "base"
    into.mkdir()
    (into / RECORD).write_text(text)
    assert get(hub, tmp_path, "anima", "--into", into).returncode == 2  # not accepted
    assert get(hub, tmp_path, "anima", "--into", into, "--accept-licence").returncode == 0
    assert json.loads((into / RECORD).read_text())["base"] == "anima"


def test_single_files_come_where_comfyui_reads_them_with_the_line_for_a_recipe(
    hub: Hub, tmp_path: Path
) -> None:
    into = tmp_path / "a folder"
    run = get(hub, tmp_path, "anima", "--into", into, "--accept-licence")
    assert run.returncode == 0, run.stderr
    base = tomllib.loads(run.stdout)["base"]
    assert Path(base["dit"]) == into / "models/diffusion_models/anima-base-v1.0.safetensors"
    assert Path(base["dit"]).read_bytes() == FILES[DIT]
    assert (Path(base["tokenizers"]) / "t5_tokenizer/tokenizer.json").is_file()
    assert set(base) == {"dit", "text_encoder", "vae", "tokenizers"}
    assert "CircleStone Labs Non-Commercial License" in run.stderr
    record = json.loads((into / RECORD).read_text())
    assert record["licence"] == "circlestone-labs-non-commercial-license"
    (dit,) = [row for row in record["files"] if row["file"] == DIT]
    assert dit["sha256"] == hashlib.sha256(FILES[DIT]).hexdigest()
    assert dit["checked_against"] == "the hub" and dit["revision"] == REVISION
    assert not list(into.rglob("*.partial"))


def test_the_cache_is_the_hubs_own_and_a_second_run_downloads_nothing(
    hub: Hub, tmp_path: Path
) -> None:
    first = get(hub, tmp_path, "anima-diffusers", "--accept-licence")
    assert first.returncode == 0, first.stderr
    folder = Path(tomllib.loads(first.stdout)["base"]["folder"])
    assert folder.name == REVISION and folder.is_relative_to(tmp_path / "hf" / "hub")
    assert (folder / "transformer/model.safetensors").read_bytes() == b"transformer"
    count = len(downloads(hub))
    second = get(hub, tmp_path, "anima-diffusers")  # the licence was accepted
    assert second.stdout == first.stdout, second.stderr
    assert len(downloads(hub)) == count == 7


def test_a_half_download_continues(hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / "models/diffusion_models/anima-base-v1.0.safetensors.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(FILES[DIT][:3000])
    run = get(hub, tmp_path, "anima", "--into", tmp_path, "--accept-licence")
    assert run.returncode == 0, run.stderr
    assert hub.ranges == [f"{DIT} bytes=3000-"]
    assert partial.with_suffix("").read_bytes() == FILES[DIT]


def test_a_file_with_a_wrong_hash_is_named_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.hashes[DIT] = "0" * 64
    run = get(hub, tmp_path, "anima", "--into", tmp_path, "--accept-licence")
    assert run.returncode == 1
    assert DIT in run.stderr and "0" * 64 in run.stderr and "it was removed" in run.stderr
    assert not list(tmp_path.rglob("anima-base*"))


def test_a_file_of_the_user_that_differs_is_named_and_kept(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "models/vae/qwen_image_vae.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"another")
    run = get(hub, tmp_path, "anima", "--into", tmp_path, "--accept-licence")
    assert run.returncode == 1 and f"move {target} away" in run.stderr
    assert target.read_bytes() == b"another"


def test_without_acceptance_nothing_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    run = get(hub, tmp_path, "anima", "--into", tmp_path)
    assert run.returncode == 2
    assert "LICENSE.md, then add --accept-licence" in run.stderr
    assert downloads(hub) == [] and not (tmp_path / RECORD).exists()


def test_a_dry_run_lists_files_and_sizes(hub: Hub, tmp_path: Path) -> None:
    hub.sizes[DIT] = 4_180_000_000
    run = get(hub, tmp_path, "anima", "--into", tmp_path, "--dry-run")
    assert run.returncode == 0, run.stderr
    assert f"4,180.0 MB  circlestone-labs/Anima  {DIT}" in run.stdout
    assert "4.18 GB to download" in run.stdout
    assert downloads(hub) == [] and list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_the_first_byte(hub: Hub, tmp_path: Path) -> None:
    hub.sizes[DIT] = 10**18
    run = get(hub, tmp_path, "anima", "--into", tmp_path, "--accept-licence")
    assert run.returncode == 1
    assert "do not fit on the disk — free some room" in run.stderr
    assert downloads(hub) == []


def test_no_network_is_one_line_with_a_remedy(hub: Hub, tmp_path: Path) -> None:
    run = get(hub, tmp_path, "anima", "--dry-run", address="http://127.0.0.1:9")
    assert run.returncode == 2
    (line,) = [row for row in run.stderr.splitlines() if row]
    assert "run the command again" in line


def test_a_repository_without_a_file_and_an_unknown_name_are_refused(
    hub: Hub, tmp_path: Path
) -> None:
    del hub.files[DIT]
    run = get(hub, tmp_path, "anima", "--dry-run")
    assert run.returncode == 2 and "has no anima-base-v1.0.safetensors" in run.stderr
    run = get(hub, tmp_path, "anime", "--dry-run")
    assert run.returncode == 2 and "known: anima, anima-diffusers" in run.stderr


def test_every_published_base_has_a_licence_and_no_invented_hash() -> None:
    for base in published_bases().values():
        assert base.licence in licence_rows()
        assert all(row.sha256 == "" or len(row.sha256) == 64 for row in base.files)
