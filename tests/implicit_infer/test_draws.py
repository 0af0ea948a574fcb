"""Numbers from files, and draws to files that others read."""

import json

import numpy as np
import pandas
import pytest
import torch

from implicit_infer.draws import check_draws_path, read_draws, read_numbers, save_draws

VALUES = np.array([[1.0, 2.5], [3.0, -4.0], [0.125, 1e6]])
THETA, OBSERVED = torch.tensor(VALUES).float(), torch.zeros(3, 2)


def test_every_kind_of_file_gives_the_same_numbers(tmp_path):
    pandas.DataFrame(VALUES, columns=["hare", "lynx"]).to_csv(tmp_path / "named.csv", index=False)
    pandas.DataFrame(VALUES).to_csv(tmp_path / "bare.csv", index=False, header=False)
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "a.json").write_text(json.dumps(VALUES.tolist()))
    for name, columns in (("named.csv", ["hare", "lynx"]), ("bare.csv", []), ("a.npy", []), ("a.json", [])):
        values, named = read_numbers(tmp_path / name)
        np.testing.assert_array_equal(values, VALUES)
        assert named == columns


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "words.csv").write_text("name,mass\nhare,3\n")
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "half.json").write_text("[1, 2")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name, message in (
        ("words.csv", "words.csv: expected numbers only"),
        ("a.json", "a.json: expected numbers only"),
        ("half.json", "half.json: expected JSON"),
        ("objects.npy", "objects.npy: expected numbers only"),
        ("a.xls", "expected a file with suffix .csv"),
    ):
        with pytest.raises(ValueError, match=message):
            read_numbers(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_numbers(tmp_path / "none.csv")


def test_draws_come_back_from_a_table(tmp_path):
    save_draws(tmp_path / "draws.csv", THETA, ("a", "b"), OBSERVED)
    frame = pandas.read_csv(tmp_path / "draws.csv")
    assert list(frame.columns) == ["a", "b"]
    np.testing.assert_array_equal(frame.to_numpy(dtype=np.float32), THETA.numpy())


def test_draws_come_back_from_a_store(tmp_path):
    path = tmp_path / "draws.zarr"
    save_draws(path, THETA, ("a", "b"), OBSERVED)
    np.testing.assert_array_equal(read_draws(path), THETA.numpy())
    np.testing.assert_array_equal(read_draws(path, "observed_data"), OBSERVED.numpy())
    assert read_draws(path, "posterior_predictive") is None


def test_where_draws_cannot_go_is_refused_first(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"out: expected a file with suffix .*; got 'draws.txt'"):
        check_draws_path(tmp_path / "draws.txt")
    with pytest.raises(ValueError, match="does not exist"):
        check_draws_path(tmp_path / "nowhere" / "draws.csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="need pyarrow, which is not installed"):
        check_draws_path(tmp_path / "draws.parquet")
    check_draws_path(tmp_path / "draws.zarr")


def test_parquet_where_pyarrow_is_there(tmp_path):
    pytest.importorskip("pyarrow")
    save_draws(tmp_path / "draws.parquet", THETA, ("a", "b"), OBSERVED)
    values, named = read_numbers(tmp_path / "draws.parquet")
    np.testing.assert_array_equal(values, THETA.numpy())
    assert named == ["a", "b"]
