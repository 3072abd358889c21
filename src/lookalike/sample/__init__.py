"""The toy shop: a generated catalogue of everyday products with matching sketches.

For the demo, and for tests that need pictures but no data.
"""

from lookalike.sample.shop import CLASSES, Product, catalogue, write

__all__ = ["CLASSES", "Product", "catalogue", "write"]
