"""Every generator: shapes, gradients to every parameter, its config rebuilt, and densities that integrate to one."""

import json
import math

import pytest
import torch

from implicit_infer.generators.networks import (
    GENERATORS,
    ConvGenerator,
    FlowGenerator,
    MLPGenerator,
    PyramidGenerator,
    make_generator,
    rebuild,
)
from implicit_infer.generators.networks.flow import KINDS
from implicit_infer.generators.networks.pyramid import analyse, synthesise

CASES = {
    "mlp": ("mlp", (3,), {"hidden": (8, 8)}),
    "mlp, batch norm, bounds": ("mlp", (2, 2), {"hidden": (8, 8), "batch_norm": True, "bounds": (-1.0, 3.0)}),
    **{kind: ("flow", (3,), {"kind": kind, "transforms": 2, "hidden": (8,)}) for kind in KINDS},
    "flow, one entry": ("flow", (1,), {"transforms": 2, "hidden": (8,)}),
    "flow, bounds": ("flow", (2,), {"transforms": 2, "hidden": (8,), "shuffle": True, "bounds": (0.0, 1.0)}),
    "conv": ("conv", (2, 8, 16), {"width": 4}),
    "conv, no norm": ("conv", (1, 8, 8), {"width": 4, "batch_norm": False}),
    "pyramid": ("pyramid", (2, 16, 8), {"width": 4, "hidden": (8,)}),
}


def made(case, condition=0, seed=0, **more):
    name, shape, settings = CASES[case]
    return make_generator(name, shape, None if name == "flow" else 5, condition, seed, **settings, **more)


