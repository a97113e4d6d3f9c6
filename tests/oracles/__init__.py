"""Slow, literal reference implementations that the engine is tested against."""
