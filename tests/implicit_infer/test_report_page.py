"""The report: right words for what was found, all pictures inside, valid for a browser, nothing from outside."""

import html.parser
import json
import re
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np
import pytest
import torch

import implicit_infer as ii
from implicit_infer.compare import score as scoring
from implicit_infer.compare.comparison import Comparison
from implicit_infer.diagnose.c2st import C2ST
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method
from implicit_infer.report import pictures, wording
from implicit_infer.report.findings import Findings
from implicit_infer.report.summary import headline
from implicit_infer.report.table import plain_table
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


class Series(GaussianLinear):
    """Six parameters seen as three years of two species."""

    event_times = (1900, 1901, 1902)
    event_labels = ("hare", "lynx")
    event_unit = "thousand pelts"

    def __init__(self):
        super().__init__(6)
        self.event_shape = torch.Size([3, 2])

    def _simulate(self, theta, stream):
        return super()._simulate(theta, stream).reshape(-1, 3, 2)

    def posterior(self, x):
        flat = GaussianLinear(6)
        return flat.posterior(x.reshape(-1))


class ExactPosterior(Posterior):
    def _sample(self, n, x, stream, progress):
        with stream.forked():
            return torch.stack([self.simulator.posterior(row).sample((n,)) for row in x], dim=1)


@dataclass(frozen=True)
class Exact(Method):
    name = "exact"
    shift: float = 0.0
    warns: str = ""
    odd: dict = field(default_factory=dict)

    def infer(self, question):
        if self.shift == 99:
            raise RuntimeError("<script>alert('never')</script>")
        warnings = [self.warns] if self.warns else []
        figures = {"steps": list(range(20)), "rate": 0.123456, **self.odd}
        observed = question.observed + self.shift
        about = {"method": self.name, "simulations": question.budget, "figures": figures, "warnings": warnings}
        return ExactPosterior(question.simulator, observed, **about)


