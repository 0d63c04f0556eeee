"""ResNet-20 on CIFAR-10 at the recipe of He, Zhang, Ren & Sun 2016, section 4.2.

64,000 updates on batches of 128 at rate 0.1, divided by 10 after half and after three quarters; momentum 0.9, weight
decay 1e-4 on every parameter; 45,000 training images, padded by 4, cropped and flipped at random. Their table 6 has a
test error of 8.75 %. What differs: projections where the shape changes (their option B; the table's networks have
option A), and normalisation statistics that are recomputed at the end instead of averaged along the way.
"""

from functools import partial
from pathlib import Path

import torch

from nonconvex import checkpoints, train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.models.stacked import Stacked
from nonconvex.observations.references import PublishedRun
from nonconvex.optimizers import Sgd
from nonconvex.progress import counted
from nonconvex.schedules import step_decay
from nonconvex.studies.training import Recipe, cohort, scores
from nonconvex.study_settings.references import PublishedRecipe
from nonconvex.tensors import Params

MODEL = "resnet"
ACCURACY, TOLERANCE = 0.912, 0.005  # the table's 91.25 %; single runs of such networks lie 0.2 to 0.3 points apart


def observe(settings: Settings, kept: Path | None = None) -> list[PublishedRun]:
    """One run per seed, all in one cohort. With a folder `kept` an interrupted call is gone on from (`checkpoints`)."""
    torch.set_num_threads(1)
    recipe, bed = settings.validation.resnet, bed_of(settings, MODEL)
    network, params, made = cohort(bed, recipe_of(recipe), recipe.seeds, [recipe.rate] * len(recipe.seeds))
    file = kept and checkpoints.file_for(kept, recipe, bed.training, bed.device)
    with counted(f"{MODEL} at the published recipe", recipe.steps) as advance:
        end, _ = checkpoints.trained(made, train.start(made, params), file, advance)
    cells = scored(bed, network, end.params)
    return [
        PublishedRun(seed, recipe.steps, *((None, *row) if step < 0 else (step, *[None] * len(row))))
        for seed, step, row in zip(recipe.seeds, end.diverged.tolist(), cells, strict=True)
    ]


def scored(bed: Bed, network: Stacked, params: Params) -> list[list[float]]:
    """Training loss and error, test loss and error of every member, without augmentation."""
    splits = {"train": bed.training.train_examples, "test": bed.training.test_examples}
    found = [values for split, count in splits.items() for values in scores(bed, network, params, split, count)]
    return torch.stack(found, 1).tolist()


def recipe_of(published: PublishedRecipe) -> Recipe:
    """The recipe as cohorts take it."""
    schedule = partial(step_decay, milestones=published.milestones)
    optimizer = Sgd(momentum=published.momentum, weight_decay=published.weight_decay)
    return Recipe(published.steps, published.batch_size, schedule, optimizer)
