"""audit → answers: what became of each delivery."""
