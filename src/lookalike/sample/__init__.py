"""The toy shop: a generated catalogue of everyday products with matching sketches.

It serves the demo, and tests that need images but no data.
"""

from lookalike.sample.shop import CLASSES, Product, catalogue, write

__all__ = ["CLASSES", "Product", "catalogue", "write"]
