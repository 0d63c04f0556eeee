"""The table of curvature tools: exact answers are exact, verdicts notice errors, the committed table is whole.

The other tools are not installed here; `make conformance` runs them.
"""

import csv
import math
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for a plain `pytest`, which does not put it there

from conformance import answers, build, page, problems, verdicts, with_nonconvex  # noqa: E402

NAMES = [problem.__name__ for problem in problems.PROBLEMS]
# A function torch cannot differentiate twice. One that works again must leave, and `make conformance` run again.
OUR_FAILURES = {"fused_attention"}


@cache
def solved() -> dict[str, tuple[problems.Problem, problems.Exact]]:
    return {problem.name: (problem, exact) for problem, exact in build.solved()}


def committed() -> list[dict[str, str]]:
    with open(ROOT / "results" / "conformance.csv", newline="") as file:
        return list(csv.DictReader(file))


def differences(problem: problems.Problem, directions: torch.Tensor) -> torch.Tensor:
    """H v for every row v of (k, P), by central differences of the gradient, which autograd takes once."""
    loss, point = problems.flat_loss(problem)

    def gradient(at):
        at = at.detach().requires_grad_()
        return torch.autograd.grad(loss(at), at)[0]

    return torch.stack([(gradient(point + 1e-5 * v) - gradient(point - 1e-5 * v)) / 2e-5 for v in directions])


def verdict(name: str, quantity: str, **answer) -> verdicts.Row:
    answer = {"standard_error": None, "settings": "", **answer}
    return verdicts.judged(*solved()[name], quantity, "tool", "1", answer)


@pytest.mark.parametrize("name", NAMES)
def test_the_exact_matrix_agrees_with_finite_differences(name):
    problem, _ = solved()[name]
    directions = problems.normal(8, problem.size, seed=1)
    matrix = problems.dense(problem)
    assert (matrix - matrix.T).abs().max() < 1e-12
    expected = differences(problem, directions)
    assert (directions @ matrix - expected).abs().max() <= 1e-7 * expected.abs().max()


def test_closed_forms():
    a, b = problems.CHAIN
    root = math.hypot(a * a - b * b, 4 * a * b - 2)  # of [[2b², c], [c, 2a²]]: a² + b² ± root, c = 4ab - 2
    saddle = [sign * slope / 6 for slope in problems.SADDLE for sign in (1, -1) for _ in range(3)]
    known = {
        "quadratic": problems.SPECTRUM,
        "scalar_chain": (a * a + b * b - root, a * a + b * b + root),
        "linear_saddle": (*saddle, 0.0, 0.0, 0.0),
    }
    for name, spectrum in known.items():
        problem, exact = solved()[name]
        found, expected = torch.linalg.eigvalsh(problems.dense(problem)), torch.tensor(sorted(spectrum)).double()
        assert torch.allclose(found, expected, atol=1e-7)
        assert exact.trace == pytest.approx(sum(spectrum), abs=1e-12)
        near = sum(abs(value) <= problem.near for value in spectrum) / len(spectrum)
        assert exact.mass_near_zero == pytest.approx(near)


def test_the_problems_show_what_they_are_for():
    exact = {name: answer for name, (_, answer) in solved().items()}
    for name in ("negative_dominant", "layer_norm", "attention"):
        assert -exact[name].lambda_min > exact[name].lambda_max
    assert exact["unused"].lambda_max == pytest.approx(exact["dense_mlp"].lambda_max)
    assert exact["fused_attention"] == exact["attention"]
    assert [len(x) for x, _ in solved()["ragged"][0].batches] == [4, 4, 2]
    assert solved()["frozen"][0].size < solved()["dense_mlp"][0].size


