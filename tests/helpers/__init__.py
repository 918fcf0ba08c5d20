"""Shared by tests: models, features, oracles, and scripts that run in processes of their own."""
