from pathlib import Path

import pytest
from matplotlib.figure import Figure

from batchnorm_app.plots.benchmark import benchmark
from tests.app.benchmark.records import case

pytestmark = pytest.mark.no_backend

SHAPES = ((64, 56, 56, 64), (8, 3))


def test_a_panel_for_each_backend_and_shape(tmp_path: Path, figures: list[Figure]) -> None:
    rows = {
        name: [case(b, shape, variant=v) for shape in SHAPES for v in ("plain", "conditional")]
        for name, b in (("TensorFlow, graph", "tensorflow"), ("PyTorch, eager", "torch"))
    }
    benchmark(rows, "a title", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    assert len(figure.axes) == 4 and figure.get_suptitle() == "a title"
    assert [axes.get_title() for axes in figure.axes] == ["64×56×56×64", "8×3", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [*rows]
    for axes in figure.axes:
        # In milliseconds, in the order of the contestants.
        heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        assert heights == pytest.approx([2, 4, 6, 2, 4, 6, 8])
        assert [text.get_text() for text in axes.texts[:3]] == ["2.0", "4.0", "6.0"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["plain", "conditional"]
        # The limit is a line through the bars of its case.
        assert [list(line.get_ydata()) for line in axes.lines] == [[0.9, 0.9]] * 2  # type: ignore[arg-type]
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        *("memory limit", "batchnorm", "Keras", "framework's own layer", "batchnorm plain"),
        *("moments+gather", "Keras+gain"),
    }


def test_a_backend_without_a_shape(tmp_path: Path, figures: list[Figure]) -> None:
    """An interrupted benchmark lacks cases."""
    rows = {"JAX, jit": [case("jax", shape) for shape in SHAPES], "PyTorch, eager": []}
    rows["PyTorch, eager"].append(case("torch", SHAPES[0]))
    benchmark(rows, "", tmp_path / "a.svg")
    assert [len(axes.patches) for axes in figures[0].axes] == [3, 3, 3, 0]


@pytest.mark.parametrize(
    "ms, text", [(204.4, "204"), (9.96, "10.0"), (0.52, ".52"), (0.0131, ".013")]
)
def test_a_bar_is_labelled_with_its_height(
    tmp_path: Path, figures: list[Figure], ms: float, text: str
) -> None:
    record = case("jax", (8, 3))
    record["contestants"] = {"batchnorm": {"seconds": {"median": ms / 1e3}}}
    benchmark({"JAX, jit": [record]}, "", tmp_path / "a.png")
    assert [label.get_text() for label in figures[0].axes[0].texts] == [text]
