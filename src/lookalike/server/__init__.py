"""The HTTP door: collections as a JSON API, the simple contract, and the page."""

from lookalike.server.app import create_app

__all__ = ["create_app"]
