"""Why a model does not serve: the words that agent, controller and gateway share, and users read."""

from enum import StrEnum


class Reason(StrEnum):
    """A failure's name in a condition; the message beside it says what to do next."""

    DIGEST_MISMATCH = "DigestMismatch"
    URI_NOT_ALLOWED = "UriNotAllowed"
    UNREACHABLE = "Unreachable"
    NOT_A_MODEL = "NotAModel"
    WRONG_SHAPES = "WrongShapes"
    CODE_NOT_ALLOWED = "CodeNotAllowed"
    TOO_LARGE = "TooLarge"
    DISK_FULL = "DiskFull"
    UNAUTHORIZED = "Unauthorized"
    UNSIGNED = "Unsigned"
    WRONGLY_SIGNED = "WronglySigned"
    UNKNOWN_OPERATOR = "UnknownOperator"
    EXTERNAL_DATA = "ExternalData"
    NO_GOLDEN_CASES = "NoGoldenCases"
    GOLDEN_MISMATCH = "GoldenMismatch"
    TOO_SLOW = "TooSlow"
    LOAD_TIMEOUT = "LoadTimeout"
    LOAD_FAILED = "LoadFailed"
    HOST_UNSCHEDULABLE = "HostUnschedulable"
    NO_SUCH_POOL = "NoSuchPool"
    NO_CAPACITY = "NoCapacity"
    SUSPENDED = "Suspended"
    INVALID_SCHEDULE = "InvalidSchedule"
    REJECTED = "Rejected"
    ABORTED = "Aborted"


LOAD_FAILURES = frozenset(
    {
        Reason.DIGEST_MISMATCH,
        Reason.URI_NOT_ALLOWED,
        Reason.UNREACHABLE,
        Reason.NOT_A_MODEL,
        Reason.WRONG_SHAPES,
        Reason.CODE_NOT_ALLOWED,
        Reason.TOO_LARGE,
        Reason.DISK_FULL,
        Reason.UNAUTHORIZED,
        Reason.UNSIGNED,
        Reason.WRONGLY_SIGNED,
        Reason.UNKNOWN_OPERATOR,
        Reason.EXTERNAL_DATA,
        Reason.NO_GOLDEN_CASES,
        Reason.GOLDEN_MISMATCH,
        Reason.TOO_SLOW,
        Reason.LOAD_TIMEOUT,
        Reason.LOAD_FAILED,
    }
)
"""What agents report of a model. The others say where it could not be placed, which every plan finds anew."""

SERVED_ALL_THE_SAME = frozenset({Reason.INVALID_SCHEDULE, Reason.REJECTED, Reason.ABORTED})
"""What its user has to put right, and what keeps no request from being answered: the old revision serves."""
