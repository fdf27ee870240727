"""An evaluation of a generator: training, generation, scores, files and output."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from batchnorm.data import Dataset, Split
from batchnorm.models.classifier import classifier
from batchnorm_app.errors import UserError
from batchnorm_app.evaluate import generator as module
from batchnorm_app.evaluate import scores
from batchnorm_app.evaluate.generator import EvaluationRequest, evaluate_generator
from batchnorm_app.evaluate.scores import Scores
from batchnorm_app.runs.run import Run
from batchnorm_app.train.gan.generate import latents
from tests.app import small

SCORES = Scores(
    judge_accuracy=0.875,
    gan_test=0.625,
    gan_train=0.125,
    diversity=3.0,
    diversity_real=4.0,
    frechet_distance=17.25,
)


class Recorder:
    """Replaces the slow functions, and records their arguments."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Any]] = []
        self.scored: list[dict[str, Any]] = []
        self.generated: list[tuple[Any, Any]] = []

    def generate(self, model: keras.Model, points: Any, mixtures: Any) -> Any:
        self.generated.append((points, mixtures))
        brightness = mixtures.argmax(-1).astype(np.uint8)
        return brightness[:, None, None, None] * np.ones((28, 28, 1), np.uint8)

    def train_judge(self, split: Split, classes: int, **options: Any) -> keras.Model:
        self.trained.append({"split": split, "classes": classes, **options})
        return classifier(width=1, seed=0)

    def score(self, judge: keras.Model, real: Dataset, generated: Split, **options: Any) -> Scores:
        self.scored.append({"judge": judge, "real": real, "generated": generated, **options})
        return SCORES


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "train_judge", recorder.train_judge)
    monkeypatch.setattr(module, "score", recorder.score)
    monkeypatch.setattr(module, "generate", recorder.generate)
    return recorder


