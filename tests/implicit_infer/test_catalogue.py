"""Names lead to classes, listing imports nothing, and a wrong name is answered with the right one."""

import subprocess
import sys

import pytest

from implicit_infer.catalogue import (
    DENSITIES,
    Catalogue,
    comparisons,
    find,
    games,
    generators,
    methods,
    ratio_methods,
    resolve_method,
    simulators,
)
from implicit_infer.posteriors.method import Method


class Named(Method):
    name = "named"


def test_listing_names_imports_none_of_them():
    catalogue = Catalogue("thing", {"missing": "no_such_module:Nothing", "path": "pathlib:Path"})
    assert list(catalogue) == ["missing", "path"]
    assert len(catalogue) == 2
    assert "missing" in catalogue
    assert repr(catalogue) == "<2 things: missing, path>"


def test_a_name_leads_to_its_class():
    from pathlib import Path

    assert Catalogue("thing", {"path": "pathlib:Path"})["path"] is Path


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_is_found_under_its_own_name(name):
    method = methods()[name]
    assert issubclass(method, Method)
    assert method.name == name
    assert isinstance(resolve_method(name), method)


def test_both_lists_of_comparisons_are_one() -> None:
    """One is read without importing torch, the other by whoever has no need of the catalogue."""
    from implicit_estimators.comparisons import COMPARISONS

    assert list(comparisons()) == [*COMPARISONS, *DENSITIES]
    assert all(comparisons()[name] is kind for name, kind in COMPARISONS.items())


def test_lists_of_games_and_generators_are_those_that_learn_uses() -> None:
    from implicit_infer.games import GAMES
    from implicit_infer.generators.networks import GENERATORS

    assert dict(games().items()) == GAMES
    assert dict(generators().items()) == GENERATORS


@pytest.mark.parametrize("name", list(ratio_methods()))
def test_every_ratio_method_is_found_under_its_own_name(name):
    from implicit_estimators.ratio.base import RatioEstimator

    assert issubclass(ratio_methods()[name], RatioEstimator)
    assert ratio_methods()[name].name == name


def test_both_lists_of_ratio_estimators_are_one() -> None:
    """One is read without importing torch, the other by estimators that are made of others."""
    from implicit_estimators.ratio import RATIO_ESTIMATORS

    assert list(ratio_methods()) == list(RATIO_ESTIMATORS)
    assert all(ratio_methods()[name] is kind for name, kind in RATIO_ESTIMATORS.items())


def test_simulators_are_found_under_their_own_names():
    from implicit_simulators import Simulator

    assert len(simulators()) >= 4
    for name, simulator in simulators().items():
        assert issubclass(simulator, Simulator)
        assert simulator.name == name


@pytest.mark.parametrize(
    ("asked", "closest"), [("NRE", "nre"), ("smc_abc", "smc-abc"), ("gatsby", "gatsbi"), ("rejection", "rejection-abc")]
)
def test_an_unknown_name_is_answered_with_the_closest(asked, closest):
    with pytest.raises(
        ValueError, match=rf"^method: expected one of .*; got '{asked}' \(did you mean '{closest}'\?\)$"
    ):
        resolve_method(asked)


def test_a_name_like_no_other_gets_the_list_only():
    with pytest.raises(ValueError, match=r"expected one of a, b; got 'zzzz'$"):
        find("zzzz", {"a": 1, "b": 2}, "thing")


def test_methods_and_their_classes_pass_through():
    method = Named()
    assert resolve_method(method) is method
    assert isinstance(resolve_method(Named), Named)


def test_what_is_no_method_is_refused():
    with pytest.raises(TypeError, match="method: expected a name or a Method"):
        resolve_method(3)


def test_catalogues_are_listed_without_torch():
    code = "import sys, implicit_infer as ii; list(ii.methods()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
