"""The location of a checkpoint: the prefix that its files' names begin with."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

_ENDINGS = re.compile(r"(.*)\.(?:index|meta|data-\d+-of-\d+)", re.DOTALL)
_SHOWN = 10  # prefixes that an error names
_SHARDS = 3  # missing files that an error names


def find_prefix(path: str | os.PathLike[str], tf: Any) -> str:
    """Returns the prefix of the checkpoint that a path names.

    A Saver that was told to save to `folder/` has written `folder/.index`: the prefix is the
    folder with its slash.

    Args:
        path: the prefix; one of the checkpoint's files; a folder, for the latest checkpoint in it;
            or the folder of a SavedModel.
        tf: TensorFlow.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the path is that of the file `checkpoint`.
    """
    text = os.fspath(path)
    if os.path.basename(text) == "checkpoint" and os.path.isfile(text):
        folder = os.path.dirname(text) or os.curdir
        raise ValueError(
            f"{text} only says which checkpoint is the latest. Give its folder, {folder}, or the "
            f"checkpoint itself. {_nearby(folder)}"
        )
    match = _ENDINGS.fullmatch(text)
    prefix = match[1] if match else text
    if not os.path.basename(prefix) and not os.path.dirname(prefix):  # of ".index" itself
        prefix = os.path.join(os.curdir, "")
    if _is_prefix(prefix):
        return prefix
    if os.path.isdir(text):
        return _latest(text, tf)
    missing = f"{text} exists, but {prefix}.index does not" if os.path.exists(text) else None
    raise FileNotFoundError(
        f"{missing or f'{text} does not exist'}. Expected the prefix of a checkpoint such as "
        f"model.ckpt-6, one of its files, or its folder. "
        f"{_nearby(os.path.dirname(text) or os.curdir)}"
    )


def check_shards(prefix: str) -> None:
    """Raises unless the files of the values are there: the index can be read without them.

    Raises:
        FileNotFoundError: one or more of them are missing.
    """
    if not os.path.isfile(f"{prefix}.index"):  # format V1, a single file
        return
    folder, name = os.path.split(prefix)
    pattern = re.compile(rf"{re.escape(name)}\.data-(\d+)-of-(\d+)")
    numbers: dict[int, set[int]] = {}
    for file in os.listdir(folder or os.curdir):
        if match := pattern.fullmatch(file):
            number, count = int(match[1]), int(match[2])
            numbers.setdefault(count, set()).update([number] if number < count else [])
    if any(len(present) == count > 0 for count, present in numbers.items()):
        return
    count = max(1, max(numbers, default=1))
    present = numbers.get(count, set())
    # One by one, because a name may claim a hundred million files.
    absent = (
        f"{prefix}.data-{number:05d}-of-{count:05d}"
        for number in itertools.count()
        if number not in present
    )
    number = count - len(present)
    shown = ", ".join(itertools.islice(absent, min(number, _SHARDS)))
    more = f" and {number - _SHARDS} more files" if number > _SHARDS else ""
    raise FileNotFoundError(
        f"{shown}{more} {'is' if number == 1 else 'are'} missing beside {prefix}.index: the values "
        "are in it. Copy all files of the checkpoint."
    )


def data_size(prefix: str) -> int | None:
    """Returns how many bytes of values a checkpoint has; `None` for format V1."""
    folder, name = os.path.split(prefix)
    if not os.path.isfile(f"{prefix}.index"):
        return None
    files = [file for file in os.scandir(folder or os.curdir)]
    return sum(file.stat().st_size for file in files if file.name.startswith(f"{name}.data-"))


def _is_prefix(prefix: str) -> bool:
    # A file of format V1 has the name of the prefix itself.
    return os.path.isfile(f"{prefix}.index") or os.path.isfile(prefix)


def _latest(folder: str, tf: Any) -> str:
    try:
        state = tf.train.get_checkpoint_state(folder)
    except Exception:  # TensorFlow 2.21 raises UnicodeDecodeError and ValueError for foreign files
        state = None
    if state is not None:
        latest = state.model_checkpoint_path
        # A folder that was moved holds the path where it was.
        for prefix in (latest, os.path.join(folder, os.path.basename(latest))):
            if _is_prefix(prefix):
                return prefix
    variables = os.path.join(folder, "variables", "variables")
    if os.path.isfile(os.path.join(folder, "saved_model.pb")) and _is_prefix(variables):
        return variables
    prefixes = _prefixes(folder)
    if len(prefixes) == 1:
        return os.path.join(folder, prefixes[0])
    raise FileNotFoundError(
        f"{folder} does not say which of its checkpoints is the latest, because its file "
        f"'checkpoint' is missing or names none that is there. {_nearby(folder)}"
    )


def _prefixes(folder: str) -> list[str]:
    """Returns the prefixes of a folder's checkpoints of format V2, without the folder."""
    return sorted(file.name.removesuffix(".index") for file in Path(folder).glob("*.index"))


def _nearby(folder: str) -> str:
    if not os.path.isdir(folder):
        return f"The folder {folder} does not exist."
    prefixes = _prefixes(folder)
    if not prefixes:
        return f"There is no checkpoint in {os.path.abspath(folder)}."
    names = [name or os.path.join(folder, "") for name in prefixes[:_SHOWN]]
    more = ", ..." if len(prefixes) > _SHOWN else ""
    return f"In {os.path.abspath(folder)} there is: {', '.join(names)}{more}."
