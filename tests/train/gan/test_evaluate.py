"""A generator is evaluated: what is trained, generated, scored, written and told."""

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
from batchnorm.train.gan import evaluate as module
from batchnorm.train.gan import scores
from batchnorm.train.gan.evaluate import Asked, evaluate
from batchnorm.train.gan.generate import latents
from batchnorm.train.gan.scores import Scores
from batchnorm.train.run import Run, RunError
from tests.train import small

SCORES = Scores(
    judge_accuracy=0.875,
    gan_test=0.625,
    gan_train=0.125,
    diversity=3.0,
    diversity_real=4.0,
    frechet_distance=17.25,
)


class Watched:
    """Takes the places of what is slow, and remembers what it was asked for."""

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
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    found = Watched()
    monkeypatch.setattr(module, "train_judge", found.train_judge)
    monkeypatch.setattr(module, "score", found.score)
    monkeypatch.setattr(module, "generate", found.generate)
    return found


@pytest.fixture
def run(untrained: Run, tmp_path: Path) -> Run:
    shutil.copytree(untrained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def console() -> Console:
    return Console(file=io.StringIO(), width=220)


def told(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_from_a_run_to_its_scores(run: Run) -> None:
    """Nothing is replaced here."""
    shown = console()
    scores = evaluate(run, Asked(count=60, train_count=150, judge_epochs=1, seed=3), shown)
    written = json.loads(run.scores.read_text())
    assert written == {
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
    lines = told(shown).splitlines()
    assert lines[0] == "A judge learns from 300 real images, 1 epoch ..."
    assert lines[1].startswith("  epoch 1/1  accuracy 0.")
    assert "The generator makes 150 images ..." in lines
    assert "A classifier learns from 150 generated images, 2 epochs ..." in lines
    assert "The scores are measured ..." in lines

    judge = keras.models.load_model(run.judge, compile=False)
    real = small.split(small.TEST, seed=1)
    logits = keras.ops.convert_to_numpy(judge(real.images, training=False))
    assert scores.judge_accuracy == np.mean(logits.argmax(-1) == real.labels)


def test_what_is_done_unless_asked_otherwise(run: Run, watched: Watched) -> None:
    evaluate(run, Asked(), console())
    ((judged,), (scored,)) = watched.trained, watched.scored
    np.testing.assert_array_equal(judged["split"].images, small.split(small.TRAIN).images)
    assert (judged["classes"], judged["seed"]) == (10, 0)
    assert judged["epochs"] == 427  # 128,000 images, of which there are 300
    assert (scored["judged"], scored["trained_on"], scored["gan_train_epochs"]) == (2000, 300, 427)
    assert (scored["seed"], scored["extractor"]) == (0, None)
    assert scored["real"].name == "fashion-mnist"
    generated = scored["generated"]
    assert generated.images.shape == (2000, 28, 28, 1)
    np.testing.assert_array_equal(generated.images[:, 3, 4, 0], generated.labels)
    for count in (2000, 300):  # the first, too, are of each class as many
        assert set(np.bincount(generated.labels[:count], minlength=10)) == {count // 10}
    points, mixtures = (np.concatenate(each) for each in zip(*watched.generated, strict=True))
    np.testing.assert_array_equal(points, latents(0, 2000, 8))
    np.testing.assert_array_equal(mixtures, np.eye(10)[generated.labels])
    saved = keras.models.load_model(run.judge, compile=False)
    for one, same in zip(saved.get_weights(), scored["judge"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize(
    "asked, total, epochs",
    [
        (Asked(count=10, train_count=600, judge_epochs=4), 600, (4, 2)),
        (Asked(count=900, train_count=600, judge_epochs=1), 900, (1, 1)),  # 0.5 is not enough
        (Asked(count=10, train_count=30, judge_epochs=2), 50, (2, 20)),  # as many as are compared
    ],
)
def test_images_are_generated_once_and_gan_train_makes_as_many_steps(
    run: Run, watched: Watched, asked: Asked, total: int, epochs: tuple[int, int]
) -> None:
    evaluate(run, asked, console())
    ((judged,), (scored,)) = watched.trained, watched.scored
    assert len(scored["generated"].images) == len(scored["generated"].labels) == total
    assert (judged["epochs"], scored["gan_train_epochs"]) == epochs
    assert (scored["judged"], scored["trained_on"]) == (asked.count, asked.train_count)


def test_of_a_large_data_set_fewer_are_learned_from(
    run: Run, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    monkeypatch.setattr(module, "ENOUGH", 600)
    evaluate(run, Asked(count=10), console())
    ((judged,), (scored,)) = watched.trained, watched.scored
    assert (judged["epochs"], scored["trained_on"], scored["gan_train_epochs"]) == (5, 100, 15)


def test_a_judge_from_a_file_is_not_trained(run: Run, watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    given = classifier(width=1, seed=5)
    given.save(path)
    evaluate(run, Asked(count=10, judge=path), console())
    assert watched.trained == []
    assert not run.judge.exists()
    weights = watched.scored[0]["judge"].get_weights()
    for one, same in zip(weights, given.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    written = json.loads(run.scores.read_text())
    assert (written["judge"], written["judge_epochs"]) == (str(path), None)


def test_the_table_says_what_each_score_is(run: Run, watched: Watched) -> None:
    shown = console()
    evaluate(run, Asked(count=20), shown)
    rows = [line for line in told(shown).splitlines() if line.startswith("│")]
    for name, value, words in (
        ("judge's accuracy", "0.875", "Of 50 real test images"),
        ("GAN-test", "0.625", "Of 20 generated images"),
        ("GAN-train", "0.125", "learned from 300 generated images"),
        ("diversity", "0.750", "on the judge's features"),
        ("Frechet distance on the judge's features", "17.25", "Between 50 generated"),
    ):
        (row,) = (row for row in rows if row.startswith(f"│ {name} "))
        assert f"│ {value} │" in row.replace("  ", " ") and words in row
    assert "FID" not in told(shown)
    assert str(run.scores) in told(shown)


def test_another_models_features_are_named(run: Run, watched: Watched, tmp_path: Path) -> None:
    path = save(tmp_path / "eyes.keras", (None, None, 1), keras.layers.GlobalAveragePooling2D())
    shown = console()
    evaluate(run, Asked(count=20, features=path), shown)
    assert watched.scored[0]["extractor"].output_shape == (None, 1)
    assert f"Frechet distance on {path.name}'s features" in told(shown)
    assert "FID" not in told(shown)
    assert json.loads(run.scores.read_text())["features"] == str(path)


def save(path: Path, shape: tuple[int | None, ...], *layers: keras.layers.Layer) -> Path:
    inputs = outputs = keras.Input(shape)
    for layer in layers:
        outputs = layer(outputs)
    keras.Model(inputs, outputs).save(path)
    return path


def test_models_that_do_not_fit_are_refused(run: Run, watched: Watched, tmp_path: Path) -> None:
    flat, ten = keras.layers.Flatten, keras.layers.Dense
    path = tmp_path / "model.keras"
    small_images = (
        r"does not fit fashion-mnist, whose images are \(28, 28, 1\): it takes \(32, 32, 3\)"
    )
    for shape, layers, judge, features in (
        ((32, 32, 3), (flat(), ten(10)), small_images, small_images),
        ((784,), (ten(10),), r"it takes \(784,\)", r"it takes \(784,\)"),
        ((28, 28, 1), (flat(), ten(9)), r"answers with \(9,\) .* judge does with \(10,\)", ""),
        ((28, 28, 1), (flat(), ten(10)), "has no layer 'features'", ""),
        ((28, 28, 1), (ten(10),), r"with \(28, 28, 10\)", r"gives no features.*\(28, 28, 10\)"),
    ):
        save(path, shape, *layers)
        with pytest.raises(RunError, match=judge):
            evaluate(run, Asked(judge=path), console())
        if features:
            with pytest.raises(RunError, match=features):
                evaluate(run, Asked(features=path), console())
    shutil.copy(run.model, path)
    with pytest.raises(RunError, match=r"it takes \(8,\) and \(10,\)"):
        evaluate(run, Asked(judge=path), console())
    assert (watched.trained, watched.scored) == ([], [])
    assert not run.scores.exists()


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_models_that_cannot_be_read_are_refused(
    run: Run, watched: Watched, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    message = "model.keras " + ("does not exist" if content is None else "is damaged")
    for asked in (Asked(judge=path), Asked(features=path)):
        with pytest.raises(RunError, match=message):
            evaluate(run, asked, console())
    assert (watched.trained, watched.scored) == ([], [])


def test_runs_that_generate_nothing_are_refused(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(RunError, match="is not a run"):
        evaluate(run, Asked(), console())
    run.create(small.gan_settings(data_dir))
    with pytest.raises(RunError, match="training was not finished"):
        evaluate(run, Asked(), console())
    run.create(small.settings(data_dir))
    with pytest.raises(RunError, match="is a run of lenet, which generates nothing"):
        evaluate(run, Asked(), console())


def test_features_that_are_not_finite_are_told_in_words(
    run: Run, watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "score", scores.score)
    monkeypatch.setattr(scores, "train_judge", watched.train_judge)
    path = save(
        tmp_path / "eyes.keras",
        (28, 28, 1),
        keras.layers.Flatten(),
        keras.layers.Rescaling(float("inf")),
    )
    with pytest.raises(RunError, match="not finite"):
        evaluate(run, Asked(count=10, features=path), console())
    assert not run.scores.exists()


def test_an_interruption_leaves_no_half_a_judge(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_judge", interrupt)
    # Not by name: another file's tests may have drawn a picture in the run that this one is of.
    before = sorted(run.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, Asked(), console())
    assert sorted(run.folder.iterdir()) == before and not run.judge.exists()
