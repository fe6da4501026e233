"""The licence of a release is its base's: every row is whole, and what conflicts or lacks stops the
release."""

from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.families.anima.licences import CIRCLESTONE
from onmodel.families.licences import FAIPL, MIT, OPENRAIL_PP
from onmodel.release.licences import (
    BASES,
    DEMANDS,
    LICENCES,
    base_of,
    base_on_hub,
    licence_declared,
    licence_in,
    licence_page,
    licence_text,
    notice_text,
)

ANIMA = BASES["anima"]


def text_of(*marks: str) -> str:
    """Not the licence's text: a page that holds the words by which it is known."""
    return "\n\n".join(["Heading", *marks, "…"])


@pytest.mark.parametrize("licence", LICENCES, ids=lambda row: row.title)
def test_every_row_is_whole(licence: object) -> None:
    row = LICENCES[LICENCES.index(licence)]  # type: ignore[arg-type]
    assert (
        row.link.startswith("https://")
        and row.marks
        and row.hub_id in ("mit", "other", "openrail++")
    )
    assert set(row.demands) <= set(DEMANDS) and "text" in row.demands
    assert all(word == word.casefold() for word in row.declared)
    assert licence_declared(row.declared[0].upper()).marks == row.marks  # type: ignore[union-attr]


def test_the_sheets_licence_must_be_the_bases() -> None:
    assert base_of("anima", "circlestone-labs-non-commercial-license").licence is CIRCLESTONE
    assert base_of("toon", "MIT (toon world)").licence is MIT
    for base, declared in (
        ("anima", "MIT"),
        ("toon", "apache-2.0"),
        ("anima", ""),
        ("flux", "MIT"),
    ):
        with pytest.raises(InputError, match=r"license|licence"):
            base_of(base, declared)


@pytest.mark.parametrize(
    ("model", "licence"),
    [
        ("circlestone-labs/Anima", CIRCLESTONE),
        ("stabilityai/stable-diffusion-xl-base-1.0", OPENRAIL_PP),
        ("OnomaAIResearch/Illustrious-xl-early-release-v0", FAIPL),
        ("laxhar/noobai-xl-vpred-1.0", BASES["noobai"].licence),
        ("cagliostrolab/animagine-xl-3.1", FAIPL),
        ("cagliostrolab/animagine-xl-4.0-opt", OPENRAIL_PP),
    ],
)
def test_bases_are_found_by_their_hub_ids(model: str, licence: object) -> None:
    base = base_on_hub(model)
    assert base is not None and base.licence is licence


def test_an_unknown_base_has_no_default() -> None:
    assert base_on_hub("someone/some-model") is None
    assert base_on_hub("circlestone-labs") is None
    assert licence_declared("proprietary") is None


def test_the_licences_text_goes_along_or_nothing_does(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"license_file: missing .*huggingface\.co/circlestone-labs"
    ):
        licence_text(ANIMA, None)
    with pytest.raises(InputError, match="no such file"):
        licence_text(ANIMA, tmp_path / "none.md")
    wrong, right = tmp_path / "wrong.md", tmp_path / "right.md"
    wrong.write_text(text_of(*FAIPL.marks), encoding="utf-8")
    with pytest.raises(InputError, match=r"holds Fair AI Public License.*under CircleStone"):
        licence_text(ANIMA, wrong)
    wrong.write_text("all rights reserved", encoding="utf-8")
    with pytest.raises(InputError, match="not a licence that is known"):
        licence_text(ANIMA, wrong)
    right.write_bytes(text_of("CircleStone Labs\r\nNon-Commercial License v1.2").encode())
    page = licence_page(ANIMA, licence_text(ANIMA, right), "backgwa", "someone", "2026-11-22")
    assert CIRCLESTONE.link in page and "v1.2" in page and "\r" not in page
    assert licence_in(page) is CIRCLESTONE
    assert "Built on NVIDIA Cosmos" in (notice_text(ANIMA) or "")


def test_the_toon_bases_licence_is_in_the_package() -> None:
    text = licence_text(BASES["toon"], None)
    assert (
        text == (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8").strip() + "\n"
    )
    assert notice_text(BASES["toon"]) is None
