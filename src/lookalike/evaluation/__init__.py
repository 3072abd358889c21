"""Evaluation of embeddings: retrieval, verification, few-shot classification and calibration.

`lookalike.evaluation.evaluate` measures an embedder on a dataset. The other modules take arrays and return scores.
"""
