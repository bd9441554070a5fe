"""``python -m secureml``: the command line."""

import sys

from secureml.cli import main

if __name__ == "__main__":
    sys.exit(main())
