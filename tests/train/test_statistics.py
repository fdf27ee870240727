"""What normalization layers keep: found in a model, written for each epoch, read back, drawn."""

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
from batchnorm.moving import ZeroDebiased
from batchnorm.train.history import Epoch
from batchnorm.train.run import Run, RunError
from batchnorm.train.settings import Settings
from batchnorm.train.statistics import NAMES, Recorder, draw, of, read
from batchnorm.train.tensorboard import TensorBoard
from tests.train import small

FIRST = Epoch(1, 0.1, 2.0, 0.25, 3.0, 0.125, 9.0)
SECOND = FIRST._replace(epoch=2)


def layers(found: dict[str, Any], kind: str = "moving_mean") -> list[str]:
    """The names of the layers that have something of a kind, in their order."""
    return [name.partition("/")[2] for name in found if name.startswith(f"{kind}/")]


def sequential(*parts: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4, 4, 3)), *parts], name="net")


def test_lenets_layers() -> None:
    found = of(lenet())
    assert layers(found) == [f"0{n}_normalization_{n}" for n in (1, 2, 3, 4)]
    assert [kind for name in found if (kind := name.partition("/")[0])][::4] == list(NAMES)
    assert [found[f"beta/{layer}"].shape for layer in layers(found)] == [(6,), (16,), (120,), (84,)]
    assert of(lenet(normalization=None)) == {}


def test_layers_within_layers_are_in_the_order_of_the_network() -> None:
    model = resnet((8, 8, 1), depth=8)  # of a block a stage, with two each, and the last
    found = of(model)
    expected = [
        f"stage_{stage}_block_1_normalization_{number}" for stage in (1, 2, 3) for number in (1, 2)
    ] + ["normalization"]
    numbered = [f"{number:02}_{name}" for number, name in enumerate(expected, 1)]
    for kind in NAMES:
        assert layers(found, kind) == numbered == sorted(layers(found, kind))
    assert len(found) == 4 * 7
    widths = [found[f"gamma/{name}"].shape for name in numbered]  # of what comes in
    assert widths == [(16,), (16,), (16,), (32,), (32,), (64,), (64,)]


def test_numbers_of_many_layers_sort_too() -> None:
    model = sequential(*(keras.layers.BatchNormalization() for _ in range(101)))
    found = layers(of(model))
    assert len(found) == 101 and found == sorted(found)
    assert found[0].startswith("001_") and found[-1].startswith("101_")


def test_models_within_models() -> None:
    inner = keras.Sequential([BatchNormalization(name="b"), BatchNormalization(name="a")], name="x")
    model = sequential(
        BatchNormalization(name="z"),
        ResidualBlock(3, name="y"),
        inner,
        BatchNormalization(name="c"),
    )
    found = [name.partition("_")[2] for name in layers(of(model))]
    ends = ["z", "normalization_1", "normalization_2", "b", "a", "c"]
    assert len(found) == 6
    assert all(name.endswith(end) for name, end in zip(found, ends, strict=True)), found


