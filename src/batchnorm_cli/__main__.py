"""`python -m batchnorm_cli`, where the command `batchnorm` is not on the path."""

from batchnorm_cli import main

if __name__ == "__main__":
    main()
