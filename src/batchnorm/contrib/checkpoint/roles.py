"""Names that people give to variables whose layers they wrote themselves."""

import re

_ROLES = {
    "kernel": r"w|weights?|kernels?|filters?|matrix",
    "bias": r"b|bias|biases",
    "gamma": r"gamma|scale|g",
    "beta": r"beta|offset|shift|b",
    "moving_mean": r"mean|mu",
    "moving_variance": r"variance|var|sigma",
}
# The averages of tf.nn.moments, which tf.train.ExponentialMovingAverage names after operations.
_MOMENTS = {
    "moving_mean": re.compile(r"(?:Squeeze|mean)/ExponentialMovingAverage$"),
    "moving_variance": re.compile(r"(?:Squeeze_1|variance)/ExponentialMovingAverage$"),
}


def plays(role: str, name: str) -> bool:
    """Returns whether a variable of the checkpoint may be one of a layer, by its name.

    Args:
        role: the name of the layer's variable, such as "gamma".
        name: in the checkpoint.

    Example:
        >>> plays("moving_mean", "bn1/pop_mean"), plays("moving_mean", "bn1/pop_var")
        (True, False)
        >>> plays("kernel", "W_conv1"), plays("bias", "W_conv1")
        (True, False)
    """
    if role in _MOMENTS and _MOMENTS[role].search(name):
        return True
    words = re.findall(r"[a-z]+", name.rpartition("/")[2].lower())
    allowed = _ROLES.get(role, re.escape(role))
    return any(re.fullmatch(allowed, word) for word in words)
