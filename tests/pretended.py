"""Training steps on a device that is not there: what they leave, as lines of JSON. Run by tests/test_device.py.

torch's fake tensors carry a device and no numbers. The device is a made-up one, because a build of torch without CUDA
refuses even to pretend, and it has to be made up before the process takes its first gradient.
"""

import json
from functools import partial
from itertools import product
from types import SimpleNamespace as Bag

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.data import cifar10
from nonconvex.data.splits import Windows
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import stack
from nonconvex.models.transformer import Transformer
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.schedules import SCHEDULES
from nonconvex.strategies import STRATEGIES, strategy_class

DEVICE, SEEDS, STEPS = "pretended", (0, 1), 4
BUILD = {
    "resnet": lambda: ResNet(dimensions=2, depth=8, width=4),
    "transformer": lambda: Transformer(context=16, width=16, layers=2, heads=2),
}
OPTIMIZERS = {"sgd": Sgd(0.9, 1e-4), "adamw": AdamW()}


def main() -> None:
    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    for name, act in {"question": question, "mixture": mixture}.items():
        print(json.dumps([name, outcome(act)]))
    for model, strategy, optimizer in product(BUILD, STRATEGIES, OPTIMIZERS):
        found = outcome(partial(steps, model, strategy, OPTIMIZERS[optimizer]))
        print(json.dumps([f"{model}-{strategy}-{optimizer}", found]))


def outcome(act) -> str:
    """What an act returns, or the name and the first line of the error that it ends in."""
    try:
        return act()
    except Exception as error:
        return f"{type(error).__name__}: {error}".split("\n")[0]


def question() -> str:
    """A bool, for which a GPU would have to be waited for."""
    with FakeTensorMode():
        return str(bool(torch.zeros(2, device=DEVICE).all()))


def mixture() -> str:
    with FakeTensorMode():
        return str(torch.zeros(2, device=DEVICE) + torch.zeros(2))


def steps(model: str, strategy: str, optimizer: Sgd | AdamW) -> str:
    """A few updates of a cohort; the devices on which its state lies then."""
    network, drawn = stack(BUILD[model], SEEDS)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        real, torch.from_numpy = torch.from_numpy, lambda array: mode.from_tensor(real(array))
        cifar10._moments = lambda device: (torch.zeros(3, 1, 1, device=device),) * 2
        try:
            made = cohort(network, data(model), strategy, optimizer)
            params = {name: torch.zeros(value.shape, device=DEVICE) for name, value in drawn.items()}
            (*_, end) = train.train(made, train.start(made, params))
        finally:
            torch.from_numpy = real
    kept = [*end.params.values(), *end.memory.values(), end.diverged, end.losses]
    return " ".join(sorted({value.device.type for value in kept}))


def data(model: str) -> cifar10.Images | Windows:
    if model == "resnet":
        images, labels = torch.zeros(40, 3, 8, 8, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64)
        return cifar10.Images(images, labels, augmented=True).to(DEVICE)
    return Windows(torch.zeros(100, dtype=torch.uint8), 16).to(DEVICE)


def cohort(network, split, strategy: str, optimizer: Sgd | AdamW) -> train.Cohort:
    bed = Bed("any", Bag(precision="float32", loss="cross_entropy"), Bag(train=split), DEVICE)
    chosen = strategy_class(strategy)().bind(STEPS)
    rates = train.rate_table([SCHEDULES["cosine"]] * len(SEEDS), [0.1] * len(SEEDS), STEPS, chosen).to(DEVICE)
    batch = partial(split.batch, batch_size=8)
    return train.Cohort(bed.minibatch_losses(network), batch, rates, lambda step: SEEDS, optimizer, chosen)


if __name__ == "__main__":
    main()
