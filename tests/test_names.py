"""Names are nouns of the field, and docstrings open with a verb or such a noun."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchnorm

pytestmark = pytest.mark.no_backend

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "experiments", "examples", "tools")
# Pronouns, participles and quantifiers: each says a role in a sentence, not a thing.
VAGUE = set(
    """
    about asked beyond each far form found given its kept known left made meant mend near of others
    said several taken theirs them these those took usual wanted went what which who whole
    """.split()
)
OPENINGS = {"What", "Whether", "How", "Who", "Where"}
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Names that callers write: renaming them would break their code.
PUBLIC = {
    "src/batchnorm/contrib/checkpoint/report.py": {"kept"},
    "src/batchnorm/models/gan.py": {"made"},
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """All names that a program gives: variables, arguments, fields, functions and classes."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), line
        elif isinstance(node, ast.arg):
            yield node.arg, line
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name, line
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, line
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, line


def vague_names(source: str) -> list[str]:
    return [
        f"line {line}: {name}"
        for name, line in bound_names(ast.parse(source))
        if name.strip("_").lower() in VAGUE and name not in batchnorm.__all__  # Given
    ]


def questions(source: str) -> list[str]:
    """The first lines of docstrings that open like a subordinate clause."""
    result = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            line, *_ = (ast.get_docstring(node) or " ").splitlines()
            if line.partition(" ")[0] in OPENINGS:
                result.append(f"line {getattr(node, 'lineno', 1)}: {line}")
    return result


@pytest.mark.parametrize("file", FILES)
def test_names_are_nouns_of_the_field(file: str) -> None:
    vague = vague_names(FILES[file].read_text("utf-8"))
    assert {line.split()[-1] for line in vague} == PUBLIC.get(file, set()), vague


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("src")])
def test_docstrings_open_with_a_verb_or_a_noun(file: str) -> None:
    assert questions(FILES[file].read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "for each in axes: pass",
        "def scale(given): return given",
        "def scale(*others): pass",
        "def _known(): pass",
        "class Made: pass",
        "class Moments:\n    kept: int",
        "def build(self): self.left = 1",
        "[which for which in range(3)]",
        "import numpy as these",
        "with open('x') as (wanted, y): pass",
        "if (its := 3): pass",
        "try: pass\nexcept ValueError as theirs: pass",
        "lambda of: 0",
    ],
)
def test_a_vague_name_is_reported(source: str) -> None:
    assert len(vague_names(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""What the layer holds."""',
        'def fits(x):\n    """Whether it fits."""',
        'class Plan:\n    """How a batch is measured."""',
        'class Plan:\n    def size(self):\n        """Where it lies."""',
    ],
)
def test_a_question_is_reported(source: str) -> None:
    assert len(questions(source)) == 1


def test_good_names_and_sentences_pass() -> None:
    source = 'def mean_of(values, axis):\n    """Returns the mean."""\n    found_at = values\n'
    assert vague_names(source) == [] and questions(source) == []
    assert len(FILES) > 250
