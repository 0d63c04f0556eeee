"""The parameter file as frozen settings, one class per axis. An unknown or impossible entry is refused by name.

Adding a schedule, strategy or model: its name joins the Literal here and its row the registry there (a test holds the
two together).
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from nonconvex.axes import LARGEST, Axis, Count, Positive, Seeds, Share, parsed, refuse_repeats
from nonconvex.study_settings import Factors, Properties, Rates, Schedules, Strategies
from nonconvex.study_settings.base import Study
from nonconvex.study_settings.references import Validation

ModelName = Literal["resnet", "transformer", "mlp", "cnn"]
ScheduleName = Literal["constant", "step", "cosine", "warmup_cosine", "wsd", "one_cycle", "inverse_sqrt", "linear"]
StrategyName = Literal["none", "sgd_noise", "warmup", "restarts", "clipping", "sam", "swa", "ema"]
DatasetName = Literal["mnist1d", "kjv", "cifar10", "tinyshakespeare"]
LossName = Literal["cross_entropy", "squared_error"]
Precision = Literal["float32", "bfloat16"]
MOST = 5  # errors that one message lists
STUDY_SECTIONS = ("properties", "factors", "rates", "strategies", "schedules")


class ConfigError(ValueError):
    """A parameter file that cannot be used; the message is complete."""


def _within(largest: float) -> AfterValidator:
    """For options whose names and meanings only what they are given to knows: numbers of sensible size."""

    def check(options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not abs(number) <= largest:
                    raise ValueError(f"{name} is {number:g}; allowed: at most {largest:g} in size")
        return options

    return AfterValidator(check)


Architecture = Annotated[dict[str, Any], _within(10_000)]  # a layer or a unit more is memory and time
Options = Annotated[dict[str, Any], _within(LARGEST)]


class Profile(Axis):
    """Where a profile's results and settings are; paths stay inside the repository."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    root: Annotated[str, Field(pattern=r"^\.(\.(/\.\.)*)?$")]
    params: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]


class Baseline(Axis):
    """Where the two axes of the grid cross: the arm that every other is compared with."""

    schedule: ScheduleName
    strategy: StrategyName


class Grid(Axis):
    """The cross of schedules and strategies, for every model."""

    models: tuple[ModelName, ...]
    schedules: tuple[ScheduleName, ...]
    strategies: tuple[StrategyName, ...]
    baseline: Baseline

    @model_validator(mode="after")
    def _baseline_in_grid(self) -> "Grid":
        for axis in ("models", "schedules", "strategies"):
            refuse_repeats(axis, getattr(self, axis))
        if self.baseline.schedule not in self.schedules or self.baseline.strategy not in self.strategies:
            raise ValueError("baseline must name a schedule and a strategy of the grid")
        return self


class SeedLists(Axis):
    """`reported` at the other axis's baseline, `cross` in the rest of the grid (none: it is left out), `tuning` never
    reported.

    The `connected` ones are joined by paths, with each other and with a sibling that parts from them at `fork`.
    """

    reported: Seeds
    cross: Annotated[Seeds, Field(min_length=0)]
    connected: Seeds
    tuning: Seeds
    fork: Share  # share of the run after which a sibling sees other minibatches

    @model_validator(mode="after")
    def _disjoint(self) -> "SeedLists":
        for name in ("reported", "cross", "connected", "tuning"):
            refuse_repeats(name, getattr(self, name))
        for name in ("cross", "connected"):
            if not set(getattr(self, name)) <= set(self.reported):
                raise ValueError(f"{name} must be among the reported seeds {list(self.reported)}")
        if shared := set(self.tuning) & set(self.reported):
            raise ValueError(f"tuning seeds must not be reported: {sorted(shared)} are both")
        return self


class Optimizer(Axis):
    """An optimizer by name; what is not set keeps the default of `nonconvex.optimizers`."""

    name: Literal["sgd", "adamw"]
    momentum: Share | None = None
    nesterov: bool | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    beta1: Share | None = None
    beta2: Share | None = None
    epsilon: Positive | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was set, as keyword arguments."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


class Training(Axis):
    """One test bed: a model on a data set, and how each of its runs is trained."""

    dataset: DatasetName
    architecture: Architecture
    loss: LossName
    optimizer: Optimizer
    steps: Count
    batch_size: Count
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)]
    cohort: Count  # members trained in lockstep; results depend on it only through rounding
    precision: Precision = "float32"  # of products in minibatch gradients; all that is measured is float32
    statistics_examples: Count | None = None  # training examples for normalisation statistics; null = all
    train_examples: Count | None = None  # for the reported training loss; null = all
    validation_examples: Count | None = None
    test_examples: Count | None = None
    strategies: dict[StrategyName, Options] = Field({})
    schedules: dict[ScheduleName, Options] = Field({})

    @model_validator(mode="after")
    def _rising_rates(self) -> "Training":
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise without repeats, found {list(self.rates)}")
        return self


