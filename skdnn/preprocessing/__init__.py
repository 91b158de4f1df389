"""From any table to one matrix of numbers that a network can learn from; knows no network."""

from .encoder import TabularEncoder

__all__ = ["TabularEncoder"]
