"""A page from its template: one file that needs no other and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.adapters import files

TEMPLATES = Path(__file__).parent / "templates"


def write(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Write the page `path`, whole or not at all; return it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(template).render(content)
    with files.replacing(path) as fresh:
        fresh.write_text(page, encoding="utf-8")
    return path


def style(*names: str) -> str:
    """The style sheets of these names, to stand in a page."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
