from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchnorm.models.lenet import lenet
from batchnorm_app.plots.feature_maps import feature_maps

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
LAYERS = [
    f"{kind}_{number}"
    for number in (1, 2)
    for kind in ("convolution", "normalization", "sigmoid", "pooling")
]


def panels(
    model: keras.Model, path: Path, image: np.ndarray = IMAGE, title: str = "image"
) -> dict[str, Axes]:
    """Draws feature maps, and returns the panels by title."""
    with pytest.MonkeyPatch.context() as patch:
        figures: list[Figure] = []
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
        feature_maps(model, image, path, title=title)
    return {axes.get_title(): axes for axes in figures[0].axes if axes.get_title()}


def pixels(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_a_picture_is_written(tmp_path: Path) -> None:
    feature_maps(lenet(), IMAGE, tmp_path / "maps.png", layers=2, channels=2)
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_four_channels_of_eight_layers_with_name_and_shape(tmp_path: Path) -> None:
    axes_by_title = panels(lenet(), tmp_path / "maps.png", title="Coat")
    shapes = ["24×24×6"] * 3 + ["12×12×6"] + ["8×8×16"] * 3 + ["4×4×16"]
    expected = [
        f"{name}\n{shape}, channel {channel}"
        for channel in range(4)
        for name, shape in zip(LAYERS, shapes, strict=True)
    ]
    assert list(axes_by_title) == ["Coat\n28×28×1", *expected]
    np.testing.assert_array_equal(pixels(axes_by_title["Coat\n28×28×1"]), IMAGE[..., 0])


def test_the_values_are_those_of_inference(tmp_path: Path) -> None:
    model = lenet()
    layer = model.get_layer("sigmoid_2")
    value = keras.Model(model.input, layer.output)(IMAGE[None], training=False)
    panel = panels(model, tmp_path / "maps.png")["sigmoid_2\n8×8×16, channel 3"]
    np.testing.assert_array_equal(pixels(panel), keras.ops.convert_to_numpy(value)[0, ..., 3])


def test_the_channels_of_a_layer_share_one_scale(tmp_path: Path) -> None:
    axes_by_title = panels(lenet(), tmp_path / "maps.png")
    for name in LAYERS:
        images = [
            axes.images[0] for title, axes in axes_by_title.items() if title.startswith(name + "\n")
        ]
        ((low, high),) = {image.get_clim() for image in images}
        values = np.array([np.asarray(image.get_array()) for image in images])
        assert high == np.abs(values).max()
        assert low == (-high if values.min() < 0 else 0)


def test_without_normalization_there_are_fewer_layers(tmp_path: Path) -> None:
    axes_by_title = panels(lenet(normalization=None), tmp_path / "maps.png")
    assert len(axes_by_title) == 1 + 4 * 6


def test_layers_of_few_channels_and_images_in_colour(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="narrow")(inputs))
    axes_by_title = panels(model, tmp_path / "maps.png", np.repeat(IMAGE[:8, :8], 3, axis=-1))
    assert set(axes_by_title) == {
        "image\n8×8×3",
        "narrow\n6×6×2, channel 0",
        "narrow\n6×6×2, channel 1",
    }


def test_a_model_without_feature_maps_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="no layer"):
        feature_maps(model, IMAGE[:4, :4], tmp_path / "maps.png")
