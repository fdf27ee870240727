import gzip
import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from batchnorm.data import DataError, idx
from tests.data.files import idx as pack

pytestmark = pytest.mark.no_backend

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = pack(ARRAY)


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    # A name and a date in the header, so that there is something to damage.
    with gzip.GzipFile("name", "wb", fileobj=stream, mtime=1) as file:
        file.write(content)
    return stream.getvalue()


def refusal(path: Path, content: bytes, rank: int = 3) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        idx.read(path, rank, "Replace it.")
    message = str(caught.value)
    assert message.startswith(f"{path}: found ")
    assert message.endswith("Replace it.")
    return message


@pytest.mark.parametrize("name", ["file.gz", "file"])
def test_reads_what_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(zipped(CONTENT) if name.endswith(".gz") else CONTENT)
    actual = idx.read(path, 3, "")
    np.testing.assert_array_equal(actual, ARRAY)
    assert actual.dtype == np.uint8 and actual.flags.writeable


def test_any_truncation_is_refused(tmp_path: Path) -> None:
    for end in range(len(CONTENT)):
        message = refusal(tmp_path / "file", CONTENT[:end])
        assert "cut short" in message
        assert "a header of 16 bytes" in message or "24 for the shape (2, 3, 4)" in message
    compressed = zipped(CONTENT)
    for end in range(len(compressed)):
        refusal(tmp_path / "file.gz", compressed[:end])


def test_any_change_of_the_header_is_refused(tmp_path: Path) -> None:
    for place in range(16):
        for value in set(range(256)) - {CONTENT[place]}:
            refusal(tmp_path / "file", CONTENT[:place] + bytes([value]) + CONTENT[place + 1 :])


def test_any_change_of_a_gzip_file_is_harmless_or_refused(tmp_path: Path) -> None:
    compressed, path = zipped(CONTENT), tmp_path / "file.gz"
    for place in range(len(compressed)):
        for flip in (1 << bit for bit in range(8)):
            damaged = bytes([compressed[place] ^ flip])
            path.write_bytes(compressed[:place] + damaged + compressed[place + 1 :])
            try:
                actual = idx.read(path, 3, "Replace it.")
            except DataError:
                continue
            np.testing.assert_array_equal(actual, ARRAY)


def test_trailing_bytes(tmp_path: Path) -> None:
    message = refusal(tmp_path / "file", CONTENT + b"\n")
    assert "trailing bytes: more after the header" in message
    assert "expected 24 for the shape (2, 3, 4)" in message
    refusal(tmp_path / "file.gz", zipped(CONTENT) + b"more")
    assert "trailing bytes" in refusal(tmp_path / "file.gz", zipped(CONTENT) + zipped(b"more"))


def test_wrong_magic_number(tmp_path: Path) -> None:
    message = refusal(tmp_path / "file", CONTENT, rank=1)
    assert "the magic number 0x00000803" in message
    assert "expected 0x00000801 (unsigned bytes in 1 dimensions)" in message


def test_nothing_in_it(tmp_path: Path) -> None:
    empty = np.empty((0, 28, 28), np.uint8)
    message = refusal(tmp_path / "file", pack(empty))
    assert "the empty shape (0, 28, 28)" in message and "at least one item" in message


class Counted(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


@pytest.mark.parametrize(
    "header, most",
    [
        (bytes(16), 16),
        (pack(ARRAY)[:16], 16 + 24 + 1),
        (b"\0\0\x08\x03" + b"\xff" * 12, 16),
        (b"\0\0\x08\x03" + b"\0\1\0\0" * 2 + b"\0\0\0\1", 16),
    ],
)
def test_no_more_is_read_than_the_header_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bytes, most: int
) -> None:
    stream = Counted(header + bytes(10**6))
    monkeypatch.setattr(Path, "open", lambda path, mode: stream)
    with pytest.raises(DataError):
        idx.read(tmp_path / "file", 3, "")
    assert stream.count == most


def test_zeros_without_end(tmp_path: Path) -> None:
    """Gigabytes, of which a gzip file has a thousandth: members may follow each other."""
    start = time.perf_counter()
    zeros = gzip.compress(bytes(10**7), mtime=0)
    refusal(tmp_path / "file.gz", zeros * 300)
    refusal(tmp_path / "file.gz", gzip.compress(CONTENT) + zeros * 300)
    assert time.perf_counter() - start < 10


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    header = b"\0\0\x08\x03" + b"\0\1\0\0" * 3
    message = refusal(tmp_path / "file", header)
    assert "found the shape (65536, 65536, 65536) of 281,474,976,710,656 bytes" in message
    assert "expected at most 1,073,741,824 bytes" in message
    # What is allowed is not allocated before it is there.
    tracemalloc.start()
    refusal(tmp_path / "file", b"\0\0\x08\x03" + b"\0\0\x03\xff" * 3)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_not_a_gzip_file(tmp_path: Path) -> None:
    message = refusal(tmp_path / "file.gz", CONTENT)
    assert "cannot be read (BadGzipFile" in message and "expected a whole gzip file" in message


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read .*expected a readable file"):
        idx.read(tmp_path, 3, "Replace it.")
