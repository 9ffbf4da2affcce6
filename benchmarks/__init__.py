"""What the documents' figures come from. Each module is one measurement, run by ``python -m``."""
