"""Why a model cannot be served, in a word that programs share and a sentence that people understand."""

from lull.api.reasons import Reason


class ModelError(Exception):
    """This model cannot be served; others are not concerned.

    Attributes:
        reason: the word for the condition.
        message: what happened and what to do about it, for the model's owner.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
