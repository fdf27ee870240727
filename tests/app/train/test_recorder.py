"""Statistics of normalization layers: read from a model, written for each epoch, drawn."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from batchnorm import BatchNormalization, Ghost, PerClass, Renorm
from batchnorm.blocks import ResidualBlock
from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from batchnorm.slots.moving import ZeroDebiased
from batchnorm_app.errors import UserError
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import Settings
from batchnorm_app.train.pictures import draw_statistics
from batchnorm_app.train.recorder import NAMES, Recorder, read_statistics, values_by_layer
from batchnorm_app.train.tensorboard import TensorBoard
from tests.app import small

FIRST = Epoch(1, 0.1, 2.0, 0.25, 3.0, 0.125, 9.0)
SECOND = FIRST._replace(epoch=2)


def layers(values: dict[str, Any], kind: str = "moving_mean") -> list[str]:
    """Returns the names of the layers with a statistic of a kind, in their order."""
    return [name.partition("/")[2] for name in values if name.startswith(f"{kind}/")]


def sequential(*parts: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4, 4, 3)), *parts], name="net")


def test_lenets_layers() -> None:
    values = values_by_layer(lenet())
    assert layers(values) == [f"0{n}_normalization_{n}" for n in (1, 2, 3, 4)]
    assert [kind for name in values if (kind := name.partition("/")[0])][::4] == list(NAMES)
    assert [values[f"beta/{layer}"].shape for layer in layers(values)] == [
        (6,),
        (16,),
        (120,),
        (84,),
    ]
    assert values_by_layer(lenet(normalization=None)) == {}


def test_layers_within_layers_are_in_the_order_of_the_network() -> None:
    model = resnet((8, 8, 1), depth=8)  # three blocks of two layers, and the last layer
    values = values_by_layer(model)
    expected = [
        f"stage_{stage}_block_1_normalization_{number}" for stage in (1, 2, 3) for number in (1, 2)
    ] + ["normalization"]
    numbered = [f"{number:02}_{name}" for number, name in enumerate(expected, 1)]
    for kind in NAMES:
        assert layers(values, kind) == numbered == sorted(layers(values, kind))
    assert len(values) == 4 * 7
    widths = [values[f"gamma/{name}"].shape for name in numbered]  # of the inputs
    assert widths == [(16,), (16,), (16,), (32,), (32,), (64,), (64,)]


def test_the_names_of_many_layers_sort() -> None:
    model = sequential(*(keras.layers.BatchNormalization() for _ in range(101)))
    names = layers(values_by_layer(model))
    assert len(names) == 101 and names == sorted(names)
    assert names[0].startswith("001_") and names[-1].startswith("101_")


def test_models_within_models() -> None:
    inner = keras.Sequential([BatchNormalization(name="b"), BatchNormalization(name="a")], name="x")
    model = sequential(
        BatchNormalization(name="z"),
        ResidualBlock(3, name="y"),
        inner,
        BatchNormalization(name="c"),
    )
    names = [name.partition("_")[2] for name in layers(values_by_layer(model))]
    ends = ["z", "normalization_1", "normalization_2", "b", "a", "c"]
    assert len(names) == 6
    assert all(name.endswith(end) for name, end in zip(names, ends, strict=True)), names


@pytest.mark.parametrize(
    "layer_class, lacking",
    [
        (keras.layers.BatchNormalization, ()),
        (partial(keras.layers.BatchNormalization, scale=False), ("gamma",)),
        (partial(BatchNormalization, center=False), ("beta",)),
        (partial(BatchNormalization, center=False, scale=False), ("gamma", "beta")),
        (partial(BatchNormalization, moving=ZeroDebiased()), ()),
        (partial(BatchNormalization, renorm=Renorm(), statistics=Ghost(2)), ()),
    ],
    ids=["keras", "no gamma", "no beta", "neither", "counts steps", "renorm"],
)
def test_only_the_statistics_of_a_layer(
    layer_class: Callable[..., keras.layers.Layer], lacking: tuple[str, ...]
) -> None:
    layer = layer_class(name="one")
    recorded_values = values_by_layer(
        sequential(layer, keras.layers.LayerNormalization(), keras.layers.Dense(2))
    )
    assert {name.partition("/")[0] for name in recorded_values} == set(NAMES) - set(lacking)
    random = np.random.default_rng(0)
    values = {name: random.normal(size=3).astype("f") for name in NAMES if name not in lacking}
    for name, value in values.items():
        getattr(layer, name).assign(value)
    model = sequential(layer)
    for name, value in values_by_layer(model).items():
        np.testing.assert_array_equal(value, values[name.partition("/")[0]])


def test_a_conditional_layer_has_a_gamma_for_each_class() -> None:
    layer = BatchNormalization(affine=PerClass(5), name="one")
    inputs = [keras.Input((4, 4, 3)), keras.Input((5,))]
    values = values_by_layer(keras.Model(inputs, layer(inputs[0], condition=inputs[1])))
    assert {name.partition("/")[0]: value.shape for name, value in values.items()} == {
        "moving_mean": (3,),
        "moving_variance": (3,),
        "gamma": (15,),
        "beta": (15,),
    }


class RecordedRun:
    """A run with the recorded statistics of two epochs, and their true values.

    Attributes:
        values: of each epoch, by tag.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = sequential(
            BatchNormalization(name="wide"),
            keras.layers.Conv2D(7, 1, name="between"),
            keras.layers.BatchNormalization(name="without", scale=False),
        )
        self.values: dict[int, dict[str, npt.NDArray[Any]]] = {}
        epochs: list[Epoch] = []
        callbacks: tuple[Any, Any] = Recorder(run, epochs), TensorBoard(run, epochs)
        callbacks[1].on_train_begin()
        for callback in callbacks:
            callback.set_model(self.model)
        random = np.random.default_rng(0)
        for epoch in (FIRST, SECOND):
            for variable in self.model.variables:
                if variable.name != "gamma":  # which stays constant
                    variable.assign(random.normal(epoch.epoch, 1, variable.shape) ** 2)
            epochs.append(epoch)
            for callback in callbacks:
                callback.on_epoch_end(epoch.epoch - 1)
            self.values[epoch.epoch] = values_by_layer(self.model)


