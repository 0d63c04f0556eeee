"""Settings of the study of rate importance."""

from nonconvex.study_settings.base import Study


class RateImportance(Study):
    """To be filled."""
