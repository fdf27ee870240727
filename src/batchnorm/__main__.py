"""`python -m batchnorm` says how the command is called.

It cannot be the command: importing this package has chosen the backend, which is for `--backend`.
"""

import sys

if __name__ == "__main__":
    print(
        "batchnorm is a library here: use batchnorm ... or python -m batchnorm_app ... for its "
        "command.",
        file=sys.stderr,
    )
    sys.exit(2)
