"""Who keeps the guest when a migration is interrupted: a pure function for each method."""
