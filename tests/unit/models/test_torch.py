"""torch modules as state dicts in safetensors: tied, shared and strided tensors included."""

from pathlib import Path

import numpy as np
import pytest

from secureml.models import load_value, save

torch = pytest.importorskip("torch")


class Tied(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Two layers that share one weight, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(4, 3)
        self.head = torch.nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight


def loaded(path: Path) -> dict[str, object]:
    """Return the value of the model in *path*."""
    value = load_value({file.name: file.read_bytes() for file in path.iterdir()})
    assert isinstance(value, dict)
    return value


def test_module_comes_back_as_state_dict(tmp_path: Path) -> None:
    """A module's state dict is loaded as torch tensors, and fits the module again."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    save(module, tmp_path / "m")
    state = loaded(tmp_path / "m")
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    other.load_state_dict(state)

    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    """One tensor under two names takes its bytes once, and has both names again."""
    module = Tied()
    save(module, tmp_path / "m")
    state = loaded(tmp_path / "m")

    assert list(state) == ["embed.weight", "head.weight"]
    assert state["embed.weight"] is state["head.weight"]
    assert (tmp_path / "m" / "model.safetensors").stat().st_size < 2 * 4 * 3 * 4 + 300


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    """Slices, transposes and gradients are no hindrance."""
    base = torch.arange(6.0).reshape(2, 3)
    base.requires_grad_()
    state = {"all": base, "row": base[0], "turned": base.T, "scalar": torch.tensor(2.0)}
    save(state, tmp_path / "m")

    for name, tensor in loaded(tmp_path / "m").items():
        assert torch.equal(state[name], tensor)


def test_bfloat16_comes_back(tmp_path: Path) -> None:
    """A type that numpy does not know is loaded by torch."""
    save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "m")

    assert torch.bfloat16 == loaded(tmp_path / "m")["w"].dtype  # type: ignore[attr-defined]


def test_file_of_a_peer_is_loaded_as_torch(tmp_path: Path) -> None:
    """A file that says ``format: pt`` was written by torch."""
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})

    assert torch.equal(torch.ones(2), loaded(tmp_path)["w"])


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """Saving is deterministic, whatever the order of the state dict."""
    one = {"a": torch.ones(2), "b": torch.zeros(3)}
    two = dict(reversed(one.items()))

    assert save(one, tmp_path / "one").digest == save(two, tmp_path / "two").digest


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.ones(2), "b": 7},
        {"a": torch.ones(2), "b": torch.eye(2).to_sparse()},
        {"a": torch.ones(2), "b": np.ones(2)},
    ],
    ids=["number", "sparse", "mixture"],
)
def test_what_is_not_a_dense_tensor_is_refused(tmp_path: Path, state: dict[str, object]) -> None:
    """A state dict with something else in it is a TypeError."""
    with pytest.raises(TypeError):
        save(state, tmp_path / "m")


def test_module_without_weights_is_refused(tmp_path: Path) -> None:
    """There is nothing to save in a module without tensors."""
    with pytest.raises(ValueError, match="no tensors"):
        save(torch.nn.ReLU(), tmp_path / "m")
