"""Linear models with closed forms, what a linear model explains, and the study of implicit regularization."""

import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, minimize

from nonconvex import config
from nonconvex.contrasts import implicit_regularization as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import implicit_regularization as drawings
from nonconvex.measure import explained, least_squares, linear_modes, max_margin
from nonconvex.optimizers import Sgd
from nonconvex.studies import linear_paths
from nonconvex.study_settings.implicit_regularization import ImplicitRegularization, LeastSquares, LinearModes

SEEDS = (500, 501, 502)
STEPS = dict.fromkeys(("gd", "momentum", "sgd_1", "sgd_8", "adam", "adagrad", "sign"), 300)


def settings() -> ImplicitRegularization:
    return config.read(FOLDER.parent / "params.yaml").factors.implicit_regularization


class TestLeastSquares:
    def test_adagrad_is_torchs(self):
        made = least_squares.problems(SEEDS[:1], 6, 9, 0.5)
        own, theirs = {"w": torch.zeros(1, 9, dtype=torch.float64)}, torch.zeros(1, 9, dtype=torch.float64)
        theirs.requires_grad_()
        torchs = torch.optim.Adagrad([theirs], lr=0.3, initial_accumulator_value=0.2)
        optimizer = least_squares.Adagrad(accumulated=0.2)
        state = optimizer.init(own)
        for step in range(5):
            theirs.grad = made.gradient(theirs.detach())
            torchs.step()
            own, state = optimizer.update(
                own, {"w": made.gradient(own["w"])}, state, torch.tensor([0.3], dtype=torch.float64), step
            )
        torch.testing.assert_close(own["w"], theirs.detach(), rtol=1e-12, atol=1e-14)

    def test_sign_descent_is_the_steepest_step_of_its_length_in_the_maximum_norm(self):
        w, g = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[3.0, -0.5, 0.0]])
        moved, _ = least_squares.SignDescent().update({"w": w}, {"w": g}, {}, torch.tensor([0.1]), 0)
        assert moved["w"].tolist() == [[pytest.approx(1 - 0.35), pytest.approx(1 + 0.35), 1.0]]

    def test_nearest_solves_and_moves_in_the_span_of_the_examples_only(self):
        made = least_squares.problems(SEEDS, 5, 12, 0.5)
        start = least_squares.drawn(SEEDS, (12,), 3)
        found = made.nearest(start)
        assert made.residual(found).max() < 1e-13
        for e in range(len(SEEDS)):
            outside = torch.from_numpy(np.linalg.svd(made.x[e].numpy())[2][5:])  # null space
            assert (outside @ (found[e] - start[e])).abs().max() < 1e-13

    def test_descent_follows_the_closed_form_step_by_step(self):
        """w_k = w* + V (1 - eta λ)^k V^T (w_0 - w*) in the span; rates are each member's own."""
        made = least_squares.problems(SEEDS, 5, 12, 0.5)
        start, rates = least_squares.drawn(SEEDS, (12,), 3), torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64)
        end = least_squares.descend(made, Sgd(), start, lambda step: rates, 7)
        for e in range(len(SEEDS)):
            values, vectors = torch.linalg.eigh(made.x[e].T @ made.x[e] / 5)
            target = made.nearest(start)[e]
            shrunk = vectors @ ((1 - rates[e] * values) ** 7 * (vectors.T @ (start[e] - target)))
            torch.testing.assert_close(end[e], target + shrunk, rtol=1e-10, atol=1e-12)

    def test_minibatches_are_pieces_of_each_seeds_own_permutation(self):
        batches = torch.stack([least_squares.minibatch(10, SEEDS, step, 3) for step in range(6)])
        first, second = batches[:3].transpose(0, 1).flatten(1), batches[3:].transpose(0, 1).flatten(1)
        assert all(len(set(one.tolist())) == 9 for one in (*first, *second))
        assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
        made = least_squares.problems(SEEDS, 10, 12, 0.5)
        w, index = least_squares.drawn(SEEDS, (12,), 3), batches[0]
        rows = made.x[1, index[1]]
        expected = rows.T @ (rows @ w[1] - made.y[1, index[1]]) / 3
        torch.testing.assert_close(made.gradient(w, index)[1], expected)

    @pytest.mark.parametrize("size", [1, 3, 8])
    def test_no_batch_is_steeper_than_the_stable_rate_allows(self, size):
        made = least_squares.problems(SEEDS, 9, 30, 0.5)
        for step in range(20):
            index = least_squares.minibatch(9, SEEDS, step, size)
            for e, rate in enumerate(made.stable_rate(size)):
                rows = made.x[e, index[e]]
                assert 0.2 < rate * torch.linalg.matrix_norm(rows, 2) ** 2 / size <= 1 + 1e-9

    def test_curvatures_are_the_hessians(self):
        made = least_squares.problems(SEEDS, 5, 12, 0.5)
        largest, smallest = made.curvatures()
        for e in range(len(SEEDS)):
            values = torch.linalg.eigvalsh(made.x[e].T @ made.x[e] / 5)
            assert (largest[e].item(), smallest[e].item()) == pytest.approx((values[-1].item(), values[-5].item()))

    def test_least_maximum_of_known_problems(self):
        assert least_squares.least_maximum(torch.tensor([[1.0, 2.0]]), torch.tensor([-3.0])) == pytest.approx(1.0)
        rows = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
        assert least_squares.least_maximum(rows, torch.tensor([1.0, 3.0])) == pytest.approx(1.5)

    @pytest.mark.parametrize("name", list(STEPS))
    def test_every_arm_comes_to_rest_and_only_steepest_descent_at_the_nearest_solution(self, name):
        how = LeastSquares(
            examples=8, dimension=40, steps=STEPS | {"sgd_1": 1500, "sgd_8": 800, "adam": 3000, "adagrad": 3000}
        )
        made, start = least_squares.problems(SEEDS, 8, 40, 0.5), least_squares.drawn(SEEDS, (40,), 3) / 40**0.5
        optimizer, size, rate = linear_paths.arm(how, made, name)
        end = least_squares.descend(made, optimizer, start, rate, how.steps[name], size, SEEDS)
        far = (end - made.nearest(start)).norm(dim=1) / start.norm(dim=1)
        assert made.residual(end).max() < 1e-8
        assert (far.max() < 1e-8) if name in contrasts.STEEPEST else (far.min() > 0.05)

    def test_resting_places_are_compared_with_their_own_targets(self):
        made = least_squares.problems(SEEDS[:1], 5, 12, 0.5)
        start = least_squares.drawn(SEEDS[:1], (12,), 3)
        zero = torch.zeros_like(start)
        least = made.nearest(zero)
        lowest = least.abs().amax(1) / 2
        residual, nearest, to_least, norm, maximum, teacher = linear_paths.resting_place(made, start, least, lowest)[
            :, 0
        ]
        assert residual < 1e-12 and to_least < 1e-12 and norm.item() == pytest.approx(1) == maximum.item() / 2
        target = made.nearest(start)
        assert nearest.item() == pytest.approx(((least - target).norm() / target.norm()).item())
        assert teacher.item() == pytest.approx(((least - made.teacher).norm() / made.teacher.norm()).item())


