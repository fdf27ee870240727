"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 70,000 grey images of clothes, 28 by 28."""

from pathlib import Path

from batchnorm.data import idx
from batchnorm.data.dataset import DataError, Dataset, Split, make_split
from batchnorm.data.locations import DataFiles, download, keras_datasets

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIZE = (28, 28)
FILES = DataFiles(
    files=(
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ),
    subfolders=("fashion-mnist",),
    suffixes=(".gz", ""),
)
# The parent of the folder that Debian's package dataset-fashion-mnist installs.
SYSTEM = Path("/usr/share/datasets")
# The address and the folder of keras.datasets.fashion_mnist.
ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CACHE = "datasets/fashion-mnist"

DEBIAN = "`apt-get install dataset-fashion-mnist`"
FILE_HINT = (
    "Replace the file by the official one, from https://github.com/zalandoresearch/fashion-mnist "
    f"or by {DEBIAN}; one in Keras's cache may be deleted, and is then downloaded again."
)
FOLDER_HINT = (
    "Put the four official files there, name the folder that holds them, or name none: "
    f"then Keras's cache, what {DEBIAN} installs and a download are tried in turn."
)


def load(data_dir: str | Path | None = None) -> Dataset:
    """Loads Fashion-MNIST from its four official files, gzipped or not.

    Without `data_dir`, the files are searched in Keras's cache, then in the folder of Debian's
    package `dataset-fashion-mnist`, and downloaded by Keras if they are in neither.

    Args:
        data_dir: the folder that holds the files, or the parent of a folder `fashion-mnist` that
            does; no other location is tried then.

    Returns:
        60,000 images for training and 10,000 for testing, `(N, 28, 28, 1)`.

    Raises:
        DataError: a file is missing, not the official one, or cannot be downloaded.
    """
    folder = _folder(data_dir)
    return Dataset("fashion-mnist", _split(folder, "train"), _split(folder, "t10k"), CLASSES)


def _folder(data_dir: str | Path | None) -> Path:
    if data_dir is not None:
        return FILES.require(data_dir, FOLDER_HINT)
    return FILES.find(keras_datasets()) or FILES.find(SYSTEM) or _fetch()


def _fetch() -> Path:
    hint = (
        f"Put the four files by hand into {keras_datasets() / 'fashion-mnist'} or into a folder "
        f"passed as data_dir, or run {DEBIAN} on Debian or Ubuntu."
    )
    names = [f"{name}.gz" for name in FILES.files]
    paths = [download(name, ORIGIN + name, hint, cache_subdir=CACHE) for name in names]
    return FILES.require(paths[0].parent, hint)


def _split(folder: Path, part: str) -> Split:
    images_file = FILES.file(folder, f"{part}-images-idx3-ubyte")
    labels_file = FILES.file(folder, f"{part}-labels-idx1-ubyte")
    images = idx.read(images_file, 3, FILE_HINT)
    if images.shape[1:] != SIZE:
        fault = "images of {} by {}".format(*images.shape[1:])
        raise DataError(images_file, fault, "28 by 28", FILE_HINT)
    labels = idx.read(labels_file, 1, FILE_HINT)
    if len(labels) != len(images):  # either of the two may be the wrong one
        fault = f"{len(labels)} labels for the {len(images)} images of {images_file.name}"
        raise DataError(labels_file, fault, "one label for each image", FILE_HINT)
    return make_split(labels_file, images[..., None], labels, len(CLASSES), FILE_HINT)
