"""Saved networks: everything comes back, nothing of theirs can run, and other files are refused by name."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.storage import load, save


def test_a_network_comes_back(tmp_path) -> None:
    network = MLP(3, 2, (4,), layer_norm=True, seed=0)
    save(tmp_path / "net.safetensors", "mlp", network.state_dict(), network.config)
    tensors, config = load(tmp_path / "net.safetensors", "mlp")
    again = MLP(**config, seed=1)
    again.load_state_dict(tensors)
    x = torch.randn(5, 3)
    assert torch.equal(network(x), again(x))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]  # no draft is left


def test_others_can_read_it(tmp_path) -> None:
    save(tmp_path / "net", "mlp", {"weight": torch.ones(2)}, {"hidden": [4]})
    with safe_open(tmp_path / "net", "pt") as file:
        assert json.loads(file.metadata()["config"]) == {"hidden": [4]}
        assert file.get_tensor("weight").tolist() == [1, 1]


def test_shared_and_strided_tensors_can_be_saved(tmp_path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    save(tmp_path / "net", "mlp", {"a": whole, "b": whole.T, "c": whole[0]}, {})
    tensors, _ = load(tmp_path / "net", "mlp")
    assert tensors["b"].tolist() == whole.T.tolist()


def test_a_failed_save_keeps_the_old_file(tmp_path) -> None:
    save(tmp_path / "net", "mlp", {"a": torch.ones(1)}, {})
    with pytest.raises(TypeError):
        save(tmp_path / "net", "mlp", {"a": torch.zeros(1)}, {"not": object()})
    assert load(tmp_path / "net", "mlp")[0]["a"].tolist() == [1]


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="path: no file"):
        load(tmp_path / "absent", "mlp")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load(tmp_path / "pickle", "mlp")
    save_file({"a": torch.ones(1)}, tmp_path / "theirs")
    with pytest.raises(ValueError, match="expected a file saved as implicit-estimators/1; got None"):
        load(tmp_path / "theirs", "mlp")
    save(tmp_path / "critic", "critic", {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="path: expected a saved mlp; got a critic"):
        load(tmp_path / "critic", "mlp")
