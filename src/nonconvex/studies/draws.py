"""A run and its twin: the same arm from other weights in another order of data, for contrasts of an arm with itself."""

OTHER = 1 << 20  # added to a seed for its arm's second run; above every seed in use


class Drawn:
    """What a run's `draw`, own or other, says: `seed` is that of the records, `start` that of the run."""

    seed: int
    draw: str

    @property
    def start(self) -> int:
        """Seed of initial weights and data order."""
        return self.seed + OTHER * (self.draw == "other")
