"""Drawn people for the demo and the tests: who they are, how they look, and their photos in the real data's layout."""
