"""What the images of a class-conditional generator are worth, by classifiers and distances."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from batchnorm.data import Dataset, Split
from batchnorm.train.evaluate import accuracy
from batchnorm.train.gan.judge import features, outputs, train_judge
from batchnorm.train.gan.metrics import diversity, frechet_distance

BATCH = 500  # to measure with; the scores do not depend on it


class Scores(NamedTuple):
    """The scores of a generator; each stands beside what real images reach.

    Attributes:
        judge_accuracy: the share of the real test images that the judge takes for what they are,
            0 to 1: what `gan_test` would be for a perfect generator, and about what `gan_train`
            would be, if it made as many images as the judge was trained on.
        gan_test: the share of the generated images that the judge takes for the class they were
            generated as, 0 to 1: the precision. Above `judge_accuracy`, the generator avoids what
            is difficult about the real images.
        gan_train: the share of the real test images that are classified rightly by a classifier
            like the judge that was trained on the generated images, 0 to 1: the recall, which is
            low if they are bad as well as if they are all alike.
        diversity: of the generated images, `batchnorm.train.gan.metrics.diversity`.
        diversity_real: of the real test images.
        frechet_distance: between generated and real test images,
            `batchnorm.train.gan.metrics.frechet_distance`; 0 if their moments are the same. This is
            not FID, which is measured on the Inception network's features.

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
    """Scores generated images; neither the models nor any global generator are changed.

    All generated images are judged and trained on, unless fewer are asked for. For the distances
    there are as many of them as real test images, drawn by the seed, or all if they are fewer.

    Args:
        judge: trained on `real.train`, as by `batchnorm.train.gan.judge.train_judge`.
        real: the data set that the generator learned from; its test images are looked at.
        generated: images and the classes that they were generated as; at least 128, for GAN-train.
        gan_train_epochs: epochs of GAN-train's classifier. For a comparison with the judge, as
            many as make the same number of steps.
        seed: of GAN-train's classifier and of the choice of images.
        judged: how many generated images the judge looks at, the first; `None` for all.
        trained_on: how many GAN-train's classifier learns from, likewise.
        extractor: from images to features `(N, D)`, for the distances; `None` for the judge's own
            layer `"features"`.
        callbacks: of Keras's, to show the progress of GAN-train, say.

    Returns:
        The scores.

    Raises:
        ValueError: the generated images have another shape than the real ones, a label is none of
            the data set's, no class has two images, or features are not finite.
        RunError: there are too few generated images to train on.

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
            f"{expected}: a judge of the one cannot judge the other."
        )
    learner = train_judge(
        _first(generated, trained_on),
        len(real.classes),
        epochs=gan_train_epochs,
        seed=seed,
        callbacks=callbacks,
    )
    chosen = _choose(generated, len(real.test.labels), seed)
    generated_features = _extract(judge, extractor, chosen)
    real_features = _extract(judge, extractor, real.test)
    return Scores(
        judge_accuracy=accuracy(judge, real.test, BATCH),
        gan_test=accuracy(judge, _first(generated, judged), BATCH),
        gan_train=accuracy(learner, real.test, BATCH),
        diversity=diversity(generated_features, chosen.labels),
        diversity_real=diversity(real_features, real.test.labels),
        frechet_distance=frechet_distance(generated_features, real_features),
    )


def _first(split: Split, count: int | None) -> Split:
    return Split(split.images[:count], split.labels[:count])


def _choose(split: Split, count: int, seed: int) -> Split:
    # Drawn rather than the first, which would be of a few classes where they are sorted.
    rows = np.random.default_rng(seed).permutation(len(split.labels))[:count]
    return Split(split.images[rows], split.labels[rows])


def _extract(
    judge: keras.Model, extractor: keras.Model | None, split: Split
) -> npt.NDArray[np.float64]:
    if extractor is None:
        return features(judge, split.images)
    return outputs(extractor, split.images)
