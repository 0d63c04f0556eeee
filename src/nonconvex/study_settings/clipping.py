"""Settings of the study of clipping."""

from nonconvex.study_settings.base import Study


class Clipping(Study):
    """To be filled."""
