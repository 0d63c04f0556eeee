"""The fully connected network with batch normalisation before every activation."""

from torch import Tensor, nn

from nonconvex.models.mlp import Mlp
from nonconvex.models.normalisation import normalisation


class NormalisedMlp(Mlp):
    """`Mlp` without skips, each hidden layer activation(norm(W h + b)): (B, inputs) -> (B, classes).

    `norm` is a name of NORMS. The bias b stays, so that both networks draw the same weights; batch norm takes it out.
    """

    def __init__(self, norm: str = "batch", **options):
        super().__init__(**options)
        if self.skip:
            raise ValueError("skip is True; allowed: False, a normalised network has no skips")
        self.norms = nn.ModuleList(normalisation(norm, layer.out_features) for layer in self.hidden)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return self.head(x)
