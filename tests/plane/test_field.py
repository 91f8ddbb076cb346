r"""The field that a small network learns, against the true one."""

import pytest
import torch

from ldm.diffusion.level import circle_level, circle_levels
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.euler import euler
from ldm.plane.field import Field, guided, learned, train_field, velocity_loss
from ldm.plane.mixture import join
from ldm.plane.shapes import clouds, moons

LEVEL = circle_level(0.3)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    field, generator = Field(parts=2), torch.Generator().manual_seed(0)
    return field, list(train_field(field, moons(), 300, generator, batch=256))


def test_a_field_has_a_few_thousand_weights():
    assert sum(p.numel() for p in Field(parts=2).parameters()) == 5506


def test_the_loss_by_hand():
    still = Field(parts=1)
    torch.nn.init.zeros_(still.layers[-1].weight)
    torch.nn.init.zeros_(still.layers[-1].bias)
    x0, eps = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    loss = velocity_loss(still, x0, eps, torch.tensor([1.0, 0.0]), torch.zeros(2, 1))
    assert loss.item() == pytest.approx((9 + 0 + 0 + 4) / 4)  # pure noise: -x0; clean: eps


@pytest.mark.parametrize("part", [None, 0, 1])
def test_the_learned_field_is_close_to_the_true_one(trained, part):
    field, losses = trained
    data = join(*moons()) if part is None else moons()[part]
    generator = torch.Generator().manual_seed(1)
    for level, limit in ((LEVEL, 0.08), (circle_level(0.6), 0.03), (circle_level(1.0), 0.03)):
        x_t = level.mix(data.draw(1000, generator), torch.randn(1000, 2, generator=generator))
        x0, eps = data.denoise(x_t, level)
        x0_learned, eps_learned = learned(field, 2, part)(x_t, level)
        true, got = level.alpha * eps - level.sigma * x0, level.alpha * eps_learned - level.sigma * x0_learned
        assert ((got - true) ** 2).mean() < limit, level
    assert sum(losses[-50:]) < 0.9 * sum(losses[:50])


def test_points_that_follow_the_learned_field_end_near_the_moons(trained):
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(2))
    *_, last = sample(euler, learned(trained[0], 2), x, circle_levels(30), lambda: x)
    distance = torch.cdist(last.x_prev, join(*moons()).means).min(dim=1).values
    assert distance.median() < 0.15  # in the noise it is 0.5


def test_what_is_learned_is_read_as_a_prediction_of_v(trained, draw):
    x_t, label = draw(9, 2).float(), torch.tensor([[0.0, 1.0]])
    out = trained[0](x_t, torch.full((9,), LEVEL.t), label.expand(9, 2)).detach()
    torch.testing.assert_close(learned(trained[0], 2, 1)(x_t, LEVEL), x0_and_eps("v", out, x_t, LEVEL))


def test_guidance_one_is_the_part_zero_the_whole_and_more_bends_away_from_the_others(draw):
    parts, x_t = clouds(), draw(9, 2).float()
    whole, top = join(*parts), parts[0]
    for scale, same in ((1.0, top), (0.0, whole)):
        for got, expected in zip(
            guided(whole.denoise, top.denoise, scale)(x_t, LEVEL), same.denoise(x_t, LEVEL)
        ):
            torch.testing.assert_close(got, expected)
    x0, eps = guided(whole.denoise, top.denoise, 3.0)(x_t, LEVEL)
    torch.testing.assert_close(LEVEL.mix(x0, eps), x_t)
    assert (x0[:, 1] >= top.denoise(x_t, LEVEL)[0][:, 1]).all()  # the others are below: it aims higher
