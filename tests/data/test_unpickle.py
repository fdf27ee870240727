import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm.data import DataError, unpickle
from tests.data.files import python2

pytestmark = pytest.mark.no_backend

ROWS = np.arange(6, dtype=np.uint8).reshape(2, 3)


class Call:
    """An object that pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def read(path: Path, content: bytes) -> dict[str, Any]:
    path.write_bytes(content)
    return unpickle.read(path, "Replace it.")


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content)
    message = str(caught.value)
    assert message.startswith(f"{path}: found a pickle that is refused (")
    assert message.endswith("of strings, numbers and arrays of integers. Replace it.")
    return message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4"])
def test_reads_what_numpy_writes(tmp_path: Path, protocol: int, order: Any, dtype: str) -> None:
    array = np.asarray(ROWS.astype(dtype), order=order)
    batch = {b"data": array, "labels": [1, 2], b"names": [b"", b"a"]}
    actual = read(tmp_path / "file", pickle.dumps(batch, protocol))
    np.testing.assert_array_equal(actual.pop("data"), ROWS)
    assert actual == {"labels": [1, 2], "names": [b"", b"a"]}


@pytest.mark.parametrize("old", ["core", "_core"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_reads_both_names_of_numpys_core(tmp_path: Path, protocol: int, old: str) -> None:
    content = pickle.dumps({"data": ROWS}, protocol)
    module = b"numpy._core.multiarray" if protocol == 2 else b"numpy._core.numeric"
    new = module.replace(b"_core", old.encode())
    assert module in content
    # In protocol 5 the module's name is a counted string within a frame of counted length.
    frame = content[3:11]
    content = content.replace(b"\x8c" + bytes([len(module)]), b"\x8c" + bytes([len(new)]))
    shorter = int.from_bytes(frame, "little") - len(module) + len(new)
    if protocol == 5:
        content = content.replace(frame, shorter.to_bytes(8, "little"))
    np.testing.assert_array_equal(
        read(tmp_path / "file", content.replace(module, new))["data"], ROWS
    )


def test_the_made_python_2_pickle_is_a_true_one() -> None:
    # NumPy moved its core and warns about the name that old files hold.
    content = python2(ROWS, [4, 2]).replace(b"numpy.core.", b"numpy._core.")
    actual = pickle.loads(content, encoding="bytes")
    np.testing.assert_array_equal(actual[b"data"], ROWS)
    assert actual[b"labels"] == [4, 2]


def test_reads_python_2(tmp_path: Path) -> None:
    actual = read(tmp_path / "file", python2(ROWS, [4, 2]))
    np.testing.assert_array_equal(actual["data"], ROWS)
    assert actual["data"].flags.writeable
    assert actual["labels"] == [4, 2]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_payload_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    ran = tmp_path / "ran"
    content = pickle.dumps({"data": Call(os.mkdir, str(ran))}, protocol)
    assert f"it asks for {os.name}.mkdir" in refusal(tmp_path / "file", content)
    assert not ran.exists()
    pickle.loads(content)
    assert ran.exists(), "the payload would not have run in any case"


@pytest.mark.parametrize(
    ("name", "function", "arguments"),
    [
        ("builtins.eval", eval, ("1",)),
        ("builtins.getattr", getattr, ("a", "b")),
        ("builtins.bytearray", bytearray, (1,)),
        ("numpy.load", np.load, ("file",)),
        ("numpy.ndarray.tofile", np.ndarray.tofile, ("a", "file")),
    ],
)
def test_other_names_are_refused(
    tmp_path: Path, name: str, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    content = pickle.dumps({"data": Call(function, *arguments)})
    if name == "numpy.ndarray.tofile":
        # Pickle writes a method as getattr, unless the name is put in by hand.
        content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    assert f"it asks for {name})" in refusal(tmp_path / "file", content)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.array([{}, None]), "it asks for the dtype 'O8'"),
        (np.zeros(2, [("a", "O"), ("b", "u1")]), "it asks for the dtype 'V9'"),
        (np.zeros(2, "f4"), "it asks for the dtype 'f4'"),
        (np.array([b"ab"]), "it asks for the dtype 'S2'"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_dtypes_are_refused(tmp_path: Path, array: Any, fault: str, protocol: int) -> None:
    assert fault in refusal(tmp_path / "file", pickle.dumps({"data": array}, protocol))


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        # The dtype u1, given fields by its state: to NumPy, bytes that are pointers.
        (b"cnumpy\ndtype\nU\x02u1\x85R(K\x03U\x01|NU\x01a}K\x08K\x08K\x00tb.", "dtype with parts"),
        # In a dtype's place a borrowed function, given an attribute `dtype`.
        (
            b"cnumpy.core.numeric\n_frombuffer\n(U\x01acnumpy\nndarray\n"
            b"}X\x05\x00\x00\x00dtypeU\x01OsbK\x01\x85X\x01\x00\x00\x00CtR.",
            "it sets the state of a function",
        ),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.", "the encoding b'rot13'"),
        (b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.", "TypeError"),
        (b"cnumpy\ndtype\n)\x81.", "UnpicklingError"),
        (b"U\x01aQ.", "the instruction b'Q'"),
        (b"\x82\x01.", "the instruction b'\\x82'"),
        (b"].", "it holds []"),
        (b"", "EOFError"),
        (b"cnumpy\ndtype", "UnpicklingError"),
    ],
)
def test_forged_programs_are_refused(tmp_path: Path, program: bytes, fault: str) -> None:
    assert fault in refusal(tmp_path / "file", b"\x80\x02" + program)


def deep(value: bytes, wrap: bytes, levels: int) -> bytes:
    """Nests a value in itself twice at each level: a few bytes for 2**levels items."""
    steps = (wrap % (bytes([n]), bytes([n]), bytes([n + 1])) for n in range(levels))
    return value + b"q\0" + b"".join(steps)


TUPLES = deep(b"K\x01", b"0h%sh%s\x86q%s", 60)
LISTS = deep(b"K\x01", b"0](h%sh%seq%s", 60)


@pytest.mark.parametrize(
    "program, fault",
    [
        (b"}" + TUPLES + b"K\x01s.", "it has [a tuple of 2, a tuple of 2] for a key"),
        (b"}" + b"(" + TUPLES + b"K\x01u.", "it has [a tuple of 2, a tuple of 2] for a key"),
        (b"(" + TUPLES + b"K\x01d.", "it has [a tuple of 2, a tuple of 2] for a key"),
        (b"(" + TUPLES + b"\x91.", "the instruction b'\\x91'"),
        (b"\x8f(" + TUPLES + b"\x90.", "the instruction b'\\x8f'"),
        (b"cnumpy\ndtype\n" + LISTS + b"\x85R.", "it has [a list of 2, a list of 2] in the place"),
        (
            b"cnumpy\ndtype\n" + TUPLES + b"\x85R.",
            "it has [a tuple of 2, a tuple of 2] in the place",
        ),
        (b"c_codecs\nencode\n" + LISTS + b"U\x06latin1\x86R.", "the encoding b'latin1'"),
        (b"c_codecs\nencode\nX\1\0\0\0a" + LISTS + b"\x86R.", "a list of 2] in the place"),
        (LISTS + b".", "it holds [a list of 2, a list of 2]"),
        (b"}K\x01K\x01s.", "it has 1 for a key"),
        (b"}U\1\xe1K\x01s.", "the name b'\\xe1', which is not ASCII"),
        (b"}X\2\0\0\0\xc3\xa1K\x01s.", "which is not ASCII"),
        (b"}U\1aK\1sX\1\0\0\0aK\2s.", "a key twice, as text and as bytes"),
        (b"](U\1aK\1u.", "it adds an entry to []"),
        (b"}(U\1au.", "ValueError"),
        (b"N" * 300_000 + b".", "more than 250,000 instructions"),
        (b"C\xff" + b"a" * 9, "EOFError"),
        # Lengths of 2**60 and more, which nothing may be allocated for.
        (b"\x8e" + b"\0" * 7 + b"\x10" + b"a.", "EOFError"),
        (b"\x96" + b"\0" * 7 + b"\x10" + b"a.", "EOFError"),
        (b"\x8d" + b"\0" * 7 + b"\x10" + b"a.", "EOFError"),
        (b"\x95" + b"\0" * 7 + b"\x10" + b"N.", "it holds None"),
        (b"Nr\xff\xff\xff\xff.", "it holds None"),
        (b"L" + b"9" * 10**6 + b"L\n.", "ValueError"),
        (b"Lx" + b"9" * 10**6 + b"L\n.", "ValueError"),
        (b"\x8b\0\x00\x10\0" + b"\x7f" * (1 << 20) + b".", "it holds an integer of 8388607 bits"),
        (b"c" + b"a" * 10**6 + b"\nb\n.", "it asks for aaa"),
    ],
)
def test_little_programs_that_ask_for_much(tmp_path: Path, program: bytes, fault: str) -> None:
    start = time.perf_counter()
    assert fault in refusal(tmp_path / "file", b"\x80\x04" + program)
    assert time.perf_counter() - start < 10


def test_bytes_that_are_used_again_and_again(tmp_path: Path) -> None:
    size = 10**6
    text = b"X" + size.to_bytes(4, "little") + b"a" * size
    encode = b"c_codecs\nencode\nq\0" + text + b"U\6latin1\x86q\1R"
    again = b"0h\0h\1R"
    content = b"\x80\2}U\1a" + encode + b"s."
    assert read(tmp_path / "file", content) == {"a": b"a" * size}
    content = b"\x80\2}U\1a" + encode + again * 10**4 + b"s."
    assert "more bytes than the file has" in refusal(tmp_path / "file", content)


@pytest.mark.parametrize("shape", [(-1, 3), (2, -1), (2.0, 3), (True, 6), [2, 3], 6])
@pytest.mark.parametrize("protocol", [2, 5])
def test_shapes_that_are_none(tmp_path: Path, shape: object, protocol: int) -> None:
    content = pickle.dumps({"data": ROWS, "shape": shape}, protocol)
    pair = b"K\x02K\x03\x86"
    new = pickle.dumps(shape, 2)[2:-1]
    for memo in (b"q\0", b"q\1", b"q\2", b"q\3"):
        new = new.replace(memo, b"")
    head, tail = content.split(pair)
    content = (head + new + tail).replace(content[2:11] if protocol == 5 else b"\0" * 99, b"")
    assert "it gives an array the shape" in refusal(tmp_path / "file", content)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "LARGEST", 99)
    content = pickle.dumps({"data": b"a" * 99})
    assert "it has more than 99 bytes" in refusal(tmp_path / "file", content)


def test_a_pickle_leaves_no_trace(tmp_path: Path) -> None:
    # It borrows `_codecs.encode` and sets an attribute of it.
    program = b"c_codecs\nencode\n}X\x05\x00\x00\x00traceK\x01sb0}."
    assert "it sets the state of a function" in refusal(tmp_path / "file", b"\x80\x02" + program)
    assert not any(
        vars(make) for make in unpickle._REPLACEMENTS.values() if not isinstance(make, type)
    )


@pytest.mark.parametrize("write", [pickle.dumps, lambda batch: python2(ROWS, [1, 2])])
def test_any_truncation_is_refused(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    content = write({"data": ROWS, "labels": [1, 2]})
    for end in range(len(content)):
        refusal(tmp_path / "file", content[:end])


def test_wrong_amount_of_data(tmp_path: Path) -> None:
    content = pickle.dumps({"data": ROWS}, 4)
    shape = b"K\x02K\x03\x86"
    assert shape in content
    assert "reshape" in refusal(tmp_path / "file", content.replace(shape, b"K\x02K\x09\x86"))


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="IsADirectoryError|PermissionError"):
        unpickle.read(tmp_path, "Replace it.")
