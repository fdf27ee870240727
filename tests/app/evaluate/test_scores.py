"""Scores of generated images, by a judge whose numbers can be computed by hand."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import Dataset, Split
from batchnorm_app.errors import UserError
from batchnorm_app.evaluate import scores as module
from batchnorm_app.evaluate.metrics import diversity, frechet_distance
from batchnorm_app.evaluate.scores import Scores, score
from tests.app.small import split

REAL = Dataset("small", split(10, seed=5), split(60, seed=1), tuple("abcdefghij"))
Array = npt.NDArray[np.float64]


def brightness_judge() -> keras.Model:
    """Classifies an image by the nearest mean brightness: (m - c)^2 is least where 2 m c - c^2 is
    largest. All images of `split` are classified correctly, and the feature is m."""
    inputs = keras.Input((28, 28, 1))
    features = keras.layers.GlobalAveragePooling2D(name="features")(inputs)
    logits = keras.layers.Dense(10, name="logits")
    model = keras.Model(inputs, logits(features))
    brightness = 29.5 + 19 * np.arange(10)
    logits.set_weights([2 * brightness[None], -(brightness**2)])
    return model


def brightness(images: npt.NDArray[np.uint8]) -> Array:
    means: Array = images.mean((1, 2), dtype=np.float64)
    return means


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of GAN-train, which gets a classifier that always answers the first class."""
    calls = []

    def train(generated: Split, classes: int, **options: Any) -> keras.Model:
        calls.append((generated, classes, options))
        model = brightness_judge()
        model.get_layer("logits").set_weights([np.zeros((1, 10)), np.eye(10)[0]])
        return model

    monkeypatch.setattr(module, "train_judge", train)
    return calls


def scored(generated: Split, extractor: keras.Model | None = None, seed: int = 3) -> Scores:
    return score(
        brightness_judge(), REAL, generated, gan_train_epochs=7, seed=seed, extractor=extractor
    )


def test_every_score_by_hand(learners: list[Any]) -> None:
    generated = split(50, seed=2)
    images = (generated.images * 0.9).astype(np.uint8)  # so that there is a distance
    wrong_rows = np.arange(0, 50, 5)
    labels = np.abs(brightness(images) - (29.5 + 19 * np.arange(10))).argmin(1)
    labels[wrong_rows] = (labels[wrong_rows] + 1) % 10
    scores = scored(Split(images, labels))
    generated_values, real_values = brightness(images), brightness(REAL.test.images)
    assert scores.judge_accuracy == 1.0
    assert scores.gan_test == 0.8
    assert scores.gan_train == np.mean(REAL.test.labels == 0) > 0
    assert scores.diversity == pytest.approx(diversity(generated_values, labels), rel=1e-4)
    assert scores.diversity_real == pytest.approx(
        diversity(real_values, REAL.test.labels), rel=1e-4
    )
    expected = (generated_values.mean() - real_values.mean()) ** 2 + (
        generated_values.std(ddof=1) - real_values.std(ddof=1)
    ) ** 2
    assert scores.frechet_distance == pytest.approx(expected, rel=1e-3)
    assert expected > 50
    assert scores.diversity > 1.5 * scores.diversity_real  # because ten labels are wrong


def test_gan_train_trains_on_all_generated_images(learners: list[Any]) -> None:
    generated = split(90, seed=2)
    scored(generated)
    ((images_and_labels, classes, options),) = learners
    np.testing.assert_array_equal(images_and_labels.images, generated.images)
    np.testing.assert_array_equal(images_and_labels.labels, generated.labels)
    assert classes == 10
    assert options == {"epochs": 7, "seed": 3, "callbacks": ()}