class TestMaxMargin:
    def test_hard_margin_equals_that_of_another_solver(self):
        for z in max_margin.separable(SEEDS, 12, 4, 0.5):
            found = max_margin.hard_margin(z)
            constraint = {"type": "ineq", "fun": lambda w, z=z: z @ w - 1, "jac": lambda w, z=z: z}
            start = 2 * found.direction + 0.1
            other = minimize(
                lambda w: w @ w / 2,
                start,
                jac=lambda w: w,
                constraints=constraint,
                method="SLSQP",
                options={"ftol": 1e-15},
            )
            assert found.direction == pytest.approx(other.x, abs=1e-6)
            assert found.gap < 1e-10 and found.margin == pytest.approx((z @ other.x).min() / np.linalg.norm(other.x))
            assert found.support == ((z @ other.x) < 1 + 1e-5).sum()

    def test_what_cannot_be_separated_is_refused(self):
        with pytest.raises(ValueError, match="separates"):
            max_margin.hard_margin(np.array([[1.0, 0.0], [-1.0, 0.1], [0.0, -1.0]]))

    def test_data_are_separable_with_the_shift_as_margin(self):
        z = max_margin.separable(SEEDS, 30, 3, 0.7)
        assert all(max_margin.hard_margin(one).margin >= 0.7 for one in z)
        assert not np.allclose(z[0], z[1])

    @pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 25.0])
    def test_direction_is_the_gradient_of_the_logarithm(self, scale):
        z = max_margin.separable(SEEDS, 6, 3, 0.5)
        w = scale * np.stack([max_margin.hard_margin(one).direction for one in z])
        direction, value = max_margin.descent_direction(z, w)
        leaf = torch.tensor(w, requires_grad=True)
        margins = torch.einsum("end,ed->en", torch.from_numpy(z), leaf)
        loss = torch.nn.functional.softplus(-margins, threshold=1e9).mean(1)  # exact in float64 here
        loss.log().sum().backward()
        assert value == pytest.approx(loss.log().detach().numpy(), rel=1e-9)
        assert direction == pytest.approx(-leaf.grad.numpy(), rel=1e-6, abs=1e-9)

    def test_flow_of_one_example_is_exact_from_the_start_to_astronomical_times(self):
        """dw/dt = 1 / (1 + e^w) from zero: w + e^w = 1 + t."""
        levels = np.array([1.0, 2.0, 5.0, 40.0, 300.0])
        found = max_margin.flow(np.ones((1, 1, 1)), levels[:, None], 0.2)[:, 0, 0]

        def root(tau: float) -> float:
            # w + e^w = e^tau in logarithms
            return brentq(
                lambda w: max(w, 0) - tau if w > 50 else math.log(w + math.exp(w)) - tau, 0, tau + 1, xtol=1e-13
            )

        assert found == pytest.approx([root(tau) for tau in levels], rel=3e-3)
        assert max_margin.flow(np.ones((1, 1, 1)), levels[:3, None], 0.01)[:, 0, 0] == pytest.approx(
            [root(tau) for tau in levels[:3]], rel=1e-5
        )

    def test_flow_equals_that_of_another_integrator_at_each_members_own_times(self):
        z = max_margin.separable(SEEDS[:2], 6, 3, 0.5)
        until = np.array([[1.0, 2.0], [4.0, 3.0], [6.0, 6.5]])
        found = max_margin.flow(z, until, 0.02)
        for e in range(2):

            def slope(t, w, one=z[e]):
                return one.T @ (1 / (1 + np.exp(one @ w))) / len(one)

            times = np.expm1(until[:, e])
            other = solve_ivp(slope, (0, times[-1] * 1.001), np.zeros(3), t_eval=times, rtol=1e-10, atol=1e-12)
            assert found[:, e] == pytest.approx(other.y.T, rel=1e-3)

    def test_plain_descent_step_by_step(self):
        z = max_margin.separable(SEEDS, 6, 3, 0.5)
        rates = max_margin.stable_rates(z)
        times, found = max_margin.gradient_descent(z, rates, [0, 1, 3])
        w = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        path = [w.detach().numpy()]
        for _ in range(3):
            loss = torch.nn.functional.softplus(-torch.einsum("end,ed->en", torch.from_numpy(z), w)).mean(1).sum()
            (g,) = torch.autograd.grad(loss, w)
            w = (w - torch.from_numpy(rates)[:, None] * g).detach().requires_grad_()
            path.append(w.detach().numpy())
        assert found == pytest.approx(np.stack([path[0], path[1], path[3]]), abs=1e-12)
        assert times == pytest.approx(np.log1p(np.outer([0, 1, 3], rates)))
        largest = [np.linalg.eigvalsh(one.T @ one / (4 * len(one)))[-1] for one in z]
        assert rates == pytest.approx(1 / np.array(largest))

    def test_small_angles_and_gaps(self):
        v = np.array([3.0, 0.0])
        assert max_margin.angle(np.array([[2.0, 2e-9], [0.0, 1.0], [-1.0, 0.0]]), v) == pytest.approx(
            [1e-9, math.pi / 2, math.pi], rel=1e-6
        )
        z = np.array([[1.0, 1.0], [1.0, -1.0]])
        assert max_margin.margin_gap(z, np.array([[5.0, 0.0], [3.0, 4.0]]), 1.0) == pytest.approx([0.0, 1.2])