def stirred(module, seed=1, size=0.2):
    """The module away from its start, where last layers may be 0."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=random)
    return module


def noise(module, n=6, seed=2):
    return torch.randn((n, *module.latent_shape), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("labels", [False, True], ids=["unconditional", "labels"])
@pytest.mark.parametrize("case", CASES)
def test_shape_gradients_and_the_way_back_from_a_config(case, labels):
    module = stirred(made(case, int(labels), **({"classes": 3} if labels else {})))
    condition = torch.tensor([0, 1, 2, 0, 1, 2]) if labels else None
    x = module(noise(module), condition)
    assert x.shape == (6, *module.event_shape)
    x.square().sum().backward()
    still = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # behind a batch norm a ReLU's bias may be dead for all of six draws, a whole layer may not
    assert still == []
    other = rebuild(json.loads(json.dumps(module.config)))
    other.load_state_dict(module.state_dict())
    module.eval()
    other.eval()
    assert torch.equal(other(noise(module), condition), module(noise(module), condition))


@pytest.mark.parametrize("case", CASES)
def test_the_condition_and_the_seed_matter(case):
    module = stirred(made(case, 1, classes=3)).eval()
    z = noise(module)
    first, second = (module(z, torch.full((6,), label)) for label in (0, 2))
    assert (first - second).abs().max() > 1e-3
    state = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(made(case).parameters(), made(case).parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    if not case.startswith("flow, one"):
        pairs = zip(made(case, seed=3).parameters(), made(case, seed=4).parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)


def test_labels_are_columns_or_learned_vectors():
    one_hot = MLPGenerator(2, 2, 1, (4,), classes=3, seed=0)
    assert torch.equal(one_hot.encode(torch.tensor([2.0, 0.0]), 2), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    learned = MLPGenerator(2, 2, 1, (4,), classes=3, embedding=5, seed=0)
    assert learned.encode(torch.tensor([[2], [0]]), 2).shape == (2, 5)
    assert "embedding.weight" in learned.state_dict()


@pytest.mark.parametrize("case", ["mlp", "affine-coupling", "conv, no norm", "pyramid"])
def test_networks_take_location_and_scale_of_data(case):
    module = made(case)
    data = 100 + 7 * torch.randn((400, *module.event_shape), generator=torch.Generator().manual_seed(0))
    before = module(noise(module, 400)).detach()
    module.fit_scale(data)
    after = module(noise(module, 400)).detach()
    assert before.mean().abs() < 5
    assert (after.mean() - 100).abs() < 7
    if case == "affine-coupling":  # the identity at the start: the data's own moments; both sides have 400 rows
        assert (after.mean(0) - data.mean(0)).abs().max() < 4 * 7 / 20
        assert (after.std(0) / data.std(0) - 1).abs().max() < 4 / math.sqrt(800)


def test_an_entry_that_does_not_vary_is_kept_in_place():
    module = FlowGenerator(2, transforms=2, hidden=(4,), seed=0)
    module.fit_scale(torch.stack([torch.arange(10.0), torch.full((10,), 3.0)], 1))
    x = module.sample(5, seed=0)
    assert torch.allclose(x[:, 1], torch.tensor(3.0), atol=1e-3)
    assert module.log_prob(x).isfinite().all()


@pytest.mark.parametrize("bounds", [None, (-1.0, 2.0)], ids=["free", "bounded"])
@pytest.mark.parametrize("kind", KINDS)
def test_flow_codes_and_density_by_change_of_variables(kind, bounds):
    flow = stirred(FlowGenerator((1, 3), 2, kind, 3, (16,), shuffle=True, bounds=bounds, seed=0)).double()
    flow.fit_scale(torch.rand((50, 1, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 0.9)
    z = noise(flow, 4).double()
    condition = torch.randn((4, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = flow(z, condition)
    assert torch.allclose(flow.latent(x, condition), z, atol=1e-7)
    for row in range(4):

        def draw(noise, row=row):
            return flow(noise[None], condition[row : row + 1])[0].flatten()

        slope = torch.autograd.functional.jacobian(draw, z[row])
        expected = torch.distributions.Normal(0, 1).log_prob(z[row]).sum() - torch.linalg.slogdet(slope)[1]
        assert torch.allclose(flow.log_prob(x, condition)[row], expected, atol=1e-7)


@pytest.mark.parametrize("bounds", [None, (-2.0, 3.0)], ids=["free", "bounded"])
@pytest.mark.parametrize("kind", KINDS)
def test_flow_density_integrates_to_one(kind, bounds):
    flow = stirred(FlowGenerator(2, 0, kind, 2, (8,), bounds=bounds, seed=0), size=0.1).double()
    low, high = (-12.0, 12.0) if bounds is None else bounds
    side = (torch.arange(200, dtype=torch.float64) + 0.5) * (high - low) / 200 + low
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = flow.log_prob(grid).exp().sum() * ((high - low) / 200) ** 2
    # the midpoint rule on a smooth density (splines have kinks in the second derivative): 1e-3 by halving the step
    assert abs(float(total) - 1) < 1e-3


def test_a_bounded_flow_has_no_density_outside_and_gradients_survive_it():
    flow = FlowGenerator(1, bounds=(0.0, 1.0), transforms=1, hidden=(4,), seed=0)
    x = torch.tensor([[0.5], [1.5], [-0.1]])
    values = flow.log_prob(x)
    assert values[0].isfinite()
    assert (values[1:] == -math.inf).all()
    values[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())
    draws = FlowGenerator(3, bounds=(2.0, 5.0), transforms=1, hidden=(4,), seed=0).sample(100, seed=0)
    assert draws.min() > 2
    assert draws.max() < 5


def test_dcgan_doubles_from_four_pixels():
    module = ConvGenerator((3, 32, 32), 10, width=8, seed=0)
    planes = [layer.out_channels for layer in module.layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert planes == [32, 16, 8, 3]
    weights = torch.cat([p.detach().flatten() for p in module.parameters() if p.ndim == 4])
    assert abs(float(weights.std()) / 0.02 - 1) < 4 / math.sqrt(2 * len(weights))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_pyramid_is_put_together_as_it_was_taken_apart(levels):
    images = torch.randn((3, 2, 8, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = analyse(images, levels)
    assert [tuple(c.shape[2:]) for c in coefficients] == [(8 >> k, 16 >> k) for k in range(levels)]
    assert torch.allclose(synthesise(coefficients), images, atol=1e-13, rtol=0)


def test_pyramid_levels_learn_what_is_left_over_given_the_blurred_image():
    module = PyramidGenerator((1, 8, 8), 4, 1, levels=3, width=4, hidden=(4,), classes=2, seed=0)
    images = torch.randn((5, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1, 1])
    fine, given = module.problem(0, images, labels)
    blurred = given[:, :64].reshape(5, 1, 8, 8)
    assert torch.allclose(blurred + fine, images, atol=1e-6)
    assert torch.equal(given[:, 64:].argmax(1), labels)
    # a flat image leaves nothing over
    flat, _ = module.problem(0, torch.ones(2, 1, 8, 8), labels[:2])
    assert flat.abs().max() < 1e-6
    coarse, alone = module.problem(2, images, labels)
    assert coarse.shape == (5, 1, 2, 2)
    assert alone.shape == (5, 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: make_generator("gan", 2), "generator: expected one of mlp, flow"),
        (lambda: make_generator("flow", 2, 3), "latent: expected 2"),
        (lambda: MLPGenerator(2, 0), "latent: expected a positive int; got 0"),
        (lambda: MLPGenerator((), 1), "event_shape"),
        (lambda: MLPGenerator(2, 2, hidden=(0,)), "hidden: expected positive"),
        (lambda: MLPGenerator(2, 2, activation="sin"), "activation: expected one of"),
        (lambda: MLPGenerator(2, 2, 2, classes=3), "classes: expected at least 2"),
        (lambda: MLPGenerator(2, 2, embedding=3), "embedding: expected"),
        (lambda: MLPGenerator(2, 2, bounds=(1.0, 0.0)), "bounds"),
        (lambda: FlowGenerator(2, kind="nice"), "kind: expected one of affine-coupling"),
        (lambda: FlowGenerator(2, bins=1), "bins"),
        (lambda: ConvGenerator((1, 12, 16), 2), "powers of two from 8"),
        (lambda: ConvGenerator((1, 4, 8), 2), "powers of two from 8"),
        (lambda: PyramidGenerator((1, 8, 8), 2, levels=4), "levels: expected from 2 to 3"),
        (lambda: MLPGenerator(2, 2)(torch.zeros(3, 1)), r"z: expected shape \(n, 2\)"),
        (lambda: MLPGenerator(2, 2)(torch.zeros(3, 2), torch.zeros(3, 1)), "condition: expected a width of 0"),
        (lambda: MLPGenerator(2, 2, 1)(torch.zeros(3, 2)), "condition: expected a width of 1; got None"),
        (lambda: MLPGenerator(2, 2, 1)(torch.zeros(3, 2), torch.zeros(2, 1)), r"expected shape \(3, 1\)"),
        (lambda: MLPGenerator(2, 2).fit_scale(torch.zeros(3, 1)), "data: expected shape"),
        (lambda: FlowGenerator(2).log_prob(torch.zeros(3, 1)), "x: expected shape"),
        (lambda: FlowGenerator(1, bounds=(0, 1)).fit_scale(torch.tensor([[0.0], [0.5]])), "strictly inside the bounds"),
        (lambda: analyse(torch.zeros(1, 1, 6, 6), 3), "sides divisible by 4"),
        (lambda: rebuild({"name": "vae"}), "config: expected a name"),
    ],
)
def test_what_is_wrong_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_names_are_those_of_the_classes():
    assert {name: kind.name for name, kind in GENERATORS.items()} == {name: name for name in GENERATORS}
