"""The application's error, for causes that the user can fix."""


class UserError(ValueError):
    """An error that the user can fix; a command prints its message, which says how."""


def one_line(error: object, longest: int = 200) -> str:
    """Returns the text of an error without line breaks, shortened.

    Args:
        error: an exception, or a text of another library.
        longest: number of characters.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."