@pytest.fixture
def run(untrained: Run, tmp_path: Path) -> Run:
    shutil.copytree(untrained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def console() -> Console:
    return Console(file=io.StringIO(), width=220)


def text_of(output: Console) -> str:
    assert isinstance(output.file, io.StringIO)
    return output.file.getvalue()


def test_from_a_run_to_its_scores(run: Run) -> None:
    """With the real functions, none of them replaced."""
    output = console()
    scores = evaluate_generator(
        run, EvaluationRequest(count=60, train_count=150, judge_epochs=1, seed=3), output
    )
    content = json.loads(run.scores.read_text())
    assert content == {
        **scores._asdict(),
        "judged": 60,
        "trained_on": 150,
        "compared": 50,
        "judge": str(run.judge),
        "features": "the judge's",
        "judge_epochs": 1,
        "gan_train_epochs": 2,
        "seed": 3,
    }
    assert 0 <= min(scores[:3]) <= max(scores[:3]) <= 1
    assert min(scores[3:]) > 0
    lines = text_of(output).splitlines()
    assert lines[0] == "A judge learns from 300 real images, 1 epoch ..."
    assert lines[1].startswith("  epoch 1/1  accuracy 0.")
    assert "The generator makes 150 images ..." in lines
    assert "A classifier learns from 150 generated images, 2 epochs ..." in lines
    assert "The scores are measured ..." in lines

    judge = keras.models.load_model(run.judge, compile=False)
    real = small.split(small.TEST, seed=1)
    logits = keras.ops.convert_to_numpy(judge(real.images, training=False))
    assert scores.judge_accuracy == np.mean(logits.argmax(-1) == real.labels)


@pytest.mark.slow_on_jax
def test_defaults(run: Run, recorder: Recorder) -> None:
    evaluate_generator(run, EvaluationRequest(), console())
    ((training,), (scoring,)) = recorder.trained, recorder.scored
    np.testing.assert_array_equal(training["split"].images, small.split(small.TRAIN).images)
    assert (training["classes"], training["seed"]) == (10, 0)
    assert training["epochs"] == 427  # 128,000 images, of which there are 300
    assert (scoring["judged"], scoring["trained_on"], scoring["gan_train_epochs"]) == (
        2000,
        300,
        427,
    )
    assert (scoring["seed"], scoring["extractor"]) == (0, None)
    assert scoring["real"].name == "fashion-mnist"
    generated = scoring["generated"]
    assert generated.images.shape == (2000, 28, 28, 1)
    np.testing.assert_array_equal(generated.images[:, 3, 4, 0], generated.labels)
    for count in (2000, 300):  # the first ones are balanced, too
        assert set(np.bincount(generated.labels[:count], minlength=10)) == {count // 10}
    points, mixtures = (np.concatenate(arrays) for arrays in zip(*recorder.generated, strict=True))
    np.testing.assert_array_equal(points, latents(0, 2000, 8))
    np.testing.assert_array_equal(mixtures, np.eye(10)[generated.labels])
    judge = keras.models.load_model(run.judge, compile=False)
    for weights, expected in zip(judge.get_weights(), scoring["judge"].get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    "settings, total, epochs",
    [
        (EvaluationRequest(count=10, train_count=600, judge_epochs=4), 600, (4, 2)),
        (
            EvaluationRequest(count=900, train_count=600, judge_epochs=1),
            900,
            (1, 1),
        ),  # 0.5 is not enough
        (
            EvaluationRequest(count=10, train_count=30, judge_epochs=2),
            50,
            (2, 20),
        ),  # those that are compared
    ],
)
def test_images_are_generated_once_and_both_trainings_take_as_many_steps(
    run: Run, recorder: Recorder, settings: EvaluationRequest, total: int, epochs: tuple[int, int]
) -> None:
    evaluate_generator(run, settings, console())
    ((training,), (scoring,)) = recorder.trained, recorder.scored
    assert len(scoring["generated"].images) == len(scoring["generated"].labels) == total
    assert (training["epochs"], scoring["gan_train_epochs"]) == epochs
    assert (scoring["judged"], scoring["trained_on"]) == (settings.count, settings.train_count)


def test_a_large_data_set_limits_the_generated_images(
    run: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GENERATED", 100)
    monkeypatch.setattr(module, "JUDGE_IMAGES", 600)
    evaluate_generator(run, EvaluationRequest(count=10), console())
    ((training,), (scoring,)) = recorder.trained, recorder.scored
    assert (training["epochs"], scoring["trained_on"], scoring["gan_train_epochs"]) == (5, 100, 15)


def test_a_judge_from_a_file_is_not_trained(run: Run, recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    judge = classifier(width=1, seed=5)
    judge.save(path)
    evaluate_generator(run, EvaluationRequest(count=10, judge=path), console())
    assert recorder.trained == []
    assert not run.judge.exists()
    used = recorder.scored[0]["judge"]
    for weights, expected in zip(used.get_weights(), judge.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
    content = json.loads(run.scores.read_text())
    assert (content["judge"], content["judge_epochs"]) == (str(path), None)


def test_the_table_explains_each_score(run: Run, recorder: Recorder) -> None:
    output = console()
    evaluate_generator(run, EvaluationRequest(count=20), output)
    rows = [line for line in text_of(output).splitlines() if line.startswith("│")]
    for name, value, words in (
        ("judge's accuracy", "0.875", "Of 50 real test images"),
        ("GAN-test", "0.625", "Of 20 generated images"),
        ("GAN-train", "0.125", "learned from 300 generated images"),
        ("diversity", "0.750", "on the judge's features"),
        ("Frechet distance on the judge's features", "17.25", "Between 50 generated"),
    ):
        (row,) = (row for row in rows if row.startswith(f"│ {name} "))
        assert f"│ {value} │" in row.replace("  ", " ") and words in row
    assert "FID" not in text_of(output)
    assert str(run.scores) in text_of(output)


def test_another_models_features_are_named(run: Run, recorder: Recorder, tmp_path: Path) -> None:
    path = save(tmp_path / "eyes.keras", (None, None, 1), keras.layers.GlobalAveragePooling2D())
    output = console()
    evaluate_generator(run, EvaluationRequest(count=20, features=path), output)
    assert recorder.scored[0]["extractor"].output_shape == (None, 1)
    assert f"Frechet distance on {path.name}'s features" in text_of(output)
    assert "FID" not in text_of(output)
    assert json.loads(run.scores.read_text())["features"] == str(path)


def save(path: Path, shape: tuple[int | None, ...], *layers: keras.layers.Layer) -> Path:
    inputs = outputs = keras.Input(shape)
    for layer in layers:
        outputs = layer(outputs)
    keras.Model(inputs, outputs).save(path)
    return path


@pytest.mark.slow_on_jax
def test_models_that_do_not_fit_are_refused(run: Run, recorder: Recorder, tmp_path: Path) -> None:
    flat, ten = keras.layers.Flatten, keras.layers.Dense
    path = tmp_path / "model.keras"
    small_images = (
        r"does not fit fashion-mnist, whose images are \(28, 28, 1\): it takes \(32, 32, 3\)"
    )
    for shape, layers, judge, features in (
        ((32, 32, 3), (flat(), ten(10)), small_images, small_images),
        ((784,), (ten(10),), r"it takes \(784,\)", r"it takes \(784,\)"),
        ((28, 28, 1), (flat(), ten(9)), r"returns \(9,\) .* judge returns \(10,\)", ""),
        ((28, 28, 1), (flat(), ten(10)), "has no layer 'features'", ""),
        ((28, 28, 1), (ten(10),), r"returns \(28, 28, 10\)", r"gives no features.*\(28, 28, 10\)"),
    ):
        save(path, shape, *layers)
        with pytest.raises(UserError, match=judge):
            evaluate_generator(run, EvaluationRequest(judge=path), console())
        if features:
            with pytest.raises(UserError, match=features):
                evaluate_generator(run, EvaluationRequest(features=path), console())
    shutil.copy(run.model, path)
    with pytest.raises(UserError, match=r"it takes \(8,\) and \(10,\)"):
        evaluate_generator(run, EvaluationRequest(judge=path), console())
    assert (recorder.trained, recorder.scored) == ([], [])
    assert not run.scores.exists()


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_models_that_cannot_be_read_are_refused(
    run: Run, recorder: Recorder, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    message = "model.keras " + ("does not exist" if content is None else "is damaged")
    for settings in (EvaluationRequest(judge=path), EvaluationRequest(features=path)):
        with pytest.raises(UserError, match=message):
            evaluate_generator(run, settings, console())
    assert (recorder.trained, recorder.scored) == ([], [])


def test_runs_that_generate_nothing_are_refused(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(UserError, match="is not a run"):
        evaluate_generator(run, EvaluationRequest(), console())
    run.create(small.gan_settings(data_dir))
    with pytest.raises(UserError, match="training was not finished"):
        evaluate_generator(run, EvaluationRequest(), console())
    run.create(small.settings(data_dir))
    with pytest.raises(UserError, match="is a run of lenet, which generates nothing"):
        evaluate_generator(run, EvaluationRequest(), console())


@pytest.mark.slow_on_jax
def test_features_that_are_not_finite_are_an_error(
    run: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "score", scores.score)
    monkeypatch.setattr(scores, "train_judge", recorder.train_judge)
    path = save(
        tmp_path / "eyes.keras",
        (28, 28, 1),
        keras.layers.Flatten(),
        keras.layers.Rescaling(float("inf")),
    )
    with pytest.raises(UserError, match="not finite"):
        evaluate_generator(run, EvaluationRequest(count=10, features=path), console())
    assert not run.scores.exists()


def test_an_interruption_leaves_no_half_a_judge(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_judge", interrupt)
    # Compared as lists, because tests of another file may have drawn a picture in this run.
    before = sorted(run.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        evaluate_generator(run, EvaluationRequest(), console())
    assert sorted(run.folder.iterdir()) == before and not run.judge.exists()
