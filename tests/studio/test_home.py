"""New characters: from folders of this machine, on a ComfyUI base, and the demo."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.recipe import load_recipe
from onmodel.studio import home
from onmodel.studio.roots import folder_of, folders
from onmodel.studio.training_set import use_dataset
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.studio import Browser, serving
from tests.support.toon_pictures import toon_picture, write_pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders of a machine: pictures, a ComfyUI, a hidden folder, and a link that leads out."""
    made = tmp_path / "root"
    for name in ("art/momo", "tools/ComfyUI/models/diffusion_models", ".hidden", "empty"):
        (made / name).mkdir(parents=True)
    write_pictures(made / "art" / "momo", 10)
    write_pictures(made / ".hidden", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    write_pictures(outside, 1)
    (made / "link").symlink_to(outside)
    (made / "art" / "momo" / "secret.txt").symlink_to(outside / "0.txt")
    return made


@pytest.fixture
def browser(tmp_path: Path, root: Path) -> Iterator[Browser]:
    (tmp_path / "workspace").mkdir()
    with serving(tmp_path / "workspace", (root,)) as browser:
        yield browser


def test_folders_below_a_root_are_found_by_what_they_hold(root: Path) -> None:
    found = {row.name: (row.comfyui, row.pictures) for row in folders([root])}
    assert found == {"root/art/momo": (False, True), "root/tools/ComfyUI": (True, False)}
    assert folders([]) == []


def test_no_other_folder_has_an_id(root: Path) -> None:
    for wrong in ("", "0" * 12, str(root), "../outside"):
        with pytest.raises(InputError, match="not below a --root"):
            folder_of([root], wrong, "base")


def test_a_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--root: .* is not a folder"):
        open_workspace(tmp_path, [tmp_path / "none"])


def test_a_character_is_made_from_folders_of_the_machine(browser: Browser, root: Path) -> None:
    page = browser.get("/").text
    assert str(root) not in page and "root/art/momo</option>" in page
    pictures, comfyui = (row.id for row in folders([root]))
    id = browser.form("/new", ("name", "momo")).json()["character"]
    fields = (("trigger", "momochar"), ("source", pictures), ("base", comfyui))
    assert browser.form(f"/new/{id}/finish", *fields).status == 200
    folder = root.parent / "workspace" / "momo"
    assert sum(path.suffix == ".png" for path in (folder / "pictures").iterdir()) == 10
    assert not (folder / "pictures" / "secret.txt").exists()
    assert f'comfyui = "{root}/tools/ComfyUI"' in (folder / "recipe.toml").read_text()


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("toon-sdxl", 'base = "toon-sdxl"'),
        ("{comfyui}:sdxl", 'family = "sdxl"'),
        ("{comfyui}:anima", "/tools/ComfyUI"),
    ],
)
def test_every_family_has_its_bases(browser: Browser, root: Path, base: str, line: str) -> None:
    pictures, comfyui = (row.id for row in folders([root]))
    base = base.format(comfyui=comfyui)
    assert f'<option value="{base}">' in browser.get("/").text
    id = browser.form("/new", ("name", "momo")).json()["character"]
    fields = (("trigger", "momochar"), ("source", pictures), ("base", base))
    assert browser.form(f"/new/{id}/finish", *fields).status == 200
    assert line in (root.parent / "workspace" / "momo" / "recipe.toml").read_text()


def test_a_copied_folder_never_overwrites_what_was_dropped(browser: Browser, root: Path) -> None:
    pictures = next(row.id for row in folders([root]) if row.pictures)
    id = browser.form("/new", ("name", "momo")).json()["character"]
    dropped = toon_picture(5)[0]
    assert browser.upload(f"/upload/{id}", "3.png", dropped).status == 200
    fields = (("trigger", "momochar"), ("source", pictures))
    answer = browser.form(f"/new/{id}/finish", *fields)
    assert answer.status == 422 and answer.json()["error"].startswith("source: 3.png — ")
    folder = root.parent / "workspace" / "momo" / "pictures"
    assert [path.name for path in folder.iterdir()] == ["3.png"]
    assert (folder / "3.png").read_bytes() == dropped
    (folder / "3.png").write_bytes((root / "art" / "momo" / "3.png").read_bytes())
    assert browser.form(f"/new/{id}/finish", *fields).status == 200  # the same file is no loss


def zipped(names: list[str]) -> bytes:
    """A zip of pictures with these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, toon_picture(i)[0])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "subset"),
    [
        ([f"{i}.png" for i in range(10)], "more"),
        ([f"art/{i}.png" for i in range(10)], "art"),
        ([f"art/{i}.png" for i in range(10)] + ["few/0.png"], "art"),
        ([f"momo/{kind}/{i}.png" for kind in ("masks", "work") for i in range(10)], "work"),
    ],
)
def test_a_zip_of_folders_is_trained_on(
    browser: Browser, tmp_path: Path, names: list[str], subset: str
) -> None:
    id = browser.form("/new", ("name", "momo")).json()["character"]
    assert browser.upload(f"/upload/{id}", "more.zip", zipped(names)).status == 200
    made = browser.form(f"/new/{id}/finish", ("trigger", "momochar"))
    assert made.status == 200, made.text
    assert browser.post(f"/c/{id}/data/import").status == 200
    found = browser.get(f"/c/{id}/data/rows?q=subset:{subset}").json()
    assert found["total"] == 10
    folder = tmp_path / "workspace" / "momo"
    assert use_dataset(CharacterFolder(id, "momo", folder))
    assert f'/{subset}"' in (folder / "recipe.toml").read_text()


def test_a_folder_that_is_not_offered_is_refused(browser: Browser, root: Path) -> None:
    id = browser.form("/new", ("name", "momo")).json()["character"]
    for field in ("source", "base"):
        fields = (("trigger", "momochar"), (field, str(root.parent / "outside")))
        answer = browser.form(f"/new/{id}/finish", *fields)
        assert answer.status == 422 and answer.json()["error"].startswith(f"{field}: ")


def test_the_demo_is_one_click(browser: Browser, tmp_path: Path) -> None:
    assert "Try the demo" in browser.get("/").text
    answer = browser.form("/demo")
    assert answer.headers["hx-redirect"].endswith("/run")
    assert load_recipe(tmp_path / "workspace" / "demo" / "recipe.toml").name == "backgwa-demo"
    assert browser.get(answer.headers["hx-redirect"]).status == 200
    assert browser.form("/demo").status == 422  # it is there


def test_an_installation_without_recipes_offers_no_demo(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "DEMO", tmp_path / "none.toml")
    assert "Try the demo" not in browser.get("/").text
    assert browser.form("/demo").status == 422