class FlatnessSettings(Axis):
    """How hard to look; the defaults cost a few dozen gradients per member."""

    examples: Count = 256  # training examples in the objective
    lanczos_iterations: Count = 25  # products at most; the largest eigenvalue needs about 8, the smallest 25 to 30
    tolerance: Positive = 1e-2  # residual at which Lanczos stops, relative to the eigenvalue at that end
    probes: Annotated[int, Field(ge=2)] = 6  # of the trace, on what Lanczos left over
    sam_radius: Positive = 0.05  # Foret et al. 2021
    adaptive_radius: Positive = 0.1  # relative to |w| (Kwon et al. 2021 take 0.5 and more for larger networks)
    ascent_steps: Count = 5  # of the worst cases; sam_sharpness takes one
    noise: Positive = 0.01  # standard deviation of the Gaussian of average_sharpness
    noise_pairs: Annotated[int, Field(ge=2)] = 8
    keskar_box: Positive = 1e-3  # Keskar et al. 2017, table 3
    keskar_iterations: Count = 10
    members_at_once: Count = 4  # how many members share a graph; more needs more memory
    seed: Annotated[int, Field(ge=0)] = 0  # of every random vector


class ConnectivitySettings(Axis):
    """How finely and on what the paths are measured, and how the curve is trained."""

    points: Annotated[int, Field(ge=3)] = 25
    curve_steps: Count = 200
    curve_rate: Positive = 0.03  # Adam's, with cosine decay; chosen on pilot pairs
    batch_size: Count = 64
    train_examples: Count = 1000
    test_examples: Count = 1000
    at_once: Count = 4  # networks evaluated together; sets the memory, not the result
    cohort: Count = 10  # pairs whose curves are trained in lockstep


WAIT = 30.0  # seconds for a scheduler to answer, unless a profile says otherwise


class Backend(Axis):
    """Who runs the jobs: processes of this machine (loky) or the workers of a running cluster (dask)."""

    name: Literal["loky", "dask"] = "loky"
    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls)://\S+:\d+$")] | None = None  # of dask, and only of it
    wait: Positive = WAIT  # seconds for the scheduler to answer, and then for its first workers

    @model_validator(mode="after")
    def _scheduler_of_dask(self) -> "Backend":
        if self.name == "dask" and self.scheduler is None:
            raise ValueError("dask needs a scheduler, such as tcp://node1:8786")
        if self.name == "loky" and (self.scheduler is not None or self.wait != WAIT):
            raise ValueError("loky runs on this machine; scheduler and wait are for dask")
        return self


class Compute(Axis):
    """Where and how widely to run; no result depends on it beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Count | None = None  # null = one per core (CPU) or one (GPU)
    backend: Backend = Backend()

    @model_validator(mode="after")
    def _one_number_of_workers(self) -> "Compute":
        if self.backend.name == "dask" and self.workers is not None:
            raise ValueError("workers must be null with dask: the cluster has those that were started for it")
        return self


class Settings(Axis):
    """A whole parameter file."""

    profile: Profile
    grid: Grid
    seeds: SeedLists
    train: dict[ModelName, Training]
    measure: dict[ModelName, FlatnessSettings]
    connectivity: dict[ModelName, ConnectivitySettings]
    properties: Properties
    factors: Factors
    rates: Rates
    strategies: Strategies
    schedules: Schedules
    lessons: Study  # replicates of notebooks/common_mistakes.ipynb
    validation: Validation | None = None
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        for section in ("train", "measure", "connectivity"):
            if missing := set(self.grid.models) - set(getattr(self, section)):
                raise ValueError(f"{section} has no section for {', '.join(sorted(missing))}, which grid.models names")
        datasets = {name: bed.dataset for name, bed in self.train.items()}
        if self.validation and (datasets.get("resnet") != "cifar10" or "mlp" not in datasets):
            raise ValueError(f"validation needs a train.resnet on cifar10 and a train.mlp, found {datasets}")
        return self

    @property
    def studies(self) -> dict[str, Study]:
        """The settings of every study by its name."""
        return {name: study for section in STUDY_SECTIONS for name, study in getattr(self, section)}


def read(path: str | Path) -> Settings:
    """The settings in a YAML file. Raises ConfigError naming the file, the key, what was found and what is allowed."""
    try:
        content = parsed(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(_printable(f"{path}: {error}")) from None
    return validated(content, path)


def validated(content: Any, path: str | Path) -> Settings:
    """What `read` makes of the content of a file. Raises ConfigError."""
    try:
        text = json.dumps(content, default=repr, ensure_ascii=False)  # a date or a set has no place anywhere
        return Settings.model_validate_json(text.encode(), strict=True)
    except ValidationError as error:
        found = [_explain(e) for e in error.errors()]
        more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
        raise ConfigError(_printable(f"{path}: " + "; ".join(found[:MOST] + more))) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(_printable(f"{path}: {error}")) from None


def _printable(text: str) -> str:
    """On one line, whatever the keys in it hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _explain(error: Mapping[str, Any]) -> str:
    """One pydantic error as 'key: what is wrong, what is allowed'."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "settings"
    if error["type"] == "extra_forbidden":
        allowed = _allowed(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), allowed, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{where}: unknown key{hint}; allowed: {', '.join(allowed)}"
    found = "" if error["type"] in ("missing", "value_error") else f", found {error['input']!r}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{found[:200]}"


def _allowed(loc: tuple) -> list[str]:
    """The keys of the settings class at a location such as ('train', 'resnet', 'optimizer')."""
    axis: Any = Settings
    for part in loc:
        axis = axis.model_fields[part].annotation if hasattr(axis, "model_fields") else axis.__args__[1]
    return list(axis.model_fields)
