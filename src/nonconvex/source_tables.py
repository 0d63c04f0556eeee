"""The four tables and the prose of the source text, row by row, with the formulas that its extraction lost put back.

Text cells are the source text's own words; `$...$` is TeX. `restored` holds the cells whose formulas are
ours, and `note` says what stands behind a row's numbers where its name does not. `habits` holds the cells that say
what is customary, which no run can settle.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`key` is the schedule or the strategy that the row is about, or a name for its finding.

    `figure` (`paths.Results.figures`) is the one that answers the row's question.
    """

    key: str
    figure: str
    cells: tuple[str, ...]
    restored: tuple[int, ...] = ()  # indices into cells
    habits: tuple[int, ...] = ()  # likewise
    note: str = ""
    short: str = ""  # label where there is little room

    @property
    def label(self) -> str:
        return self.short or self.cells[0]


@dataclass(frozen=True)
class SourceTable:
    """`judged` are the columns that the two parts of claims, observation and implication, are about."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    judged: tuple[int, int] = (1, 2)


PROPERTIES = SourceTable(
    "properties",
    "Properties of the loss surface",
    ("Property", "Observation", "Implication"),
    (
        Row(
            "flat_minima",
            "property_flat_vs_sharp/curvature_by_batch",
            (
                "Flat vs. sharp minima",
                "SGD converges to wide, flat valleys; large-batch GD finds sharper minima ([Keskar 2017])",
                "Flat minima generalize better (robust to weight perturbation)",
            ),
        ),
        Row(
            "mode_connectivity",
            "property_mode_connectivity/barriers",
            (
                "Mode connectivity",
                "Good local minima are connected by paths with low loss ([Draxler 2018]; [Garipov 2018])",
                'The "loss landscape" is more like a connected valley than isolated basins',
            ),
        ),
        Row(
            "linear_mode_connectivity",
            "property_linear_connectivity/siblings",
            (
                "Linear mode connectivity",
                "Checkpoints from the same run can be linearly interpolated with monotone loss ([Frankle 2020])",
                "Simplifies model averaging and ensembling",
            ),
        ),
        Row(
            "edge_of_stability",
            "property_edge_of_stability/edges",
            (
                "Edge of stability",
                "GD with large LR evolves the Hessian so "
                r"$\lambda_{\max}(\nabla^2 L(\theta_t)) \approx 2/\eta$ ([Cohen 2021])",
                "Training self-organizes to the stability boundary",
            ),
            restored=(1,),
        ),
        Row(
            "landscape_simplification",
            "property_landscape/measures",
            (
                "Loss landscape simplification",
                "BatchNorm, skip connections, and overparameterization smooth the landscape ([Li 2018])",
                "Architecture design = implicit optimization design",
            ),
        ),
        Row(
            "progressive_sharpening",
            "property_progressive_sharpening/flows",
            (
                "Progressive sharpening",
                "Training loss surface becomes sharper over training ([Jastrzębski 2020])",
                "Motivates learning rate decay",
            ),
        ),
    ),
)

FACTORS = SourceTable(
    "factors",
    "Why deep networks train despite non-convexity",
    ("Factor", "Mechanism", "Evidence"),
    (
        Row(
            "overparameterization",
            "factor_overparameterization/steps",
            (
                "Overparameterization",
                r"$P \gg n$ creates many global minima; gradient descent reaches one ([Du 2019])",
                "Networks with more parameters are easier to train",
            ),
            restored=(1,),
        ),
        Row(
            "sgd_noise",
            "factor_sgd_noise/escapes",
            (
                "SGD noise",
                "Stochastic gradients escape saddle points and sharp minima",
                "Small-batch training generalizes better ([Keskar 2017])",
            ),
        ),
        Row(
            "skip_connections",
            "factor_skip_connections/losses",
            (
                "Skip connections",
                "Residual connections create smooth loss surfaces",
                "ResNets train where plain networks fail ([He 2016])",
            ),
        ),
        Row(
            "normalization",
            "factor_normalization/measures",
            (
                "Normalization",
                "BatchNorm/LayerNorm smooth the loss landscape",
                "Enables much larger learning rates ([Ioffe 2015]; [Santurkar 2018])",
            ),
        ),
        Row(
            "initialization",
            "factor_initialization/losses",
            (
                "Initialization",
                r"He/Xavier initialization places $\theta_0$ in a well-behaved region",
                "Bad initialization causes vanishing/exploding gradients",
            ),
            restored=(1,),
        ),
        Row(
            "implicit_regularization",
            "factor_implicit_regularization/resting_places",
            (
                "Implicit regularization",
                "SGD's trajectory has an inductive bias toward simple solutions",
                "Minimum-norm solutions in linear models ([Gunasekar 2018])",
            ),
        ),
        Row(
            "progressive_learning",
            "factor_progressive_learning/advantages",
            (
                "Progressive learning",
                "Warmup + LR decay matches training phases to landscape geometry",
                "Standard in all large-scale training",
            ),
            habits=(2,),
        ),
    ),
)

STRATEGIES = SourceTable(
    "strategies",
    "Escaping bad regions",
    ("Strategy", "How It Works", "Used In"),
    (
        Row(
            "sgd_noise",
            "escape_bad_starts/advantages",
            ("SGD noise", "Gradient noise provides random perturbation", "Standard training"),
            habits=(2,),
            note="every arm has minibatch noise; this one adds isotropic noise of the gradient's length",
        ),
        Row(
            "warmup",
            "strategy_warmup/responses",
            (
                "Learning rate warmup",
                "Gradually increases LR to avoid early sharp minima",
                "Transformer pretraining",
            ),
            habits=(2,),
            short="Warmup",
        ),
        Row(
            "restarts",
            "strategy_restarts/barriers",
            (
                "Cyclic LR / restarts",
                "Periodic LR increases to escape local basins",
                "SGDR ([Loshchilov 2017])",
            ),
            habits=(2,),
            note="the schedule is run once per cycle, so a constant rate is left as it is",
            short="Restarts",
        ),
        Row(
            "clipping",
            "strategy_clipping/changes",
            (
                "Gradient clipping",
                "Bounds gradient magnitude to prevent overshooting",
                "RNNs, transformers",
            ),
            habits=(2,),
            short="Clipping",
        ),
        Row(
            "sam",
            "strategy_sam/gains",
            (
                "Sharpness-aware minimization (SAM)",
                "Minimizes worst-case loss in a neighborhood",
                "Improves generalization ([Foret 2021])",
            ),
            note="two gradient evaluations per step: twice the others' compute at equal steps",
            short="SAM",
        ),
        Row(
            "swa",
            "strategy_swa/gains",
            (
                "Stochastic weight averaging (SWA)",
                "Averages weights along the trajectory",
                "Better generalization, flatter minima",
            ),
            short="SWA",
        ),
        Row(
            "ema",
            "strategy_ema/scores",
            (
                "Exponential moving average (EMA)",
                "Maintains running average of weights",
                "Standard in modern training",
            ),
            habits=(2,),
            short="EMA",
        ),
        Row(
            "none",
            "figures/strategy_forest",
            ("None (not in the text)", "Minibatch training alone", "Baseline"),
            short="None",
        ),
    ),
)

SCHEDULES = SourceTable(
    "schedules",
    "Learning-rate schedules",
    ("Schedule", "Formula", "Best For", "Key Parameter"),
    (
        Row(
            "constant",
            "schedule_tournament/reversal",
            ("Constant", r"$\eta_t = \eta_{\max}$", "Fine-tuning, short runs", r"$\eta_{\max}$"),
            restored=(1, 3),
        ),
        Row(
            "step",
            "schedule_tournament/ranking",
            (
                "Step decay",
                r"$\eta_t = \eta_{\max} \gamma^{\lfloor t/s \rfloor}$",
                "CNNs (ResNet)",
                r"$\gamma$, steps at 30/60/90 epochs",
            ),
            restored=(1, 3),
            note="drops at 30, 60 and 90 % of the run",
        ),
        Row(
            "cosine",
            "schedule_tournament/ranking",
            (
                "Cosine annealing",
                r"$\eta_t = \eta_{\min} + \frac{1}{2}(\eta_{\max} - \eta_{\min})(1 + \cos(\pi t/T))$",
                "Pretraining",
                "Min LR, $T$",
            ),
            restored=(1, 3),
        ),
        Row(
            "warmup_cosine",
            "schedule_tournament/ranking",
            ("Warmup + cosine", "Linear warmup then cosine", "LLM pretraining", "Warmup steps $T_w$"),
            restored=(3,),
        ),
        Row(
            "wsd",
            "schedule_wsd/keys",
            (
                "WSD",
                r"Warmup $\to$ constant $\to$ cosine",
                "Flexible pretraining",
                "Phase boundaries",
            ),
            restored=(1,),
        ),
        Row(
            "one_cycle",
            "schedule_tournament/reversal",
            ("1-cycle", "Ramp up then down", "Fast convergence", "Max LR, $T$"),
            restored=(3,),
            note="the momentum is not cycled",
        ),
        Row(
            "inverse_sqrt",
            "schedule_tournament/ranking",
            (
                "Inverse sqrt",
                r"$\eta_t = d_{\mathrm{model}}^{-1/2} \min(t^{-1/2}, t T_w^{-3/2})$",
                "Original Transformer",
                r"$T_w$, $d_{\mathrm{model}}$",
            ),
            restored=(1, 3),
            note="scaled to the tuned peak rate",
        ),
        Row(
            "linear",
            "schedule_tournament/ranking",
            (
                "Linear decay (not in the text)",
                r"$\eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min})(1 - t/T)$",
                "Comparison with cosine",
                "$T$",
            ),
            short="Linear",
        ),
    ),
    judged=(2, 3),
)

PROSE = SourceTable(
    "prose",
    "The text's prose",
    ("Passage", "Observation", "Implication"),
    (
        Row(
            "saddles",
            "critical_points/index_against_coins",
            (
                "Saddle points vs. local minima",
                r"An astronomical number of critical points ($\nabla L(\theta) = 0$), most of them saddle points, "
                "not minima",
                r"$P(\mathrm{min}) \approx 2^{-P}$, since each Hessian eigenvalue must be positive independently",
            ),
            restored=(1, 2),
        ),
        Row(
            "pac_bayes",
            "pac_bayes/concordances",
            (
                "PAC-Bayes",
                r"A smaller $\lambda_{\max}(H)$ (flatter) means the loss is robust to the weight perturbations that "
                "occur when moving from training to test data",
                "Formalized by PAC-Bayesian generalization bounds ([McAllester 1999]), which relate generalization to "
                r"the volume of parameter space around $\theta^*$ with low loss",
            ),
            restored=(1, 2),
            short="PAC-Bayes",
        ),
        Row(
            "rate_importance",
            "rate_importance/bars",
            (
                "The learning rate",
                "The single most important hyperparameter",
                "Controls the convergence speed and the type of minimum found",
            ),
        ),
        Row(
            "noise_scale",
            "noise_scale/diagonals",
            (
                "Noise scale",
                r"The learning rate controls the noise scale ($g \propto \eta/B$)",
                "Only the ratio of rate and batch size matters",
            ),
            restored=(1,),
            note="the implication is not a sentence of the text: it is what its formula says if taken at its word",
        ),
        Row(
            "second_moments",
            "strategy_warmup/mechanisms",
            (
                "Adam's second moments",
                "Adam's second-moment estimates ($v_t$) are unreliable initially",
                "Warmup gives them time to stabilize",
            ),
            restored=(1,),
        ),
        Row(
            "horizon",
            "schedule_wsd/at_horizons",
            (
                "WSD and the horizon",
                "Warmup for 5% of training, constant LR for ~75%, then cosine decay for the final ~20%",
                "It does not require knowing the total training length in advance",
            ),
        ),
        Row(
            "three_phases",
            "three_phases/learned",
            (
                "Three phases of a schedule",
                r"Warm-up ($t < T_w$): the loss drops rapidly. Stable ($T_w \leq t < T_d$): the model explores, "
                "escaping shallow minima; most learning happens here",
                r"Decay ($T_d \leq t \leq T$): settling into a flat minimum; the loss decreases slowly but "
                "generalization improves",
            ),
            restored=(1, 2),
        ),
    ),
)

NOTATION = {  # the text's summary, symbol -> meaning; every formula was lost
    "$P$": "Number of model parameters",
    r"$\lambda_{\max}(H)$": "Largest eigenvalue of the Hessian",
    r"$\eta$, $\eta_t$": "Learning rate (possibly time-varying)",
    "$T_w$": "Number of warmup steps",
    "$T$": "Total training steps",
    r"$\eta_{\min}$, $\eta_{\max}$": "Minimum and maximum learning rate",
    r"$\gamma$": "Decay factor for step schedule",
    r"$\kappa = \lambda_{\max} / \lambda_{\min}$": "Condition number",
    "SAM": "Sharpness-Aware Minimization",
    "SWA": "Stochastic Weight Averaging",
    "EMA": "Exponential Moving Average",
    "NTK": "Neural Tangent Kernel",
}

LABELS = {
    "model": {"resnet": "ResNet", "transformer": "Transformer", "mlp": "MLP", "cnn": "CNN"},
    "strategy": {row.key: row.label for row in STRATEGIES.rows},
    "schedule": {row.key: row.label for row in SCHEDULES.rows},
}
SOURCE_TABLES = {table.name: table for table in (PROPERTIES, FACTORS, STRATEGIES, SCHEDULES, PROSE)}
