"""The HTTP server: collections as a JSON API, the simple contract, and the web page."""

from lookalike.server.app import create_app

__all__ = ["create_app"]
