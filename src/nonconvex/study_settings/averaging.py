"""Settings of the study of averaging."""

from nonconvex.study_settings.base import Study


class Averaging(Study):
    """To be filled."""
