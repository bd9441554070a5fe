"""
What a bare install can do, with none of the extras: run by ``nox -s bare``.

Everything imports; hashing, signing and verifying work; what needs an extra
says which one.
"""

import importlib
import importlib.util
import pkgutil
import sys
import tempfile
from pathlib import Path

import secureml
from secureml import keys
from secureml._extras import EXTRAS, require
from secureml.errors import MissingExtraError


def main() -> None:
    """Check, and say what was checked."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    if present:
        sys.exit(f"this is no bare install: {', '.join(present)} can be imported")

    names = [
        module.name
        for module in pkgutil.walk_packages(secureml.__path__, prefix="secureml.")
        if not module.name.endswith("__main__")
    ]
    for name in names:
        importlib.import_module(name)

    for name, extra in EXTRAS.items():
        try:
            require(name, purpose="to be tested")
        except MissingExtraError as error:
            if f"secureml-sdk[{extra}]" not in error.fix:
                sys.exit(f"the error for {name} does not name its extra: {error}")
        else:
            sys.exit(f"{name} is missing, and nothing said so")

    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model"
        model.mkdir()
        (model / "weights.bin").write_bytes(b"weights")
        key = keys.generate()
        before = secureml.manifest(model)
        secureml.sign_model(model, key=key)
        secureml.verify_model(model, key=key.verifier)
        try:
            secureml.data.dataset(Path(directory) / "t.parquet", source="here", licence="none")
        except (MissingExtraError, FileNotFoundError, secureml.StoreError):
            pass
        else:
            sys.exit("a table was read without pyarrow")
    print(f"bare install: {len(names)} modules import, a model of {len(before)} file verifies")


if __name__ == "__main__":
    main()