def test_fewer_images_are_judged_and_trained_on(learners: list[Any]) -> None:
    """The first ones, whose number does not change the images of the distances."""
    generated = split(90, seed=2)
    generated.labels[:10] = (generated.labels[:10] + 1) % 10  # so the judge disagrees
    callback = keras.callbacks.Callback()
    options: dict[str, Any] = {"gan_train_epochs": 7, "seed": 3}
    full = score(brightness_judge(), REAL, generated, **options)
    few = score(
        brightness_judge(),
        REAL,
        generated,
        judged=20,
        trained_on=30,
        callbacks=[callback],
        **options,
    )
    assert full.gan_test == pytest.approx(80 / 90)
    assert few.gan_test == 0.5
    np.testing.assert_array_equal(learners[1][0].images, generated.images[:30])
    np.testing.assert_array_equal(learners[1][0].labels, generated.labels[:30])
    assert learners[1][2]["callbacks"] == [callback]
    assert few._replace(gan_test=full.gan_test) == full


def test_an_extractor_replaces_the_judges_features(learners: list[Any]) -> None:
    inputs = keras.Input((28, 28, 1))
    corners = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 26), (0, 26)))(inputs))
    generated = split(50, seed=2)
    scores, plain = scored(generated, keras.Model(inputs, corners)), scored(generated)
    generated_values, real_values = (
        part.images[:, :2, :2].reshape(-1, 4).astype(float) for part in (generated, REAL.test)
    )
    assert scores.diversity == pytest.approx(diversity(generated_values, generated.labels))
    assert scores.diversity_real == pytest.approx(diversity(real_values, REAL.test.labels))
    assert scores.frechet_distance == pytest.approx(
        frechet_distance(generated_values, real_values), rel=1e-9
    )
    assert scores.diversity > 10 * plain.diversity
    assert scores[:3] == plain[:3]


def test_as_many_generated_images_as_real_ones_are_drawn(
    learners: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from sorted images, as a generator makes them; all of them are judged."""
    pairs: list[tuple[Array, Array]] = []

    def distance(a: Array, b: Array) -> float:
        pairs.append((a, b))
        return frechet_distance(a, b)

    monkeypatch.setattr(module, "frechet_distance", distance)
    generated = split(300, seed=2)
    order = generated.labels.argsort()
    generated = Split(generated.images[order], generated.labels[order])
    generated.labels[-30:] = 0  # all of the brightest class, and wrong
    scores = [scored(generated, seed=seed) for seed in (3, 3, 4)]
    assert scores[0].gan_test == 0.9
    sample = pairs[0][0]
    assert sample.shape == pairs[0][1].shape == (60, 1)
    all_brightness = brightness(generated.images)
    indices = [int(np.abs(all_brightness - value).argmin()) for value in sample]
    assert len(set(indices)) == 60  # none twice
    classes = {round((float(value) - 29.5) / 19) for value in sample[:, 0]}
    assert classes == set(range(10))
    np.testing.assert_array_equal(sample, pairs[1][0])
    assert (sample != pairs[2][0]).any()
    scored(split(40))
    assert (len(pairs[3][0]), len(pairs[3][1])) == (40, 60)


def test_gan_train_is_the_accuracy_after_training_on_generated_images_only() -> None:
    """Images with the brightness of another class teach that class, and the judge disagrees."""
    generated = split(300, seed=2)
    labels = (generated.labels + 1) % 10
    judge = brightness_judge()
    weights_before = judge.get_weights()
    test = REAL.test._replace(labels=(REAL.test.labels + 1) % 10)
    renamed = REAL._replace(test=test)
    scores = score(judge, renamed, Split(generated.images, labels), gan_train_epochs=20, seed=0)
    assert scores.judge_accuracy == scores.gan_test == 0
    assert scores.gan_train > 0.6
    for weights, expected in zip(weights_before, judge.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_images_of_another_shape_are_refused() -> None:
    other = Split(np.zeros((200, 32, 32, 3), np.uint8), np.zeros(200, np.int64))
    with pytest.raises(ValueError, match=r"\(32, 32, 3\), but those of small .* \(28, 28, 1\)"):
        scored(other)


def test_a_label_outside_the_classes_is_refused() -> None:
    generated = split(200)
    generated.labels[3] = 10
    with pytest.raises(ValueError, match="label 10 at place 3"):
        scored(generated)


def test_too_few_generated_images_are_refused() -> None:
    with pytest.raises(UserError, match="batch of 128 out of 50"):
        scored(split(50))
