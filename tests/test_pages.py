"""The Python on the README and the pages of the docs runs as it stands there."""

import re
from pathlib import Path

import keras
import pytest

from batchnorm.combinations import REFUSED

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)} {number}")
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


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_table_of_what_has_no_meaning_is_the_one_that_refuses_it() -> None:
    page = (ROOT / "docs" / "layer.md").read_text()
    table = page.split("| refused | why |\n|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| {line.given} | {line.why} |" for line in REFUSED]
