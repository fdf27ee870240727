"""tf.contrib's layers for graph code, by the public API of today's TensorFlow alone."""

from batchnorm.contrib.tensorflow.arg_scope import (
    add_arg_scope,
    arg_scope,
    arg_scoped_arguments,
    current_arg_scope,
    has_arg_scope,
)
from batchnorm.contrib.tensorflow.batch_norm import batch_norm
from batchnorm.contrib.tensorflow.convolution import (
    conv1d,
    conv2d,
    conv3d,
    convolution,
    convolution1d,
    convolution2d,
    convolution3d,
)
from batchnorm.contrib.tensorflow.fully_connected import fully_connected
from batchnorm.contrib.tensorflow.initializers import (
    variance_scaling_initializer,
    xavier_initializer,
)
from batchnorm.contrib.tensorflow.patch_tf_slim import patch_tf_slim
from batchnorm.contrib.tensorflow.regularizers import (
    l1_l2_regularizer,
    l1_regularizer,
    l2_regularizer,
)

__all__ = [
    "add_arg_scope",
    "arg_scope",
    "arg_scoped_arguments",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "convolution1d",
    "convolution2d",
    "convolution3d",
    "current_arg_scope",
    "fully_connected",
    "has_arg_scope",
    "l1_l2_regularizer",
    "l1_regularizer",
    "l2_regularizer",
    "patch_tf_slim",
    "variance_scaling_initializer",
    "xavier_initializer",
]
