"""HTTP → raw-events: the door through which a shop's events come in."""
