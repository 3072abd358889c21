"""The HTTP server: a JSON API of collections, the simple contract, and the web page."""

from lookalike.server.app import create_app

__all__ = ["create_app"]
