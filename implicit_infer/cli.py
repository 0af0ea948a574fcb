"""The command line: the verbs of the package on shipped simulators and files.

Only typer is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from implicit_simulators import Simulator

app = typer.Typer(
    name="implicit-infer",
    epilog="Add --traceback to a command to see where an error comes from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
    context_settings={"help_option_names": ["-h", "--help"]},
)

SimulatorName = Annotated[str, typer.Argument(metavar="SIMULATOR", help="A name of `implicit-infer list simulators`.")]
Observed = Annotated[
    str,
    typer.Option("--observed", "-x", help="An observation that ships with the simulator, or a CSV, NPY or JSON file."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the simulator, as in dynamics=ode.")
]
Seed = Annotated[int, typer.Option(help="Root of every random number.")]
Device = Annotated[str, typer.Option(help="Where networks are trained.")]
Workers = Annotated[int, typer.Option(help="Worker processes.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("implicit-infer"))
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Fit simulators to data, estimate density ratios, and compare the methods that do it."""


@app.command()
def simulate(
    simulator: SimulatorName,
    n: Annotated[int, typer.Option("--n", "-n", help="How many simulations.")] = 10_000,
    out: Annotated[Path, typer.Option(help="The Zarr store; started again, it is resumed.")] = Path("runs.zarr"),
    settings: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one simulation may take.")] = None,
    quiet: Quiet = False,
) -> None:
    """Simulate at draws from the prior into a Zarr store.

    Ends with the number of simulations that failed, and why. Started again with the same store, it does what is
    missing; Ctrl-C keeps what is finished.
    """
    import implicit_infer as ii

    chosen = _simulator(simulator, settings)
    how: dict[str, Any] = {"seed": seed, "workers": workers, "timeout": timeout, "progress": not quiet}
    with _without_the_sentence_on_failures():
        runs = ii.simulate(chosen, n, store=out, memory=False, **how)
    if len(runs) < n:
        _say(f"stopped: {len(runs):,} of {n:,} simulations are kept in {out}; the same command does the rest")
        raise typer.Exit(130)
    table = runs.failure_table()
    print(f"{len(runs):,} simulations in {out}" + (f", of which {len(table):,} failed" if len(table) else ""))
    if len(table):
        _print_failures(table)


@contextlib.contextmanager
def _without_the_sentence_on_failures() -> Iterator[None]:
    """It is for scripts; a command lists the failures themselves."""
    import logging

    def other(record: logging.LogRecord) -> bool:
        return "simulations failed" not in record.msg

    logger = logging.getLogger("implicit_infer.simulate")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@app.command()
