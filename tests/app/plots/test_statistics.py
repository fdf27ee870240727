from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from PIL import Image

from batchnorm_app.plots.statistics import statistics

pytestmark = pytest.mark.no_backend

KINDS = ("moving_mean", "moving_variance", "gamma", "beta")


def history(
    epochs: int, layers: int = 2, channels: int = 8, kinds: tuple[str, ...] = KINDS
) -> dict[int, dict[str, npt.NDArray[Any]]]:
    random = np.random.default_rng(0)
    names = [f"{kind}/{n:03}_block_{n}" for kind, n in product(kinds, range(1, layers + 1))]
    return {
        epoch: {name: random.uniform(0.5, 2, channels) for name in names}
        for epoch in range(1, epochs + 1)
    }


@pytest.mark.parametrize("epochs, title", [(1, "epoch 1"), (3, "epochs 1 to 3")])
def test_a_row_for_each_kind_a_column_for_each_layer(
    tmp_path: Path, figures: list[Figure], epochs: int, title: str
) -> None:
    statistics_by_epoch = history(epochs, layers=4)
    statistics(statistics_by_epoch, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    rows = figures[0].axes
    names = ["moving mean", "moving variance", "gamma", "beta"]
    assert [axes.get_ylabel() for axes in rows] == names
    assert [axes.get_yscale() for axes in rows] == ["linear", "log", "linear", "linear"]
    assert f"each column shows {title}\n" in rows[0].get_title()
    labels = [label.get_text() for label in rows[-1].get_xticklabels()]
    assert labels == [f"block_{n} {n:03}" for n in (1, 2, 3, 4)]
    for axes, kind in zip(rows, KINDS, strict=True):
        assert len(axes.lines) == 4 and len(axes.collections) == 8
        for column, line in enumerate(axes.lines):
            medians = [
                np.median(statistics_by_epoch[n][f"{kind}/00{column + 1}_block_{column + 1}"])
                for n in statistics_by_epoch
            ]
            medians_drawn = np.asarray(line.get_ydata())
            np.testing.assert_allclose(medians_drawn, medians * 2 if epochs == 1 else medians)
            positions = np.asarray(line.get_xdata(), float)
            assert (np.diff(positions) > 0).all() and np.abs(positions - column).max() < 0.5


def test_the_bands_hold_all_channels_and_half_of_them(
    tmp_path: Path, figures: list[Figure]
) -> None:
    values = np.arange(9.0)
    statistics_by_epoch = {n: {"moving_mean/01_stem": n * values} for n in (1, 2)}
    statistics(statistics_by_epoch, tmp_path / "a.png")
    light, dark = (
        np.asarray(band.get_paths()[0].vertices) for band in figures[0].axes[0].collections
    )
    for band, ends in ((light, (0, 8)), (dark, (2, 6))):
        for x in np.unique(band[:, 0]):
            epoch = 1 if x < 0 else 2
            values = band[band[:, 0] == x, 1]
            assert (values.min(), values.max()) == (epoch * ends[0], epoch * ends[1])


def test_the_epochs_need_not_come_in_order(tmp_path: Path, figures: list[Figure]) -> None:
    statistics_by_epoch = history(3)
    for ordered in (statistics_by_epoch, dict(reversed(statistics_by_epoch.items()))):
        statistics(ordered, tmp_path / "a.png")
    one, other = (figure.axes[0].lines[0].get_ydata() for figure in figures)
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_kind_that_no_layer_has_gets_no_row(tmp_path: Path, figures: list[Figure]) -> None:
    """A kind that only some layers have leaves the other columns empty."""
    statistics(history(2, kinds=("moving_mean", "moving_variance", "beta")), tmp_path / "a.png")
    names = [axes.get_ylabel() for axes in figures[0].axes]
    assert names == ["moving mean", "moving variance", "beta"]
    incomplete = history(2)
    for values in incomplete.values():
        del values["gamma/001_block_1"]
    statistics(incomplete, tmp_path / "b.png")
    rows = figures[1].axes
    assert [len(axes.lines) for axes in rows] == [2, 2, 1, 2]
    assert np.abs(np.asarray(rows[2].lines[0].get_xdata(), float) - 1).max() < 0.5


def test_the_width_of_a_picture_is_limited(tmp_path: Path, figures: list[Figure]) -> None:
    widths = []
    for layers in (1, 20, 163):
        statistics(history(1, layers, kinds=("moving_mean",)), tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as file:
            widths.append(file.width)
    assert 400 < widths[0] < widths[1] < widths[2] == 4400
    assert len(figures[2].axes[0].lines) == 163
    # Small enough that neighbouring names do not overlap: a point is 110 / 72 pixels.
    size = float(figures[2].axes[0].get_xticklabels()[0].get_fontsize())
    assert 4 < size <= 9 and size * 110 / 72 < 4400 / 163


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("variance", [0.0, 1e-30, 1e30])
def test_variances_of_any_size(tmp_path: Path, channels: int, variance: float) -> None:
    """A logarithmic scale cannot show 0, the variance of dead channels."""
    statistics_by_epoch = history(2, channels=channels)
    for values in statistics_by_epoch.values():
        values["moving_variance/001_block_1"] = np.full(channels, variance)
    statistics(statistics_by_epoch, tmp_path / "one.png")
    for values in statistics_by_epoch.values():
        values["moving_variance/002_block_2"] = np.full(channels, variance)
    statistics(statistics_by_epoch, tmp_path / "all.png")
    for name in ("one.png", "all.png"):
        with Image.open(tmp_path / name) as file:
            assert file.height > 500


@pytest.mark.parametrize("suffix, start", [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_names_the_format(tmp_path: Path, suffix: str, start: bytes) -> None:
    statistics(history(1), tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize("empty", [{}, {1: {}}, {1: {}, 2: {}}])
def test_without_statistics_there_is_no_picture(
    tmp_path: Path, empty: dict[int, dict[str, Any]]
) -> None:
    with pytest.raises(ValueError, match="no statistics to draw"):
        statistics(empty, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
