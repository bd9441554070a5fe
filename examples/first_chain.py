"""
The whole chain in one script: ``python examples/first_chain.py [DIRECTORY]``.

It makes two workspaces in DIRECTORY (a temporary one by default), trains on
scikit-learn's iris data behind a gate, serves one prediction from the second
workspace, prints its trace, and verifies both.

Needs: pip install '.[demo]'
"""

import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import secureml


def main(root: Path) -> None:
    """Build the chain below *root*, and walk it back."""
    table = root / "iris.parquet"
    load_iris(as_frame=True).frame.to_parquet(table)
    features = ["sepal length (cm)", "sepal width (cm)"]

    # Where models are trained: data, gate, run, signature.
    with secureml.open(root / "lab") as lab:
        iris = lab.dataset(
            table, source="R. A. Fisher, as shipped by scikit-learn", licence="BSD-3"
        )
        check = secureml.data.checks
        gate = secureml.Gate(
            "iris@1",
            [
                check.row_count(100),
                check.between(features[0], 0, 10),
                check.in_set("target", [0, 1, 2]),
            ],
        )
        print(gate.preview(iris))  # explore: logs nothing, is never evidence
        lab.run_gate(gate, iris).enforce()
        with lab.training_run("iris", inputs=[iris], seed=7, parameters={"C": 0.5}) as run:
            frame = iris.to_pandas()
            model = LogisticRegression(C=0.5, max_iter=1_000, random_state=run.seed)
            run.save(model.fit(frame[features].to_numpy(), frame["target"]), root / "model")
        lab.sign_model(root / "model", require=[gate])
        trust = lab.write_trust(root / "trust.toml", models={"iris": [gate]})

    # Where they are served: another key, the model's directory, the reviewed trust file.
    with secureml.open(root / "shop", role="serve", trust=trust) as shop:
        served = shop.load_model(root / "model", name="iris")

        @shop.audited(action="classify", model=served, user="user", capture=["flower", "return"])
        def classify(flower: list[float], *, user: str) -> int:  # noqa: ARG001  recorded
            return int(served.value.predict([flower])[0])

        with secureml.audit.collect() as records:
            classify([5.1, 3.5], user="dr.fisher@example.org")
        trace = shop.trace(records[0].id, input=[5.1, 3.5])
        print(trace)
        trace.enforce()

    for name in ("lab", "shop"):
        print(secureml.open(root / name, create=False).verify())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