def mean_difference(reference, draws, *, seed):
    """A score that says exactly how far the means are apart, at no cost."""
    return C2ST(0.5 + min(float((reference.mean(0) - draws.mean(0)).norm()) / 2, 0.5), 0.01, (1, 1), len(draws))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Compare methods under labels and give the comparison."""
    monkeypatch.setattr(scoring, "c2st", mean_difference)

    def compare(methods, simulator=None, **changes):
        simulator = simulator or Series()
        observed = torch.full(tuple(simulator.event_shape), 0.1)
        settings = {"budgets": [100], "repeats": 1, "draws": 300, "predictive": 50, "progress": False}
        return ii.compare(simulator, observed, methods, out=tmp_path / "out", **{**settings, **changes})

    return compare


class Page(html.parser.HTMLParser):
    """What a browser sees: every tag closed, every identifier once, and the text."""

    VOID = ("meta", "input", "br", "link", "img", "hr")

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.links, self.headings, self.text, self.classes = [], [], [], [], "", []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.classes += [given["class"]] if "class" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not set(self.open) & {"style", "svg"}:
            self.text += data
        if self.open[-1:] in (["h1"], ["h2"]):
            self.headings.append(data)


def test_a_whole_page(make):
    variants = {"near": Exact(), "far": Exact(shift=1.0, warns="it is <far>"), "fails": Exact(shift=99)}
    result = make(variants, budgets=[100, 200], repeats=2)
    page = Page(result.report())
    assert page.headings == [
        "near came closest to the reference posterior at 200 simulations",
        "Result",
        "Distance to the reference by budget",
        "What each posterior predicts",
        "Posterior, one parameter at a time",
        "Posterior, pair by pair",
        "What failed",
        "Methods in detail",
        "What was run",
    ]
    words = " ".join(page.text.split())
    assert "Three methods inferred the six parameters of gaussian-linear, each with budgets of 100 and 200" in words
    assert "twice." in words
    assert "4 of 12 runs failed" in words
    assert "it is <far>" in words
    assert "<script>alert('never')</script>" in words  # as text
    assert "RuntimeError" in words
    assert "Traceback (most recent call last)" in words
    assert f"torch {version('torch')}" in words
    assert "<dt>seed</dt><dd>0</dd>" in result.report().read_text()
    assert "0, …, 19 (20 values)" in words
    assert "the exact posterior" in words
    assert len(page.ids) == len(set(page.ids))
    assert page.classes.count("failure") == 4


def test_the_page_needs_nothing_from_outside(make):
    page = make({"exact": Exact(), "fails": Exact(shift=99)}).report()
    seen = Page(page)
    assert all(link.startswith("#") and link[1:] in seen.ids for link in seen.links)
    text = page.read_text()
    assert "<script" not in text
    assert "@import" not in text
    urls = set(re.findall(r"https?://[^\"' )<]+", text))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{name}" for name in seen.ids}


def test_the_page_names_no_folder_of_this_machine(make, tmp_path):
    text = make({"exact": Exact(), "fails": Exact(shift=99)}).report().read_text()
    assert str(tmp_path) not in text
    assert "/site-packages/" not in text
    assert "test_report_page.py" in text  # the file, not where it lies


def test_colours_are_the_pages_own(make):
    text = make({"exact": Exact()}).report().read_text()
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert "var(--ink-2)" in picture
        assert not re.search(r"#0[1-5]0[1-5]0[0-9a-f]", picture)
        assert "DejaVu" not in picture
    assert "prefers-color-scheme: dark" in text


def test_without_a_reference_predictions_remain(make):
    page = Page(make({"a": Exact(), "b": Exact(shift=0.5)}, reference=None).report())
    assert page.headings[0] == "Without a reference posterior, only the methods' predictions can be judged"
    assert "Posterior, pair by pair" in page.headings
    assert "C2ST" not in page.text


def test_a_page_of_failures_alone(make):
    page = Page(make({"fails": Exact(shift=99)}, reference=None).report())
    assert page.headings == ["No method gave an answer", "Result", "What failed", "Methods in detail", "What was run"]


def test_one_parameter_and_one_datum_are_drawn_too(make):
    page = Page(make({"exact": Exact()}, simulator=GaussianLinear(1)).report())
    assert "Posterior, pair by pair" in page.headings
    assert "What each posterior predicts" in page.headings


def test_an_image_is_no_series():
    assert pictures.Series.of((8, 8, 3), {}) is None
    assert pictures.Series.of((32, 32), {}) is None
    assert pictures.Series.of((5,), {"event_times": None, "event_labels": None}).labels == ("x",)
    assert pictures.Series.of((4, 2), {}).labels == ("x1", "x2")
    timed = pictures.Series.of((3, 2), {"event_times": [1900, 1901, 1902], "event_labels": ["hare", "lynx"]})
    assert timed.timed
    assert timed.times.tolist() == [1900, 1901, 1902]


def test_the_report_is_made_from_the_folder_alone(make, tmp_path):
    made = make({"b": Exact(), "a": Exact(shift=1.0)})
    first = made.report(tmp_path / "first.html").read_text()
    again = Comparison(tmp_path / "out").report(tmp_path / "pages" / "again.html").read_text()
    assert first == again


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"a": 0.52, "b": 0.6}, "a came closest to the reference posterior at 100 simulations"),
        ({"a": 0.6, "b": 0.59, "c": 0.9}, "b and a came closest to the reference posterior at 100 simulations"),
        ({"a": 0.6, "b": 0.59}, "b and a are equally close to the reference posterior at 100 simulations"),
        ({"a": 0.6}, "a scores 0.60 against the reference posterior at 100 simulations"),
        ({"a": 1.0, "b": 0.95}, "No method came close to the reference posterior at 100 simulations; nearest is b"),
    ],
)
def test_headlines(make, scores, expected):
    result = make({label: Exact() for label in scores})
    for run in result.runs:
        path = result.folder.runs / run.name / "scores.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "c2st": scores[run.label], "c2st_se": 0.01}))
    assert headline(Findings(Comparison(result.folder))) == expected


def test_the_plain_table_has_the_same_cells(make):
    columns, rows = plain_table(Findings(make({"exact": Exact(), "fails": Exact(shift=99)})))
    assert columns == ["method", "sims", "time", "C2ST", "marginal", "distinct", "in 90 %", "p"]
    assert [row[0] for row in rows] == ["exact", "fails"]
    assert rows[1][1:] == ["failed"]
    assert rows[0][1] == "100"
    assert re.fullmatch(r"0\.\d{3} ± 0\.010", rows[0][3])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (12345, "12,345"),
        (0.000123456, "0.0001235"),
        (123456.7, "123,457"),
        ([1, 2], "1, 2"),
    ],
)
def test_values_in_words(value, text):
    assert wording.value_in_words(value) == text


def test_paths_are_shortened():
    lines = 'File "/home/me/env/lib/torch/nn/module.py", line 3\nFile "C:\\Users\\me\\x\\y.py", line 1'
    assert wording.shorten_paths(lines) == 'File "nn/module.py", line 3\nFile "x\\y.py", line 1'


def test_limits_show_the_reference_and_not_the_outliers():
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(2000, 1))
    ((low, high),) = pictures.parameter_limits([1e3 * generator.normal(size=(500, 1))], reference)
    assert low < -2.5
    assert high > 2.5
    assert high - low < 25
    ((low, high),) = pictures.parameter_limits([np.zeros((50, 1))], None)
    assert low < 0 < high


def test_contours_hold_the_mass_they_say():
    # the 90 % contour of a standard normal in the plane is the circle of radius sqrt(-2 log 0.1) = 2.15; smoothing with
    # n^(-1/6) of a standard deviation at n = 20,000 widens it by 2 %, and the histogram's bins by as much
    points = np.random.default_rng(0).normal(size=(20_000, 2))
    figure = pictures._figure(3, 3)
    axes = figure.subplots()
    pictures._contours(axes, points, (-4, 4), (-4, 4), "#000000", filled=False)
    outer = np.concatenate([path.vertices for path in axes.collections[0].get_paths()[:1]])
    radius = np.linalg.norm(outer, axis=1)
    assert abs(radius.mean() / (-2 * np.log(0.1)) ** 0.5 - 1) < 0.06


def test_densities_integrate_to_one():
    values = np.random.default_rng(0).normal(size=5000)
    where, height = pictures._density(values, (-6, 6))
    assert abs(np.trapezoid(height, where) - 1) < 1e-6
    assert abs(height.max() - (2 * np.pi) ** -0.5) < 0.02
