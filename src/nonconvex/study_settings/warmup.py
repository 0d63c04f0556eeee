"""Settings of the study of warmup."""

from nonconvex.study_settings.base import Study


class Warmup(Study):
    """To be filled."""
