"""Why a release answers wrongly or not at all, found by reading its source and trying the remedy.

Tied to a version: a newer release that still fails is reported without a cause until someone has looked.
"""

from conformance.answers import QUANTITIES

FUSED = "torch has no second derivative of the fused kernel on the CPU; under SDPBackend.MATH there is one"
UNUSED = "calls torch.autograd.grad without allow_unused; such layers must be left out by hand"
MAGNITUDE = "power iteration finds the eigenvalue of largest magnitude, which is negative here"
STOPPED = "its stopping rule lacks an absolute value: a negative running mean ends it"
EIG = "calls torch.eig, which torch 2 no longer has"
LAYER = (
    "differentiates with torch.func.jacrev, whose vmap meets a wrong rule for layer norm (functorch issue 534); with "
    "torch.func.grad in its place both eigenvalues are exact"
)
MEANS = "averages the means of the batches, as documented, so an example of the batch of 2 weighs twice"

# (tool, version) -> ((problems, quantities, cause), ...); the first that fits counts, an empty field fits all
CAUSES = {
    ("nonconvex", "0.1.0"): (("fused_attention", "", FUSED),),
    ("curvlinops", "3.0.1"): (("fused_attention", "", FUSED), ("unused", "", UNUSED), ("layer_norm", "", LAYER)),
    ("hessian-eigenthings", "1.0.0a5"): (
        ("fused_attention", "", FUSED),
        ("unused", "", UNUSED),
        ("ragged", "", MEANS),
    ),
    ("pyhessian", "0.1"): (
        ("fused_attention", "", FUSED),
        ("unused", "", "takes 0 for the gradient of a parameter that has none, and then differentiates it"),
        ("", "mass_near_zero", EIG),
        ("linear_saddle", "lambda_max", "power iteration does not converge between eigenvalues of equal magnitude"),
        ("", "lambda_max", MAGNITUDE),
        ("", "trace", STOPPED),
    ),
}


def cause(tool: str, version: str, problem: str, quantity: str) -> str:
    """The cause on record, or nothing."""
    assert quantity in QUANTITIES
    for problems, quantities, text in CAUSES.get((tool, version), ()):
        if problems in ("", problem) and quantities in ("", quantity):
            return text
    return ""
