"""The generated protobuf classes carry no types; this name says where one stands."""

from typing import Any

Message = Any
