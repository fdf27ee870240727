"""Generated images are scored, by a judge whose every number can be worked out by hand."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import Dataset, Split
from batchnorm.train.gan import scores as module
from batchnorm.train.gan.metrics import diversity, frechet_distance
from batchnorm.train.gan.scores import Scores, score
from batchnorm.train.run import RunError
from tests.train.small import split

REAL = Dataset("small", split(10, seed=5), split(60, seed=1), tuple("abcdefghij"))
Array = npt.NDArray[np.float64]


def by_brightness() -> keras.Model:
    """Takes an image for the class whose mean brightness is nearest: (m - c)^2 is least where
    2 m c - c^2 is largest. It is right about every image of `split`, and its feature is m."""
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
    """What GAN-train is asked for; it is given what takes all images for the first class."""
    asked = []

    def train(generated: Split, classes: int, **options: Any) -> keras.Model:
        asked.append((generated, classes, options))
        model = by_brightness()
        model.get_layer("logits").set_weights([np.zeros((1, 10)), np.eye(10)[0]])
        return model

    monkeypatch.setattr(module, "train_judge", train)
    return asked


def scored(generated: Split, extractor: keras.Model | None = None, seed: int = 3) -> Scores:
    return score(
        by_brightness(), REAL, generated, gan_train_epochs=7, seed=seed, extractor=extractor
    )


def test_every_score_by_hand(learners: list[Any]) -> None:
    generated = split(50, seed=2)
    images = (generated.images * 0.9).astype(np.uint8)  # so that there is a distance
    wrong = np.arange(0, 50, 5)
    labels = np.abs(brightness(images) - (29.5 + 19 * np.arange(10))).argmin(1)
    labels[wrong] = (labels[wrong] + 1) % 10
    scores = scored(Split(images, labels))
    seen, real = brightness(images), brightness(REAL.test.images)
    assert scores.judge_accuracy == 1.0
    assert scores.gan_test == 0.8
    assert scores.gan_train == np.mean(REAL.test.labels == 0) > 0
    assert scores.diversity == pytest.approx(diversity(seen, labels), rel=1e-4)
    assert scores.diversity_real == pytest.approx(diversity(real, REAL.test.labels), rel=1e-4)
    expected = (seen.mean() - real.mean()) ** 2 + (seen.std(ddof=1) - real.std(ddof=1)) ** 2
    assert scores.frechet_distance == pytest.approx(expected, rel=1e-3)
    assert expected > 50
    assert scores.diversity > 1.5 * scores.diversity_real  # ten labels are wrong


def test_gan_train_is_asked_to_train_on_all_that_is_generated(learners: list[Any]) -> None:
    generated = split(90, seed=2)
    scored(generated)
    ((given, classes, options),) = learners
    np.testing.assert_array_equal(given.images, generated.images)
    np.testing.assert_array_equal(given.labels, generated.labels)
    assert classes == 10
    assert options == {"epochs": 7, "seed": 3, "callbacks": ()}


def test_fewer_images_are_judged_and_trained_on(learners: list[Any]) -> None:
    """The first ones; how many does not change what the distances are measured on."""
    generated = split(90, seed=2)
    generated.labels[:10] = (generated.labels[:10] + 1) % 10  # which the judge objects to
    look = keras.callbacks.Callback()
    options: dict[str, Any] = {"gan_train_epochs": 7, "seed": 3}
    whole = score(by_brightness(), REAL, generated, **options)
    few = score(
        by_brightness(),
        REAL,
        generated,
        judged=20,
        trained_on=30,
        callbacks=[look],
        **options,
    )
    assert whole.gan_test == pytest.approx(80 / 90)
    assert few.gan_test == 0.5
    np.testing.assert_array_equal(learners[1][0].images, generated.images[:30])
    np.testing.assert_array_equal(learners[1][0].labels, generated.labels[:30])
    assert learners[1][2]["callbacks"] == [look]
    assert few._replace(gan_test=whole.gan_test) == whole


def test_an_extractor_sees_in_place_of_the_judge(learners: list[Any]) -> None:
    inputs = keras.Input((28, 28, 1))
    corners = keras.layers.Flatten()(keras.layers.Cropping2D(((0, 26), (0, 26)))(inputs))
    generated = split(50, seed=2)
    scores, plain = scored(generated, keras.Model(inputs, corners)), scored(generated)
    seen, real = (
        part.images[:, :2, :2].reshape(-1, 4).astype(float) for part in (generated, REAL.test)
    )
    assert scores.diversity == pytest.approx(diversity(seen, generated.labels))
    assert scores.diversity_real == pytest.approx(diversity(real, REAL.test.labels))
    assert scores.frechet_distance == pytest.approx(frechet_distance(seen, real), rel=1e-9)
    assert scores.diversity > 10 * plain.diversity
    assert scores[:3] == plain[:3]


def test_as_many_generated_images_as_real_ones_are_drawn(
    learners: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are sorted, as a generator makes them; all of them are judged."""
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
    drawn = pairs[0][0]
    assert drawn.shape == pairs[0][1].shape == (60, 1)
    every = brightness(generated.images)
    places = [int(np.abs(every - each).argmin()) for each in drawn]
    assert len(set(places)) == 60  # none twice
    classes = {round((float(each) - 29.5) / 19) for each in drawn[:, 0]}
    assert classes == set(range(10))
    np.testing.assert_array_equal(drawn, pairs[1][0])
    assert (drawn != pairs[2][0]).any()
    scored(split(40))
    assert (len(pairs[3][0]), len(pairs[3][1])) == (40, 60)


def test_gan_train_is_the_accuracy_of_one_who_knows_generated_images_alone() -> None:
    """Images that are each of another class's brightness teach that, and the judge objects."""
    generated = split(300, seed=2)
    labels = (generated.labels + 1) % 10
    judge = by_brightness()
    before = judge.get_weights()
    test = REAL.test._replace(labels=(REAL.test.labels + 1) % 10)
    renamed = REAL._replace(test=test)
    scores = score(judge, renamed, Split(generated.images, labels), gan_train_epochs=20, seed=0)
    assert scores.judge_accuracy == scores.gan_test == 0
    assert scores.gan_train > 0.6
    for one, same in zip(before, judge.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_images_of_another_shape_are_refused() -> None:
    other = Split(np.zeros((200, 32, 32, 3), np.uint8), np.zeros(200, np.int64))
    with pytest.raises(ValueError, match=r"\(32, 32, 3\), but those of small .* \(28, 28, 1\)"):
        scored(other)


def test_a_label_that_is_no_class_is_refused() -> None:
    generated = split(200)
    generated.labels[3] = 10
    with pytest.raises(ValueError, match="label 10 at place 3"):
        scored(generated)


def test_too_few_generated_images_are_refused() -> None:
    with pytest.raises(RunError, match="batch of 128 out of 50"):
        scored(split(50))
