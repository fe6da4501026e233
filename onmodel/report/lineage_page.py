"""A lineage as a page that needs no network, and as a single picture."""

from importlib.resources import files

from markupsafe import Markup

from onmodel.release.provenance import Provenance, counts
from onmodel.report.lineage_svg import draw_lineage, facts
from onmodel.report.pages import environment
from onmodel.report.svg import element

TEMPLATES = files("onmodel.report") / "templates"


def lineage_page(provenance: Provenance) -> str:
    """The page: counts, the drawing, every node with all its facts."""
    return (
        environment()
        .get_template("lineage.html.j2")
        .render(
            name=provenance.name,
            newest=provenance.newest,
            counts=counts(provenance.lineage),
            drawing=draw_lineage(provenance.lineage),
            nodes=facts(provenance.lineage),
            files=provenance.files,
        )
    )


def lineage_picture(provenance: Provenance) -> str:
    """The drawing as an SVG file, with its own colours for light and dark."""
    style = "".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("colours.css", "lineage.css")
    )
    drawing = draw_lineage(provenance.lineage, xmlns="http://www.w3.org/2000/svg")
    head, _, rest = drawing.partition(">")
    background = element("rect", width="100%", height="100%", style="fill: var(--paper)")
    return f"{head}>{Markup('<style>')}{style}{Markup('</style>')}{background}{rest}\n"
