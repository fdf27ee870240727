"""A Griffe extension: reads this project's docstring sections as mkdocstrings expects them.

Griffe takes a section whose title it does not know for an admonition, and Markdown joins the lines
of one: the prompts of an `Example:` become nested quotes, `Call arguments:` one paragraph.
mkdocs.yml names this file.
"""

import re
from typing import Any

import griffe

_TITLES = {
    "Example:": "Examples:",
    "Call arguments:": "Other args: Call arguments:",
}
_EQUATION = re.compile(r"\S.* \+?= .*([^.,;:]|\.\.\.)")


class DocstringSections(griffe.Extension):
    """Rewrites docstrings before Griffe parses them."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Gives sections Griffe's titles, or none, and keeps formulas in their lines."""
        if obj.docstring:
            # What a layer's call returns has no type in the class.
            prose = {"References:", "Returns:"} if obj.is_class else {"References:"}
            obj.docstring.value = markdown(obj.docstring.value, prose)


def markdown(docstring: str, prose: set[str]) -> str:
    """Returns a docstring in Griffe's terms.

    Args:
        docstring: with its indentation removed.
        prose: titles of sections without items, which become paragraphs.
    """
    paragraphs = docstring.split("\n\n")
    for index, paragraph in enumerate(paragraphs):
        title, *lines = [_TITLES.get(line, line) for line in paragraph.splitlines()]
        if title in prose:
            paragraphs[index] = "\n".join([f"**{title}**\n", *(line.strip() for line in lines)])
        elif all(_EQUATION.fullmatch(line) for line in (title, *lines)):
            paragraphs[index] = "\n".join(f"    {line}" for line in (title, *lines))
        else:
            paragraphs[index] = "\n".join([title, *lines])
    return "\n\n".join(paragraphs)
