"""Moving a running guest: state machine, journal, policy of failure."""
