"""The demo: a real chain of custody on real patient data, then sixteen attacks on it."""

from secureml.demo.story import run

__all__ = ["run"]