@pytest.mark.parametrize(
    "make, lacking",
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
def test_what_a_layer_has_and_nothing_else(
    make: Callable[..., keras.layers.Layer], lacking: tuple[str, ...]
) -> None:
    layer = make(name="one")
    found = of(sequential(layer, keras.layers.LayerNormalization(), keras.layers.Dense(2)))
    assert {name.partition("/")[0] for name in found} == set(NAMES) - set(lacking)
    random = np.random.default_rng(0)
    values = {name: random.normal(size=3).astype("f") for name in NAMES if name not in lacking}
    for name, value in values.items():
        getattr(layer, name).assign(value)
    model = sequential(layer)
    for name, value in of(model).items():
        np.testing.assert_array_equal(value, values[name.partition("/")[0]])


def test_a_conditional_layer_has_a_gamma_for_each_class() -> None:
    layer = BatchNormalization(affine=PerClass(5), name="one")
    inputs = [keras.Input((4, 4, 3)), keras.Input((5,))]
    found = of(keras.Model(inputs, layer(inputs[0], condition=inputs[1])))
    assert {name.partition("/")[0]: value.shape for name, value in found.items()} == {
        "moving_mean": (3,),
        "moving_variance": (3,),
        "gamma": (15,),
        "beta": (15,),
    }


class Kept:
    """A model whose statistics are written after two epochs, and what they were.

    Attributes:
        values: of each epoch, by their tags.
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
                if variable.name != "gamma":  # whose values stay all the same
                    variable.assign(random.normal(epoch.epoch, 1, variable.shape) ** 2)
            epochs.append(epoch)
            for callback in callbacks:
                callback.on_epoch_end(epoch.epoch - 1)
            self.values[epoch.epoch] = of(self.model)


@pytest.fixture
def kept(tmp_path: Path, data_dir: Path) -> Kept:
    run = Run(tmp_path / "run")
    run.create(small.settings(data_dir))
    return Kept(run)


def test_each_epoch_has_a_file_of_its_statistics(kept: Kept) -> None:
    files = sorted(kept.run.statistics.iterdir())
    assert [file.name for file in files] == ["00001.npz", "00002.npz"]
    for epoch, file in enumerate(files, 1):
        assert file == kept.run.epoch_statistics(epoch)
        found = read(file)
        assert list(found) == list(kept.values[epoch]) and len(found) == 7
        for name, value in found.items():
            np.testing.assert_array_equal(value, kept.values[epoch][name])
            assert value.dtype == np.float32
    assert (read(files[0])["beta/01_net_wide"] != read(files[1])["beta/01_net_wide"]).all()


def histograms(run: Run) -> dict[str, dict[int, npt.NDArray[Any]]]:
    """What TensorBoard reads: for each tag and step the rows left, right and count."""
    events = EventAccumulator(str(run.tensorboard / "statistics"))
    events.Reload()
    return {
        tag: {
            each.step: tensor_util.make_ndarray(each.tensor_proto) for each in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
    }


def check(kept: Kept) -> None:
    found = histograms(kept.run)
    assert sorted(found) == sorted(kept.values[1])
    for tag, steps in found.items():
        assert list(steps) == [1, 2]
        for step, buckets in steps.items():
            values = kept.values[step][tag]
            assert buckets[:, 2].sum() == len(values) == (3 if "wide" in tag else 7)
            if not tag.startswith("gamma"):
                assert buckets[0, 0] == pytest.approx(values.min())
                assert buckets[-1, 1] == pytest.approx(values.max())
                inside = (buckets[:, 0] <= values[0] + 1e-5) & (values[0] - 1e-5 <= buckets[:, 1])
                assert buckets[inside, 2].sum() >= 1
            else:  # which are all 1
                (filled,) = buckets[buckets[:, 2] > 0]
                assert filled[0] <= 1 <= filled[1]


def test_tensorboard_reads_the_histograms_back(kept: Kept) -> None:
    check(kept)


def test_a_run_taken_up_again_writes_all_histograms_anew(kept: Kept) -> None:
    (torn,) = (kept.run.tensorboard / "statistics").iterdir()
    torn.write_bytes(torn.read_bytes()[:-5])
    TensorBoard(kept.run, [FIRST, SECOND]).on_train_begin()
    assert len(list((kept.run.tensorboard / "statistics").iterdir())) == 1
    check(kept)


def test_statistics_of_epochs_that_were_lost_are_not_shown(kept: Kept) -> None:
    """A run killed between the two files of an epoch goes on from the one before."""
    TensorBoard(kept.run, [FIRST]).on_train_begin()
    assert {step for steps in histograms(kept.run).values() for step in steps} == {1}


def test_a_run_from_before_there_were_statistics_goes_on(kept: Kept) -> None:
    for file in kept.run.statistics.iterdir():
        file.unlink()
    kept.run.statistics.rmdir()
    TensorBoard(kept.run, [FIRST, SECOND]).on_train_begin()
    assert (kept.run.tensorboard / "train").exists()


def test_without_normalization_nothing_is_written(tmp_path: Path) -> None:
    run, epochs = Run(tmp_path), [FIRST]
    for callback in (Recorder(run, epochs), TensorBoard(run, epochs)):
        callback.set_model(sequential(keras.layers.Conv2D(2, 1)))
        callback.on_train_begin()
        callback.on_epoch_end(0)
    assert not run.statistics.exists()
    assert sorted(path.name for path in run.tensorboard.iterdir()) == ["test", "train"]


def test_a_training_keeps_them(finished: Run) -> None:
    with finished.history.open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    files = [finished.epoch_statistics(epoch) for epoch in epochs]
    assert sorted(finished.statistics.iterdir()) == files and len(files) == 3
    model = keras.models.load_model(finished.model, compile=False)
    last = read(files[-1])
    for name, value in of(model).items():
        np.testing.assert_array_equal(last[name], value)
    tag = "moving_mean/01_normalization_1"
    assert (last[tag] != read(files[0])[tag]).all()
    assert list(histograms(finished)[tag]) == epochs


def by_hand(folder: Path, asked: Settings, epochs: int = 2) -> Run:
    run = Run(folder)
    run.create(asked)
    run.statistics.mkdir()
    random = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        values: dict[str, Any] = {f"{kind}/01_stem": random.uniform(1, 2, 5) for kind in NAMES}
        np.savez(run.epoch_statistics(epoch), **values)
    return run


def test_the_picture_of_a_run(tmp_path: Path, data_dir: Path) -> None:
    run = by_hand(tmp_path / "run", small.settings(data_dir))
    assert draw(run) == run.statistics_picture
    assert run.statistics_picture.read_bytes().startswith(b"\x89PNG")
    elsewhere = tmp_path / "a.pdf"
    assert draw(run, elsewhere) == elsewhere
    assert elsewhere.read_bytes().startswith(b"%PDF")


def test_what_a_training_is_just_writing_is_left_out(tmp_path: Path, data_dir: Path) -> None:
    run = by_hand(tmp_path / "run", small.resnet_settings(data_dir))
    (run.statistics / ".00003.part.npz").write_bytes(b"half")
    (run.statistics / "notes.txt").write_text("mine")
    assert draw(run).exists()


def test_a_run_without_statistics(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    for asked, words in (
        (small.settings(data_dir), "has no statistics yet: they are written after each epoch"),
        (small.resnet_settings(data_dir, normalization="none"), "with --normalization none"),
        (small.gan_settings(data_dir), "is a run of gan, which keeps no statistics"),
    ):
        run.create(asked)
        with pytest.raises(RunError, match=words):
            draw(run)
        assert not run.statistics_picture.exists()


@pytest.mark.parametrize("content", [b"", b"PK damaged", b"garbage"])
def test_a_damaged_file_is_named(tmp_path: Path, data_dir: Path, content: bytes) -> None:
    run = by_hand(tmp_path / "run", small.settings(data_dir))
    run.epoch_statistics(2).write_bytes(content)
    with pytest.raises(RunError, match=r"00002\.npz is damaged"):
        draw(run)
    assert not run.statistics_picture.exists()


def test_a_torn_file_is_named(tmp_path: Path, data_dir: Path) -> None:
    run = by_hand(tmp_path / "run", small.settings(data_dir))
    whole = run.epoch_statistics(1).read_bytes()
    run.epoch_statistics(1).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"00001\.npz is damaged"):
        draw(run)


def test_a_picture_that_cannot_be_written(tmp_path: Path, data_dir: Path) -> None:
    run = by_hand(tmp_path / "run", small.settings(data_dir))
    for name in ("a", "a.txt"):
        with pytest.raises(RunError, match=f"{name} is no picture's name: it must end in .png"):
            draw(run, tmp_path / name)
    with pytest.raises(RunError, match="a.png cannot be written"):
        draw(run, tmp_path / "nowhere" / "a.png")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="is not a run"):
            draw(Run(folder))
