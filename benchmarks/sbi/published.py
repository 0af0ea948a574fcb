"""The figures that the benchmark published: mean C2ST over ten observations of each task, method and budget.

From the results table of the paper's website (sbi-benchmark/results, ``main_paper.csv``): 10,000 draws of the method
against 10,000 of the reference posterior. The first two methods are ABC, the next three spend their simulations on the
prior, the last three on ten rounds of proposals.

References:
    | Benchmarking simulation-based inference (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

METHODS = ("REJ-ABC", "SMC-ABC", "NPE", "NLE", "NRE", "SNPE", "SNLE", "SNRE")

TABLE: dict[int, dict[str, tuple[float, ...]]] = {
    1_000: {
        "gaussian-linear": (0.913, 0.922, 0.694, 0.650, 0.672, 0.652, 0.628, 0.670),
        "gaussian-linear-uniform": (0.977, 0.968, 0.696, 0.723, 0.788, 0.631, 0.657, 0.681),
        "slcp": (0.982, 0.982, 0.975, 0.946, 0.972, 0.965, 0.921, 0.968),
        "slcp-distractors": (0.988, 0.986, 0.982, 0.987, 0.980, 0.978, 0.992, 0.981),
        "bernoulli-glm": (0.994, 0.991, 0.863, 0.740, 0.899, 0.855, 0.634, 0.718),
        "bernoulli-glm-raw": (0.995, 0.990, 0.900, 0.870, 0.915, 0.906, 0.990, 0.880),
        "gaussian-mixture": (0.883, 0.799, 0.731, 0.812, 0.784, 0.697, 0.701, 0.723),
        "two-moons": (0.960, 0.922, 0.725, 0.773, 0.822, 0.643, 0.657, 0.651),
        "benchmark-sir": (0.964, 0.921, 0.815, 0.761, 0.841, 0.638, 0.745, 0.637),
        "benchmark-lotka-volterra": (1.000, 1.000, 0.999, 0.994, 1.000, 0.990, 0.909, 0.971),
    },
    10_000: {
        "gaussian-linear": (0.858, 0.829, 0.552, 0.555, 0.560, 0.544, 0.548, 0.536),
        "gaussian-linear-uniform": (0.948, 0.928, 0.553, 0.548, 0.706, 0.527, 0.552, 0.606),
        "slcp": (0.973, 0.969, 0.901, 0.771, 0.947, 0.845, 0.713, 0.917),
        "slcp-distractors": (0.987, 0.987, 0.970, 0.961, 0.968, 0.931, 0.949, 0.974),
        "bernoulli-glm": (0.976, 0.981, 0.678, 0.605, 0.812, 0.614, 0.553, 0.584),
        "bernoulli-glm-raw": (0.984, 0.959, 0.765, 0.939, 0.834, 0.658, 0.973, 0.675),
        "gaussian-mixture": (0.789, 0.746, 0.661, 0.731, 0.752, 0.583, 0.702, 0.662),
        "two-moons": (0.847, 0.707, 0.606, 0.713, 0.761, 0.554, 0.571, 0.582),
        "benchmark-sir": (0.838, 0.626, 0.680, 0.748, 0.770, 0.561, 0.745, 0.646),
        "benchmark-lotka-volterra": (1.000, 0.996, 0.997, 0.956, 0.998, 0.953, 0.738, 0.848),
    },
    100_000: {
        "gaussian-linear": (0.802, 0.726, 0.506, 0.515, 0.536, 0.507, 0.519, 0.515),
        "gaussian-linear-uniform": (0.909, 0.794, 0.509, 0.506, 0.631, 0.507, 0.509, 0.536),
        "slcp": (0.961, 0.963, 0.831, 0.699, 0.919, 0.666, 0.578, 0.721),
        "slcp-distractors": (0.987, 0.985, 0.863, 0.905, 0.953, 0.778, 0.883, 0.766),
        "bernoulli-glm": (0.941, 0.818, 0.559, 0.545, 0.751, 0.525, 0.522, 0.529),
        "bernoulli-glm-raw": (0.966, 0.943, 0.607, 0.951, 0.777, 0.607, 0.987, 0.552),
        "gaussian-mixture": (0.772, 0.664, 0.555, 0.757, 0.734, 0.533, 0.624, 0.542),
        "two-moons": (0.664, 0.663, 0.542, 0.668, 0.629, 0.530, 0.582, 0.563),
        "benchmark-sir": (0.713, 0.613, 0.585, 0.730, 0.690, 0.575, 0.650, 0.547),
        "benchmark-lotka-volterra": (0.998, 0.995, 0.981, 0.952, 0.996, 0.928, 0.695, 0.831),
    },
}