@pytest.fixture
def recorded(tmp_path: Path, data_dir: Path) -> RecordedRun:
    run = Run(tmp_path / "run")
    run.create(small.settings(data_dir))
    return RecordedRun(run)


def test_each_epoch_has_a_file_of_its_statistics(recorded: RecordedRun) -> None:
    files = sorted(recorded.run.statistics.iterdir())
    assert [file.name for file in files] == ["00001.npz", "00002.npz"]
    for epoch, file in enumerate(files, 1):
        assert file == recorded.run.epoch_statistics(epoch)
        values = read_statistics(file)
        assert list(values) == list(recorded.values[epoch]) and len(values) == 7
        for name, value in values.items():
            np.testing.assert_array_equal(value, recorded.values[epoch][name])
            assert value.dtype == np.float32
    assert (
        read_statistics(files[0])["beta/01_net_wide"]
        != read_statistics(files[1])["beta/01_net_wide"]
    ).all()


def histograms(run: Run) -> dict[str, dict[int, npt.NDArray[Any]]]:
    """Returns TensorBoard's rows (left, right, count) for each tag and step."""
    events = EventAccumulator(str(run.tensorboard / "statistics"))
    events.Reload()
    return {
        tag: {
            event.step: tensor_util.make_ndarray(event.tensor_proto)
            for event in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
    }


def check(recorded: RecordedRun) -> None:
    by_tag = histograms(recorded.run)
    assert sorted(by_tag) == sorted(recorded.values[1])
    for tag, steps in by_tag.items():
        assert list(steps) == [1, 2]
        for step, buckets in steps.items():
            values = recorded.values[step][tag]
            assert buckets[:, 2].sum() == len(values) == (3 if "wide" in tag else 7)
            if not tag.startswith("gamma"):
                assert buckets[0, 0] == pytest.approx(values.min())
                assert buckets[-1, 1] == pytest.approx(values.max())
                inside = (buckets[:, 0] <= values[0] + 1e-5) & (values[0] - 1e-5 <= buckets[:, 1])
                assert buckets[inside, 2].sum() >= 1
            else:  # the gammas are all 1
                (bucket,) = buckets[buckets[:, 2] > 0]
                assert bucket[0] <= 1 <= bucket[1]


def test_tensorboard_reads_the_histograms_back(recorded: RecordedRun) -> None:
    check(recorded)


def test_a_resumed_run_rewrites_all_histograms(recorded: RecordedRun) -> None:
    (torn,) = (recorded.run.tensorboard / "statistics").iterdir()
    torn.write_bytes(torn.read_bytes()[:-5])
    TensorBoard(recorded.run, [FIRST, SECOND]).on_train_begin()
    assert len(list((recorded.run.tensorboard / "statistics").iterdir())) == 1
    check(recorded)


def test_statistics_of_lost_epochs_are_not_shown(recorded: RecordedRun) -> None:
    """A run killed between the two files of an epoch resumes from the epoch before."""
    TensorBoard(recorded.run, [FIRST]).on_train_begin()
    assert {step for steps in histograms(recorded.run).values() for step in steps} == {1}


def test_a_run_without_files_of_statistics_resumes(recorded: RecordedRun) -> None:
    for file in recorded.run.statistics.iterdir():
        file.unlink()
    recorded.run.statistics.rmdir()
    TensorBoard(recorded.run, [FIRST, SECOND]).on_train_begin()
    assert (recorded.run.tensorboard / "train").exists()


def test_without_normalization_nothing_is_written(tmp_path: Path) -> None:
    run, epochs = Run(tmp_path), [FIRST]
    for callback in (Recorder(run, epochs), TensorBoard(run, epochs)):
        callback.set_model(sequential(keras.layers.Conv2D(2, 1)))
        callback.on_train_begin()
        callback.on_epoch_end(0)
    assert not run.statistics.exists()
    assert sorted(path.name for path in run.tensorboard.iterdir()) == ["test", "train"]


def test_a_training_records_its_statistics(finished: Run) -> None:
    with finished.history.open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    files = [finished.epoch_statistics(epoch) for epoch in epochs]
    assert sorted(finished.statistics.iterdir()) == files and len(files) == 3
    model = keras.models.load_model(finished.model, compile=False)
    last = read_statistics(files[-1])
    for name, value in values_by_layer(model).items():
        np.testing.assert_array_equal(last[name], value)
    tag = "moving_mean/01_normalization_1"
    assert (last[tag] != read_statistics(files[0])[tag]).all()
    assert list(histograms(finished)[tag]) == epochs


def made_up_run(folder: Path, run_settings: Settings, epochs: int = 2) -> Run:
    run = Run(folder)
    run.create(run_settings)
    run.statistics.mkdir()
    random = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        values: dict[str, Any] = {f"{kind}/01_stem": random.uniform(1, 2, 5) for kind in NAMES}
        np.savez(run.epoch_statistics(epoch), **values)
    return run


def test_the_picture_of_a_run(tmp_path: Path, data_dir: Path) -> None:
    run = made_up_run(tmp_path / "run", small.settings(data_dir))
    assert draw_statistics(run) == run.statistics_picture
    assert run.statistics_picture.read_bytes().startswith(b"\x89PNG")
    elsewhere = tmp_path / "a.pdf"
    assert draw_statistics(run, elsewhere) == elsewhere
    assert elsewhere.read_bytes().startswith(b"%PDF")


def test_an_unfinished_file_is_left_out(tmp_path: Path, data_dir: Path) -> None:
    run = made_up_run(tmp_path / "run", small.resnet_settings(data_dir))
    (run.statistics / ".00003.part.npz").write_bytes(b"half")
    (run.statistics / "notes.txt").write_text("mine")
    assert draw_statistics(run).exists()


def test_a_run_without_statistics(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    for run_settings, words in (
        (small.settings(data_dir), "has no statistics yet: they are written after each epoch"),
        (small.resnet_settings(data_dir, normalization="none"), "with --normalization none"),
        (small.gan_settings(data_dir), "is a run of gan, which keeps no statistics"),
    ):
        run.create(run_settings)
        with pytest.raises(UserError, match=words):
            draw_statistics(run)
        assert not run.statistics_picture.exists()


@pytest.mark.parametrize("content", [b"", b"PK damaged", b"garbage"])
def test_a_damaged_file_is_named(tmp_path: Path, data_dir: Path, content: bytes) -> None:
    run = made_up_run(tmp_path / "run", small.settings(data_dir))
    run.epoch_statistics(2).write_bytes(content)
    with pytest.raises(UserError, match=r"00002\.npz is damaged"):
        draw_statistics(run)
    assert not run.statistics_picture.exists()


def test_a_torn_file_is_named(tmp_path: Path, data_dir: Path) -> None:
    run = made_up_run(tmp_path / "run", small.settings(data_dir))
    content = run.epoch_statistics(1).read_bytes()
    run.epoch_statistics(1).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"00001\.npz is damaged"):
        draw_statistics(run)


def test_a_picture_that_cannot_be_written(tmp_path: Path, data_dir: Path) -> None:
    run = made_up_run(tmp_path / "run", small.settings(data_dir))
    for name in ("a", "a.txt"):
        with pytest.raises(UserError, match=f"{name} is not a picture's name: it must end in .png"):
            draw_statistics(run, tmp_path / name)
    with pytest.raises(UserError, match="a.png cannot be written"):
        draw_statistics(run, tmp_path / "nowhere" / "a.png")


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not a run"):
            draw_statistics(Run(folder))
