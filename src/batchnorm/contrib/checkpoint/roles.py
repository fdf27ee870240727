"""The roles of variables, by the names that people give them in layers of their own."""

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


def has_role(role: str, name: str) -> bool:
    """Returns whether the name of a checkpoint's variable allows it to be a layer's variable.

    Args:
        role: the name of the layer's variable, such as "gamma".
        name: in the checkpoint.

    Example:
        >>> has_role("moving_mean", "bn1/pop_mean"), has_role("moving_mean", "bn1/pop_var")
        (True, False)
        >>> has_role("kernel", "W_conv1"), has_role("bias", "W_conv1")
        (True, False)
    """
    if role in _MOMENTS and _MOMENTS[role].search(name):
        return True
    words = re.findall(r"[a-z]+", name.rpartition("/")[2].lower())
    allowed = _ROLES.get(role, re.escape(role))
    return any(re.fullmatch(allowed, word) for word in words)
