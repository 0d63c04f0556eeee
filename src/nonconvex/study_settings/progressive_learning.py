"""Settings of the study of progressive learning."""

from nonconvex.study_settings.base import Study


class ProgressiveLearning(Study):
    """To be filled."""
