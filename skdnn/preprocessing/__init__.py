"""Encoding of any table as one matrix of numbers; independent of networks."""

from .encoder import TabularEncoder

__all__ = ["TabularEncoder"]
