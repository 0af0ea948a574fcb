"""On a GPU: the same answers, nothing left behind on the CPU. Run with ``-m gpu`` where there is one."""

from __future__ import annotations

import pytest
import torch

from implicit_estimators import MMD, PENALTIES, ConditionalCritic, LogisticRatio

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def test_a_ratio_is_learned_and_saved(plane, tmp_path) -> None:
    p, q = plane.samples(3000, 3000, 0)
    ratio = LogisticRatio().fit(p, q, seed=0, device="cuda")
    values = ratio.log_ratio(p)
    assert values.device.type == "cpu"
    assert ratio.log_ratio(p.cuda()).device.type == "cuda"
    assert float((values - plane.log_ratio(p)).abs().mean()) < 0.25
    assert ratio.check().n_p == 600
    assert ratio.check(p.cuda(), q.cuda()).n_p == 3000
    ratio.save(tmp_path / "ratio")
    assert torch.allclose(LogisticRatio.load(tmp_path / "ratio").log_ratio(p), values, atol=1e-4)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_take_generators_of_either_device(name: str) -> None:
    real, fake = torch.randn(32, 3, device="cuda"), torch.randn(32, 3, device="cuda")
    critic = ConditionalCritic(3, 0, spectral_norm=True, seed=0, device="cuda")
    for device in ("cpu", "cuda"):
        critic.zero_grad()
        PENALTIES[name]().penalty(critic, real, fake, seed=torch.Generator(device).manual_seed(0)).backward()
        slopes = [parameter.grad for parameter in critic.parameters() if parameter.grad is not None]
        assert slopes
        assert all(slope.device.type == "cuda" and torch.isfinite(slope).all() for slope in slopes)


def test_mmd_agrees_with_the_cpu() -> None:
    x, y = torch.randn(700, 3), torch.randn(600, 3) + 0.5
    mmd = MMD.placed(x, y, block=256)
    assert torch.allclose(mmd.squared(x.cuda(), y.cuda()).cpu(), mmd.squared(x, y), atol=1e-5)
    assert torch.allclose(mmd.batched(x.cuda()[None], y.cuda()).cpu(), mmd.batched(x[None], y), atol=1e-5)
