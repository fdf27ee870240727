"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 70,000 grey pictures of clothes, 28 by 28."""

from pathlib import Path

from batchnorm.data import idx
from batchnorm.data.dataset import DataError, Dataset, Split, make_split
from batchnorm.data.places import Layout, download, keras_datasets

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
LAYOUT = Layout(
    files=(
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ),
    subfolders=("fashion-mnist",),
    suffixes=(".gz", ""),
)
# Where Debian's package dataset-fashion-mnist puts its folder.
SYSTEM = Path("/usr/share/datasets")
# The address and the folder of keras.datasets.fashion_mnist.
ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CACHE = "datasets/fashion-mnist"

DEBIAN = "`apt-get install dataset-fashion-mnist`"
MEND_FILE = (
    "Replace the file by the official one, from https://github.com/zalandoresearch/fashion-mnist "
    f"or by {DEBIAN}; one in Keras's cache may be deleted, and is then downloaded again."
)
MEND_FOLDER = (
    "Put the four official files there, name the folder that holds them, or name none: "
    f"then Keras's cache, what {DEBIAN} installs and a download are tried in turn."
)


def load(data_dir: str | Path | None = None) -> Dataset:
    """Load Fashion-MNIST from its four official files, gzipped or not.

    Without `data_dir`, the files are looked for in Keras's cache, then where Debian's package
    `dataset-fashion-mnist` puts them, and downloaded by Keras if they are in neither.

    Args:
        data_dir: The folder that holds the files, or whose `fashion-mnist` does. No other place
            is tried then.

    Returns:
        60,000 images to train on and 10,000 to test with, `(N, 28, 28, 1)`.

    Raises:
        DataError: A file is missing or is not what it should be, or cannot be downloaded.
    """
    folder = _folder(data_dir)
    return Dataset("fashion-mnist", _split(folder, "train"), _split(folder, "t10k"), CLASSES)


def _folder(data_dir: str | Path | None) -> Path:
    if data_dir is not None:
        return LAYOUT.require(data_dir, MEND_FOLDER)
    return LAYOUT.find(keras_datasets()) or LAYOUT.find(SYSTEM) or _fetch()


def _fetch() -> Path:
    mend = (
        f"Put the four files by hand into {keras_datasets() / 'fashion-mnist'} or into a folder "
        f"passed as data_dir, or run {DEBIAN} on Debian or Ubuntu."
    )
    names = [f"{name}.gz" for name in LAYOUT.files]
    paths = [download(name, ORIGIN + name, mend, cache_subdir=CACHE) for name in names]
    return LAYOUT.require(paths[0].parent, mend)


def _split(folder: Path, part: str) -> Split:
    images_file = LAYOUT.file(folder, f"{part}-images-idx3-ubyte")
    labels_file = LAYOUT.file(folder, f"{part}-labels-idx1-ubyte")
    images = idx.read(images_file, 3, MEND_FILE)
    if images.shape[1:] != SIZE:
        found = "images of {} by {}".format(*images.shape[1:])
        raise DataError(images_file, found, "28 by 28", MEND_FILE)
    labels = idx.read(labels_file, 1, MEND_FILE)
    if len(labels) != len(images):  # which of the two is wrong, nobody can tell
        found = f"{len(labels)} labels for the {len(images)} images of {images_file.name}"
        raise DataError(labels_file, found, "one label for each image", MEND_FILE)
    return make_split(labels_file, images[..., None], labels, len(CLASSES), MEND_FILE)
