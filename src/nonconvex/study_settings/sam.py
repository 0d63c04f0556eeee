"""Settings of the study of sam."""

from nonconvex.study_settings.base import Study


class Sam(Study):
    """To be filled."""
