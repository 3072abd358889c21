"""Files that may come from a stranger: paths, JSON, YAML and SQLite databases, read within limits."""
