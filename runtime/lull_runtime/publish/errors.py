"""Why a trained network cannot be published."""


class NotPublishableError(ValueError):
    """This network cannot be served as it is; the message says what to change."""
