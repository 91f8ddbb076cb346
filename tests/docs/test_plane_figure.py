r"""The figure in two dimensions: its mathematics is Python's, and it works in a browser, from `file://`.

The numbers are computed by node where there is one; the browser computes them too (`make test-browser`).
"""

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ldm.diffusion.level import circle_levels, flow_levels
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral_step
from ldm.plane.field import Field, guided, velocity_loss
from ldm.plane.mixture import Mixture
from ldm.plane.shapes import SHAPES, line
from tests.lab.trace.chromium import PROGRAM, Chromium

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "docs" / "_static" / "plane"
NODE = shutil.which("node")


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MEANS, POINTS, NOISES, STD, SCALE = (
    numbers(5, 2, seed=0),
    numbers(7, 2, seed=1),
    numbers(7, 2, seed=2),
    0.4,
    3.0,
)
X0, EPS = numbers(6, 2, seed=3), numbers(6, 2, seed=4)
TIMES = torch.tensor([0.0, 0.1, 0.4, 0.6, 0.9, 1.0], dtype=torch.float64)
LABELS = [0, 1, -1, 1, 0, -1]


@pytest.fixture(scope="module")
def field() -> Field:
    torch.manual_seed(0)
    return Field(parts=2).double()


@pytest.fixture(scope="module")
def case(field: Field) -> str:
    r"""The numbers that both sides start from, as JSON."""
    linear = [layer for layer in field.layers if isinstance(layer, torch.nn.Linear)]
    examples = zip(X0.tolist(), EPS.tolist(), TIMES.tolist(), LABELS)
    return json.dumps(
        {
            "means": MEANS.tolist(),
            "std": STD,
            "points": POINTS.tolist(),
            "noises": NOISES.tolist(),
            "scale": SCALE,
            "parts": 2,
            "weights": [layer.weight.flatten().tolist() for layer in linear],
            "biases": [layer.bias.tolist() for layer in linear],
            "examples": [{"x0": a, "eps": b, "t": t, "part": part} for a, b, t, part in examples],
        }
    )


def expected(field: Field) -> dict[str, object]:
    r"""What Python computes of the same case, under the names of `plane_case.js`."""
    levels, mixture = circle_levels(4), Mixture(MEANS, STD)
    here, after, part = levels[1], levels[2], Mixture(MEANS[:2], STD)
    x0, eps = mixture.denoise(POINTS, here)
    both = guided(mixture.denoise, part.denoise, SCALE)(POINTS, here)
    *_, last = sample(euler, mixture.denoise, POINTS, levels, lambda: POINTS)
    *_, last_of_flow = sample(euler, mixture.denoise, POINTS, flow_levels(4), lambda: POINTS)
    labels = torch.tensor([[float(part == k) for k in range(2)] for part in LABELS], dtype=torch.float64)
    loss = velocity_loss(field, X0, EPS, TIMES, labels)
    parameters = [
        *(p for p in field.parameters() if p.ndim > 1),
        *(p for p in field.parameters() if p.ndim == 1),
    ]
    gradient = torch.autograd.grad(loss, parameters)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(7, 2)

    def read(x: torch.Tensor, t: float) -> torch.Tensor:
        alpha, sigma = math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)
        v = field(x, torch.full((7,), t, dtype=torch.float64), first)
        return torch.cat([alpha * x - sigma * v, sigma * x + alpha * v], dim=-1)

    straight = flow_levels(4)[1]  # what it mixes is on the circle, too, but for its size
    size, angle = math.hypot(straight.alpha, straight.sigma), math.atan(straight.sigma / straight.alpha)
    return {
        "levels": [(level.t, level.alpha, level.sigma) for level in levels],
        "flow": [(level.t, level.alpha, level.sigma) for level in flow_levels(4)],
        "density": mixture.log_density(POINTS, here),
        "score": mixture.score(POINTS, here),
        "guesses": torch.cat([x0, eps], dim=-1),
        "guided": torch.cat(both, dim=-1),
        "euler": after.mix(x0, eps),
        "ancestral": euler_ancestral_step(x0, eps, here, after, NOISES),
        "ends": last.x_prev,
        "flowEnds": last_of_flow.x_prev,
        "bent": line(torch.tensor([[0, 0], [0, 0], [0.3, 0], [0.3, 0.41]], dtype=torch.float64)).means,
        "loss": loss,
        "gradient": gradient,
        "learned": read(POINTS, here.t),
        "learnedInFlow": read(POINTS / size, 2 / math.pi * angle),
    }