def test_the_error_of_a_probe_is_that_of_hutchinson():
    matrix = problems.dense(solved()["negative_dominant"][0])
    signs = 1.0 - 2.0 * torch.randint(2, (20_000, len(matrix)), generator=torch.Generator().manual_seed(0)).double()
    samples = ((signs @ matrix) * signs).sum(1)
    assert solved()["negative_dominant"][1].probe_error == pytest.approx(float(samples.std()), rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_our_own_answers_are_right(name):
    problem, exact = solved()[name]
    for quantity, measure in with_nonconvex.MEASURES.items():
        row = verdicts.judged(problem, exact, quantity, "ours", "0", answers.asked(measure, problem))
        assert row.outcome == (verdicts.FAILED if name in OUR_FAILURES else verdicts.OK), row


@pytest.mark.parametrize("quantity", answers.QUANTITIES)
def test_a_planted_error_is_noticed(quantity):
    _, exact = solved()["dense_mlp"]
    truth = getattr(exact, quantity)
    step = {"trace": exact.probe_error / verdicts.PROBES**0.5, "mass_near_zero": 1.0}.get(quantity, abs(truth))
    limit = verdicts.tolerance(quantity, torch.float64) * step
    for sign in (1, -1):
        assert verdict("dense_mlp", quantity, value=truth + sign * 0.9 * limit).outcome == verdicts.OK
        assert verdict("dense_mlp", quantity, value=truth + sign * 1.1 * limit).outcome == verdicts.WRONG
    assert verdict("dense_mlp", quantity, value=math.nan).outcome == verdicts.WRONG
    assert verdict("dense_mlp", quantity, error="ValueError: no").outcome == verdicts.FAILED


def test_the_tolerances_are_the_promised_ones():
    promised = {"lambda_max": 1e-5, "lambda_min": 1e-5, "trace": 3.0, "mass_near_zero": 0.05}
    assert promised == {quantity: verdicts.tolerance(quantity, torch.float64) for quantity in answers.QUANTITIES}


def test_a_trace_must_keep_its_own_promise_too():
    _, exact = solved()["dense_mlp"]
    near = exact.trace + 0.1 * exact.probe_error / verdicts.PROBES**0.5
    assert verdict("dense_mlp", "trace", value=near, standard_error=0.1).outcome == verdicts.OK
    assert verdict("dense_mlp", "trace", value=near, standard_error=1e-4).outcome == verdicts.WRONG


def test_single_precision_is_judged_more_leniently():
    for name, outcome in (("dense_mlp", verdicts.WRONG), ("single_precision", verdicts.OK)):
        truth = solved()[name][1].lambda_max
        assert verdict(name, "lambda_max", value=1.0001 * truth).outcome == outcome


def test_a_tool_that_does_not_start_gets_a_row_for_everything(tmp_path):
    silent = build.parsed("", "ModuleNotFoundError: No module named 'gone'")
    rows = list(build.rows_of(build.Tool("gone", "with_gone"), silent))
    assert len(rows) == len(NAMES) * len(answers.QUANTITIES)
    assert {row.outcome for row in rows} == {verdicts.FAILED}
    assert {row.note for row in rows} == {"import failed: ModuleNotFoundError: No module named 'gone'"}


def test_a_tool_that_stops_half_way_is_not_taken_for_one_that_offers_less():
    lines = '{"version": "2", "offers": ["trace"]}\n{"problem": "ragged", "quantity": "trace", "value": 1.0}\nnoise'
    found = build.parsed(lines, "killed")
    assert found.to("ragged", "trace")["value"] == 1.0
    assert found.to("frozen", "trace") == {"error": "killed"}
    assert found.to("frozen", "lambda_max") is None


def test_messages_name_no_place_of_this_machine():
    place = "/{}/me/.conformance/x/lib/python3.11/a-b.py".format("home")  # no file may hold such a path itself
    message = f"cannot read {place} from https://some.where/simple/ now"
    assert build.anonymous(message) == "cannot read a-b.py from <address> now"
    text = "".join((ROOT / "results" / f"conformance.{kind}").read_text() for kind in ("csv", "md"))
    assert build.anonymous(text) == text


def test_the_committed_table_is_whole():
    rows = committed()
    found = [(row["tool"], row["problem"], row["quantity"]) for row in rows]
    assert found == list(product([tool.name for tool in build.TOOLS], NAMES, answers.QUANTITIES))
    for row in rows:
        assert (row["value"] != "") == (row["outcome"] in (verdicts.OK, verdicts.WRONG))
        assert float(row["tolerance"]) == verdicts.tolerance(row["quantity"], solved()[row["problem"]][0].dtype)
        assert float(row["exact"]) == pytest.approx(
            getattr(solved()[row["problem"]][1], row["quantity"]), rel=1e-5, abs=page.SMALLEST
        )


def test_every_committed_failure_says_why():
    for row in committed():
        if row["outcome"] in (verdicts.WRONG, verdicts.FAILED):
            assert ";" in row["note"], f"no cause on record for {row['tool']} {row['problem']} {row['quantity']}"


def test_our_committed_answers_keep_the_promised_accuracy():
    ours = [row for row in committed() if row["tool"] == "nonconvex" and row["problem"] not in OUR_FAILURES]
    for row in (row for row in ours if row["quantity"].startswith("lambda")):
        assert row["outcome"] == verdicts.OK
        assert abs(float(row["value"]) - float(row["exact"])) <= 1.1e-5 * abs(float(row["exact"]))
        assert float(row["error"]) <= 1e-5
    for row in (row for row in ours if row["quantity"] == "trace"):
        assert row["outcome"] == verdicts.OK
        assert abs(float(row["value"]) - float(row["exact"])) <= 3 * float(row["standard_error"])


def test_the_page_is_made_of_the_rows(tmp_path):
    rows = [verdict("dense_mlp", quantity, value=math.pi) for quantity in answers.QUANTITIES]
    rows = [replace(row, problem=name) for name, row in product(NAMES, rows)]
    page.write_csv(rows, tmp_path / "table.csv")
    page.write_markdown(rows, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("✗") == len(rows) + 1  # and once where the sign is explained
    assert text.count("outside the tolerance") == len(rows)
    assert (tmp_path / "table.csv").read_text().count("3.14159") == len(rows)
