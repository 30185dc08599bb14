"""The methods of a migration: for each of its phases the step that is taken, a function of the transfer."""
