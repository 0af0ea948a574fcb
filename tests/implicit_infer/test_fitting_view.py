"""What a comparison sees: rows, windows and points, in units of the data; and where fits search."""

from __future__ import annotations

import pytest
import torch

from implicit_infer.fitting.space import Space
from implicit_infer.fitting.view import View
from implicit_simulators.poisson_source import PoissonSource
from tests.implicit_infer.location_scale import LocationScale, observations


def test_rows_are_standardised_by_the_data():
    data = observations(500)
    rows = View.of(LocationScale(), data)(data)
    assert rows.shape == (500, 1, 1)
    assert abs(float(rows.mean())) < 1e-5
    assert float(rows.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_windows_are_all_stretches_of_a_series():
    data = torch.arange(10.0)[None]
    view = View.of(LocationScale(10), data, window=3, stride=2)
    assert view.each == 4
    assert view.split(data)[0].tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8]]


def test_a_simulator_that_says_so_gives_its_points():
    data = observations(1, length=10)
    assert View.of(LocationScale(10, points=10), data)(data).shape == (1, 10, 1)
    # a count that does not divide x is not one of independent parts
    assert View.of(LocationScale(10, points=3), observations(5, length=10)).each == 1


def test_one_series_alone_is_no_sample():
    with pytest.raises(ValueError, match=r"needs 2 rows or more; \(1, 10\) gives 1.*window="):
        View.of(LocationScale(10), observations(1, length=10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 11}, "window: expected a length from 1 to 10"),
        ({"window": 3, "stride": 0}, "stride: expected a positive int"),
        ({"window": 3, "summaries": True}, "expected one of the two"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        View.of(LocationScale(10), observations(3, length=10), **settings)


def test_one_wild_datum_does_not_set_the_units():
    data = torch.cat([observations(500), torch.tensor([[1e6]])])
    rows = View.of(LocationScale(), data)(data)
    assert float(rows[:500].std()) > 0.3
    assert float(rows.abs().max()) < 20


def test_gradients_flow_through():
    data = observations(50, length=10).requires_grad_()
    View.of(LocationScale(10), data.detach(), window=4)(data).square().sum().backward()
    assert bool((data.grad != 0).any(1).all())


def test_summaries_are_one_row():
    data = observations(30, length=10)
    assert View.of(LocationScale(10), data, summaries=True)(data).shape == (30, 1, 2)


def test_the_search_stays_inside_bounds_and_begins_in_the_middle_or_where_it_is_told():
    space = Space.of(LocationScale())
    theta = space.theta(torch.tensor([[-50.0, 50.0], [0.0, 0.0], [3.0, -2.0]]))
    assert bool(LocationScale().prior.support.check(theta).all())
    assert space.theta(space.start(None)[None])[0].tolist() == pytest.approx([0.0, 2.55], abs=0.2)
    assert space.theta(space.start(torch.tensor([1.0, 2.0]))[None])[0].tolist() == pytest.approx([1, 2], abs=1e-4)


def test_the_prior_has_mean_0_and_deviation_1_there():
    simulator = PoissonSource()
    space = Space.of(simulator)
    v = space.free(simulator.sample_prior(4000, 1))
    assert abs(float(v.mean())) < 4 * 2**0.5 / 2000**0.5  # two samples' standard errors
    assert float(v.std()) == pytest.approx(1, abs=0.1)