def ratio(
    p: Annotated[Path, typer.Argument(help="Samples of the numerator: a CSV, NPY, JSON or Parquet file, a row each.")],
    q: Annotated[Path, typer.Argument(help="Samples of the denominator.")],
    method: Annotated[str, typer.Option(help="A name of `implicit-infer list ratio-methods`, or auto.")] = "auto",
    divergence: Annotated[str, typer.Option(help="An f-divergence, as in kl, js or hellinger.")] = "kl",
    plot: Annotated[Path | None, typer.Option(help="Where to draw the check: .png, .pdf or .svg.")] = None,
    save: Annotated[Path | None, typer.Option(help="Where to keep the fitted ratio: .safetensors.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, as in hidden=64,64 or loss=brier."),
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Estimate a density ratio from two sets of samples.

    Prints a divergence and a check of how far to trust the ratio.
    """
    import implicit_infer as ii
    from implicit_estimators.divergences import DIVERGENCES
    from implicit_infer.catalogue import find

    find(divergence, DIVERGENCES, "divergence")
    for path, option, suffixes in ((plot, "plot", (".png", ".pdf", ".svg")), (save, "save", (".safetensors",))):
        if path is not None and path.suffix not in suffixes:
            raise ValueError(f"{option}: expected a file with suffix {', '.join(suffixes)}; got {path.name!r}")
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{option}: the folder {path.parent} does not exist")
    (samples_p, columns_p), (samples_q, columns_q) = _table(p), _table(q)
    if columns_p and columns_q and columns_p != columns_q:
        raise ValueError(f"q: expected the columns {', '.join(columns_p)} of p; got {', '.join(columns_q)}")
    chosen = {key: _listed(value) for key, value in _set(settings).items()}
    options: dict[str, Any] = {"seed": seed, "device": device, "progress": not quiet}
    fitted = ii.estimate_ratio(samples_p, samples_q, method, **options, **chosen)
    found, check = fitted.divergence(divergence), fitted.check()
    print(f"{divergence} divergence of p from q: {float(found):.4g} ± {found.standard_error:.2g} nats")
    print(check)
    if plot is not None:
        fitted.plot().savefig(plot, dpi=150)
        print(f"picture in {plot}")
    if save is not None:
        fitted.save(save)
        print(f"ratio in {save}")


@app.command()
def infer(
    simulator: SimulatorName,
    observed: Observed,
    method: Annotated[str, typer.Option(help="A name of `implicit-infer list methods`.")] = "auto",
    budget: Annotated[int, typer.Option(help="Simulations that may be spent.")] = 10_000,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 1_000,
    out: Annotated[Path | None, typer.Option(help="Where to write the draws: .csv, .parquet or .zarr.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of a run in generations (smc-abc, ...); started again, it goes on.")
    ] = None,
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "cpu",
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Infer the parameters behind one observation.

    Prints the mean, standard deviation and 90 % interval of each parameter.
    """
    import implicit_infer as ii
    from implicit_infer.checks import check_count
    from implicit_infer.draws import check_draws_path, save_draws

    chosen = _simulator(simulator, settings)
    data = _observation(chosen, observed)
    check_count(draws, "draws")
    if out is not None:
        check_draws_path(out)
    options: dict[str, Any] = {"seed": seed, "device": device, "workers": workers, "progress": not quiet}
    posterior = ii.infer(chosen, data, method, budget, checkpoint=checkpoint, **options)
    theta = posterior.sample((draws,), show_progress_bars=not quiet, seed=seed)
    rows = []
    for name, values in zip(posterior.parameter_names, theta.double().T, strict=True):
        numbers = (values.mean(), values.std(), values.quantile(0.05), values.quantile(0.95))
        rows.append([name, *(f"{float(number):.4g}" for number in numbers)])
    print(f"{method} posterior of {chosen.name}, {posterior.simulations:,} simulations")
    _print_table(["parameter", "mean", "sd", "5 %", "95 %"], rows)
    for warning in posterior.warnings:
        _say(f"note: {warning}")
    if out is not None:
        save_draws(out, theta, posterior.parameter_names, posterior.observed)
        print(f"{draws:,} draws in {out}")


@app.command()
def fit(
    simulator: SimulatorName,
    data: Annotated[
        str,
        typer.Option(
            "--data", "-x", help="A CSV, NPY or JSON file, an observation in each row; or one that ships by name."
        ),
    ],
    method: Annotated[str, typer.Option(help="A name of `implicit-infer list fit-methods`.")] = "auto",
    comparison: Annotated[
        str | None, typer.Option(help="A name of `implicit-infer list comparisons`; the method's own if not given.")
    ] = None,
    budget: Annotated[int, typer.Option(help="Simulations that may be spent.")] = 50_000,
    start: Annotated[
        str | None, typer.Option(metavar="NAME=NUMBER,...", help="Where to begin: all parameters by name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the fit, its tables and its picture.")] = None,
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Find the parameters that make a simulator's draws look like data.

    Prints the estimate, standard error and 95 % interval of each parameter, beside the prior's range.
    """
    import implicit_infer as ii
    from implicit_infer.fitting.command import check_out, read_data, read_start, rows_of, write_fit

    chosen = _simulator(simulator, settings)
    if out is not None:
        check_out(out)
    options: dict[str, Any] = {"start": read_start(start), "seed": seed, "device": device, "progress": not quiet}
    fitted = ii.fit(chosen, read_data(chosen, data), method, comparison, budget, **options)
    print(f"{fitted.method} fit of {chosen.name}, {fitted.simulations:,} simulations")
    _print_table(*rows_of(fitted))
    for warning in fitted.warnings:
        _say(f"note: {warning}")
    if out is not None:
        write_fit(fitted, out)
        print(f"the fit, its tables and a picture in {out}")


@app.command()
def compare(
    simulator: SimulatorName,
    observed: Observed,
    methods: Annotated[str, typer.Option(help="Names of `implicit-infer list methods`, with commas.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison; started again, it does what is missing.")],
    budgets: Annotated[str, typer.Option(help="Simulations that each may spend, with commas.")] = "1000,10000",
    repeats: Annotated[int, typer.Option(help="Independent repetitions.")] = 3,
    reference: Annotated[str, typer.Option(help="auto, none, or a file of draws from the true posterior.")] = "auto",
    draws: Annotated[int, typer.Option(help="Posterior draws of each method that are kept and scored.")] = 1_000,
    predictive: Annotated[int, typer.Option(help="Draws that are simulated again for the predictive check.")] = 500,
    settings: Settings = None,
    seed: Seed = 0,
    device: Device = "cpu",
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Compare methods at the same simulation budget.

    Ends with a table and the path of an HTML report. Started again with the same folder, it does what is missing.
    """
    import implicit_infer as ii
    from implicit_infer.report.findings import Findings
    from implicit_infer.report.table import plain_table

    chosen = _simulator(simulator, settings)
    result = ii.compare(
        chosen,
        _observation(chosen, observed),
        [name.strip() for name in methods.split(",")],
        [_whole(budget, "budgets") for budget in budgets.split(",")],
        repeats,
        out=out,
        seed=seed,
        workers=workers,
        device=device,
        reference={"auto": "auto", "none": None}[reference] if reference in ("auto", "none") else _table(reference)[0],
        draws=draws,
        predictive=predictive,
        progress=not quiet,
    )
    found = Findings(result)
    _print_table(*plain_table(found))
    for failure in found.failures():
        _say(f"failed: {failure['name']}: {failure['error']}")
    print(f"report: {result.report()}")
    if not (result.table.status == "finished").any():
        raise typer.Exit(1)


@app.command()
def learn(
    data: Annotated[Path, typer.Argument(help="Samples: a CSV, NPY, NPZ, JSON or Parquet file, a row each.")],
    out: Annotated[Path, typer.Option(help="Folder of what is learned; started again, it goes on from there.")],
    comparison: Annotated[str, typer.Option(help="A name of `implicit-infer list comparisons`.")] = "gan-r1",
    compare: Annotated[
        str | None, typer.Option(help="Names with commas: learn one flow by each, and score all the same way.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="A name of `implicit-infer list generators`; mlp, or flow for mle and --compare.")
    ] = None,
    latent: Annotated[int | None, typer.Option(help="Width of the noise.")] = None,
    condition: Annotated[str | None, typer.Option(help="Columns that are conditions, with commas between.")] = None,
    generator_loss: Annotated[str | None, typer.Option(help="In place of the comparison's own.")] = None,
    penalty: Annotated[str, typer.Option(help="In place of the comparison's own; none for none.")] = "default",
    game: Annotated[str, typer.Option(help="A name of `implicit-infer list games`.")] = "alternating",
    steps: Annotated[int | None, typer.Option(help="Generator steps.")] = None,
    batch_size: Annotated[int, typer.Option(help="Samples of each side in a batch.")] = 256,
    learning_rate: Annotated[float | None, typer.Option(help="Step size of the generator.")] = None,
    critic_learning_rate: Annotated[float | None, typer.Option(help="Step size of the critic.")] = None,
    instance_noise: Annotated[float, typer.Option(help="Noise on what the critic sees, at the start.")] = 0.0,
    packing: Annotated[int, typer.Option(help="Samples that the critic sees at a time.")] = 1,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    max_time: Annotated[float | None, typer.Option(help="Seconds after which it stops where it is.")] = None,
    draws: Annotated[int, typer.Option(help="Draws that are written.")] = 1_000,
    repeats: Annotated[int, typer.Option(help="Seeds of each learner, with --compare.")] = 1,
    bin_width: Annotated[
        float | None, typer.Option(help="Width of the bins of discrete data, with --compare or mle.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Fit a generator network to data.

    Writes draws, the network, its history, figures and a picture into a folder. Started again with the same folder, it
    goes on where it was stopped; Ctrl-C keeps what there is.
    """
    import implicit_infer as ii
    from implicit_infer.checks import check_count
    from implicit_infer.generators.folder import check_folder, read_samples, shown, write_folder

    check_count(draws, "draws")
    check_folder(out)
    samples, given, names = read_samples(data, condition)
    if compare is not None:
        seeds = list(range(seed, seed + check_count(repeats, "repeats")))
        _compare_learners(
            samples, compare, generator or "flow", steps, batch_size, bin_width, seeds, out, device, not quiet
        )
        return
    chosen: Any = comparison
    if bin_width is not None:
        from implicit_infer.generators.likelihood import MaximumLikelihood

        if comparison != "mle":
            raise ValueError(f"bin_width: expected the comparison mle; got {comparison!r}")
        chosen = MaximumLikelihood(bin_width)
    learned = ii.learn(
        generator or ("flow" if comparison == "mle" else "mlp"),
        samples,
        chosen,
        latent=latent,
        condition=given,
        generator_loss=generator_loss,
        penalty=None if penalty == "none" else penalty,
        game=game,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        critic_learning_rate=critic_learning_rate,
        instance_noise=instance_noise,
        packing=packing,
        precision=precision,
        checkpoint=out / "game",
        max_time=max_time,
        seed=seed,
        device=device,
        progress=not quiet,
    )
    figures = write_folder(learned, samples, given, names, out, draws, seed)
    for warning in learned.warnings:
        _say(f"note: {warning}")
    print(f"{type(learned.module).__name__} by {learned.comparison.name}, {learned.figures['steps']:,} steps")
    _print_table(["figure", "draws and data", "two halves of data"], shown(figures))
    print(f"{draws:,} draws, the network, its history and a picture in {out}")
    if learned.history.stopped == "interrupted":
        raise typer.Exit(130)


def _compare_learners(
    samples: np.ndarray,
    compare: str,
    generator: str,
    steps: int | None,
    batch_size: int,
    bin_width: float | None,
    seeds: list[int],
    out: Path,
    device: str,
    progress: bool,
) -> None:
    """Learn one network by several comparisons, and print the table of their scores."""
    from implicit_infer.games import Training
    from implicit_infer.generators.learners import compare_learners

    result = compare_learners(
        generator,
        samples,
        [name.strip() for name in compare.split(",")],
        seeds,
        training=Training() if steps is None else Training(steps),
        batch_size=batch_size,
        bin_width=bin_width,
        out=out,
        device=device,
        progress=progress,
    )
    table = result.table
    rows = [
        [str(name), *(f"{value:.4g}" for value in row)] for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    _print_table(["learner", *table.columns], rows)
    print(
        "bits/dim of test data by " + ", ".join(f"a {name} law: {bits:.4g}" for name, bits in result.baselines.items())
    )
    print(f"tables and picture in {out}")


@app.command(name="list")
def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="methods, fit-methods, simulators, observations, comparisons, games, generators or ratio-methods; or "
            "all."
        ),
    ] = "all",
) -> None:
    """List what there is, with a line about each."""
    import implicit_infer as ii
    from implicit_infer.catalogue import find

    def observations() -> dict[str, str]:
        users: dict[str, list[str]] = {}
        for key, value in ii.simulators().items():
            for name in value.observations:
                users.setdefault(name, []).append(key)
        few = {name: keys if len(keys) <= 3 else [*keys[:2], f"{len(keys) - 2} more"] for name, keys in users.items()}
        return {name: f"for {', '.join(keys)}" for name, keys in few.items()}

    lists: dict[str, Any] = {
        "methods": ii.methods,
        "fit-methods": ii.fit_methods,
        "simulators": ii.simulators,
        "observations": observations,
        "comparisons": ii.comparisons,
        "games": ii.games,
        "generators": ii.generators,
        "ratio-methods": ii.ratio_methods,
    }
    if what != "all":
        find(what, lists, "list")
    for title in lists if what == "all" else [what]:
        entries = lists[title]()
        if what == "all":
            print(f"{title}:")
        width = max(map(len, entries), default=0)
        for name, entry in entries.items():
            line = entry if isinstance(entry, str) else (entry.__doc__ or "").strip().splitlines()[0]
            # formulas and what follows them are for the reference, not for a terminal
            line = line.partition(" :math:")[0].rstrip(" ,.")
            print(f"{'  ' * (what == 'all')}{name:<{width}}  {line}")


def _simulator(name: str, settings: list[str] | None) -> Simulator:
    """A shipped simulator with the settings of ``--set``."""
    import inspect

    from implicit_infer.catalogue import find, simulators

    kind = find(name, simulators(), "simulator")
    known = list(inspect.signature(kind).parameters)
    chosen = _set(settings)
    for key in chosen:
        if key not in known:
            raise ValueError(f"set: {name} has the settings {', '.join(known) or 'none'}; got {key!r}")
    simulator: Simulator = kind(**chosen)
    return simulator


def _set(settings: list[str] | None) -> dict[str, Any]:
    """What ``--set`` says, by key: JSON where it is JSON, else text."""
    import json

    chosen: dict[str, Any] = {}
    for setting in settings or []:
        key, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"set: expected KEY=VALUE; got {setting!r}")
        try:
            chosen[key] = json.loads(value)
        except json.JSONDecodeError:
            chosen[key] = value
    return chosen


def _listed(value: Any) -> Any:
    """Numbers with commas between as a list: 64,64."""
    import json

    if not isinstance(value, str) or "," not in value:
        return value
    try:
        return json.loads(f"[{value.rstrip(',')}]")
    except json.JSONDecodeError:
        return value


def _observation(simulator: Simulator, observed: str) -> Any:
    """The name of a shipped observation, or the content of a file."""
    if observed in simulator.observations:
        return observed
    path = Path(observed)
    if not path.is_file():
        shipped = ", ".join(simulator.observations) or "none"
        raise ValueError(
            f"observed: expected a file or an observation of {simulator.name} ({shipped}); got {observed!r}"
        )
    values, columns = _table(path)
    labels = getattr(simulator, "event_labels", None)
    if labels and columns and set(labels) <= set(columns):
        values = values[:, [columns.index(label) for label in labels]]
    # a file has rows and columns even where the data are one series
    fits = values.size == simulator.event_shape.numel() and 1 in values.shape
    return values.reshape(tuple(simulator.event_shape)) if fits else values


def _table(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Numbers in a file, and the names of its columns where it has them."""
    from implicit_infer.draws import read_numbers

    return read_numbers(Path(path))


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}: expected whole numbers with commas between; got {text.strip()!r}") from None


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # what is piped must not be cut to the width of no terminal
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def _print_failures(table: Any, most: int = 5) -> None:
    """The reasons by how often they came, each with the parameters of one row."""
    reasons = table.reason.value_counts()
    for reason, count in reasons.head(most).items():
        row = table[table.reason == reason].iloc[0]
        theta = ", ".join(f"{name}={value:.4g}" for name, value in row.drop("reason").items())
        print(f"{count:>8,}  {reason:.100}\n{'':>10}such as simulation {row.name} with {theta}")
    if len(reasons) > most:
        print(f"and {len(reasons) - most} other reasons: the variable `reason` of the store has them all")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run a command; what a user did wrong is answered with one sentence and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    try:
        app(arguments, prog_name="implicit-infer")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        _say(f"implicit-infer: {' '.join(str(error).split())}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
