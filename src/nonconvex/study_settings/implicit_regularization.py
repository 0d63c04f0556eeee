"""Settings of the study of implicit regularization."""

from nonconvex.study_settings.base import Study


class ImplicitRegularization(Study):
    """To be filled."""
