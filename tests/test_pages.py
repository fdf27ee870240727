"""The README and the pages of the docs: their Python runs, and what they list is complete."""

import re
from pathlib import Path

import keras
import pytest

import batchnorm
from batchnorm.slots.combinations import REFUSED

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [
    pytest.param(
        block,
        id=f"{page.relative_to(ROOT)} {number}",
        marks=[pytest.mark.slow_on_jax] if page.stem == "gan" else [],  # a network
    )
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tf.Graph()" in block and keras.backend.backend() != "tensorflow":
        pytest.skip("graph code is TensorFlow's")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<page>", "exec"), {})


def test_there_are_blocks() -> None:
    assert any("README" in str(block.id) for block in BLOCKS) and len(BLOCKS) > 3


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    entries = re.findall(r"^::: batchnorm\.(\w+)$", page, re.MULTILINE)
    assert not set(batchnorm.__all__) - set(entries)


def test_sections_of_docstrings_are_read_as_such() -> None:
    griffe = pytest.importorskip("griffe", reason="the extra `docs` is not installed")
    extensions = griffe.load_extensions(str(ROOT / "tools" / "docstring_sections.py"))
    package = griffe.load("batchnorm", search_paths=[ROOT / "src"], extensions=extensions)
    for name in batchnorm.__all__:
        sections = package[name].docstring.parse("google", warnings=False)
        assert "admonition" not in {section.kind.value for section in sections}, name
    sections = package["BatchNormalization"].docstring.parse("google", warnings=False)
    titles = [section.title or section.kind.value for section in sections]
    assert titles == ["text", "parameters", "Call arguments:", "text", "raises", "examples", "text"]
    assert "\n    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta\n" in sections[0].value
    names = [argument.name for argument in sections[2].value]
    assert names == ["inputs", "training", "mask", "sample_weight", "condition"]


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_table_of_unsupported_combinations_is_the_one_that_refuses_them() -> None:
    page = (ROOT / "docs" / "layer.md").read_text()
    table = page.split("| refused | why |\n|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| {line.combination} | {line.reason} |" for line in REFUSED]
