"""A real-time API gateway on Twisted."""

__all__ = ["__version__"]

__version__ = "0.1.0"
