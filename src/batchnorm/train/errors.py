"""The error of everything that a run can fail at."""


class RunError(ValueError):
    """A run that cannot go on as asked; the message says why and what to do."""


def one_line(error: object, longest: int = 200) -> str:
    """Returns the text of an error without line breaks, shortened.

    Args:
        error: an exception or a text, of another library and perhaps long.
        longest: number of characters.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."
