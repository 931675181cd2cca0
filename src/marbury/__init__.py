"""Marbury: from a constitution in plain language to a guard for any language model."""

__version__ = "0.1.0"
