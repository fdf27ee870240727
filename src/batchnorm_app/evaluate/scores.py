"""Scores of a class-conditional generator's images, by classifiers and distances."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.data import Dataset, Split
from batchnorm_app.evaluate.judge import features, outputs, train_judge
from batchnorm_app.evaluate.metrics import diversity, frechet_distance
from batchnorm_app.train.accuracy import accuracy

BATCH = 500  # images; the scores do not depend on it


class Scores(NamedTuple):
    """The scores of a generator, with those of real images for comparison.

    Attributes:
        judge_accuracy: the share of the real test images that the judge classifies correctly, 0 to
            1: the `gan_test` of a perfect generator, and about its `gan_train`, if it made as many
            images as the judge was trained on.
        gan_test: the share of the generated images that the judge assigns to the class they were
            generated as, 0 to 1: the precision. Above `judge_accuracy`, the generator avoids the
            difficult kinds of real images.
        gan_train: the share of the real test images that a classifier like the judge recognizes
            after it was trained on the generated images, 0 to 1: the recall, which is low if these
            are bad, and also if they are all alike.
        diversity: of the generated images, `batchnorm_app.evaluate.metrics.diversity`.
        diversity_real: of the real test images.
        frechet_distance: between generated and real test images,
            `batchnorm_app.evaluate.metrics.frechet_distance`; 0 if their moments are equal.
            This is not FID, which is measured on the Inception network's features.

    References:
        Shmelkov, Schmid, Alahari 2018, "How good is my GAN?", arXiv:1807.09499, section 3
        (GAN-test and GAN-train); Heusel et al. 2017, "GANs trained by a two time-scale update
        rule converge to a local Nash equilibrium", equation (6) (the Frechet distance).
    """

    judge_accuracy: float
    gan_test: float
    gan_train: float
    diversity: float
    diversity_real: float
    frechet_distance: float


def score(
    judge: keras.Model,
    real: Dataset,
    generated: Split,
    *,
    gan_train_epochs: int,
    seed: int,
    judged: int | None = None,
    trained_on: int | None = None,
    extractor: keras.Model | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Scores:
    """Scores generated images, without a change to the models or global random generators.

    All generated images are judged and trained on, unless `judged` and `trained_on` limit them. The
    distances are those of as many as there are real test images, drawn by the seed, or of all if
    they are fewer.

    Args:
        judge: trained on `real.train`, as by `batchnorm_app.evaluate.judge.train_judge`.
        real: the data set that the generator learned from; its test images are the reference.
        generated: images and the classes that they were generated as; at least 128, for GAN-train.
        gan_train_epochs: epochs of GAN-train's classifier. For a comparison with the judge, both
            must take the same number of steps.
        seed: of GAN-train's classifier and of the choice of images.
        judged: number of generated images to judge, the first ones; `None` for all.
        trained_on: number of generated images to train on, likewise.
        extractor: from images to features `(N, D)`, for the distances; `None` for the judge's own
            layer `"features"`.
        callbacks: Keras callbacks for the training of GAN-train's classifier.

    Returns:
        The scores.

    Raises:
        ValueError: the generated images have another shape than the real ones, a label is outside
            the data set's classes, no class has two images, or features are not finite.
        UserError: there are too few generated images to train on.

    Example:
        >>> from batchnorm.data import load
        >>> from batchnorm.models.classifier import classifier
        >>> real = load("fashion-mnist-sample")
        >>> scores = score(classifier(), real, real.test, gan_train_epochs=1, seed=0)
        >>> scores.gan_test == scores.judge_accuracy, round(scores.frechet_distance, 6)
        (True, 0.0)

    References:
        Shmelkov, Schmid, Alahari 2018, "How good is my GAN?", arXiv:1807.09499, section 3.
    """
    shape, expected = generated.images.shape[1:], real.test.images.shape[1:]
    if shape != expected:
        raise ValueError(
            f"received generated images of shape {shape}, but those of {real.name} are of shape "
            f"{expected}: a judge of these cannot judge the others."
        )
    learner = train_judge(
        _first(generated, trained_on),
        len(real.classes),
        epochs=gan_train_epochs,
        seed=seed,
        callbacks=callbacks,
    )
    sample = _draw(generated, len(real.test.labels), seed)
    generated_features = _extract(judge, extractor, sample)
    real_features = _extract(judge, extractor, real.test)
    return Scores(
        judge_accuracy=accuracy(judge, real.test, BATCH),
        gan_test=accuracy(judge, _first(generated, judged), BATCH),
        gan_train=accuracy(learner, real.test, BATCH),
        diversity=diversity(generated_features, sample.labels),
        diversity_real=diversity(real_features, real.test.labels),
        frechet_distance=frechet_distance(generated_features, real_features),
    )


def _first(split: Split, count: int | None) -> Split:
    return Split(split.images[:count], split.labels[:count])


def _draw(split: Split, count: int, seed: int) -> Split:
    # A random choice, because the first images may be of a few classes only, if sorted.
    rows = np.random.default_rng(seed).permutation(len(split.labels))[:count]
    return Split(split.images[rows], split.labels[rows])


def _extract(
    judge: keras.Model, extractor: keras.Model | None, split: Split
) -> npt.NDArray[np.float64]:
    if extractor is None:
        return features(judge, split.images)
    return outputs(extractor, split.images)
