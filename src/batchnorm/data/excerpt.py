"""Short texts for values of any size: an error quotes a file without printing all of it.

`repr` takes as long as the value is large, which a few nested lists that share their items make
2**60 items. Nothing here looks at more than a few items, nor below the first level.
"""

ITEMS = 4
CHARACTERS = 60


def excerpt(value: object) -> str:
    """Describes a value in one short line.

    Args:
        value: of any type and size.

    Returns:
        Numbers and short strings as `repr` shows them, long ones cut; a list or tuple by its first
        items and their number; anything else by its type.

    Example:
        >>> excerpt(["cat", b"dog", [[]], 2**99, None, 1.5])
        "['cat', b'dog', a list of 1, 633825300114114700748351602688, ...] of 6"
    """
    if isinstance(value, list | tuple):
        items = [_item(item) for item in value[:ITEMS]]
        more = len(value) > ITEMS
        return f"[{', '.join([*items, '...'] if more else items)}]" + f" of {len(value)}" * more
    return _item(value)


def shorten(text: str, length: int = 400) -> str:
    """Cuts a text in the middle and escapes the characters that a terminal would interpret.

    Args:
        text: of any length, perhaps with content of a file.
        length: the most characters to keep.

    Returns:
        The text, its beginning and its end if it is longer.
    """
    if len(text) > length:
        text = f"{text[: length // 2]} ... {text[-length // 2 :]}"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _item(value: object) -> str:
    if isinstance(value, str | bytes):
        return repr(value[:CHARACTERS]) + ("..." if len(value) > CHARACTERS else "")
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
