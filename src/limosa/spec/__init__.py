"""What the user wrote, checked, becomes frozen resolved types; only those may act."""
