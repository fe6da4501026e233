"""What a page looks like: does it fit its window, and does axe-core find nothing serious?"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / "studio" / "axe.min.js"
WIDTHS, THEMES = (390, 1440), ("light", "dark")


def faults_of(page: "Page", url: str, waits: str = "main") -> list[str]:
    """Open the page at every width in every theme, until `waits` is there; the faults of its layout
    and what axe-core calls serious or critical, with the HTML that it means."""
    if not AXE.is_file():
        pytest.skip("axe-core is missing; run tools/studio_assets.py --tests")
    browser, found = page.context.browser, []
    assert browser is not None
    for width in WIDTHS:
        for theme in THEMES:
            context = browser.new_context(
                bypass_csp=True,  # axe is not the studio's own script
                color_scheme=theme,
                viewport={"width": width, "height": 900},
                storage_state=page.context.storage_state(),
            )
            opened = context.new_page()
            opened.goto(url)
            opened.wait_for_selector(waits)
            if opened.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{width} {theme}: wider than the window")
            opened.add_script_tag(path=AXE)
            for row in opened.evaluate("axe.run()")["violations"]:
                if row["impact"] in ("serious", "critical"):
                    found.append(f"{width} {theme}: {row['id']}: {row['nodes'][0]['html']}")
            context.close()
    return found
