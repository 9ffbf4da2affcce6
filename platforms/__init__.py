"""One pure file per ad platform: what it wants, and what its answers mean."""