class TestLinearModes:
    def target(self) -> linear_modes.Target:
        return linear_modes.targets(SEEDS, 4, (3.0, 2.0), 0.1)

    def test_targets_have_the_modes_that_they_are_said_to_have(self):
        target = self.target()
        values = torch.linalg.svdvals(target.matrix)
        torch.testing.assert_close(values[:, :2], target.sigma)
        assert values[:, 2:].max() < 1e-12
        assert ((target.sigma / torch.tensor([3.0, 2.0])).log().abs() <= 0.1).all()
        assert target.sigma.unique().numel() == 6

    def test_starts_are_balanced_and_of_the_strength_asked_for(self):
        target = self.target()
        for w1, w2 in (
            linear_modes.aligned(target, SEEDS, 6, 0.04),
            linear_modes.balanced(SEEDS, 4, 6, 0.04),
        ):
            torch.testing.assert_close(w1 @ w1.transpose(1, 2), w2.transpose(1, 2) @ w2, rtol=0, atol=1e-12)
            values = torch.linalg.svdvals(w2 @ w1)
            torch.testing.assert_close(values[:, :2], torch.full_like(values[:, :2], 0.04))
        w1, w2 = linear_modes.aligned(target, SEEDS, 6, 0.04)
        for found in (target.strengths(w1, w2), target.starts(w1, w2)):
            torch.testing.assert_close(found, torch.full_like(found, 0.04))

    def test_strengths_are_the_products_coordinates(self):
        target, (w1, w2) = self.target(), linear_modes.balanced(SEEDS, 4, 6, 0.5)
        expected = torch.stack([target.left[e].T @ w2[e] @ w1[e] @ target.right[e] for e in range(3)])
        torch.testing.assert_close(target.strengths(w1, w2), expected.diagonal(dim1=1, dim2=2))

    def test_closed_form_time_solves_the_differential_equation(self):
        sigma, start = torch.tensor([3.0, 0.5]).double(), torch.tensor([1e-4, 1e-2]).double()
        for s, a, t in zip(*(v.tolist() for v in (sigma, start, linear_modes.half_times(sigma, start))), strict=True):
            found = solve_ivp(lambda _, x, s=s: 2 * x * (s - x), (0, t), [a], rtol=1e-10, atol=1e-14)
            assert found.y[0, -1] == pytest.approx(s / 2, rel=1e-6)

    def test_descent_is_that_of_the_loss_by_automatic_differentiation(self):
        target, (w1, w2) = self.target(), linear_modes.balanced(SEEDS, 4, 6, 0.5)
        x = least_squares.drawn(SEEDS, (9, 4), 0)
        second = x.transpose(1, 2) @ x / 9
        strengths, values = linear_modes.descend(target, (w1, w2), 0.01, 2, lambda step: second)
        for _ in range(2):
            a, b = w1.detach().requires_grad_(), w2.detach().requires_grad_()
            outputs, wanted = (torch.einsum("eab,enb->ena", m, x) for m in (b @ a, target.matrix))
            loss = (outputs - wanted).square().sum(2).mean(1).sum() / 2
            ga, gb = torch.autograd.grad(loss, (a, b))
            w1, w2 = a.detach() - 0.01 * ga, b.detach() - 0.01 * gb
        torch.testing.assert_close(strengths[-1], target.strengths(w1, w2))
        torch.testing.assert_close(values[-1], torch.linalg.svdvals(w2 @ w1))
        plain = linear_modes.descend(target, (w1, w2), 0.01, 1)[0]
        white = linear_modes.descend(target, (w1, w2), 0.01, 1, lambda step: torch.eye(4).double().expand(3, 4, 4))[0]
        torch.testing.assert_close(plain, white)

    def test_aligned_modes_keep_the_closed_forms_time(self):
        target = self.target()
        start = linear_modes.aligned(target, SEEDS, 6, 1e-3)
        strengths, _ = linear_modes.descend(target, start, 1e-3, 2500)
        measured = linear_modes.crossing(strengths, target.sigma / 2, 1e-3)
        torch.testing.assert_close(
            measured, linear_modes.half_times(target.sigma, target.starts(*start)), rtol=5e-3, atol=0
        )

    def test_crossings_lie_between_steps(self):
        strengths = torch.tensor([[0.0, 1.0, 0.0, 0.2], [0.2, 0.9, 0.1, 0.2], [0.6, 0.9, 0.2, 0.9]]).double()[:, None]
        found = linear_modes.crossing(strengths, torch.full((1, 4), 0.5).double(), 0.1)
        assert found[0].tolist() == pytest.approx([0.175, 0.0, math.nan, 0.1 + 0.1 * 0.3 / 0.7], nan_ok=True)

    def test_effective_rank_counts_equal_singular_values(self):
        found = linear_modes.effective_rank(torch.tensor([[2.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
        assert found.tolist() == pytest.approx([2, 1, 3])

    def test_minibatches_of_an_epoch_average_to_white_inputs(self):
        s = settings().model_copy(update={"linear_modes": LinearModes(rate=0.1, steps=9, dimension=5, examples=16)})
        second = linear_paths.moments(s)
        torch.testing.assert_close((second(0) + second(1)) / 2, torch.eye(5).double().expand(10, 5, 5))
        assert not torch.allclose(second(0), second(2))

    def test_records_of_a_path(self):
        """One member with two modes of strength 4 and 2: the first passes half at 0.15, when the second is at 0.2."""
        how = LinearModes(rate=0.1, steps=3, sigma=(4, 2), dimension=2, hidden=2, examples=8)
        s = settings().model_copy(update={"seeds": (7,), "linear_modes": how})
        eye = torch.eye(2).double()[None]
        target = linear_modes.Target(eye, eye, torch.tensor([[4.0, 2.0]]).double())
        strengths = torch.tensor([[[0.0, 0.0]], [[1.0, 0.1]], [[3.0, 0.4]], [[4.0, 0.5]]]).double()
        begins = torch.tensor([[0.1, 0.1]]).double()
        walked = linear_paths.Walked(s, "balanced", target, begins, strengths, strengths.clone())
        first, second = walked.modes()
        assert (first.measured, first.next_share) == (pytest.approx(0.15), pytest.approx(0.2))
        assert first.predicted == pytest.approx(math.log(39) / 8, abs=1e-5)
        assert (second.measured, second.next_share) == (None, None)
        expected = [((4 - a) ** 2 + (2 - b) ** 2) / 20 for a, b in strengths[:, 0].tolist()]
        assert walked.losses()[:, 0].tolist() == pytest.approx(expected)
        (half,) = walked.halfway()
        shares = np.array([3.0, 0.4]) / 3.4
        assert half.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)


class TestExplained:
    def test_known_tables(self):
        labels = np.repeat([0, 1], 500)
        same, constant, half = labels, np.zeros(1000, int), np.tile([0, 1], 500)
        found = explained.compare(labels, same, same, 2)
        assert (found.agreement, found.independent) == (1.0, 1.0)
        assert found.explained == pytest.approx(1, abs=2e-3)
        nothing = explained.compare(labels, same, constant, 2)
        assert nothing.explained == pytest.approx(0, abs=1e-9)
        assert nothing.independent == nothing.agreement == 0.5
        assert explained.compare(labels, half, half, 2).independent == 0.5  # they agree always, but not for the label
        assert explained.compare(labels, half, half, 2).agreement == 1.0

    def test_independent_errors_agree_as_often_as_is_said_and_explain_what_theory_says(self):
        generator = np.random.Generator(np.random.Philox(3))
        labels = generator.integers(0, 4, 40_000)
        first, second = (
            np.where(generator.random(40_000) < 0.6, labels, generator.integers(0, 4, 40_000)) for _ in range(2)
        )
        found = explained.compare(labels, first, second, 4)
        # right with 0.7, each wrong class with 0.1
        assert found.independent == pytest.approx(0.7**2 + 3 * 0.1**2, abs=0.01)
        assert found.agreement == pytest.approx(found.independent, abs=0.01)
        joint = np.array([[[_p(y, f) * _p(y, k) / 4 for k in range(4)] for f in range(4)] for y in range(4)])
        total, given = (
            _information(joint.sum(2)),
            sum(joint[..., k].sum() * _information(joint[..., k]) for k in range(4)),
        )
        assert found.explained == pytest.approx((total - given) / total, abs=0.02)

    def test_information_is_corrected_for_chance(self):
        generator = np.random.Generator(np.random.Philox(4))
        tables = [generator.multinomial(300, np.full(100, 0.01)).reshape(10, 10) for _ in range(200)]
        assert np.mean([explained.information(t) for t in tables]) == pytest.approx(0, abs=0.02)  # uncorrected: 0.15

    def test_softmax_regression_finds_the_minimum(self):
        generator = np.random.Generator(np.random.Philox(5))
        x, labels = generator.standard_normal((60, 2)), generator.integers(0, 3, 60)
        grid = generator.standard_normal((200, 2))
        rows = torch.from_numpy(np.hstack([x, np.ones((60, 1))]))
        w = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        for _ in range(4000):
            loss = torch.nn.functional.cross_entropy(rows @ w, torch.from_numpy(labels)) + 0.005 * w.square().sum()
            (g,) = torch.autograd.grad(loss, w)
            w = (w - 1.0 * g).detach().requires_grad_()
        expected = (np.hstack([grid, np.ones((200, 1))]) @ w.detach().numpy()).argmax(1)
        assert (explained.linear_predictions(x, labels, grid, 3, decay=0.01) == expected).mean() > 0.99


def _p(label: int, guess: int) -> float:
    return 0.7 if label == guess else 0.1


def _information(table: np.ndarray) -> float:
    table = table / table.sum()
    return float((table * np.log(table / np.outer(table.sum(1), table.sum(0)))).sum())


def planted() -> contrasts.Frames:
    """Records with a known answer for every claim; seeds differ by a tenth each."""
    parts: dict[str, list] = {f.name: [] for f in fields(contrasts.Frames)[:8]}
    for seed in range(4):
        own = 1 + seed / 10
        for k, optimizer in enumerate((*contrasts.STEEPEST, *contrasts.OTHERS), start=1):
            for start, shift in (("zero", 0.0), ("random", 100.0)):
                parts["limits"].append(
                    {
                        "optimizer": optimizer,
                        "start": start,
                        "seed": seed,
                        "steps": 5,
                        "residual": k * 1e-12 + shift * 1e-13,
                    }
                    | {"to_nearest": k * own + shift, "to_least": 7 * k * own + shift, "norm": 1.0, "maximum": 2.0}
                    | {"to_teacher": 1.0}
                )
        parts["separators"].append({"seed": seed, "margin": 1.0, "support": 3, "gap": 1e-12 * own})
        for path in ("flow", "descent", "flow_beside"):
            for place, tau in enumerate((2.0, 4.0, 8.0, 20.0)):
                late = tau >= 4
                slope = -1.0 - seed / 10 if path == "flow" else -0.5
                angle = tau**slope if late else 5.0
                parts["directions"].append(
                    {"path": path, "seed": seed, "place": place, "log_time": tau}
                    | {"angle": angle * (1.01 if path == "flow_beside" else 1), "margin_gap": angle**2}
                )
        for arm, error in (("aligned", 0.01), ("balanced", -0.04), ("sgd", 0.06), ("large", 3.0)):
            for i, sigma in enumerate((3.0, 2.0, 1.0)):
                share = None if i == 2 else (0.5 if arm == "large" else 0.1) * own
                parts["modes"].append(
                    {"arm": arm, "seed": seed, "mode": i, "sigma": sigma, "start": 0.01, "predicted": 4.0 / sigma}
                    | {"measured": 4.0 / sigma * (1 + error * own * (i == 1)), "next_share": share}
                )
                parts["strengths"] += [
                    {"arm": arm, "mode": i, "time": t, "sigma": sigma, "strength": sigma * t} for t in (0.0, 0.5, 1.0)
                ]
            for t in (0.0, 0.5, 1.0):
                parts["ranks"].append({"arm": arm, "seed": seed, "time": t, "loss": 1 - t, "effective_rank": 1 + t})
            parts["halfway"].append({"arm": arm, "seed": seed, "effective_rank": 6.0 * own if arm == "large" else own})
        for arm in ("network", "twin"):
            for step, error, agreement, share in (
                (0, 0.9, 0.1, 0.9),
                (10, 0.6, 0.5, 0.8),
                (40, 0.55, 0.9, 0.1),
                (90, 0.3, 0.4, 0.2),
            ):
                parts["predictions"].append(
                    {"arm": arm, "seed": seed, "step": step, "error": error, "linear_error": 0.6}
                    | {
                        "agreement": agreement + (0.02 * (step == 10) if arm == "network" else 0),
                        "independent": agreement / 2,
                    }
                    | {"explained": share * own}
                )
    frames = {name: pd.DataFrame(rows) for name, rows in parts.items()}
    frames["strengths"] = frames["strengths"].drop_duplicates(["arm", "mode", "time"])
    return contrasts.Frames(**frames, late=4.0, practical=math.expm1(8) / math.expm1(20))


def changed(frames: contrasts.Frames, name: str, where: dict, **columns) -> contrasts.Frames:
    frame = getattr(frames, name).copy()
    mask = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    for column, value in columns.items():
        frame.loc[mask, column] = value
    return contrasts.Frames(**{**vars(frames), name: frame})


def values(frames: contrasts.Frames, claim: str, role: str = "claim") -> list[float]:
    name = f"{contrasts.ROW}.{claim}"
    return [e.value for e in contrasts.effects(frames) if e.claim == name and e.role == role]


def gate(frames: contrasts.Frames, claim: str) -> dict[str, float | None]:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"{contrasts.ROW}.{claim}"}


OWN = np.array([1.0, 1.1, 1.2, 1.3])


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("minimum_norm.gd", OWN),
            ("minimum_norm.sgd_1", 3 * OWN),
            ("minimum_norm.sign", 7 * OWN),
            ("nearest.momentum", 2 * OWN + 100),
            ("any_start.sgd_1", 21 * OWN + 100),
            ("max_margin_angle.flow", -np.arange(4) / 10),
            ("max_margin_gap.flow", -1 - np.arange(4) / 5),
            ("max_margin_angle.descent", np.full(4, 0.5)),
            ("mode_times.aligned", 0.01 * OWN),
            ("mode_times.balanced", 0.04 * OWN),
            ("mode_times.sgd", 0.06 * OWN),
            ("mode_order.balanced", np.full(4, 0.5)),
            ("sequential.start", 0.4 * OWN),
            ("low_rank.start", 5 * OWN),
            ("linear_first_explained.mlp", 0.6 * OWN),
            ("linear_first_agreement.mlp", np.full(4, 0.12)),
            ("linear_first_excess.mlp", np.full(4, 0.52 - 0.25 - 0.2)),
        ],
    )
    def test_what_was_planted_is_found(self, claim, expected):
        assert values(planted(), claim) == pytest.approx(list(expected), rel=1e-6)

    def test_twins_stand_beside_each_claim_about_the_network(self):
        assert values(planted(), "linear_first_agreement.mlp", "same_arm") == pytest.approx([0.02] * 4)
        assert values(planted(), "linear_first_explained.mlp", "same_arm") == pytest.approx([0.0] * 4)

    def test_order_counts_pairs_and_puts_what_never_came_last(self):
        late = changed(planted(), "modes", {"arm": "sgd", "seed": 0, "mode": 0}, measured=np.nan)
        assert values(late, "mode_order.sgd")[0] == pytest.approx(1 / 3 - 0.5)
        assert len(values(late, "mode_times.sgd")) == 3  # no time, no number
        both = changed(late, "modes", {"arm": "sgd", "seed": 0, "mode": 1}, measured=np.nan)
        assert values(both, "mode_order.sgd")[0] == pytest.approx(0 - 0.5)

    def test_gates_see_what_they_are_for(self):
        frames = planted()
        assert gate(frames, "minimum_norm.sgd_8") == {"implicit_residual": pytest.approx(4e-12)}
        assert gate(frames, "nearest.sgd_8") == {"implicit_residual": pytest.approx(1.4e-11)}
        assert gate(frames, "max_margin_angle.flow") == {
            "implicit_separator": pytest.approx(1.3e-12),
            "implicit_flow": pytest.approx(math.log(1.01)),
        }
        assert set(gate(frames, "max_margin_angle.descent")) == {"implicit_separator"}
        assert gate(frames, "linear_first_agreement.mlp") == {"implicit_overtaken": 1.0}
        assert gate(frames, "mode_times.sgd") == {}
        unfinished = changed(frames, "predictions", {"arm": "twin", "seed": 1, "step": 90}, error=0.58)
        assert gate(unfinished, "linear_first_excess.mlp") == {"implicit_overtaken": 7 / 8}
        last = frames
        for step in (10, 40):
            last = changed(last, "predictions", {"arm": "twin", "seed": 1, "step": step}, error=0.7)
        assert gate(last, "linear_first_excess.mlp") == {"implicit_overtaken": 7 / 8}
        never = changed(frames, "predictions", {"arm": "network", "seed": 1}, error=0.7)
        assert gate(never, "linear_first_excess.mlp") == {"implicit_overtaken": 7 / 8}
        assert len(values(never, "linear_first_excess.mlp")) == 3
        broken = changed(frames, "limits", {"optimizer": "gd", "seed": 1}, residual=np.nan)
        assert gate(broken, "minimum_norm.gd")["implicit_residual"] is None

    def test_findings_are_named_once(self):
        found = contrasts.findings(planted())
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"factors"}
        assert {f.model for f in found} == {"least squares", "logistic", "linear network", "mlp"}


class TestDrawings:
    @pytest.mark.parametrize("draw", ["resting_places", "directions", "modes", "predictions"])
    def test_figures_say_how_many_they_show(self, draw):
        assert "n = 4" in getattr(drawings, draw)(planted()).get_suptitle().replace("\n", " ")


class TestSettings:
    @pytest.mark.parametrize(
        ("section", "change", "message"),
        [
            ("least_squares", {"dimension": 50}, "fewer"),
            ("least_squares", {"steps": {"gd": 3}}, "lacks"),
            ("least_squares", {"examples": 7}, "at least 8"),
            ("separable", {"late": 2000}, "until"),
            ("separable", {"practical": 30000}, "steps"),
            ("linear_modes", {"sigma": (1, 2)}, "fall"),
            ("linear_modes", {"hidden": 9}, "hidden"),
            ("linear_modes", {"batch_size": 41}, "batch_size"),
            ("linear_modes", {"small": 0.5}, "half"),
            ("linear_first", {"first": 1000}, "below"),
        ],
    )
    def test_what_cannot_be_is_refused(self, section, change, message):
        part = getattr(settings(), section)
        with pytest.raises(ValidationError, match=message):
            type(part)(**{**part.model_dump(), **change})
