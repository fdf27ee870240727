import io
import runpy
import sys
import zipfile
import zlib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm.data import DataError, Split, load, sample
from tests.data.files import fashion_folder

pytestmark = pytest.mark.no_backend

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_sample.py"
CONTENT = resources.files("batchnorm.data").joinpath(sample.FILE).read_bytes()

needs_files = pytest.mark.skipif(
    not INSTALLED.is_dir(), reason=f"Fashion-MNIST is not in {INSTALLED}"
)
needs_tool = pytest.mark.skipif(not TOOL.is_file(), reason=f"this is no checkout: no {TOOL}")


def pack(**changes: Any) -> bytes:
    arrays = {
        "train_images": np.zeros((20, 28, 28, 1), np.uint8),
        "train_labels": np.zeros(20, np.uint8),
        "test_images": np.zeros((10, 28, 28, 1), np.uint8),
        "test_labels": np.zeros(10, np.uint8),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **(arrays | changes))
    return stream.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        sample.parse(content)
    message = str(caught.value)
    assert message.startswith("fashion_mnist_sample.npz: found ")
    assert message.endswith("Install batchnorm again: this file is part of the package.")
    return message


def pictures(split: Split) -> Counter[tuple[int, bytes]]:
    pairs = zip(split.labels.tolist(), split.images, strict=True)
    return Counter((label, image.tobytes()) for label, image in pairs)


def run_tool(monkeypatch: pytest.MonkeyPatch, *arguments: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")


def test_counts_and_balance() -> None:
    dataset = load("fashion-mnist-sample")
    assert dataset.train.images.shape == (6_000, 28, 28, 1)
    assert dataset.test.images.shape == (1_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [600] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
    assert dataset.classes[8] == "Bag"


def test_classes_are_mixed() -> None:
    dataset = load("fashion-mnist-sample")
    for labels in (dataset.train.labels, dataset.test.labels):
        # In random order, a tenth of the neighbours are of one class.
        assert np.mean(labels[1:] == labels[:-1]) == pytest.approx(0.1, abs=0.03)
        assert set(labels[:100]) == set(range(10))


def test_size_and_licence() -> None:
    assert len(CONTENT) < 3_500_000
    licence = resources.files("batchnorm.data").joinpath("fashion_mnist_sample.LICENSE").read_text()
    assert "MIT License" in licence and "Copyright (c) 2017 Zalando SE" in licence


@needs_files
def test_every_picture_is_a_real_one() -> None:
    part, full = load("fashion-mnist-sample"), load("fashion-mnist", INSTALLED)
    assert pictures(part.train) <= pictures(full.train)
    assert pictures(part.test) <= pictures(full.test)


@needs_files
@needs_tool
def test_the_tool_makes_the_same_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tmp_path / "first.npz", tmp_path / "second.npz"
    for path in paths:
        run_tool(monkeypatch, INSTALLED, path)
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as new, zipfile.ZipFile(io.BytesIO(CONTENT)) as old:
        facts = [
            [(member.filename, member.date_time, member.CRC) for member in archive.infolist()]
            for archive in (new, old)
        ]
        assert facts[0] == facts[1]
    # zlib-ng, which some systems have in zlib's place, compresses to other bytes.
    if "ng" not in zlib.ZLIB_RUNTIME_VERSION:
        assert content == CONTENT


@needs_tool
def test_the_tool_refuses_what_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fashion_folder(tmp_path / "small")
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, folder, tmp_path / "sample.npz")
    assert "found 2 images of 'T-shirt/top'; expected 600" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, tmp_path / "absent", tmp_path / "sample.npz")
    assert "found no such folder" in capsys.readouterr().err
    assert not (tmp_path / "sample.npz").exists()


def test_a_made_sample_is_read() -> None:
    assert sample.parse(pack()).train.images.shape == (20, 28, 28, 1)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"train_images": np.zeros((20, 28, 28), np.uint8)},
            "found train_images of uint8 (20, 28, 28); expected uint8 (20, 28, 28, 1).",
        ),
        (
            {"test_images": np.zeros((10, 28, 28, 1))},
            "found test_images of float64 (10, 28, 28, 1);",
        ),
        (
            {"test_labels": np.zeros((10, 1), np.uint8)},
            "found test_labels of uint8 (10, 1); expected uint8 (10,)",
        ),
        ({"test_labels": np.zeros(9, np.uint8)}, "found 9 labels for 10 images"),
        ({"test_labels": np.full(10, 10, np.uint8)}, "found the label 10 at place 0"),
        ({"test_labels": np.array([{}] * 10)}, "found test_labels of object (10,)"),
        ({"test_images": np.zeros((10, 28, 28, 1), np.uint8, "F")}, "found test_images of uint8"),
        ({"test_labels": np.array(3, np.uint8)}, "found test_labels of uint8 ()"),
    ],
)
def test_wrong_arrays(changes: dict[str, Any], fault: str) -> None:
    assert fault in refusal(pack(**changes))


def test_other_files() -> None:
    stream = io.BytesIO()
    np.savez(stream, train_images=np.zeros((20, 28, 28, 1), np.uint8))
    assert "train_labels" in refusal(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    refusal(stream.getvalue())
    refusal(b"not a zip file")


def test_arrays_that_claim_too_much() -> None:
    """A header of 400 GB without content, and gigabytes of zeros in a few megabytes."""
    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (512 * 10**6, 28, 28, 1)}
    np.lib.format.write_array_header_1_0(header, claim)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    assert "cannot be read (ValueError" in refusal(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("train_images.npy", "w") as member:
            for _ in range(65):
                member.write(bytes(1 << 20))
    assert "train_images of 68,157,440 bytes; expected at most 67," in refusal(stream.getvalue())


def test_any_truncation_is_refused() -> None:
    content = pack()
    for end in range(len(content)):
        refusal(content[:end])


def test_any_damage_is_harmless_or_refused() -> None:
    content = pack()
    intact = sample.parse(content)
    for place in range(len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        try:
            actual = sample.parse(damaged)
        except DataError:
            continue
        np.testing.assert_array_equal(actual.train.images, intact.train.images)
        np.testing.assert_array_equal(actual.test.labels, intact.test.labels)


def test_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "FILE", "absent.npz")
    with pytest.raises(DataError, match="absent.npz: found no readable file in the package"):
        load("fashion-mnist-sample")
