"""Why a network cannot be explained or evaluated."""


class QualityError(Exception):
    """Its answers cannot be judged; the message says what to do."""
