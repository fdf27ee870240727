"""`python -m batchnorm_app`: the command `batchnorm` where that is not on the path."""

from batchnorm_app.cli import main

if __name__ == "__main__":
    main()
