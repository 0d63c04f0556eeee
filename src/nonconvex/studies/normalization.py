"""Does normalisation smooth the loss, and how much larger may the learning rate be? One job per arm (norm_arms.ARMS).

Short runs at constant rates find each seed's largest rate that trains. A run at the tuned peak rate follows, on a
cosine: its losses and errors at the end, the loss and the gradient along the gradient where its training loss crossed a
level that is the same for all arms, and how far single steps moved the moments of the layer inputs.
"""

from functools import partial

import torch
from torch import Tensor

from nonconvex.beds import spread
from nonconvex.config import Settings
from nonconvex.data.splits import spaced
from nonconvex.measure.shift import moments, shift
from nonconvex.models.stacked import Params
from nonconvex.observations import normalization as rows
from nonconvex.studies.landscape import TunedRuns
from nonconvex.studies.norm_arms import ARMS, Arm, Cohort, Normalised
from nonconvex.studies.training import Recipe, snapshots
from nonconvex.train import State

MODELS = ("resnet", "transformer")
FILES = ("arms", "trials", "tuning", "tuned", "runs", "gradient", "shifts")


def observe(settings: Settings) -> dict[str, list]:
    """The records of every arm on the beds that have settings, by file name."""
    beds = settings.factors.normalization.beds
    parts = spread(settings, [partial(observe_arm, settings, one) for one in ARMS if one.model in beds])
    return {name: [row for part in parts for row in part[name]] for name in FILES}


def observe_arm(settings: Settings, one: Normalised) -> dict[str, list]:
    """Find one arm's largest rates, tune it, train at the tuned rate and measure."""
    torch.set_num_threads(1)
    arm = Arm(settings, one)
    tuned = arm.tuned()
    found = {"arms": [arm.record()], "tuning": tuned.trials, "tuned": [tuned.arm], "trials": []}
    if one.searched:
        located = arm.tuning()
        found["trials"] = located + arm.refined(arm.search(arm.edge(located)))
    return found | observe_runs(arm, tuned.rate)


def observe_runs(arm: Arm, rate: float) -> dict[str, list]:
    """The reported seeds at the tuned rate."""
    steps, seeds = arm.how.tuned_steps, arm.s.seeds
    runs = arm.cohort(seeds, [rate] * len(seeds), Recipe(steps, schedule="cosine"))
    pairs = places(steps, arm.how.shifts)
    wanted = [*range(0, steps, arm.how.every), *pairs, *(step + 1 for step in pairs), steps]
    states = {state.step: state for state in snapshots(runs.made, runs.params, wanted)}
    begun = followed(arm, runs, rate, states)
    return {
        "runs": ended(arm, runs, begun, states[steps]),
        "gradient": begun.gradient_steps(),
        "shifts": [row for step in pairs for row in shifts(arm, runs, states[step], states[step + 1])],
    }


def places(steps: int, count: int) -> list[int]:
    """`count` evenly spaced steps of a run, the first of them 0."""
    return spaced(count, steps).tolist() if count else []


def followed(arm: Arm, runs: Cohort, rate: float, states: dict[int, State]) -> TunedRuns:
    """The runs with their training losses at every look, up to where all of them are below the common level."""
    objective, looks, losses = arm.objective(runs.network, arm.how.examples), [], []
    for step in range(0, arm.how.tuned_steps + 1, arm.how.every):
        looks.append(runs.at(states[step]))
        losses.append(objective.losses(looks[-1]))
        if bool((torch.stack(losses) < arm.matched_at).any(0).all()):
            break
    return TunedRuns(
        arm, rate, runs.network, looks, torch.stack(losses, 1).double(), states[arm.how.tuned_steps].diverged
    )


def ended(arm: Arm, runs: Cohort, begun: TunedRuns, end: State) -> list[rows.NormalizedRun]:
    """One record per run; a diverged one keeps what was matched before."""
    params = runs.at(end)
    train, test = arm.scores(runs.network, params, ("train", "test"))
    columns = {"train_loss": train.losses, "test_loss": test.losses, "test_error": test.errors}
    columns["noisy_loss"] = noisy_loss(arm, runs, params)
    values = {name: None if column is None else column.tolist() for name, column in columns.items()}
    return [
        rows.NormalizedRun(
            **arm.name,
            seed=seed,
            rate=begun.rate,
            diverged_step=step if step >= 0 else None,
            matched_step=None if at is None else begun.steps[at],
            matched_loss=None if at is None else begun.losses[e, at].item(),
            **{name: None if column is None or step >= 0 else column[e] for name, column in values.items()},
        )
        for e, (seed, step, at) in enumerate(zip(begun.seeds, end.diverged.tolist(), begun.matched, strict=True))
    ]


def noisy_loss(arm: Arm, runs: Cohort, end: Params) -> Tensor | None:
    """(E,) training losses with the noise on, mean over draws that no step of training saw; None without noise."""
    if arm.architecture.altered != "noisy":
        return None
    objective, seeds = arm.objective(runs.network, arm.how.examples), runs.made.order(0)
    draws = range(arm.how.tuned_steps, arm.how.tuned_steps + arm.s.noise_draws)
    noise = (arm.buffers_at(runs.network, runs.buffers, seeds, draw, arm.how.examples) for draw in draws)
    return torch.stack([objective.losses({**end, **one}) for one in noise]).mean(0)


def shifts(arm: Arm, runs: Cohort, before: State, after: State) -> list[rows.Shift]:
    """How far one update moved the layer inputs on fixed examples, the noise being that of the two steps."""
    x, _ = arm.bed.data.train.examples(arm.how.examples)
    x, seeds, met = x.expand(len(arm.s.seeds), *x.shape), runs.made.order(before.step), []
    for state in (before, after):
        along = arm.buffers_at(runs.network, runs.buffers, seeds, state.step, x.shape[1])
        met.append(moments(runs.network, {**state.params, **along}, x))
    return [
        rows.Shift(**arm.name, seed=seed, step=before.step, shift=value if value < float("inf") else None)
        for seed, value in zip(arm.s.seeds, shift(*met).tolist(), strict=True)
    ]