def compare(found: dict, field: Field) -> None:
    for name, value in expected(field).items():
        pairs = zip(found[name], value, strict=True) if name == "gradient" else [(found[name], value)]
        for got, wanted in pairs:
            wanted = torch.as_tensor(wanted, dtype=torch.float64).detach()
            got = torch.tensor(got, dtype=torch.float64).reshape(wanted.shape)
            torch.testing.assert_close(
                got, wanted, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
            )
    assert found["shapes"].keys() == SHAPES.keys()
    for name, shape in SHAPES.items():
        for (std, means), part in zip(found["shapes"][name], shape(), strict=True):
            assert std == part.std
            # Python's shapes are in float32.
            torch.testing.assert_close(torch.tensor(means), part.means, rtol=0, atol=2e-6)
    assert found["count"] == sum(p.numel() for p in field.parameters())
    assert torch.tensor(found["trained"][0]).sub(next(field.parameters()).flatten()).abs().max() > 1e-3


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
def test_the_figures_mathematics_is_pythons_and_it_says_the_same_things_in_both_languages(case, field):
    command = [str(NODE), str(HERE / "plane.js"), str(SCRIPTS)]
    result = subprocess.run(command, input=case, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    compare(found, field)
    assert found["english"] == found["french"] and len(found["english"]) > 30


def test_the_page_gets_the_scripts_that_are_tested():
    pytest.importorskip("sphinx", reason="the site's extension needs the `docs` extra")
    from annotated.plane import SCRIPTS as given

    assert given == NAMES
    assert sorted(f"{name}.js" for name in given) == sorted(path.name for path in SCRIPTS.glob("*.js"))


# --- in a browser ---------------------------------------------------------------------------------------

NAMES = ("maths", "field", "words", "paths", "draw", "pen", "controls", "figure")
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>figure</title>
<link rel="stylesheet" href="{scripts}/plane.css">
<body style="margin: 1rem"><div class="plane-figure" data-language="en"></div>
""" + "".join(f'<script defer src="{{scripts}}/{name}.js"></script>' for name in NAMES)
INK = "document.querySelector('.plane-canvas').toDataURL()"
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))"
in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture
def page(browser, tmp_path, request):
    width = getattr(request, "param", 1440)
    (tmp_path / "page.html").write_text(PAGE.format(scripts=SCRIPTS.as_uri()), encoding="utf-8")
    browser.open(tmp_path / "page.html", width, 900, touch=width < 500)
    browser.wait_for("!!document.querySelector('.plane-figure').figure")
    yield browser
    assert browser.errors == []
    assert [address for address in browser.requests if not address.startswith("file:")] == []


def change(page, script: str) -> bool:
    r"""Whether the picture changes when the script is run."""
    page.run(PAINTED)
    before = page.run(INK)
    page.run(script)
    page.run(PAINTED)
    return page.run(INK) != before


def setting(name: str, value: object) -> str:
    return (
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.querySelector('[name={name}]'))"
    )


def choosing(group: str, value: str) -> str:
    return f"document.querySelector('input[name$=\"-{group}\"][value={value}]').click()"


class TestInABrowser:
    pytestmark = in_a_browser

    def test_the_browser_computes_the_same(self, page, case, field):
        script = (HERE / "plane_case.js").read_text(encoding="utf-8")
        compare(json.loads(page.run(f"{script}; JSON.stringify(computed({case}))")), field)

    @pytest.mark.parametrize("page", [390, 1440], indirect=True)
    def test_every_control_changes_the_picture_and_nothing_is_wider_than_the_page(self, page):
        for group, value in [
            ("shape", "moons"),
            ("shape", "spiral"),
            ("shape", "clouds"),
            ("way", "sde"),
            ("way", "ode"),
            ("mixture", "flow"),
        ]:
            assert change(page, choosing(group, value)), (group, value)
        for name, value in [("time", 200), ("steps", 1), ("part", 0), ("guidance", 12)]:
            assert change(page, setting(name, value)), name
        for name in ("arrows", "paths", "points"):
            assert change(page, f"document.querySelector('[name={name}]').click()"), name
        assert page.run("document.documentElement.scrollWidth") <= page.run("innerWidth")

    def test_one_step_ends_in_the_average_of_the_data_and_more_steps_end_closer(self, page):
        page.run(setting("steps", 0))
        ends = page.run("document.querySelector('.plane-figure').figure.stages.at(-1).points")
        assert max(abs(x - ends[0][0]) + abs(y - ends[0][1]) for x, y in ends) < 1e-6
        far = page.run("document.querySelector('.plane-figure').figure.distance")
        page.run(setting("steps", 7))
        assert page.run("document.querySelector('.plane-figure').figure.distance") < 0.2 * far

    def test_points_flow_to_the_end_and_the_slider_with_them(self, page):
        page.run(setting("time", 196))
        page.click(".plane-play")
        page.wait_for("document.querySelector('[name=time]').value === '200'")
        page.wait_for("document.querySelector('.plane-play').textContent === 'Let them flow'")

    def test_the_network_learns_in_the_page_and_can_be_stopped(self, page):
        page.run(choosing("shape", "clouds"))
        page.run("document.querySelector('.plane-figure').figure.learn.click()")
        page.wait_for("document.querySelector('.plane-figure').figure.trainer.step >= 60", seconds=240)
        page.run("document.querySelector('.plane-figure').figure.learn.click()")
        losses = page.run("document.querySelector('.plane-figure').figure.trainer.losses")
        assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
        page.run(PAINTED)
        assert "loss" in page.run("document.querySelector('.plane-news').textContent")
        assert page.run("document.querySelector('input[value=learned]').checked")

    def test_a_line_is_drawn_with_the_keyboard_alone(self, page):
        page.run(choosing("shape", "draw"))
        page.run("document.querySelector('.plane-canvas').focus()")
        for key in [" ", *["ArrowRight"] * 8, *["ArrowUp"] * 3, " "]:
            page.press(key)
        page.run(PAINTED)
        figure = "document.querySelector('.plane-figure').figure"
        assert page.run(f"{figure}.parts.length") == 1
        assert page.run(f"{figure}.whole.means.at(-1)") == pytest.approx([0.8, 0.3])
        assert "away from the data" in page.run("document.querySelector('.plane-said').textContent")

    def test_the_arrow_keys_probe_the_field(self, page):
        page.run("document.querySelector('.plane-canvas').focus()")
        page.press("ArrowRight")
        page.run(PAINTED)
        assert "the best guess" in page.run("document.querySelector('.plane-said').textContent")
